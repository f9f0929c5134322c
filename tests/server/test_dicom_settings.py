"""Settings of PACS and cameras: who may, what is refused, passwords that nobody sees again, and the button that tries."""

import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")
pytest.importorskip("dicomweb_client")

from sqlalchemy import select

from fundoscope.server.dicom import places
from fundoscope.server.errors import ConflictError
from fundoscope.server.models import AuditEntry, DicomDestination, DicomSource
from fundoscope.server.security.sealing import KEY_FILE, seal, unseal

FORM = {"name": "PACS", "content": "both", "moment": "judged", "protocol": "dicomweb", "url": "http://127.0.0.1:1/dicom-web", "user": "room", "password": "a secret of ours", "active": "1"}  # fmt: skip


def rows(room, model):
    with room.database.reading() as session:
        return session.scalars(select(model)).all()


def test_a_password_is_sealed_and_never_told_again(room, site, sign_in):
    boss = sign_in("administrator")
    assert (
        boss.post(
            "/settings/dicom/destinations/new", data={**FORM, "site_id": site.id}, follow_redirects=False
        ).status_code
        == 303
    )
    (row,) = rows(room, DicomDestination)
    assert "secret" not in row.password and unseal(room.settings, row.password) == "a secret of ours"
    assert (room.settings.data / KEY_FILE).stat().st_mode & 0o077 == 0
    told = [
        boss.get(path).text
        for path in (
            "/settings/dicom",
            "/settings/dicom/destinations/1",
            "/v1/dicom/destinations",
            "/v1/dicom/destinations/1",
        )
    ]
    assert not any("a secret" in text or row.password in text for text in told)
    assert '"has_password":true' in told[-1]
    assert "secret" not in str([line.detail for line in rows(room, AuditEntry)])


def test_a_password_left_blank_stays_and_goes_to_no_other_address(room, site, sign_in):
    boss = sign_in("administrator")
    values = {"name": "PACS", "site_id": site.id, "url": "http://127.0.0.1:1/a", "user": "room", "password": "secret"}
    assert boss.post("/v1/dicom/sources", json=values).status_code == 201
    kept = rows(room, DicomSource)[0].password
    assert boss.put("/v1/dicom/sources/1", json={**values, "password": "", "days": 5}).status_code == 200
    assert (rows(room, DicomSource)[0].password, rows(room, DicomSource)[0].days) == (kept, 5)
    answer = boss.put("/v1/dicom/sources/1", json={**values, "password": "", "url": "http://evil.example/a"})
    assert (answer.status_code, answer.json()["field"]) == (422, "password")
    assert (
        boss.put("/v1/dicom/sources/1", json={**values, "password": "new", "url": "http://10.0.0.7/a"}).status_code
        == 200
    )
    assert unseal(room.settings, rows(room, DicomSource)[0].password) == "new"


@pytest.mark.parametrize(
    ("kind", "values", "told"),
    [
        ("destinations", {"url": ""}, "DICOMweb needs an address"),
        ("destinations", {"url": "http://u:p@pacs/x"}, "is no address of DICOMweb"),
        ("destinations", {"protocol": "dimse", "host": "pacs", "port": 104}, "both AE titles"),
        ("destinations", {"protocol": "dimse", "host": "pacs", "port": 104, "called_title": "A\\B"}, "is no AE title"),
        ("destinations", {"protocol": "dimse", "host": "pacs", "port": 0, "called_title": "A"}, "less than 1"),
        ("destinations", {"authority_file": "/no/such.pem"}, "There is no file /no/such.pem"),
        ("destinations", {"certificate_file": __file__}, "go together"),
        ("destinations", {"site_id": 99}, "There is no site 99"),
        ("sources", {"modalities": []}, "at least one modality"),
        ("sources", {"modalities": ["O P"]}, "not written as"),
        ("sources", {"kind": "folder", "folder": "camera"}, "no whole path"),
        ("sources", {"kind": "folder", "folder": "/srv/x", "pattern": "{eye}"}, "is no pattern"),
        ("sources", {"kind": "folder", "folder": "/srv/x", "pattern": "{patient}{patient}"}, "is no pattern"),
        ("sources", {"kind": "folder", "folder": ""}, "needs its path"),
        ("sources", {"interval": 0}, "less than 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_says_why(room, site, sign_in, kind, values, told):
    boss = sign_in("administrator")
    answer = boss.post(f"/v1/dicom/{kind}", json={"name": "P", "site_id": site.id, "url": "http://pacs/x", **values})
    assert answer.status_code == 422 and told in answer.json()["detail"], answer.text
    form = {name: ", ".join(value) if isinstance(value, list) else value for name, value in values.items()}
    page = boss.post(
        f"/settings/dicom/{kind}/new",
        data={**FORM, "site_id": site.id, "kind": "dicomweb", "patients": "infant", **form},
    )
    assert page.status_code in (422, 303) and rows(room, DicomDestination) == rows(room, DicomSource) == []


def test_a_name_is_taken_once_and_a_site_stays(room, site, other_site, sign_in):
    boss = sign_in("administrator")
    values = {"name": "P", "site_id": site.id, "url": "http://pacs/x"}
    assert boss.post("/v1/dicom/destinations", json=values).status_code == 201
    assert boss.post("/v1/dicom/destinations", json=values).json()["field"] == "name"
    assert boss.put("/v1/dicom/destinations/1", json={**values, "site_id": other_site.id}).json()["field"] == "site_id"
    assert boss.put("/v1/dicom/destinations/2", json=values).status_code == 404
    assert (
        boss.put("/v1/dicom/destinations/1", json={**values, "active": False, "content": "signed"}).json()["content"]
        == "signed"
    )
    assert len(boss.get("/v1/dicom/destinations").json()["items"]) == 1


def test_the_button_tells_why_a_place_does_not_answer(room, site, sign_in, tmp_path):
    boss = sign_in("administrator")
    for values in ({}, {"protocol": "dimse", "host": "127.0.0.1", "port": 1, "called_title": "PACS"}):
        boss.post(
            "/v1/dicom/destinations",
            json={"name": f"P{len(values)}", "site_id": site.id, "url": "http://127.0.0.1:1/x", **values},
        )
    for number in (1, 2):
        answer = boss.post(f"/v1/dicom/destinations/{number}/test").json()
        assert not answer["answers"] and "nothing answers there" in answer["trouble"]
    chinese = sign_in("administrator", language="zh").post("/settings/dicom/destinations/1/test")
    assert "http://127.0.0.1:1/x: 无应答" in chinese.text
    page = boss.post("/settings/dicom/destinations/1/test")
    assert "nothing answers there" in page.text and page.url.path == "/settings/dicom/destinations/1"
    (tmp_path / "camera").mkdir()
    for folder, answers in ((tmp_path / "camera", True), (tmp_path / "gone", False)):
        values = {"name": folder.name, "site_id": site.id, "kind": "folder", "folder": str(folder)}
        number = boss.post("/v1/dicom/sources", json=values).json()["id"]
        assert boss.post(f"/v1/dicom/sources/{number}/test").json()["answers"] is answers


def test_the_rooms_own_files_are_never_watched(room, site, sign_in):
    boss, own = sign_in("administrator"), room.settings.data
    for folder in (own, own / "photographs", own.parent, own / ".." / own.name):
        answer = boss.post(
            "/v1/dicom/sources", json={"name": "P", "site_id": site.id, "kind": "folder", "folder": str(folder)}
        )
        assert (answer.status_code, answer.json()["field"]) == (422, "folder"), folder
    assert rows(room, DicomSource) == []


def test_without_the_packages_it_says_which_to_install(room, site, sign_in, monkeypatch):
    monkeypatch.setattr(places, "_PACKAGES", ("no_such_package",))
    answer = sign_in("administrator").post(
        "/v1/dicom/sources", json={"name": "P", "site_id": site.id, "url": "http://pacs/x"}
    )
    assert answer.status_code == 409 and "pip install 'fundoscope[dicom]'" in answer.json()["detail"]


def test_a_key_that_is_gone_asks_for_the_password_again(room):
    sealed = seal(room.settings, "secret")
    assert seal(room.settings, "secret") != sealed and seal(room.settings, "") == unseal(room.settings, "") == ""
    (room.settings.data / KEY_FILE).unlink()
    with pytest.raises(ConflictError, match="Enter the password again"):
        unseal(room.settings, sealed)
    (room.settings.data / KEY_FILE).write_bytes(b"short")
    with pytest.raises(ConflictError, match="is damaged"):
        seal(room.settings, "secret")


def test_people_see_what_is_on_its_way_and_send_it_again(room, site, other_site, sign_in):
    from test_matrix import make_world

    nurse = sign_in("technician")
    world = make_world(room, site, nurse.id, "MARK")
    stranger = sign_in("technician", sites=[other_site])
    page = nurse.get("/sendings?state=waiting").text
    assert f'href="/exams/{world.exam}"' in page and "MARK" in page
    assert "Nothing here" in stranger.get("/sendings").text
    assert stranger.post(f"/sendings/{world.sending}/again").status_code == 404
    assert nurse.post(f"/sendings/{world.sending}/again", follow_redirects=False).status_code == 303
    assert nurse.get(f"/v1/dicom/sendings/{world.sending}").json()["state"] == "waiting"
    assert nurse.get("/v1/dicom/sendings", params={"exam_id": world.exam}).json()["items"][0]["id"] == world.sending
