"""Proxies, rates: what the gate believes and how much it lets in."""

import pytest
from starlette.testclient import TestClient

from fundoscope.server.errors import BusyError, NotAllowedError
from fundoscope.server.security import rates
from fundoscope.server.security.peers import Peers
from fundoscope.server.security.rates import Buckets
from fundoscope.server.settings import RateLimits, ServerSettings


def scope_of(peer, **headers):
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"client": (peer, 1), "scheme": "http", "headers": pairs}


@pytest.mark.parametrize(
    ("peer", "headers", "address", "scheme"),
    [
        ("10.0.0.7", {"x_forwarded_for": "203.0.113.9", "x_forwarded_proto": "https"}, "203.0.113.9", "https"),
        ("10.0.0.7", {"x_forwarded_for": "1.1.1.1, 203.0.113.9"}, "203.0.113.9", "http"),
        ("10.0.0.7", {"x_forwarded_for": "203.0.113.9, 10.0.0.8"}, "203.0.113.9", "http"),
        ("10.0.0.7", {"x_forwarded_for": "<script>"}, "unknown", "http"),
        ("::ffff:10.0.0.7", {"x_forwarded_for": "203.0.113.9"}, "203.0.113.9", "http"),
        ("10.0.0.7", {"x_forwarded_proto": "gopher"}, "10.0.0.7", "http"),
        ("127.0.0.1", {"x_forwarded_for": "203.0.113.9", "x_forwarded_proto": "https"}, "127.0.0.1", "http"),
    ],
)
def test_only_a_stated_proxy_is_believed(peer, headers, address, scheme, tmp_path):
    scope = scope_of(peer, **headers)
    Peers(ServerSettings(data=tmp_path, host="0.0.0.0", hosts=("a",), proxies=("10.0.0.0/24",))).identify(scope)
    assert (scope["client"][0], scope["scheme"]) == (address, scheme)


def test_past_the_proxy_nothing_comes_in_clear(tmp_path):
    peers = Peers(ServerSettings(data=tmp_path, host="0.0.0.0", hosts=("a",), proxies=("10.0.0.7",)))
    with pytest.raises(NotAllowedError, match="reverse proxy"):
        peers.identify(scope_of("10.0.0.8", x_forwarded_proto="https"))


def test_a_bucket_lets_a_burst_in_and_then_its_rate(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(rates.time, "monotonic", lambda: clock[0])
    bucket = Buckets(120)
    for _ in range(30):
        bucket.take("a")
    with pytest.raises(BusyError) as refused:
        bucket.take("a")
    assert (refused.value.status, refused.value.retry_after) == (429, 1)
    bucket.take("b")
    clock[0] = 0.51
    bucket.take("a")
    with pytest.raises(BusyError):
        bucket.take("a")


def test_old_buckets_are_forgotten(monkeypatch):
    monkeypatch.setattr(rates, "MOST_BUCKETS", 3)
    bucket = Buckets(4)
    for key in "abcd":
        bucket.take(key)
    assert len(bucket._buckets) == 3
    bucket.take("a")


class TestLimited:
    @pytest.fixture
    def settings(self, tmp_path):
        return ServerSettings(
            data=tmp_path / "room", debug=True, rates=RateLimits(address=400, account=80, sign_in=12)
        )  # fmt: skip

    def test_who_asks_too_often_is_told_when_to_come_back(self, sign_in):
        person = sign_in("reader")
        answers = [person.get("/v1/me") for _ in range(22)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert 1 <= len(refused) <= 2  # a slow machine earns a request meanwhile
        assert refused[-1].headers["retry-after"] == "1" and refused[-1].json()["title"] == "Too busy"
        assert sign_in("reader").get("/v1/me").status_code == 200, "another account has its own"

    def test_tokens_cannot_be_tried_in_bulk(self, client):
        sent = [client.get("/v1/me", headers={"Authorization": f"Bearer {number}"}) for number in range(5)]
        assert [answer.status_code for answer in sent] == [401] * 3 + [429] * 2

    def test_passwords_cannot_be_tried_in_bulk(self, client):
        sent = [client.post("/sign-in", data={"name": f"n{number}", "password": "x"}) for number in range(5)]
        assert [answer.status_code for answer in sent] == [401] * 3 + [429] * 2
        other = TestClient(client.app, client.base_url, headers=client.headers, client=("192.0.2.1", 1))
        assert other.post("/sign-in", data={"name": "n", "password": "x"}).status_code == 401
