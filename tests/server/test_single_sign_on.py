"""OpenID Connect against a small identity provider, honest and not."""

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from starlette.testclient import TestClient

from fundoscope.server.models import User
from fundoscope.server.security.single_sign_on import AddressError, check_address
from fundoscope.server.settings import ServerSettings, SingleSignOn


class IdentityProvider:
    """An identity provider on loopback; `wrong` spoils the claims of its tokens, `key` signs them."""

    def __init__(self):
        self.keys = [ECKey.generate_key("P-256", {"kid": "1"})]
        self.key, self.algorithm, self.wrong, self.codes, self.asked = self.keys[0], "ES256", {}, {}, []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                provider.asked.append(self.path)
                answers = {
                    "/.well-known/openid-configuration": provider.configuration,
                    "/keys": lambda: {"keys": [key.as_dict(private=False) for key in provider.keys]},
                }
                self.answer(200, answers[self.path]())

            def do_POST(self):
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.answer(*provider.exchange(form, self.headers.get("Authorization", "")))

            def answer(self, status, content):
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def configuration(self):
        ends = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        return {"issuer": self.issuer} | {name: f"{self.issuer}/{path}" for name, path in ends.items()}

    def authorize(self, address):
        """What the provider does once the person has signed in there: the query of the way back."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert address.startswith(f"{self.issuer}/authorize?") and asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256" and "openid" in asked["scope"].split()
        self.codes["c0de"] = asked
        return {"code": "c0de", "state": asked["state"], "iss": self.issuer}

    def exchange(self, form, authorization):
        asked = self.codes.pop(form["code"][0], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"][0].encode()).digest()).rstrip(b"=")
        known = authorization == "Basic " + base64.b64encode(b"room:s3cret").decode()
        if not (
            asked
            and known
            and asked["code_challenge"] == challenge.decode()
            and asked["redirect_uri"] == form["redirect_uri"][0]
        ):
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": "248289",
            "aud": "room",
            "exp": now + 300,
            "iat": now,
            "nonce": asked["nonce"],
        }
        claims = {name: value for name, value in (claims | self.wrong).items() if value is not None}
        token = jwt.encode({"alg": self.algorithm, "kid": self.key.kid}, claims, self.key, [self.algorithm])
        return 200, {"access_token": "a", "token_type": "Bearer", "id_token": token}


@pytest.fixture
def provider():
    provider = IdentityProvider()
    yield provider
    provider.server.shutdown()
    provider.server.server_close()


@pytest.fixture
def settings(tmp_path, provider):
    (tmp_path / "secret").write_text("s3cret\n")
    single = SingleSignOn(
        issuer=provider.issuer, client_id="room", client_secret_file=tmp_path / "secret", label="Hospital"
    )
    return ServerSettings(data=tmp_path / "room", debug=True, single_sign_on=single)


@pytest.fixture
def known(sign_in, provider):
    """A reader whose account has the identity of the provider."""
    return sign_in("reader", name="lin", subject=f"{provider.issuer} 248289")


def begin(client):
    answer = client.get("/sign-in/single?next=/exams/7", follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def come_back(client, query):
    return client.get(f"/sign-in/single/back?{urlencode(query)}", follow_redirects=False)


def test_who_is_known_comes_in_and_where_one_wanted_to_go(client, provider, known):
    assert "Hospital" in client.get("/sign-in").text
    answer = come_back(client, provider.authorize(begin(client)))
    assert (answer.status_code, answer.headers["location"]) == (303, "/exams/7"), answer.text
    assert client.get("/v1/me").json()["name"] == "lin"
    provider.authorize(begin(client))
    assert provider.asked.count("/keys") == 1, "its keys are kept for a while"


def test_who_is_not_known_is_told_the_identity_to_give_to_an_administrator(client, provider, known, room):
    with room.database.transaction() as session:
        session.get(User, known.id).active = False
    answer = come_back(client, provider.authorize(begin(client)))
    assert answer.status_code == 403 and f"{provider.issuer} 248289" in answer.text
    assert client.get("/v1/me").status_code == 401


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonce": "another"}, {"nonce": None}, {"aud": "another"}, {"iss": "http://127.0.0.1:1"}, {"sub": None}, {"sub": ""},
        {"exp": 1}, {"exp": None}, {"aud": ["room", "another"]}, {"aud": ["room", "another"], "azp": "another"},
    ],
)  # fmt: skip
def test_a_wrong_claim_lets_nobody_in(client, provider, known, wrong):
    provider.wrong = wrong
    assert come_back(client, provider.authorize(begin(client))).status_code == 403
    assert client.get("/v1/me").status_code == 401


def test_a_token_of_another_key_or_of_a_shared_secret_lets_nobody_in(client, provider, known):
    provider.key = ECKey.generate_key("P-256", {"kid": "1"})
    assert come_back(client, provider.authorize(begin(client))).status_code == 403
    provider.key, provider.algorithm = OctKey.import_key("s3cret" * 6, {"kid": "1"}), "HS256"
    assert come_back(client, provider.authorize(begin(client))).status_code == 403


def test_new_keys_of_the_provider_are_fetched(client, provider, known):
    come_back(client, provider.authorize(begin(client)))
    provider.key = ECKey.generate_key("P-256", {"kid": "2"})
    provider.keys.append(provider.key)
    assert come_back(client, provider.authorize(begin(client))).status_code == 303


def test_only_the_browser_that_began_comes_back_and_once(client, provider, known):
    returned = provider.authorize(begin(client))
    stranger = TestClient(client.app, client.base_url)
    assert come_back(stranger, returned).status_code == 403
    assert come_back(client, returned | {"state": "another"}).status_code == 403
    assert come_back(client, returned).status_code == 403, "a wrong state has ended it"
    returned = provider.authorize(begin(client))
    assert come_back(client, returned | {"iss": "http://127.0.0.1:1"}).status_code == 403
    returned = provider.authorize(begin(client))
    assert come_back(client, {"state": returned["state"]}).status_code == 403, "the provider said no"
    returned = provider.authorize(begin(client))
    provider.codes["c0de"]["code_challenge"] = "another"
    assert come_back(client, returned).status_code == 502


def test_a_provider_that_is_away_is_told(client, provider, known):
    provider.server.shutdown()
    provider.server.server_close()
    answer = client.get("/sign-in/single", follow_redirects=False)
    assert answer.status_code == 502 and "cannot be reached" in answer.text


@pytest.mark.parametrize(
    "address", ["http://id.example.org/", "ftp://id.example.org/", "file:///etc/passwd", "id.example.org"]
)
def test_a_provider_is_asked_over_tls_only(address):
    with pytest.raises(AddressError):
        check_address(address)
    check_address("https://id.example.org/")


class TestWithout:
    @pytest.fixture
    def settings(self, tmp_path):
        return ServerSettings(data=tmp_path / "room", debug=True)

    def test_there_is_no_button_and_no_way(self, client):
        assert "/sign-in/single" not in client.get("/sign-in").text
        assert client.get("/sign-in/single", follow_redirects=False).status_code == 409
