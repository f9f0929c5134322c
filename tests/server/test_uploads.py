"""Photographs in: what is taken, what is refused and why, what comes twice, and what a full queue answers."""

import hashlib
import io
import json
import stat
import struct
import threading
import zipfile
import zlib
from datetime import UTC, datetime

import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")

from PIL import Image
from sqlalchemy import select

from fundoscope.server.models import AuditEntry, Correction, Exam, ExamPhotograph, Grading, Job
from fundoscope.server.services import audit, judging
from fundoscope.server.services.archives import decode_name
from fundoscope.server.services.uploads import clean_name
from fundoscope.server.settings import ServerSettings, UploadLimits


@pytest.fixture
def settings(tmp_path):
    limits = UploadLimits(file_bytes=200_000, upload_bytes=600_000, pixels=1_000_000, files=12, waiting_jobs=5)
    return ServerSettings(data=tmp_path / "room", debug=True, limits=limits)


def jpeg(number=0, size=(64, 48), **options):
    data = io.BytesIO()
    Image.new("RGB", size, (number, 80, 40)).save(data, "JPEG", **{"comment": b"%d" % number} | options)
    return data.getvalue()


def pack(files, method=zipfile.ZIP_DEFLATED):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return data.getvalue()


def send(person, exam, files, **headers):
    parts = [("photographs", (name, data)) for name, data in files]
    return person.post(f"/v1/exams/{exam.id}/photographs", files=parts, headers=headers)


def outcomes(answer):
    assert answer.status_code in (200, 201), answer.text
    return {item["file"]: item["outcome"] for item in answer.json()["items"]}


@pytest.fixture
def nurse(sign_in):
    return sign_in("technician")


def test_a_photograph_is_kept_written_down_and_asked_to_be_judged(room, nurse, make_exam):
    exam = make_exam(day=datetime(2026, 2, 9).date())
    data = jpeg(exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00")
    answer = send(nurse, exam, [("ward/OD 2026-02-08 disc.jpg", data), ("notes.txt", b"hello")])
    assert answer.status_code == 201
    taken, refused = answer.json()["items"]
    assert (taken["file"], taken["eye"], taken["view"]) == ("OD 2026-02-08 disc.jpg", "right", "disc")
    assert "taken on 2026-02-08" in taken["remark"]
    assert refused["outcome"] == "refused" and "not an image" in refused["reason"] and "JPEG" in refused["reason"]
    digest = hashlib.sha256(data).hexdigest()
    file = judging.photograph_file(room.settings, digest)
    assert file.read_bytes() == data and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not list((room.settings.data / "incoming").iterdir())
    with room.database.reading() as session:
        photograph = session.scalars(select(ExamPhotograph)).one()
        assert (photograph.digest, photograph.width, photograph.height) == (digest, 64, 48)
        assert (photograph.state, photograph.placed, photograph.created_via) == ("waiting", False, "pages")
        job = session.scalars(select(Job)).one()
        assert (
            job.payload == {"photograph": photograph.id, "exam": exam.id, "digest": digest, "task": "rop"}
            and job.created_by == nurse.id
        )
        now = session.get(Exam, exam.id)
        assert now.photographs_waiting == 1 and now.uploaded_at is not None
        line = session.scalars(select(AuditEntry).where(AuditEntry.action == "photographs.add")).one()
        assert line.detail == {"photographs": [photograph.id], "accepted": 1, "already": 0, "refused": 1}
        assert not list(audit.find_breaks(session))


def test_the_same_file_twice_is_one_and_a_key_gives_the_same_receipt(room, nurse, make_exam):
    exam, other = make_exam(), make_exam()
    first = send(nurse, exam, [("a.jpg", jpeg(1)), ("b.jpg", jpeg(1))], **{"Idempotency-Key": "k1"})
    assert list(outcomes(first).values()) == ["accepted", "already"]
    again = send(nurse, exam, [("a.jpg", jpeg(1)), ("b.jpg", jpeg(1))], **{"Idempotency-Key": "k1"})
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert send(nurse, exam, [("c.jpg", jpeg(2))], **{"Idempotency-Key": "k1"}).status_code == 422
    assert outcomes(send(nurse, exam, [("c.jpg", jpeg(1))])) == {"c.jpg": "already"}
    elsewhere = send(nurse, other, [("d.jpg", jpeg(1))]).json()["items"][0]
    assert elsewhere["outcome"] == "accepted" and f"Exam {exam.id} of another patient" in elsewhere["remark"]
    with room.database.reading() as session:
        assert len(session.scalars(select(ExamPhotograph)).all()) == 2 == len(session.scalars(select(Job)).all())


def test_a_full_queue_answers_with_a_wait_and_takes_nothing_of_it(room, nurse, make_exam):
    exam = make_exam()
    assert len(outcomes(send(nurse, exam, [(f"{n}.jpg", jpeg(n)) for n in range(4)]))) == 4
    full = send(nurse, exam, [("8.jpg", jpeg(8)), ("9.jpg", jpeg(9))])
    assert (
        full.status_code == 503 and int(full.headers["Retry-After"]) >= 2 and "Nothing of this was taken" in full.text
    )
    assert outcomes(send(nurse, exam, [("9.jpg", jpeg(9))])) == {"9.jpg": "accepted"}
    assert outcomes(send(nurse, exam, [("1.jpg", jpeg(1))])) == {"1.jpg": "already"}  # adds nothing to the queue
    with room.database.reading() as session:
        assert len(session.scalars(select(ExamPhotograph)).all()) == 5


def test_who_may_send_and_to_which_exam(room, nurse, sign_in, other_site, make_exam, client):
    exam, done = make_exam(), make_exam(state="to_read")
    files = [("a.jpg", jpeg())]
    assert send(sign_in("administrator"), exam, files).status_code == 403
    assert send(sign_in("technician", sites=[other_site]), exam, files).status_code == 404
    assert send(client, exam, files).status_code == 401
    told = send(nurse, done, files)
    assert told.status_code == 409 and "Reopen it first" in told.json()["detail"]
    with room.database.reading() as session:
        assert not session.scalars(select(ExamPhotograph)).all()
    assert not any(room.settings.photographs.glob("*/*"))


def big_header(kind):
    if kind == "png":
        chunk = b"IHDR" + struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
        body = b"IDAT" + zlib.compress(b"0")
        parts = [
            struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each))
            for each in (chunk, body, b"IEND")
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 40_000, 40_000)
    return bytes(data)


def test_what_is_no_photograph_is_refused_by_its_bytes_whatever_its_name(nurse, make_exam):
    exam = make_exam()
    cases = [
        ("a.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "HTML, XML or SVG"),
        ("a.jpg", b"<html><body>x</body></html>", "HTML, XML or SVG"),
        ("a.jpg", b"%PDF-1.7 ...", "PDF"),
        ("a.jpg", b"", "empty"),
        ("a.jpg", jpeg()[:-300], "cut short"),
        ("a.jpg", jpeg() + pack([("x.html", "<script>")]), "at once"),
        ("a.jpg", jpeg(comment=b"%PDF-1.7 is here"), "at once"),
        ("a.jpg", jpeg(comment=b"<script>alert(1)</script>"), "at once"),
        ("a.png", big_header("png"), "over the limit"),
        ("a.jpg", big_header("jpeg"), "over the limit"),
        ("a.jpg", jpeg(size=(8, 8)), "too few"),
        ("a.tif", b"II*\x00" + b"\xff" * 60, "cannot be read"),
        ("a.exe", b"MZ" + bytes(100), "not an image"),
        ("a.jpg", jpeg() + bytes(300_000), "larger than 0 MB"),
    ]  # fmt: skip
    for part in (cases[:8], cases[8:]):
        items = send(nurse, exam, [(name, data) for name, data, _ in part]).json()["items"]
        for item, (name, _, says) in zip(items, part, strict=True):
            assert item["outcome"] == "refused" and says in item["reason"] and item["photograph_id"] is None, (
                name,
                says,
                item,
            )


def test_an_archive_is_opened_and_its_names_are_never_paths(room, nurse, make_exam):
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    entries = [
        ("../../../etc/OD_disc.jpg", jpeg(1)), ("/absolute/OS_disc.jpg", jpeg(2)), ("..\\..\\windows.jpg", jpeg(3)),
        ("inner.zip", pack([("x.jpg", jpeg(9))])), ("__MACOSX/._a.jpg", b"x"), (".hidden.jpg", jpeg(8)), ("folder/", b""),
        ("readme.txt", b"hello"), (link, "/etc/passwd"), ("big.jpg", bytes(300_000)),
    ]  # fmt: skip
    answer = send(nurse, make_exam(), [("ward.zip", pack(entries))])
    found = outcomes(answer)
    assert found == {
        "OD_disc.jpg": "accepted", "OS_disc.jpg": "accepted", "windows.jpg": "accepted", "inner.zip": "refused",
        "readme.txt": "refused", "link.jpg": "refused", "big.jpg": "refused",
    }  # fmt: skip
    reasons = {item["file"]: item["reason"] for item in answer.json()["items"]}
    assert (
        "within the archive" in reasons["inner.zip"]
        and "link" in reasons["link.jpg"]
        and "larger" in reasons["big.jpg"]
    )
    everything = [path for path in room.settings.data.rglob("*") if path.is_file() and "sqlite" not in path.name]
    assert len(everything) == 3 and all(path.parent.parent == room.settings.photographs for path in everything)


def test_bombs_locked_broken_and_endless_archives_are_refused(room, nurse, make_exam):
    exam = make_exam()
    lying = bytearray(pack([("a.jpg", bytes(500_000))]))
    for at in (lying.index(b"PK\x03\x04") + 22, lying.index(b"PK\x01\x02") + 24):
        lying[at : at + 4] = struct.pack("<I", 1000)  # says that it unfolds to a thousand bytes
    locked = bytearray(pack([("a.jpg", jpeg())]))
    locked[locked.index(b"PK\x03\x04") + 6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    whole = pack([("a.jpg", jpeg())])
    sent = {
        "many.zip": pack([(f"{n}.jpg", b"") for n in range(13)]),
        "endless.zip": pack([(f"{n}.jpg", b"") for n in range(500)]),
        "bomb.zip": pack([(f"{n}.jpg", bytes(190_000)) for n in range(5)]),
        "lying.zip": bytes(lying), "locked.zip": bytes(locked), "cut.zip": whole[:-30], "torn.zip": whole[:40] + whole[80:],
    }  # fmt: skip
    for name, data in sent.items():
        answer = send(nurse, exam, [(name, data)])
        assert set(outcomes(answer).values()) == {"refused"}, name
        told = " ".join(item["reason"] for item in answer.json()["items"])
        says = {"many": "13 files", "endless": "more than 12", "bomb": "more than one upload", "locked": "password"}
        assert says.get(name.split(".")[0], "") in told
    assert not list((room.settings.data / "incoming").iterdir()) and not any(room.settings.photographs.glob("*/*"))


def test_names_in_an_archive_are_read_in_the_code_page_of_who_packed_it():
    def decoded(raw, flags=0, extra=b""):
        entry = zipfile.ZipInfo("x")
        entry.orig_filename, entry.flag_bits, entry.extra = raw.decode("cp437"), flags, extra
        return decode_name(entry)

    assert decoded("右眼.jpg".encode("gb18030")) == "右眼.jpg"
    assert decoded("右眼.jpg".encode()) == "右眼.jpg"  # UTF-8 without its flag, as macOS packs
    assert decoded(b"plain.jpg") == "plain.jpg"
    name = "眼.jpg".encode()
    assert decoded(b"x.jpg", extra=struct.pack("<HHBI", 0x7075, 5 + len(name), 1, 0) + name) == "眼.jpg"
    assert decoded(b"x.jpg", extra=b"\x75\x70\xff\xff\x01") == "x.jpg"


@pytest.mark.parametrize(
    "given, shown",
    [
        ("../../etc/passwd", "passwd"), ("C:\\eyes\\OD.jpg", "OD.jpg"), ("a\x00b\u202egpj.exe", "abgpj.exe"), ("", "photograph"),
        ("/", "photograph"), ("x" * 400 + ".jpg", "x" * 195 + "….jpg"), ("  =1+1.jpg ", "=1+1.jpg"),
    ],
)  # fmt: skip
def test_a_name_is_cleaned_before_it_is_shown(given, shown):
    assert clean_name(given) == shown


def test_forms_that_are_none_break_off_or_hold_too_much_are_refused(nurse, make_exam):
    address = f"/v1/exams/{make_exam().id}/photographs"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    part = b'--x\r\nContent-Disposition: form-data; name="photographs"; filename="a.jpg"\r\n\r\n'
    for body, headers, status in [
        (b"{}", {"Content-Type": "application/json"}, 422),
        (b"--x--\r\n", kind, 422),
        (part + jpeg(), kind, 422),  # cut off
        (part + jpeg() + b"\r\n--x--\r\n", kind, 201),
        (b"nonsense", kind, 422),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + bytes(5000) + b"\r\n--x--\r\n", kind, 422),
        ((part + b"\r\n") * 13 + b"--x--\r\n", kind, 413),
        (b"--x\r\n" + b"A" * 9000 + b": b\r\n\r\n\r\n--x--\r\n", kind, 422),
    ]:
        answer = nurse.post(address, content=body, headers=headers)
        assert answer.status_code == status, (body[:60], answer.text)


def test_eye_and_view_are_confirmed_or_put_right_with_a_trace(room, nurse, make_exam):
    exam = make_exam()
    items = send(nurse, exam, [("OD_disc.jpg", jpeg(1)), ("OD_macula.jpg", jpeg(2)), ("IMG.jpg", jpeg(3))]).json()[
        "items"
    ]
    first, _second, bare = (item["photograph_id"] for item in items)
    assert nurse.post(f"/v1/exams/{exam.id}/confirm", json={}).json() == {"confirmed": 2}
    wrong = nurse.post(f"/v1/photographs/{first}/place", json={"eye": "left", "view": "disc"})
    assert wrong.status_code == 422 and wrong.json()["field"] == "why"
    place = {"eye": "left", "view": "disc", "why": "the other eye"}
    assert nurse.post(f"/v1/photographs/{first}/place", json=place).json()["eye"] == "left"
    assert nurse.post(f"/v1/photographs/{bare}/place", json={"eye": "right", "view": "nasal"}).json()["placed"]
    assert nurse.post(f"/v1/photographs/{bare}/place", json={"eye": "both", "view": "nasal"}).status_code == 422
    with room.database.reading() as session:
        rows = session.scalars(select(Correction)).all()
        assert [(row.subject_id, row.field, row.before, row.after, row.why) for row in rows] == [
            (first, "eye", "right", "left", "the other eye")
        ]
        assert session.get(Exam, exam.id).missing_views == [
            "right:disc",
            "right:temporal",
            "left:macula",
            "left:temporal",
        ]


def test_a_photograph_is_withdrawn_with_a_reason_and_comes_back_as_it_was(room, nurse, make_exam):
    exam = make_exam()
    number = send(nurse, exam, [("OD_disc.jpg", jpeg(1))]).json()["items"][0]["photograph_id"]
    assert nurse.post(f"/v1/photographs/{number}/withdraw", json={"why": ""}).status_code == 422
    assert (
        nurse.post(f"/v1/photographs/{number}/withdraw", json={"why": "another infant"}).json()["state"] == "withdrawn"
    )
    assert nurse.post(f"/v1/photographs/{number}/withdraw", json={"why": "again"}).status_code == 409
    again = send(nurse, exam, [("OD_disc.jpg", jpeg(1))]).json()["items"][0]
    assert again["outcome"] == "already" and "withdrew" in again["reason"]
    add_grading(room, number, status="rejected")
    assert nurse.post(f"/v1/photographs/{number}/restore", json={}).json()["state"] == "refused"
    with room.database.reading() as session:
        assert [row.after for row in session.scalars(select(Correction))] == ["withdrawn", "refused"]


def add_grading(room, number, status="ok", pictures=None):
    with room.database.transaction() as session:
        photograph = session.get(ExamPhotograph, number)
        grading = Grading(
            site_id=photograph.site_id, photograph_id=number, grader="rop screen", bundle="rop", bundle_digest="d" * 16, version="1",
            status=status, probability=0.9 if status == "ok" else None, suspected=True, rows={"rows": []}, pictures=pictures or {},
            created_at=datetime.now(UTC),
        )  # fmt: skip
        session.add(grading)
        photograph.state = judging.STATES[status] if photograph.state == "waiting" else photograph.state
        session.flush()
        for name in pictures or {}:
            file = judging.picture_file(room.settings, photograph, grading, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(jpeg(200))


def test_pictures_are_those_that_were_made_and_the_map_stays_hidden_from_a_masked_reader(
    room, site, nurse, sign_in, other_site, make_exam
):
    from fundoscope.server.models import Site

    exam = make_exam()
    secret = jpeg(1, comment=b"Baby Wang")
    number = send(nurse, exam, [("OD_disc.jpg", secret)]).json()["items"][0]["photograph_id"]
    assert (
        nurse.get(f"/photographs/{number}/picture", headers={"Accept": "application/json"}).status_code == 409
    )  # not judged yet
    add_grading(
        room,
        number,
        pictures={"photograph": "photograph.jpg", "thumbnail": "thumbnail.jpg", "activation": "activation.png"},
    )
    for name in ("picture", "thumbnail", "red-free", "activation"):
        answer = nurse.get(f"/photographs/{number}/{name}")
        assert (
            answer.status_code == 200
            and answer.headers["content-type"].startswith("image/")
            and b"Wang" not in answer.content
        )
        assert "no-cache" in answer.headers["cache-control"] and "private" in answer.headers["cache-control"]
        etag = answer.headers["etag"]
        assert nurse.get(f"/photographs/{number}/{name}", headers={"If-None-Match": etag}).status_code == 304
    grey = Image.open(io.BytesIO(nurse.get(f"/photographs/{number}/red-free").content))
    assert grey.mode == "L" and abs(grey.getpixel((10, 10)) - 80) < 4  # the green of the photograph
    assert (
        nurse.get(f"/photographs/{number}/crossings/1/vessels", headers={"Accept": "application/json"}).status_code
        == 404
    )
    stranger = sign_in("technician", sites=[other_site])
    assert stranger.get(f"/v1/photographs/{number}/picture").status_code == 404
    with room.database.transaction() as session:
        session.get(Site, site.id).hide_answer = True
    reader = sign_in("reader")
    assert reader.get(f"/v1/photographs/{number}/activation").status_code == 409
    assert reader.get(f"/v1/photographs/{number}").json()["grading"] is None
    assert reader.get(f"/photographs/{number}/picture").status_code == 200
    assert nurse.get(f"/v1/exams/{exam.id}/photographs").json()["items"][0]["grading"]["probability"] == 0.9


def test_the_page_tells_what_is_missing_and_what_to_repeat(room, nurse, sign_in, make_exam):
    exam = make_exam()
    sent = nurse.post(
        f"/exams/{exam.id}/photographs",
        files=[("photographs", ("OD_disc.jpg", jpeg(1))), ("photographs", ("x<b>.txt", b"x"))],
    )
    assert (
        "1 accepted, 0 there already, 1 refused" in sent.text and "x&lt;b&gt;.txt" in sent.text
    )  # without scripts: a page
    page = nurse.get(f"/exams/{exam.id}")
    assert page.status_code == 200 and "Drop photographs here" in page.text and "0 of 1 judged" in page.text
    with room.database.transaction() as session:
        photograph = session.scalars(select(ExamPhotograph)).one()
        photograph.state, photograph.reason = "refused", "too dark to be graded. Raise the light."
    page = nurse.get(f"/exams/{exam.id}/photographs").text
    assert "Repeat now" in page and "Too dark to be graded. Raise the light." in page and "0.9" not in page
    moved = nurse.post(f"/exams/{exam.id}/finish", follow_redirects=False)
    assert (moved.status_code, moved.headers["location"]) == (303, f"/exams/{exam.id}")
    page = nurse.get(f"/exams/{exam.id}").text
    assert "Drop photographs here" not in page and "open it again" in page
    assert nurse.post(f"/exams/{exam.id}/reopen", data={"why": "one more"}, follow_redirects=False).status_code == 303
    assert "Drop photographs here" not in sign_in("administrator").get(f"/exams/{exam.id}").text


def test_events_tell_the_counts_at_once_and_when_something_changes(room, nurse, make_exam, monkeypatch):
    from fundoscope.server.routes import uploads as routes

    monkeypatch.setattr(routes, "STREAM_SECONDS", 4)  # two looks
    exam = make_exam()
    send(nurse, exam, [("OD_disc.jpg", jpeg(1))])

    looked, count = threading.Event(), routes.exam_page.count_progress

    def count_and_tell(*given):
        counted = count(*given)
        looked.set()
        return counted

    def judge():
        looked.wait(30)
        add_grading(room, 1)
        room.events.publish(exam.id)

    monkeypatch.setattr(routes.exam_page, "count_progress", count_and_tell)
    judging = threading.Thread(target=judge)
    judging.start()
    answer = nurse.get(f"/v1/exams/{exam.id}/events")
    judging.join()
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = [json.loads(line[5:]) for line in answer.text.splitlines() if line.startswith("data:")]
    assert [(each["waiting"], each["graded"]) for each in told] == [(1, 0), (0, 1)]
    assert told[0]["version"] != told[1]["version"]
