"""Reports of signed readings: what stands in them, who may have them, and that drawing one fetches nothing."""

import hashlib
import re

import cv2
import numpy as np
import pytest
from sqlalchemy import select
from test_readings import add_grading, content, save_and_sign

from fundoscope.server.models import AuditEntry, Exam, ExamPhotograph, Job, Reading, ReadingTask, SignedReport, Site
from fundoscope.server.services import jobs, readings, signed_reports
from fundoscope.server.services.eye_findings import ReadingContent
from fundoscope.server.services.judging import newest_grading, picture_file


@pytest.fixture
def rita(room, site, sign_in):
    with room.database.transaction() as session:  # nobody is drawn for a second reading by chance
        row = session.get(Site, site.id)
        row.second_reading_share = row.repeat_share = 0.0
    return sign_in("reader", "rita")


@pytest.fixture
def exam(room, make_patient, make_exam, make_photograph):
    """An exam with a photograph, its picture and its activation map."""
    exam = make_exam(make_patient(name="王小明 <i>"))
    photograph = make_photograph(exam, state="graded")
    pictures = {
        "photograph": "photograph.jpg",
        "activation": "activation.png",
        "activation_place": [-0.1, 0.2, 0.6, 1.1],
    }
    add_grading(
        room, photograph, [{}], grader="rop screen", bundle="rop", probability=0.8123, suspected=True, pictures=pictures
    )
    draw(room, photograph, photograph=np.full((48, 64, 3), 90, np.uint8), activation=np.full((8, 8, 4), 255, np.uint8))
    return exam


def draw(room, row, **pictures):
    """Lay pictures where the worker does."""
    with room.database.reading() as session:
        grading = newest_grading(session, row)
    for name, pixels in pictures.items():
        file = picture_file(room.settings, row, grading, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), pixels)


@pytest.fixture
def plain_pdf(monkeypatch):
    """Not the drawing is tested here: the text stands in for the PDF."""
    monkeypatch.setattr(signed_reports, "_draw_pdf", lambda html, facts, language: b"%PDF-" + html.encode())


def run_job(room, key):
    with room.database.transaction() as session:
        job = jobs.take_job(session, "test")
        assert job.key == key
    write = jobs.HANDLERS["report"].work(room, job)
    with room.database.transaction() as session:
        write(session)


def test_the_job_of_a_signature_makes_page_and_pdf_once(room, exam, rita):
    signed = save_and_sign(room, rita, exam, content(note="<script>alert(1)</script> http://127.0.0.1:9/x.png"))
    run_job(room, f"report:{signed.id}:en:{signed.id}")
    with room.database.transaction() as session:
        (report,) = session.scalars(select(SignedReport)).all()
        pdf = signed_reports.read_pdf(room.settings, report)
        assert pdf.startswith(b"%PDF-") and hashlib.sha256(pdf).hexdigest() == report.digest
        assert (room.settings.pictures / report.file).stat().st_mode & 0o077 == 0
        html = report.html
        again = signed_reports.write_report(
            session, rita.caller, room.settings, signed_reports.MadeReport(signed.id, "en", None, "", b"")
        )
        assert again.id == report.id
        assert session.scalar(select(AuditEntry).where(AuditEntry.action == "report.make")).user_id == rita.id
    for text in ("zone II, stage 2, no plus", "cannot be graded: out of focus", "probability 0.81", signed.digest, "Rita",
                 "Zone II stage 2 or 3: every week.", "Research use only", "b" * 16, "0.1", "王小明 &lt;i&gt;", "&lt;script&gt;"):  # fmt: skip
        assert text in html
    assert html.count("data:image/jpeg;base64,") == 2 and "<script" not in html
    assert set(re.findall(r'(?:src|href)="(.{10})', html)) == {"data:image"}


def test_drawing_a_pdf_fetches_nothing(room, exam, rita, monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr("urllib.request.OpenerDirector.open", lambda *a, **k: opened.append(a))
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"secret")
    signed = save_and_sign(room, rita, exam)
    with room.database.reading() as session:
        facts = signed_reports._collect(session, room.settings, session.get(Reading, signed.id))
    html = f'<img src="file://{secret}"><img src="http://127.0.0.1:9/x.jpg"><link rel="stylesheet" href="https://example.org/a.css">'
    pdf = signed_reports._draw_pdf(html, facts, "en")
    assert pdf.startswith(b"%PDF-") and b"/Subtype /Image" not in pdf and opened == []
    picture = f'<img src="{facts["photographs"][0]["picture"]}" alt="photograph">'
    assert b"/Subtype /Image" in signed_reports._draw_pdf(picture, facts, "en")


def test_a_superseded_report_says_so_and_the_first_one_stays(room, exam, rita, plain_pdf):
    first = save_and_sign(room, rita, exam)
    address = f"/exams/{exam.id}/report"
    page = rita.get(address)
    assert page.status_code == 200 and "Superseded" not in page.text
    given = rita.get(f"{address}.pdf")
    assert (
        given.headers["content-type"] == "application/pdf" and "superseded" not in given.headers["content-disposition"]
    )
    second = save_and_sign(room, rita, exam, content(stage="3"), kind="correction", why="stage 3 is seen nasally")
    page = rita.get(address).text
    assert "stage 3 is seen nasally" in page and f"reading={first.id}" in page and "(superseded)" in page
    old = rita.get(f"{address}?reading={first.id}").text
    assert "does not count any more" in old and "Correct it" not in old
    assert "superseded" in rita.get(f"{address}.pdf?reading={first.id}").headers["content-disposition"]
    items = rita.get("/v1/reports", params={"exam_id": exam.id}).json()["items"]
    assert [(one["reading_id"], one["superseded_by"]) for one in items] == [
        (first.id, second.id), (second.id, None), (first.id, None),
    ]  # fmt: skip
    assert rita.get(f"/v1/reports/{items[-1]['id']}/pdf").content == given.content
    with room.database.reading() as session:  # both reports were asked for when the correction was signed
        keys = set(session.scalars(select(Job.key).where(Job.kind == "report")))
    assert {f"report:{first.id}:en:{second.id}", f"report:{second.id}:en:{second.id}"} < keys


def test_a_report_of_adults_shows_both_grades_of_each_crossing(
    room, make_patient, make_exam, make_photograph, rita, plain_pdf
):
    exam = make_exam(make_patient(kind="adult"))
    photograph = make_photograph(exam, state="graded")
    rows = [
        {"crossing": n, "row": 90.0 * n, "col": 90.0, "grade": 0, "narrowing_1": 0.384, "narrowing_2": None}
        for n in (1, 2, 3)
    ]
    add_grading(room, photograph, rows, pictures={"photograph": "photograph.jpg"})
    draw(room, photograph, photograph=np.full((300, 300, 3), 90, np.uint8))
    grades = [
        {"photograph_id": photograph.id, "crossing": 1, "grade": 2},
        {"photograph_id": photograph.id, "crossing": 2},
    ]
    missed = [{"photograph_id": photograph.id, "row": 40, "col": 200, "grade": 3}]
    save_and_sign(room, rita, exam, ReadingContent(crossings=grades, added=missed))
    html = rita.get(f"/exams/{exam.id}/report").text
    cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", html)]
    assert cells == [
        "1",
        "2",
        "0",
        "38 %, –",
        "2",
        "cannot be graded",
        "0",
        "38 %, –",
        "3",
        "–",
        "0",
        "38 %, –",
        "+1",
        "3",
        "–",
        "–",
    ]
    assert "crossings that the tool had missed and the reader has added" in html


def test_who_may_have_a_report(room, exam, rita, site, other_site, sign_in, plain_pdf):
    address = f"/exams/{exam.id}/report"
    told = rita.get(address)
    assert told.status_code == 409 and "no signed reading yet" in told.text
    signed = save_and_sign(room, rita, exam)
    assert sign_in("technician", "tina").get(address).status_code == 200
    stranger = sign_in("reader", "stranger", sites=[other_site])
    assert stranger.get(address).status_code == stranger.get(f"{address}.pdf").status_code == 404
    assert stranger.get("/v1/reports/1").status_code == 404 and stranger.get("/v1/reports").json()["items"] == []
    with room.database.transaction() as session:
        session.add(ReadingTask(site_id=site.id, exam_id=exam.id, kind="second", created_via="command"))
    masked = sign_in("reader", "rolf")
    assert masked.get(address).status_code == 409 and masked.get(f"{address}?reading={signed.id}").status_code == 404
    assert masked.get("/v1/reports/1").status_code == 404 and masked.get("/v1/reports").json()["items"] == []
    file = next((room.settings.pictures / "reports").iterdir())
    file.write_bytes(b"%PDF-changed")
    told = rita.get(f"{address}.pdf")
    assert told.status_code == 409 and "was changed" in told.text


def test_photographs_that_came_later_are_not_in_the_report(room, exam, rita, make_photograph):
    signed = save_and_sign(room, rita, exam)
    make_photograph(exam, view="macula")
    with room.database.reading() as session:
        reading = session.get(Reading, signed.id)
        facts = signed_reports._collect(session, room.settings, reading)
        assert len(facts["photographs"]) == 1 < len(session.scalars(select(ExamPhotograph)).all())
        assert readings.digest_of(reading) == reading.digest
        assert session.get(Exam, exam.id).state == "signed"
