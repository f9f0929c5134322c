"""Links, accounts, sites, tokens, the audit log: who may, and what happens when they do."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from fundoscope.server.models import ApiToken, AuditEntry, OneTimeLink, Site, User, now
from fundoscope.server.security.secrets import digest
from fundoscope.server.services import accounts, audit

PASSWORD = "rain falls on the roof"


@pytest.fixture
def administrator(sign_in):
    return sign_in("administrator", name="ada")


@pytest.fixture
def reader(sign_in):
    return sign_in("reader", name="lin")


def first_link(room):
    with room.database.transaction() as session:
        return accounts.make_link(session, "administrator")


def actions(room):
    with room.database.reading() as session:
        return list(session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)))


def program(person, token):
    return TestClient(person.app, person.base_url, headers={"Authorization": f"Bearer {token}"})


# --- the first link


def test_the_first_link_makes_one_administrator_and_the_first_site(room, client):
    stale = first_link(room)
    path = f"/link/{first_link(room)}"
    assert client.get(f"/link/{stale}").status_code == 410, "a later start makes the earlier link useless"
    form = {"name": " Ada ", "full_name": "Ada Müller", "site": "Ward 3", "password": PASSWORD, "again": PASSWORD}
    for wrong, words in (
        ({"password": "short", "again": "short"}, "12 to 200"),
        ({"again": PASSWORD + "."}, "differ"),
        ({"name": "Ada Müller"}, "small letters"),
        ({"site": " "}, "blank"),
        ({"password": "aaaaaaaaaaaaa", "again": "aaaaaaaaaaaaa"}, "easy to guess"),
    ):
        answer = client.post(path, data=form | wrong)
        assert answer.status_code == 422 and words in answer.text, wrong
        assert "Ada M" in answer.text and PASSWORD not in answer.text
    answer = client.post(path, data=form, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    page = client.get("/settings")
    assert page.status_code == 200 and "Ada Müller" in page.text and "Ward 3" in page.text
    assert client.get(path).status_code == 410
    other = TestClient(client.app, client.base_url, headers=client.headers)
    assert other.post(f"/link/{first_link(room)}", data=form).status_code == 409
    assert actions(room)[:2] == ["site.add", "account.first"]


def test_a_link_ends_after_its_time(room, client):
    token = first_link(room)
    with room.database.transaction() as session:
        row = session.scalar(select(OneTimeLink))
        assert row.digest == digest(token) and token not in row.digest
        row.expires_at = now()
    assert client.get(f"/link/{token}").status_code == 410


# --- accounts


def test_an_invited_reader_sets_a_password_and_works(administrator, client, site, room):
    form = {
        "name": "Wei",
        "full_name": "张伟",
        "role": "reader",
        "language": "zh",
        "sites": [str(site.id)],
        "active": "1",
    }
    page = administrator.post("/settings/accounts/new", data=form)
    assert page.status_code == 200, page.text
    link = re.search(r"/link/[\w-]+", page.text)[0]
    assert administrator.get("/settings").text.count("invited") == 1
    answer = client.post(link, data={"password": PASSWORD, "again": PASSWORD}, follow_redirects=False)
    assert answer.status_code == 303
    assert client.get("/v1/me").json() == {
        "id": administrator.id + 1, "name": "wei", "role": "reader", "sites": [site.id], "language": "zh",
    }  # fmt: skip
    assert 'lang="zh-Hans"' in client.get("/account").text
    again = administrator.post("/settings/accounts/new", data=form)
    assert again.status_code == 422 and "already" in again.text


@pytest.mark.parametrize("wrong", [{"name": "x y"}, {"full_name": ""}, {"role": "owner"}, {"sites": ["999"]}, {"sites": ["x"]},
                                   {"full_name": "a\u202eb"}, {"language": "xx"}])  # fmt: skip
def test_a_wrong_invitation_makes_no_account(administrator, room, site, wrong):
    form = {"name": "wei", "full_name": "Wei", "role": "reader", "language": "en", "sites": [str(site.id)]}
    assert administrator.post("/settings/accounts/new", data=form | wrong).status_code == 422
    with room.database.reading() as session:
        assert session.scalars(select(User.name)).all() == ["ada"]


def test_an_account_that_is_switched_off_is_out_at_once(administrator, reader, room):
    made = reader.post("/v1/tokens", json={"name": "camera"}).json()
    values = {"full_name": "Lin", "role": "reader", "sites": [], "active": False}
    assert administrator.put(f"/v1/accounts/{reader.id}", json=values).json()["active"] is False
    assert reader.get("/v1/me").status_code == 401
    assert program(reader, made["token"]).get("/v1/me").status_code == 401
    assert administrator.post(f"/v1/accounts/{reader.id}/link").status_code == 409


def test_a_change_of_role_and_sites_holds_at_once(administrator, reader, site, other_site):
    values = {"full_name": "Lin", "role": "technician", "sites": [other_site.id]}
    administrator.put(f"/v1/accounts/{reader.id}", json=values)
    assert reader.get("/v1/me").json() | {"id": 0} == {
        "id": 0, "name": "lin", "role": "technician", "sites": [other_site.id], "language": "en",
    }  # fmt: skip


def test_nobody_takes_the_last_administrator_away(administrator):
    values = {"full_name": "Ada", "role": "reader", "sites": []}
    assert administrator.put(f"/v1/accounts/{administrator.id}", json=values).status_code == 409


def test_a_forgotten_password_ends_all_sessions(administrator, reader, client):
    link = administrator.post(f"/v1/accounts/{reader.id}/link").json()["link"]
    assert client.post(link, data={"password": PASSWORD, "again": PASSWORD}, follow_redirects=False).status_code == 303
    assert reader.get("/v1/me").status_code == 401
    assert client.get("/v1/me").json()["name"] == "lin"


@pytest.mark.parametrize("role", ["technician", "reader"])
def test_only_administrators_manage(sign_in, role, site):
    person = sign_in(role)
    for path in ("/settings", "/settings/accounts/new", "/settings/accounts/1", "/settings/sites/new", "/settings/sites/1",
                 "/settings/audit", "/v1/accounts", "/v1/audit"):  # fmt: skip
        assert person.get(path).status_code == 403, path
    new = {"name": "eve", "full_name": "Eve", "role": "administrator"}
    values = {"full_name": "Eve", "role": "administrator"}
    assert person.post("/v1/accounts", json=new).status_code == 403
    assert person.put(f"/v1/accounts/{person.id}", json=values).status_code == 403
    assert person.post("/v1/accounts/1/link").status_code in (403,)
    assert person.post("/v1/sites", json={"name": "X"}).status_code == 403
    assert person.put(f"/v1/sites/{site.id}", json={"name": "X"}).status_code == 403


# --- everybody's own page


def test_one_changes_the_own_password_and_language(reader, client):
    form = {"old": "wrong", "password": PASSWORD, "again": PASSWORD}
    assert "old password is wrong" in reader.post("/account/password", data=form).text
    assert (
        reader.post("/account/password", data=form | {"old": reader.password}, follow_redirects=False).status_code
        == 303
    )
    assert reader.get("/v1/me").status_code == 200
    assert (
        client.post("/sign-in", data={"name": "lin", "password": PASSWORD}, follow_redirects=False).status_code == 303
    )
    reader.post("/account/language", data={"language": "zh"})
    assert reader.get("/v1/me").json()["language"] == "zh"
    assert reader.post("/account/language", data={"language": "xx"}).status_code == 422


def test_a_token_works_for_programs_only_and_until_it_ends(reader, room, site):
    page = reader.post("/account/tokens", data={"token_name": "camera", "days": "30"})
    token = re.search(r"fundoscope_[\w-]{43}", page.text)[0]
    with room.database.reading() as session:
        row = session.scalar(select(ApiToken))
    assert row.digest == digest(token) and abs(row.expires_at - now() - timedelta(days=30)) < timedelta(minutes=1)
    camera = program(reader, token)
    assert camera.get("/v1/me").json()["sites"] == [site.id]
    assert camera.get("/account", follow_redirects=False).status_code == 303, "pages take no token"
    assert camera.post("/v1/tokens", json={"name": "another"}).status_code == 403
    assert token not in reader.get("/account").text
    assert [each["name"] for each in camera.get("/v1/tokens").json()["items"]] == ["camera"]
    assert camera.delete(f"/v1/tokens/{row.id}").status_code == 204
    assert camera.get("/v1/me").status_code == 401
    with room.database.transaction() as session:
        session.get(ApiToken, row.id).ended_at = None
        session.get(ApiToken, row.id).expires_at = now()
    assert camera.get("/v1/me").status_code == 401
    assert program(reader, "fundoscope_x").get("/v1/me").json()["status"] == 401


def test_nobody_ends_the_token_of_another(reader, administrator):
    number = reader.post("/v1/tokens", json={"name": "camera"}).json()["id"]
    assert administrator.delete(f"/v1/tokens/{number}").status_code == 404
    assert administrator.post(f"/account/tokens/{number}/end").status_code == 404


# --- sites


def test_a_site_is_added_and_changed_and_both_are_logged(administrator, room):
    form = {"name": "Ward 9", "guideline": "china-2014", "required_views": ["disc", "temporal"], "second_reading_share": "20",
            "repeat_share": "2.5", "active": "1"}  # fmt: skip
    assert administrator.post("/settings/sites/new", data=form, follow_redirects=False).status_code == 303
    with room.database.reading() as session:
        site = session.scalar(select(Site).where(Site.name == "Ward 9"))
    assert (site.required_views, site.second_reading_share, site.repeat_share, site.hide_answer) == (
        ["disc", "temporal"], 0.2, 0.025, False,
    )  # fmt: skip
    assert site.id in administrator.get("/v1/me").json()["sites"]
    administrator.post(f"/settings/sites/{site.id}", data=form | {"hide_answer": "1"})
    line = administrator.get("/v1/audit?action=site.change").json()["items"][0]
    assert line["detail"] == {"changed": {"hide_answer": [False, True]}}
    for wrong in ({"guideline": "mars-2014"}, {"required_views": ["back"]}, {"second_reading_share": "101"}, {"name": "Site A"},
                  {"repeat_share": "nan"}, {"required_views": ["disc", "disc"]}):  # fmt: skip
        assert administrator.post(f"/settings/sites/{site.id}", data=form | wrong).status_code == 422, wrong


# --- the log


def test_the_log_is_filtered_paged_and_whole(administrator, reader, room):
    for _ in range(3):
        administrator.post("/v1/accounts", json={"name": f"n{_}", "full_name": "N", "role": "reader"})
    page = administrator.get("/v1/audit?action=account.&limit=2").json()
    assert [line["subject_id"] for line in page["items"]] == [5, 4]
    page = administrator.get(f"/v1/audit?action=account.&limit=2&cursor={page['next']}").json()
    assert [line["subject_id"] for line in page["items"]] == [3] and page["next"] is None
    html = administrator.get(f"/settings/audit?user={administrator.id}&action=account").text
    assert html.count("account.invite") == 3
    assert "No line of this kind" in administrator.get("/settings/audit?number=77").text
    with room.database.reading() as session:
        assert list(audit.find_breaks(session)) == []


@pytest.mark.parametrize(
    "query", ["action=%00", "subject=%00", "action=%25", "subject_id=0", "user_id=99999999999", "cursor=x"]
)
def test_an_odd_filter_of_the_log_is_no_failure(administrator, query):
    assert administrator.get(f"/v1/audit?{query}").status_code in (200, 422)
