"""What all pages share: the language they speak, messages, files of the package, the parts of forms and tables."""

import hashlib
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from fastapi import FastAPI, Request
from jinja2 import ChoiceLoader, FileSystemLoader
from starlette.testclient import TestClient

from fundoscope.languages import speaking
from fundoscope.server import pages
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.routes import static

#: SHA-256 of what stands in static/vendor, as npm gave it: htmx.org 4.0.1, openseadragon 6.1.1.
VENDORED = {
    "vendor/htmx/htmx.min.js": "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
    "vendor/htmx/LICENSE.txt": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
    "vendor/openseadragon/openseadragon.min.js": "14d587cd3ee7c4861f1a41077ce642029364a21029956ba635bd8fb1202cf9ad",
    "vendor/openseadragon/LICENSE.txt": "17da96b26ac706d2cbd06d4555dedb43026782f4943faf0156fe7acf89454228",
}


@pytest.fixture
def guide(monkeypatch):
    """A client of one page that uses every macro; `?who=` is the role of who asks, none before sign-in."""
    env = pages.environment()
    monkeypatch.setattr(env, "loader", ChoiceLoader([env.loader, FileSystemLoader(Path(__file__).parent)]))
    app = FastAPI()
    app.include_router(static.router)

    @app.get("/")
    def show(request: Request, who: str = "none", spoken: str = "en"):
        caller = None if who == "none" else Caller(1, "<li>.wei\u202e", Role(who), frozenset(), language=spoken)
        return pages.render(request, caller, "style_guide.html.j2", day=date(2026, 11, 20), moment=datetime.now(UTC))

    @app.get("/go")
    def go(request: Request, kind: str = "good"):
        return pages.redirect(request, "/", "Saved <b>it</b>.", kind)

    return TestClient(app)


def test_a_page_keeps_to_the_policy_of_content_and_spells_out_what_cannot_be_seen(guide):
    page = guide.get("/?who=reader").text
    for forbidden in ("<li>.wei", "\u202e", ' style="', "<script>", "onclick", "javascript:", "http://", "https://"):
        assert forbidden not in page, forbidden
    assert "&lt;li&gt;.wei\\u202e" in page and "Research use only" in page
    assert page.count("<style") == page.count('<style type="text/plain"')


def test_roles_see_their_way(guide):
    def ways(role):
        page = guide.get(f"/?who={role}").text
        return [way for way in ("/patients/new", "/second-readings", "/settings", "/sign-out") if f'"{way}"' in page]

    assert ways("technician") == ["/patients/new", "/sign-out"]
    assert ways("reader") == ["/patients/new", "/second-readings", "/sign-out"]
    assert ways("administrator") == [
        "/patients/new",
        "/second-readings",
        "/settings",
        "/sign-out",
    ]  # the guide's own button leads to a new patient
    assert ways("none") == ["/patients/new"]


def test_language_of_account_query_cookie_browser_in_this_order(guide):
    def spoken(path="/", **headers):
        return guide.get(path, headers=headers).headers["Content-Language"]

    browser = {"Accept-Language": "fr-FR, zh-CN;q=0.8, en;q=0.2"}
    assert spoken(**browser) == "zh" and spoken(**{"Accept-Language": "fr, zh;q=0, en;q=nan;"}) == "en"
    assert spoken("/?who=reader&spoken=en&language=zh", **browser) == "en"
    guide.cookies.clear()
    assert spoken("/?language=en", **browser) == "en"
    assert spoken(**browser) == "en"  # the cookie
    assert spoken("/?language=xx", **browser) == "en"
    guide.cookies.clear()
    assert spoken() == "en"


def test_a_message_is_shown_once_and_escaped(guide):
    first = guide.get("/go?kind=bad").text
    assert "Saved &lt;b&gt;it&lt;/b&gt;." in first and 'class="notice bad" role="alert">Saved' in first
    assert "Saved" not in guide.get("/").text
    for broken in ("x", "bnVsbA==", "WzFd", "é"):
        assert guide.get("/", headers={"Cookie": f"flash={broken}".encode()}).status_code == 200


def test_files_of_the_package_are_kept_while_they_do_not_change(guide):
    address = pages.static_address("style.css")
    answer = guide.get(address)
    assert (
        answer.headers["Content-Type"] == "text/css; charset=utf-8" and "immutable" in answer.headers["Cache-Control"]
    )
    assert guide.get("/static/style.css?v=old").headers["Cache-Control"] == "no-cache"
    assert guide.get(address, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    assert guide.get("/favicon.ico").headers["Content-Type"].startswith("image/svg+xml")
    for wrong in ("nothing.css", "../pages.py", "%2e%2e/pages.py", "..%2fpages.py", "/etc/passwd", "vendor", ""):
        assert guide.get(f"/static/{wrong}").status_code == 404, wrong
    with pytest.raises(KeyError):
        pages.static_address("nothing.css")


def test_vendored_files_are_as_their_makers_gave_them():
    files = pages.static_files()
    assert {n: hashlib.sha256(f.content).hexdigest() for n, f in files.items() if n.startswith("vendor/")} == VENDORED


def test_days_and_ages_as_people_write_them():
    day, today = date(2026, 11, 5), date(2026, 11, 28)
    assert pages.write_day(day) == '<time datetime="2026-11-05">5 Nov 2026</time>'
    assert pages.write_day("2026-11-05") == pages.write_day(day) and pages.write_day(None) == ""
    distances = [pages.write_distance(date(2026, 11, d), today) for d in (5, 27, 28, 29, 30)]
    assert distances == ["23 days ago", "1 day ago", "today", "tomorrow", "in 2 days"]
    assert pages.write_age(33 * 7 + 5) == "33\u00a0w\u00a05\u00a0d" and pages.write_age(None) == ""
    moment = datetime(2026, 11, 28, 14, 5, tzinfo=UTC).astimezone()
    assert f">28 Nov 2026, {moment:%H:%M}<" in pages.write_moment(moment)
    with speaking("zh"):
        assert ">2026年11月5日<" in pages.write_day(day) and f">2026年11月28日 {moment:%H:%M}<" in pages.write_moment(
            moment
        )
