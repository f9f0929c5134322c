"""`/v1`: pages of lists, requests sent twice, versions, what is not told."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
from sqlalchemy import func, select

from fundoscope.server.errors import InvalidError
from fundoscope.server.models import Exam, EyeReading, IdempotencyKey, Job, Patient, Reading, ReadingTask, now
from fundoscope.server.routes.records import record_patient
from fundoscope.server.routes.v1 import OnceRequest, read_cursor, write_cursor
from fundoscope.server.services import idempotency, patients
from fundoscope.server.services.due import refresh_due
from fundoscope.server.services.inputs import check_input

#: Their answers hold a secret that is told once, they keep nothing, or asked twice they change nothing more.
NOT_KEPT = {
    "/v1/tokens", "/v1/accounts", "/v1/accounts/{number}/link", "/v1/exams/{exam_id}/readings/preview",
    "/v1/readings/{reading_id}/sign", "/v1/exams/{number}/acknowledge",
    "/v1/readings/{reading_id}/reports",
    "/v1/dicom/destinations/{destination_id}/test", "/v1/dicom/sources/{source_id}/test",  # they change nothing
}  # fmt: skip


@pytest.fixture
def nurse(sign_in):
    return sign_in("technician")


def infant(site, code="I1", **values):
    return {
        "site_id": site.id,
        "code": code,
        "birth_date": "2024-01-01",
        "gestational_age": "27w3d",
        "birth_weight": 980,
    } | values


def test_a_request_with_a_key_is_done_once_and_answered_byte_for_byte(nurse, site, room):
    key = {"Idempotency-Key": "5f1c"}
    first = nurse.post("/v1/patients", json=infant(site), headers=key)
    assert first.status_code == 201 and first.json()["gestational_age"] == "27+3"
    assert first.headers["location"] == f"/v1/patients/{first.json()['id']}"
    changed = nurse.patch(first.headers["location"], json={"note": "later"})
    assert changed.json()["version"] > first.json()["version"]
    again = nurse.post("/v1/patients", json=infant(site), headers=key)
    assert (again.status_code, again.content, again.headers["location"]) == (
        201,
        first.content,
        first.headers["location"],
    )
    other = nurse.post("/v1/patients", json=infant(site, "I2"), headers=key)
    assert (other.status_code, other.json()["field"]) == (422, "Idempotency-Key")
    with room.database.reading() as session:
        assert session.scalar(select(func.count(Patient.id))) == 1


def test_what_was_refused_leaves_no_key_and_each_account_has_its_own(nurse, site, room, sign_in, monkeypatch):
    key = {"Idempotency-Key": "a key"}
    assert nurse.post("/v1/patients", json=infant(site), headers=key).status_code == 422  # a blank is no sign of a key
    key = {"Idempotency-Key": "a-key"}
    assert nurse.post("/v1/patients", json=infant(site, "=1+1"), headers=key).json()["field"] == "code"
    assert nurse.post("/v1/patients", json=infant(site, site_id=99), headers=key).status_code == 404
    assert nurse.post("/v1/patients", json=infant(site), headers=key).status_code == 201
    assert nurse.post("/v1/patients", json=infant(site), headers={"Idempotency-Key": "b"}).status_code == 409
    assert sign_in("reader").post("/v1/patients", json=infant(site, "I2"), headers=key).status_code == 201
    monkeypatch.setattr(idempotency, "KEPT_FOR", -idempotency.KEPT_FOR)  # all keys are old
    assert nurse.post("/v1/patients", json=infant(site, "I3"), headers=key).status_code == 201
    with room.database.reading() as session:
        assert session.scalar(select(func.count(IdempotencyKey.id))) == 2


def test_of_many_that_send_the_same_at_once_one_is_done(nurse, site, room):
    new = check_input(patients.NewPatient, infant(site))
    once = OnceRequest(room, nurse.caller, "/v1/patients", "a-key", "digest")

    def send(_):
        return once.answer(lambda s, caller: record_patient(s, caller, patients.add_patient(s, caller, new)), 201).body

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(send, range(16)))
    assert len(answers) == 1
    with room.database.reading() as session:
        assert session.scalar(select(func.count(Patient.id))) == 1


def test_a_list_comes_page_by_page_and_holds_each_row_once(nurse, make_patient, other_site):
    made = [make_patient().id for _ in range(5)]
    make_patient(site_id=other_site.id)
    seen, cursor = [], ""
    for _ in range(3):
        page = nurse.get("/v1/patients", params={"limit": 2, "cursor": cursor}).json()
        seen += [row["id"] for row in page["items"]]
        cursor = page["next"]
    assert seen == made[::-1] and cursor is None
    for wrong in ("x", "W10", write_cursor("a"), write_cursor(2**31), write_cursor(1, 2), "é"):
        with pytest.raises(InvalidError):
            read_cursor(wrong)
    assert nurse.get("/v1/patients", params={"cursor": "x"}).json()["field"] == "cursor"
    assert nurse.get("/v1/patients", params={"limit": 201}).status_code == 422
    assert nurse.get(f"/v1/patients/{2**31}").status_code == 422


def test_an_exam_is_added_moved_and_put_right_and_corrections_tell_it(nurse, sign_in, make_patient, make_photograph):
    one, two = make_patient(), make_patient()
    exam = nurse.post("/v1/exams", json={"patient_id": one.id, "day": "2026-02-09", "weight": 1480}).json()
    assert exam["postmenstrual_age"] == "33+0" and exam["state"] == "open"
    way = f"/v1/exams/{exam['id']}"
    assert nurse.post(f"{way}/finish").status_code == 409
    moved = nurse.post(f"{way}/move", json={"patient_id": two.id, "why": "mixed up"})
    assert moved.json()["patient_id"] == two.id
    stale = nurse.patch(way, json={"camera": "RetCam", "version": exam["version"]})
    assert stale.status_code == 409 and "Technician1" in stale.json()["detail"]
    assert nurse.patch(way, json={"camera": "RetCam", "version": moved.json()["version"]}).json()["camera"] == "RetCam"
    found = nurse.get("/v1/corrections", params={"subject": "exam", "subject_id": exam["id"]}).json()["items"]
    assert [(row["field"], row["before"], row["after"], row["why"]) for row in found] == [
        ("camera", "", "RetCam", ""),
        ("patient", str(one.id), str(two.id), "mixed up"),
    ]
    assert nurse.post(f"{way}/cancel", json={"why": "opened twice"}).json()["state"] == "cancelled"
    assert (
        nurse.get("/v1/exams", params={"patient_id": two.id, "state": "cancelled"}).json()["items"][0]["id"]
        == exam["id"]
    )


def test_sites_and_jobs_of_others_are_not_there(nurse, room, site, other_site):
    with room.database.transaction() as session:
        session.add_all(
            Job(kind="judge", key=str(number), payload={}, site_id=number) for number in (site.id, other_site.id, None)
        )
    assert [row["name"] for row in nurse.get("/v1/sites").json()["items"]] == [site.name]
    jobs = nurse.get("/v1/jobs", params={"state": "waiting"}).json()["items"]
    assert [row["site_id"] for row in jobs] == [site.id]
    assert nurse.get(f"/v1/jobs/{jobs[0]['id']}").json()["kind"] == "judge"
    assert nurse.get(f"/v1/jobs/{jobs[0]['id'] + 1}").status_code == 404


def test_a_masked_reader_is_told_the_day_but_not_the_rule(sign_in, room, make_exam):
    exam = make_exam()
    first, second = sign_in("reader"), sign_in("reader")
    with room.database.transaction() as session:
        reading = Reading(site_id=exam.site_id, exam_id=exam.id, reader_id=first.id, kind="first", created_via="pages")
        reading.eyes = [EyeReading(eye=eye, zone="II", stage="2", plus="no") for eye in ("right", "left")]
        session.add_all(
            [reading, ReadingTask(site_id=exam.site_id, exam_id=exam.id, kind="second", created_via="worker")]
        )
        session.flush()
        reading.signed_at = now()
        refresh_due(session, session.get(Patient, exam.patient_id), date(2026, 2, 10))
    way = f"/v1/patients/{exam.patient_id}"
    assert first.get(way).json()["due"]["rule"] == "zone-2-stage-2-3"
    told = second.get(way).json()
    assert told["due_by"] == "2026-02-16" and told["due"] is None
    with room.database.reading() as session:
        assert session.get(Exam, exam.id).state == "open"


def test_a_problem_names_its_field_and_the_interface_is_described(nurse, client):
    answer = nurse.post("/v1/patients", json={"site_id": 1, "code": "I1", "gestational_age": "28+9"})
    assert answer.headers["content-type"] == "application/problem+json" and answer.status_code == 422
    assert answer.json()["field"] == "gestational_age" and "such as 28+3" in answer.json()["detail"]
    for body, field, told in (
        ({"content": b"{"}, None, "Send JSON."),
        ({"json": [1]}, None, "Send one JSON object"),
        ({"json": {"site_id": 1, "code": 7}}, "code", "no text"),
        ({"json": {"site_id": 1, "code": "I1", "colour": "red"}}, "colour", "not known"),
    ):
        answer = nurse.post("/v1/patients", headers={"Content-Type": "application/json"}, **body).json()
        assert (answer["status"], answer.get("field")) == (422, field) and told in answer["detail"]
    described = client.get("/v1/openapi.json").json()
    ours = {path: item for path, item in described["paths"].items() if path.startswith("/v1/")}
    assert {"/v1/patients", "/v1/exams/{exam_id}/move", "/v1/sites", "/v1/jobs/{job_id}"} <= set(ours)
    tags = {tag["name"] for tag in described["tags"]}
    names = []
    for path, item in ours.items():
        for method, operation in item.items():
            names.append(operation["operationId"])
            assert operation["description"] and set(operation["tags"]) <= tags, (method, path)
            assert operation["security"] == [{"token": []}], path
            if method == "post" and path not in NOT_KEPT:
                assert any(p["name"] == "Idempotency-Key" for p in operation.get("parameters", ())), path
    assert len(names) == len(set(names))
    assert described["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
