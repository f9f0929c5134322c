"""Who comes in, how long, and what a page of another site can do."""

from datetime import timedelta

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from fundoscope.server.errors import BusyError, NotAllowedError
from fundoscope.server.models import AuditEntry, SignInSession, User, now
from fundoscope.server.routes.sign_in import local_path
from fundoscope.server.security.secrets import digest
from fundoscope.server.services import sessions


@pytest.fixture
def reader(sign_in):
    return sign_in("reader", name="lin")


def enter(client, name="lin", password="a short sentence is good", **more):
    return client.post("/sign-in", data={"name": name, "password": password, **more}, follow_redirects=False)


def actions(room):
    with room.database.reading() as session:
        return list(session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)))


def test_a_right_password_opens_a_session_and_a_second_sign_in_ends_the_first(client, reader, room):
    answer = enter(client, name=" LIN ", next="/exams/7")
    assert (answer.status_code, answer.headers["location"]) == (303, "/exams/7")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("fundoscope=") and "HttpOnly" in cookie and "SameSite=lax" in cookie
    first = client.cookies["fundoscope"]
    with room.database.reading() as session:
        kept = session.scalars(select(SignInSession.digest)).all()
    assert digest(first) in kept and first not in kept
    with room.database.reading() as session:
        csrf = session.scalar(select(SignInSession.csrf).where(SignInSession.digest == digest(first)))
    answer = client.post(
        "/sign-in", data={"name": "lin", "password": reader.password, "csrf": csrf}, follow_redirects=False
    )
    assert answer.status_code == 303 and client.cookies["fundoscope"] != first
    stale = TestClient(client.app, client.base_url, cookies={"fundoscope": first})
    assert stale.get("/v1/nothing").status_code == 401


def test_over_tls_the_cookie_is_bound_to_the_host(client, reader):
    secure = TestClient(client.app, "https://localhost:8000", headers={"Origin": "https://localhost:8000"})
    answer = enter(secure)
    assert answer.headers["set-cookie"].startswith("__Host-fundoscope=") and "Secure" in answer.headers["set-cookie"]
    assert "max-age" in answer.headers["strict-transport-security"]
    assert TestClient(client.app, "https://localhost:8000", cookies={"fundoscope": reader.cookies["fundoscope"]}).get(
        "/v1/nothing"
    ).status_code == 401  # fmt: skip


def test_wrong_passwords_make_one_wait_longer_each_time(client, reader, room, monkeypatch):
    assert [enter(client, password="wrong").status_code for _ in range(6)] == [401] * 5 + [429]
    assert enter(client).status_code == 429  # the right one must wait, too
    waits = []
    for _ in range(6):
        with room.database.transaction() as session:
            user = session.get(User, reader.id)
            user.locked_until = now()
        enter(client, password="wrong")
        with room.database.reading() as session:
            user = session.get(User, reader.id)
            waits.append(round((user.locked_until - now()).total_seconds()))
    assert waits == [60, 120, 240, 480, 900, 900]
    with room.database.transaction() as session:
        session.get(User, reader.id).locked_until = now()
    assert enter(client).status_code == 303
    with room.database.reading() as session:
        assert session.get(User, reader.id).failures == 0
    assert actions(room).count("sign_in.failed") == 11


def test_an_unknown_name_and_an_account_that_is_off_are_answered_alike(client, reader, room):
    with room.database.transaction() as session:
        session.get(User, reader.id).active = False
    for name in ("lin", "who"):
        assert [enter(client, name=name).status_code for _ in range(4)] == [401] * 4
    texts = {enter(client, name=name).text.replace(f'value="{name}"', "") for name in ("lin", "who")}
    assert len(texts) == 1 and "wrong" in texts.pop()
    assert {enter(client, name=name).status_code for name in ("lin", "who", " WHO")} == {429}
    assert reader.get("/v1/nothing").status_code == 401  # its session is over, too


def test_there_are_no_web_sockets(client):
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/me"):
        pass


def test_an_idle_session_is_locked_and_a_password_opens_it_with_a_new_token(reader, room):
    with room.database.transaction() as session:
        session.scalar(select(SignInSession)).seen_at = now() - timedelta(minutes=16)
    answer = reader.get("/exams/7?side=left", follow_redirects=False)
    assert answer.headers["location"] == "/unlock?next=/exams/7%3Fside%3Dleft"
    assert reader.get("/v1/nothing").json()["status"] == 401
    before = reader.cookies["fundoscope"]
    assert "Enter your password" in reader.get("/unlock").text
    assert reader.post("/unlock", data={"password": "wrong"}).status_code == 401
    answer = reader.post("/unlock", data={"password": reader.password, "next": "/exams/7"}, follow_redirects=False)
    assert answer.headers["location"] == "/exams/7" and reader.cookies["fundoscope"] != before
    assert reader.get("/v1/nothing").status_code == 404


def test_what_a_page_asks_by_itself_keeps_no_session_awake(reader, room):
    long_ago = now() - timedelta(minutes=10)
    with room.database.transaction() as session:
        session.scalar(select(SignInSession)).seen_at = long_ago
    seen = select(SignInSession.seen_at)
    for headers, awake in (({"Accept": "text/event-stream"}, False), ({"X-Automatic": "1"}, False), ({}, True)):
        reader.get("/v1/nothing", headers=headers)
        with room.database.reading() as session:
            assert (session.scalar(seen) > long_ago) is awake


def test_signing_out_ends_the_session(reader, client):
    token = reader.cookies["fundoscope"]
    assert reader.post("/sign-out", follow_redirects=False).status_code == 303
    assert TestClient(client.app, client.base_url, cookies={"fundoscope": token}).get("/v1/nothing").status_code == 401


def test_a_session_ends_after_its_hours(reader, room):
    with room.database.transaction() as session:
        session.scalar(select(SignInSession)).expires_at = now()
    assert reader.get("/v1/nothing").status_code == 401


def test_the_password_is_asked_again_before_signing(reader, room):
    sessions.confirm_password(room.database, reader.caller, reader.password)
    for _ in range(5):
        with pytest.raises(NotAllowedError, match="nothing was signed"):
            sessions.confirm_password(room.database, reader.caller, "wrong")
    with pytest.raises(BusyError, match="Wait"):
        sessions.confirm_password(room.database, reader.caller, reader.password)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://localhost:8000"},
        {"Origin": "http://localhost:8001"},
        {"Origin": ""},
    ],
)
def test_a_change_from_another_origin_is_refused(reader, headers):
    answer = reader.post("/sign-out", headers=headers | {"Accept": "application/json"})
    assert answer.status_code == 403 and answer.headers["content-type"] == "application/problem+json"
    assert "another site" in answer.json()["detail"]


def test_a_change_without_the_token_of_the_session_is_refused(reader, client):
    bare = TestClient(client.app, client.base_url, cookies=reader.cookies, headers={"Origin": str(client.base_url)})
    assert bare.post("/sign-out", follow_redirects=False).status_code == 403
    assert bare.post("/sign-out", data={"csrf": "A" * 43}, follow_redirects=False).status_code == 403
    csrf = reader.headers["X-CSRF-Token"]
    late = {"file": ("a.png", b"x" * 50_000), "csrf": (None, csrf)}
    assert bare.post("/sign-out", files=late, follow_redirects=False).status_code == 403
    assert bare.post("/sign-out", files=dict(reversed(late.items())), follow_redirects=False).status_code == 303


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1@evil.example", "", "[::2]"])
def test_the_room_answers_to_its_own_names_only(reader, host):
    answer = reader.get("/v1/nothing", headers={"Host": host})
    assert answer.status_code == 421


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:1"])
def test_all_names_of_loopback_are_known(reader, host):
    assert reader.get("/v1/nothing", headers={"Host": host}).status_code == 404


def test_every_answer_has_the_headers_that_keep_pages_apart(client, reader):
    for answer in (
        client.get("/sign-in"),
        client.get("/healthz"),
        client.get("/v1/x"),
        client.get("/x", headers={"Host": "a"}),
    ):
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_a_body_is_cut_off_at_its_limit(client, reader):
    big = b"name=" + b"x" * (1 << 20)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/sign-in", content=big, headers=kind).status_code == 413

    def in_pieces():
        yield b"name="
        for _ in range(40):
            yield b"x" * 50_000

    assert client.post("/sign-in", content=in_pieces(), headers=kind).status_code == 413


def test_errors_are_problems_under_v1_and_pages_elsewhere(reader, client):
    answer = reader.get("/v1/nothing")
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == {"type", "title", "status", "detail"}
    page = reader.get("/nothing")
    assert page.status_code == 404 and "<h1>" in page.text
    assert client.get("/exams/7", follow_redirects=False).headers["location"] == "/sign-in?next=/exams/7"
    part = client.get("/exams/7", headers={"HX-Request": "true"}, follow_redirects=False)
    assert (part.status_code, part.headers["hx-redirect"]) == (401, "/sign-in")
    assert client.get("/v1/nothing").headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil", "", "evil"])
def test_after_signing_in_one_stays_in_the_room(path):
    assert local_path(path) == "/"


@pytest.mark.parametrize("name", ["a\0b", "x" * 900, "\u202e", "'; DROP TABLE users; --", ""])
def test_an_odd_name_is_nobodys(client, name):
    assert enter(client, name=name).status_code in (401, 422)
