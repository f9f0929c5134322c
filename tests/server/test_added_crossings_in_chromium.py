"""A reader adds crossings that the tool has missed, in a real browser: by the keyboard and by a click."""

from datetime import date

import cv2
import numpy as np
import pytest
from sqlalchemy import select

pytest.importorskip("playwright", reason="playwright is not installed")

from test_day_in_chromium import Visitor, address, chromium, room  # noqa: F401 - fixtures

from fundoscope.server.models import Exam, ExamPhotograph, Grading, Patient, Reading, Site, now
from fundoscope.server.services.judging import picture_place

pytestmark = pytest.mark.services
ROWS, COLUMNS, DIGEST = 480, 640, "ab" * 32


@pytest.fixture
def exam(room):  # noqa: F811
    """An adult's exam with one photograph, in which the tool found one crossing."""
    place = picture_place(room.settings, DIGEST, "b" * 16, "photograph.jpg")
    place.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(place), np.full((ROWS, COLUMNS, 3), 90, np.uint8))
    with room.database.transaction() as session:
        site = session.scalar(select(Site))
        patient = Patient(site_id=site.id, kind="adult", code="GROWN", created_via="command")
        session.add(patient)
        session.flush()
        exam = Exam(
            site_id=site.id, patient_id=patient.id, day=date(2026, 2, 9), state="to_read", created_via="command"
        )
        session.add(exam)
        session.flush()
        photograph = ExamPhotograph(
            site_id=site.id, exam_id=exam.id, digest=DIGEST, file_name="1.png", file_bytes=1, media_type="image/png", width=COLUMNS,
            height=ROWS, eye="right", view="disc", placed=True, state="graded", created_via="command",
        )  # fmt: skip
        session.add(photograph)
        session.flush()
        row = {"crossing": 1, "row": 100.0, "col": 100.0, "grade": 1, "reason": ""}
        session.add(
            Grading(
                site_id=site.id, photograph_id=photograph.id, grader="nicking grade", bundle="nicking", bundle_digest="b" * 16, version="1",
                status="ok", rows={"rows": [row]}, pictures={"photograph": "photograph.jpg", "thumbnail": "photograph.jpg"}, created_at=now(),
            )
        )  # fmt: skip
    return exam.id


def test_crossings_are_added_by_keyboard_and_by_click_and_taken_away(chromium, room, address, exam):  # noqa: F811
    faults = []
    reader = Visitor(chromium, address, "reader", "en", faults).sign_in()
    page = reader.page
    page.goto(f"{address}/exams/{exam}/read")
    page.wait_for_selector("#panes .crossing-mark")

    def save():
        page.keyboard.press("s")
        page.wait_for_function("() => document.getElementById('saved').textContent.trim() === 'Saved'")
        with room.database.reading() as session:
            reading = session.scalar(select(Reading).where(Reading.exam_id == exam))
            return [(one.row, one.col, one.grade) for one in reading.crossings if one.added]

    page.keyboard.press("a")
    for key in (
        "ArrowLeft",
        "ArrowLeft",
        "ArrowDown",
    ):  # the photograph goes to the right and up: the cross to the left and down
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.wait_for_selector(".crossing.added.chosen")
    page.keyboard.press("2")
    ((row, col, grade),) = save()
    assert grade == 2 and ROWS / 2 < row < 0.75 * ROWS and 0.25 * COLUMNS < col < COLUMNS / 2
    page.keyboard.press("f")
    page.wait_for_timeout(600)
    page.click("#add-crossing")
    box = page.locator("#panes .canvas").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(".crossing.added.chosen")
    page.keyboard.press("3")
    assert [mark.inner_text() for mark in page.locator(".crossing-mark span").all()] == ["1", "+1", "+2"]
    _, (row, col, grade) = save()
    assert grade == 3 and abs(row - (ROWS - 1) / 2) < 3 and abs(col - (COLUMNS - 1) / 2) < 3
    page.keyboard.press("a")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 2)  # beside the photograph, where there is room above it
    reader.look("adding")
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector(".crossing-mark >> nth=2")
    reader.look("added")
    page.locator(".crossing.added .take-away").first.click()
    assert [round(row) for row, _, _ in save()] == [round(row)]
    assert not faults, "\n".join(faults)
