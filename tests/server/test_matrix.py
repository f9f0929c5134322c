"""Who may what, on every route of the room.

Each route has an entry: who may call it, and what a right request looks like for a site's objects. Every route is tried without a
session, with the wrong role, with objects of another site, under a foreign name and from a foreign page: nothing comes out, and
nothing changes. A route without an entry fails.
"""

import hashlib
import html
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pytest
from sqlalchemy import select

from fundoscope.server.models import (
    ApiToken,
    Base,
    Correction,
    DicomDestination,
    DicomSource,
    Exam,
    ExamPhotograph,
    EyeReading,
    Grading,
    Job,
    Patient,
    Reading,
    ReadingTask,
    RefusedArrival,
    SignedReport,
    User,
    now,
)
from fundoscope.server.security.gate import is_open
from fundoscope.server.services.judging import picture_file
from fundoscope.server.settings import RateLimits

TECHNICIAN, READER, ADMINISTRATOR = "technician", "reader", "administrator"
CLINICAL, ALL = (TECHNICIAN, READER), (TECHNICIAN, READER, ADMINISTRATOR)
PICTURES = ("photograph", "thumbnail", "activation", "crossing_1")
FOREIGN_HOST = {"Host": "rebound.example:8000"}
FOREIGN_ORIGIN = {"Origin": "https://elsewhere.example"}


@dataclass(frozen=True)
class World:
    """One of each thing in a site; its texts hold `mark`, which is nowhere else."""

    mark: str
    site: int
    patient: int
    other_patient: int
    exam: int
    signed: int
    photograph: int
    reading: int
    draft: int
    report: int
    task: int
    job: int
    account: int
    token: int
    destination: int
    source: int
    sending: int
    refusal: int


@dataclass(frozen=True)
class Entry:
    """A route: who may call it (nobody stated: everybody, signed in or not), where its objects stand, a right request.

    `owned` is False where the path names nothing of a site: there another site's things are not to be in the answer.
    """

    roles: tuple[str, ...] = ()
    path: dict[str, Callable[[World], Any]] = field(default_factory=dict)
    send: Callable[[World], dict[str, Any]] = lambda world: {}
    owned: bool = True
    of_all_sites: bool = False  # an administrator manages every account and site
    streams: bool = False  # the answer goes on and on


def json(**make: Callable[[World], Any] | Any) -> Callable[[World], dict[str, Any]]:
    return lambda world: {"json": {name: value(world) if callable(value) else value for name, value in make.items()}}


def form(**make: Callable[[World], Any] | Any) -> Callable[[World], dict[str, Any]]:
    return lambda world: {"data": {name: value(world) if callable(value) else value for name, value in make.items()}}


def of(name: str) -> Callable[[World], Any]:
    return lambda world: getattr(world, name)


PATIENT, EXAM, PHOTOGRAPH = {"patient_id": of("patient")}, {"exam_id": of("exam")}, {"photograph_id": of("photograph")}
SIGNED = {"exam_id": of("signed")}
EXAM_NUMBER, ACCOUNT, SITE, TOKEN = ({"number": of(name)} for name in ("exam", "account", "site", "token"))
WHY = json(why="tried")
PASSWORD = "a short sentence is good"  # of conftest's people
DUE_TO_LEAVE = {"left": "lost", "left_on": "2026-02-20"}
SITE_FORM = {"name": "S", "guideline": "china-2014", "second_reading_share": "10", "repeat_share": "2"}
DESTINATION, SOURCE, SENDING = (
    {f"{one}_id": of(name)} for one, name in (("destination", "destination"), ("source", "source"), ("job", "sending"))
)
PLACE = {"name": "P", "site_id": of("site"), "url": "http://localhost:1/x"}
AWAY = {"site_id": 2, "left_on": "2026-02-20", "why": "tried"}


def FILE(world):
    return {"files": {"photographs": ("a.png", b"no photograph", "image/png")}}


MATRIX: dict[str, Entry] = {
    # open to everybody
    "GET /v1/openapi.json": Entry(),
    "GET /healthz": Entry(),
    "GET /metrics": Entry(),
    "GET /static/{name:path}": Entry(path={"name": lambda _: "style.css"}),
    "GET /favicon.ico": Entry(),
    "GET /sign-in": Entry(),
    "POST /sign-in": Entry(send=form(name="x", password="y")),
    "GET /unlock": Entry(),
    "POST /unlock": Entry(send=form(password="y")),
    "POST /sign-out": Entry(),
    "GET /link/{token}": Entry(path={"token": lambda _: "x" * 40}),
    "POST /link/{token}": Entry(path={"token": lambda _: "x" * 40}),
    "GET /sign-in/single": Entry(),
    "GET /sign-in/single/back": Entry(),
    # one's own account
    "GET /account": Entry(ALL, owned=False),
    "POST /account/language": Entry(ALL, send=form(language="en"), owned=False),
    "POST /account/password": Entry(ALL, send=form(old="x", password="y", again="z"), owned=False),
    "POST /account/tokens": Entry(ALL, send=form(token_name="mine", days="1"), owned=False),
    "POST /account/tokens/{number}/end": Entry(ALL, TOKEN),
    "GET /v1/me": Entry(ALL, owned=False),
    "GET /v1/tokens": Entry(ALL, owned=False),
    "POST /v1/tokens": Entry(ALL, send=json(name="mine", days=1), owned=False),
    "DELETE /v1/tokens/{number}": Entry(ALL, TOKEN),
    # administration
    "GET /settings": Entry((ADMINISTRATOR,), owned=False, of_all_sites=True),
    "GET /settings/accounts/new": Entry((ADMINISTRATOR,), owned=False, of_all_sites=True),
    "POST /settings/accounts/new": Entry(
        (ADMINISTRATOR,),
        send=form(name="eve", full_name="Eve", role="reader", language="en"),
        owned=False,
        of_all_sites=True,
    ),
    "GET /settings/accounts/{number}": Entry((ADMINISTRATOR,), ACCOUNT, of_all_sites=True),
    "POST /settings/accounts/{number}": Entry(
        (ADMINISTRATOR,), ACCOUNT, form(full_name="E", role="reader", language="en"), of_all_sites=True
    ),
    "POST /settings/accounts/{number}/link": Entry((ADMINISTRATOR,), ACCOUNT, of_all_sites=True),
    "GET /settings/sites/new": Entry((ADMINISTRATOR,), owned=False, of_all_sites=True),
    "POST /settings/sites/new": Entry((ADMINISTRATOR,), send=form(**SITE_FORM), owned=False, of_all_sites=True),
    "GET /settings/sites/{number}": Entry((ADMINISTRATOR,), SITE, of_all_sites=True),
    "POST /settings/sites/{number}": Entry((ADMINISTRATOR,), SITE, form(**SITE_FORM), of_all_sites=True),
    "GET /settings/audit": Entry((ADMINISTRATOR,), owned=False, of_all_sites=True),
    "GET /v1/accounts": Entry((ADMINISTRATOR,), owned=False, of_all_sites=True),
    "POST /v1/accounts": Entry(
        (ADMINISTRATOR,), send=json(name="eve", full_name="Eve", role="reader"), owned=False, of_all_sites=True
    ),
    "GET /v1/accounts/{number}": Entry((ADMINISTRATOR,), ACCOUNT, of_all_sites=True),
    "PUT /v1/accounts/{number}": Entry(
        (ADMINISTRATOR,), ACCOUNT, json(full_name="E", role="reader"), of_all_sites=True
    ),
    "POST /v1/accounts/{number}/link": Entry((ADMINISTRATOR,), ACCOUNT, of_all_sites=True),
    "POST /v1/sites": Entry((ADMINISTRATOR,), send=json(name="S"), owned=False, of_all_sites=True),
    "GET /v1/sites/{number}": Entry(ALL, SITE),
    "PUT /v1/sites/{number}": Entry((ADMINISTRATOR,), SITE, json(name="S"), of_all_sites=True),
    "GET /v1/audit": Entry((ADMINISTRATOR,), owned=False, of_all_sites=True),
    # the way to a PACS
    "GET /settings/dicom": Entry((ADMINISTRATOR,), owned=False, of_all_sites=True),
    "GET /settings/dicom/destinations/new": Entry((ADMINISTRATOR,), owned=False, of_all_sites=True),
    "POST /settings/dicom/destinations/new": Entry(
        (ADMINISTRATOR,),
        send=form(**PLACE, content="both", moment="judged", protocol="dicomweb"),
        owned=False,
        of_all_sites=True,
    ),
    "GET /settings/dicom/destinations/{destination_id}": Entry((ADMINISTRATOR,), DESTINATION, of_all_sites=True),
    "POST /settings/dicom/destinations/{destination_id}": Entry(
        (ADMINISTRATOR,),
        DESTINATION,
        form(**PLACE, content="both", moment="judged", protocol="dicomweb"),
        of_all_sites=True,
    ),
    "POST /settings/dicom/destinations/{destination_id}/test": Entry((ADMINISTRATOR,), DESTINATION, of_all_sites=True),
    "POST /settings/dicom/refused/{refusal_id}/again": Entry((ADMINISTRATOR,), {"refusal_id": of("refusal")}),
    "GET /settings/dicom/sources/new": Entry((ADMINISTRATOR,), owned=False, of_all_sites=True),
    "POST /settings/dicom/sources/new": Entry(
        (ADMINISTRATOR,),
        send=form(**PLACE, kind="dicomweb", patients="infant", modalities="OP"),
        owned=False,
        of_all_sites=True,
    ),
    "GET /settings/dicom/sources/{source_id}": Entry((ADMINISTRATOR,), SOURCE, of_all_sites=True),
    "POST /settings/dicom/sources/{source_id}": Entry(
        (ADMINISTRATOR,), SOURCE, form(**PLACE, kind="dicomweb", patients="infant", modalities="OP"), of_all_sites=True
    ),
    "POST /settings/dicom/sources/{source_id}/test": Entry((ADMINISTRATOR,), SOURCE, of_all_sites=True),
    "GET /sendings": Entry(ALL, owned=False),
    "POST /sendings/{job_id}/again": Entry(ALL, SENDING),
    "GET /v1/dicom/destinations": Entry((ADMINISTRATOR,), owned=False, of_all_sites=True),
    "POST /v1/dicom/destinations": Entry((ADMINISTRATOR,), send=json(**PLACE), owned=False, of_all_sites=True),
    "GET /v1/dicom/destinations/{destination_id}": Entry((ADMINISTRATOR,), DESTINATION, of_all_sites=True),
    "PUT /v1/dicom/destinations/{destination_id}": Entry(
        (ADMINISTRATOR,), DESTINATION, json(**PLACE), of_all_sites=True
    ),
    "POST /v1/dicom/destinations/{destination_id}/test": Entry((ADMINISTRATOR,), DESTINATION, of_all_sites=True),
    "GET /v1/dicom/sources": Entry((ADMINISTRATOR,), owned=False, of_all_sites=True),
    "POST /v1/dicom/sources": Entry((ADMINISTRATOR,), send=json(**PLACE), owned=False, of_all_sites=True),
    "GET /v1/dicom/sources/{source_id}": Entry((ADMINISTRATOR,), SOURCE, of_all_sites=True),
    "PUT /v1/dicom/sources/{source_id}": Entry((ADMINISTRATOR,), SOURCE, json(**PLACE), of_all_sites=True),
    "POST /v1/dicom/sources/{source_id}/test": Entry((ADMINISTRATOR,), SOURCE, of_all_sites=True),
    "GET /v1/dicom/sendings": Entry(ALL, owned=False),
    "GET /v1/dicom/sendings/{job_id}": Entry(ALL, SENDING),
    "POST /v1/dicom/sendings/{job_id}/again": Entry(ALL, SENDING, json()),
    # patients
    "GET /patients": Entry(ALL, owned=False),
    "GET /patients/new": Entry(CLINICAL, owned=False),
    "POST /patients/new": Entry(CLINICAL, send=form(site_id=of("site"), code="N9")),
    "GET /patients/{patient_id}": Entry(ALL, PATIENT),
    "POST /patients/{patient_id}/exams": Entry(CLINICAL, PATIENT, form(day="2026-03-09")),
    "GET /patients/{patient_id}/edit": Entry(CLINICAL, PATIENT),
    "POST /patients/{patient_id}/edit": Entry(CLINICAL, PATIENT, form(note="tried")),
    "GET /patients/{patient_id}/leave": Entry(CLINICAL, PATIENT),
    "POST /patients/{patient_id}/leave": Entry(CLINICAL, PATIENT, form(**DUE_TO_LEAVE)),
    "GET /patients/{patient_id}/return": Entry(CLINICAL, PATIENT),
    "POST /patients/{patient_id}/return": Entry(CLINICAL, PATIENT, form(why="tried")),
    "GET /patients/{patient_id}/transfer": Entry(CLINICAL, PATIENT),
    "POST /patients/{patient_id}/transfer": Entry(
        CLINICAL, PATIENT, form(site_id=99, left_on="2026-02-20", why="tried")
    ),
    "GET /patients/{patient_id}/merge": Entry(CLINICAL, PATIENT),
    "POST /patients/{patient_id}/merge": Entry(CLINICAL, PATIENT, form(code="nobody", why="tried")),
    "GET /v1/patients": Entry(ALL, owned=False),
    "POST /v1/patients": Entry(CLINICAL, send=json(site_id=of("site"), code="N8")),
    "GET /v1/patients/{patient_id}": Entry(ALL, PATIENT),
    "PATCH /v1/patients/{patient_id}": Entry(CLINICAL, PATIENT, json(note="tried")),
    "POST /v1/patients/{patient_id}/leave": Entry(CLINICAL, PATIENT, json(**DUE_TO_LEAVE)),
    "POST /v1/patients/{patient_id}/return": Entry(CLINICAL, PATIENT, WHY),
    "POST /v1/patients/{patient_id}/transfer": Entry(CLINICAL, PATIENT, json(**AWAY | {"site_id": 99})),
    "GET /patients/{patient_id}/unmerge": Entry((ADMINISTRATOR,), PATIENT),
    "POST /patients/{patient_id}/unmerge": Entry((ADMINISTRATOR,), PATIENT, form(why="tried")),
    "POST /v1/patients/{patient_id}/unmerge": Entry((ADMINISTRATOR,), PATIENT, WHY),
    "POST /v1/patients/{patient_id}/merge": Entry(CLINICAL, PATIENT, json(into=of("other_patient"), why="tried")),
    # exams
    "POST /exams/{exam_id}/finish": Entry(CLINICAL, EXAM),
    "GET /exams/{exam_id}/edit": Entry(CLINICAL, EXAM),
    "POST /exams/{exam_id}/edit": Entry(CLINICAL, EXAM, form(note="tried")),
    "GET /exams/{exam_id}/move": Entry(CLINICAL, EXAM),
    "POST /exams/{exam_id}/move": Entry(CLINICAL, EXAM, form(code="nobody", why="tried")),
    "GET /exams/{exam_id}/reopen": Entry(CLINICAL, EXAM),
    "POST /exams/{exam_id}/reopen": Entry(CLINICAL, EXAM, form(why="tried")),
    "GET /exams/{exam_id}/cancel": Entry(CLINICAL, EXAM),
    "POST /exams/{exam_id}/cancel": Entry(CLINICAL, EXAM, form(why="tried")),
    "POST /exams/{number}/acknowledge": Entry(CLINICAL, EXAM_NUMBER),
    "GET /v1/exams": Entry(ALL, owned=False),
    "POST /v1/exams": Entry(CLINICAL, send=json(patient_id=of("patient"), day="2026-03-10")),
    "GET /v1/exams/{exam_id}": Entry(ALL, EXAM),
    "PATCH /v1/exams/{exam_id}": Entry(CLINICAL, EXAM, json(note="tried")),
    "POST /v1/exams/{exam_id}/finish": Entry(CLINICAL, EXAM),
    "POST /v1/exams/{exam_id}/reopen": Entry(CLINICAL, EXAM, WHY),
    "POST /v1/exams/{exam_id}/cancel": Entry(CLINICAL, EXAM, WHY),
    "POST /v1/exams/{exam_id}/move": Entry(
        (READER, TECHNICIAN), EXAM, json(patient_id=of("other_patient"), why="tried")
    ),
    "POST /v1/exams/{number}/acknowledge": Entry(CLINICAL, EXAM_NUMBER),
    # photographs
    "GET /photographs/{photograph_id}/correct": Entry(CLINICAL, PHOTOGRAPH),
    "POST /photographs/{photograph_id}/correct": Entry(CLINICAL, PHOTOGRAPH, form(eye="left", why="tried")),
    "POST /v1/photographs/{photograph_id}/correct": Entry(CLINICAL, PHOTOGRAPH, json(eye="left", why="tried")),
    "GET /exams/{exam_id}": Entry(ALL, EXAM),
    "GET /exams/{exam_id}/photographs": Entry(ALL, EXAM),
    "POST /exams/{exam_id}/photographs": Entry(CLINICAL, EXAM, FILE),
    "GET /exams/{exam_id}/events": Entry(ALL, EXAM, streams=True),
    "POST /exams/{exam_id}/confirm": Entry(CLINICAL, EXAM),
    "POST /photographs/{photograph_id}/place": Entry(CLINICAL, PHOTOGRAPH, form(eye="left", view="disc", why="tried")),
    "POST /photographs/{photograph_id}/withdraw": Entry(CLINICAL, PHOTOGRAPH, form(why="tried")),
    "POST /photographs/{photograph_id}/restore": Entry(CLINICAL, PHOTOGRAPH),
    "GET /photographs/{photograph_id}/picture": Entry(ALL, PHOTOGRAPH),
    "GET /photographs/{photograph_id}/thumbnail": Entry(ALL, PHOTOGRAPH),
    "GET /photographs/{photograph_id}/red-free": Entry(ALL, PHOTOGRAPH),
    "GET /photographs/{photograph_id}/activation": Entry(ALL, PHOTOGRAPH),
    "GET /photographs/{photograph_id}/crossings/{crossing}/{kind}": Entry(
        ALL, PHOTOGRAPH | {"crossing": lambda _: 1, "kind": lambda _: "crossing"}
    ),
    "POST /v1/exams/{exam_id}/photographs": Entry(CLINICAL, EXAM, FILE),
    "GET /v1/exams/{exam_id}/photographs": Entry(ALL, EXAM),
    "GET /v1/exams/{exam_id}/events": Entry(ALL, EXAM, streams=True),
    "POST /v1/exams/{exam_id}/confirm": Entry(CLINICAL, EXAM, json()),
    "GET /v1/photographs/{photograph_id}": Entry(ALL, PHOTOGRAPH),
    "POST /v1/photographs/{photograph_id}/place": Entry(
        CLINICAL, PHOTOGRAPH, json(eye="left", view="disc", why="tried")
    ),
    "POST /v1/photographs/{photograph_id}/withdraw": Entry(CLINICAL, PHOTOGRAPH, WHY),
    "POST /v1/photographs/{photograph_id}/restore": Entry(CLINICAL, PHOTOGRAPH, json()),
    "GET /v1/photographs/{photograph_id}/picture": Entry(ALL, PHOTOGRAPH),
    "GET /v1/photographs/{photograph_id}/activation": Entry(ALL, PHOTOGRAPH),
    # readings
    "GET /exams/{exam_id}/read": Entry((READER,), EXAM),
    "POST /exams/{exam_id}/read": Entry((READER,), EXAM, form(note="tried")),
    "POST /exams/{exam_id}/read/preview": Entry((READER,), EXAM, form(note="tried")),
    "POST /exams/{exam_id}/sign": Entry((READER,), EXAM, form(reading=of("draft"), password=PASSWORD)),
    "POST /exams/{exam_id}/read/acknowledge": Entry(CLINICAL, EXAM),
    "GET /v1/readings": Entry(CLINICAL, owned=False),
    "GET /v1/exams/{exam_id}/readings": Entry(CLINICAL, EXAM),
    "POST /v1/exams/{exam_id}/readings": Entry((READER,), EXAM, json(note="tried")),
    "POST /v1/exams/{exam_id}/readings/preview": Entry((READER,), EXAM, json(note="tried")),
    "GET /v1/readings/{reading_id}": Entry(CLINICAL, {"reading_id": of("reading")}),
    "POST /v1/readings/{reading_id}/sign": Entry((READER,), {"reading_id": of("draft")}, json(password=PASSWORD)),
    "GET /exams/{exam_id}/report": Entry(CLINICAL, SIGNED),
    "GET /exams/{exam_id}/report.pdf": Entry(CLINICAL, SIGNED),
    "GET /v1/reports": Entry(CLINICAL, owned=False),
    "GET /v1/reports/{report_id}": Entry(CLINICAL, {"report_id": of("report")}),
    "GET /v1/reports/{report_id}/pdf": Entry(CLINICAL, {"report_id": of("report")}),
    "POST /v1/readings/{reading_id}/reports": Entry(CLINICAL, {"reading_id": of("reading")}, json(language="en")),
    "GET /second-readings": Entry((READER, ADMINISTRATOR), owned=False),
    "GET /second-readings/{table}.csv": Entry((READER, ADMINISTRATOR), {"table": lambda _: "kappas"}, owned=False),
    "GET /v1/agreement": Entry((READER, ADMINISTRATOR), owned=False),
    # lists, worklist, programme
    "GET /": Entry(ALL, owned=False),
    "GET /programme": Entry(ALL, owned=False),
    "GET /programme/{table}.csv": Entry(ALL, {"table": lambda _: "coverage"}, owned=False),
    "GET /exports/cohort.zip": Entry((READER, ADMINISTRATOR), owned=False),
    "GET /exports/patches.zip": Entry((READER, ADMINISTRATOR), owned=False),
    "GET /v1/exports/cohort.zip": Entry((READER, ADMINISTRATOR), owned=False),
    "GET /v1/exports/patches.zip": Entry((READER, ADMINISTRATOR), owned=False),
    "GET /v1/sites": Entry(ALL, owned=False),
    "GET /v1/corrections": Entry(ALL, owned=False),
    "GET /v1/jobs": Entry(ALL, owned=False),
    "GET /v1/jobs/{job_id}": Entry(ALL, {"job_id": of("job")}),
    "GET /v1/worklist": Entry(ALL, owned=False),
    "GET /v1/programme": Entry(ALL, owned=False),
}


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"rates": RateLimits(address=10**6, account=10**6, sign_in=10**6)})


@pytest.fixture
def people(sign_in):
    return {role: sign_in(role) for role in ALL}


@pytest.fixture
def ours(room, site, people):
    return make_world(room, site, people["reader"].id, "OURMARK")


@pytest.fixture
def theirs(room, other_site, people, sign_in):
    return make_world(room, other_site, sign_in("reader", sites=[other_site]).id, "THEIRMARK")


def make_world(room, site, reader, mark):
    """One of each thing, each with a text that holds the mark."""
    owned = {"site_id": site.id, "created_via": "command"}
    note = mark if mark.isprintable() and len(mark) < 4000 else ""  # a reading checks its text when it is shown, too
    with room.database.transaction() as session:

        def add(row):
            session.add(row)
            session.flush()
            return row

        patient, other = (
            add(Patient(kind="infant", code=f"{mark}{n}", name=mark, note=mark, **owned)) for n in range(2)
        )
        exam = add(Exam(patient_id=patient.id, day=now().date(), camera=mark, note=mark, accession=mark, **owned))
        exam.uploaded_at, exam.urgency, exam.urgency_reason = now(), 10, "suspected"
        photograph = add(
            ExamPhotograph(
                exam_id=exam.id, digest=hashlib.sha256(mark.encode()).hexdigest(), file_name=f"{mark}.png", file_bytes=1, media_type="image/png",
                eye="right", view="disc", state="graded", **owned,
            )
        )  # fmt: skip
        grading = add(
            Grading(
                site_id=site.id, photograph_id=photograph.id, grader="rop screen", bundle=mark, bundle_digest="d", version="1",
                status="ok", probability=0.9, suspected=True, rows={"rows": [{"note": mark}]}, created_at=now(),
                pictures={name: f"{name}.jpg" for name in PICTURES},
            )
        )  # fmt: skip
        for name in PICTURES:
            file = picture_file(room.settings, photograph, grading, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
        signed = add(
            Exam(patient_id=patient.id, day=now().date(), camera=mark, state="signed", signed_at=now(), **owned)
        )
        reading = add(Reading(exam_id=signed.id, reader_id=reader, note=note, **owned))
        session.add_all(
            EyeReading(reading_id=reading.id, eye=eye, zone="II", stage="0", plus="no", note=note)
            for eye in ("right", "left")
        )
        session.flush()
        reading.signed_at = now()
        draft = add(Reading(exam_id=exam.id, reader_id=reader, note=note, **owned))
        report = add(SignedReport(reading_id=reading.id, language="zh", html=html.escape(mark), **owned))
        task = add(ReadingTask(exam_id=signed.id, kind="adjudication", reader_id=reader, **owned))
        job = add(Job(kind="judge", key=mark, payload={"mark": mark}, site_id=site.id, error=mark))
        add(
            Correction(
                subject="patient", subject_id=patient.id, field="name", before=mark, after=mark, why=mark, **owned
            )
        )
        account = add(User(name=mark.lower(), full_name=mark, role="technician"))
        token = add(
            ApiToken(
                user_id=account.id,
                name=mark,
                digest=hashlib.sha256(mark.encode()).hexdigest(),
                expires_at=now(),
                created_via="command",
            )
        )
        away = {"name": mark[:100], "url": "http://localhost:1/dicom-web"}
        destination = add(DicomDestination(protocol="dicomweb", **away, **owned))
        source = add(DicomSource(kind="dicomweb", trouble=mark, **away, **owned))
        payload = {"exam": exam.id, "what": "tool", "shown": [], "reading": None, "destination": destination.id}
        sending = add(Job(kind="dicom_send", key=f"{mark[:150]} sending", payload=payload, site_id=site.id, error=mark))
        refusal = add(
            RefusedArrival(site_id=site.id, caller="CAM", address="::1", sop_instance=f"2.25.{exam.id}", reason=mark)
        )
        return World(
            mark, site.id, patient.id, other.id, exam.id, signed.id, photograph.id, reading.id, draft.id, report.id, task.id, job.id,
            account.id, token.id, destination.id, source.id, sending.id, refusal.id,
        )  # fmt: skip


def walk(routes):
    for route in routes:
        if hasattr(route, "original_router"):
            yield from walk(route.original_router.routes)
        else:
            yield route


def list_routes(app):
    return [f"{method} {route.path}" for route in walk(app.routes) for method in sorted(route.methods - {"HEAD"})]


def ask(person, route, world, **headers):
    entry = MATRIX[route]
    method, path = route.split(" ", 1)
    values = {name.split(":")[0]: make(world) for name, make in entry.path.items()}
    address = path.replace(":path}", "}").format(**values)
    return person.request(method, address, headers=headers, follow_redirects=False, **entry.send(world))


def everything(room):
    """All rows that a request may change; what is only noted (log, sessions, rates) is left out."""
    noted = {"audit_entries", "sessions", "alembic_version"}
    with room.database.reading() as session:
        tables = [table for table in Base.metadata.sorted_tables if table.name not in noted]
        return {table.name: [tuple(row) for row in session.execute(select(table))] for table in tables}


def told(answer, *worlds):
    """The marks that stand in an answer, in its text or its headers."""
    text = answer.text + str(answer.headers)
    return [world.mark for world in worlds if world.mark in text or world.mark.lower() in text]


CLOSED = [route for route, entry in MATRIX.items() if entry.roles]


def test_every_route_stands_in_the_matrix_once(app):
    routes = list_routes(app)
    assert sorted(set(routes) - set(MATRIX)) == [], "Write an entry for each route into MATRIX: who may call it."
    assert sorted(set(MATRIX) - set(routes)) == [], "There is no such route any more."
    assert sorted(route for route in set(routes) if routes.count(route) > 1) == []
    for route, entry in MATRIX.items():
        assert bool(entry.roles) != is_open(route.split(" ")[1].partition("{")[0] or "/"), route


def test_without_a_session_nothing_comes_out(client, room, ours):
    before, wrong = everything(room), []
    made_up = [
        {},
        {"Authorization": "Bearer " + "x" * 43},
        {"Cookie": "session=" + "x" * 43 + "; __Host-session=" + "x" * 43},
    ]
    for route in CLOSED:
        for headers in made_up:
            answer = ask(client, route, ours, **headers)
            refused = answer.status_code == 401 or (
                answer.status_code == 303 and answer.headers["location"].startswith("/sign-in")
            )
            if "/v1/" in route:
                refused = answer.status_code == 401 and answer.json()["status"] == 401
            if not refused or told(answer, ours):
                wrong.append((route, headers, answer.status_code))
    assert wrong == [], [each[:3] for each in wrong]
    assert everything(room) == before


def test_with_the_wrong_role_nothing_comes_out(people, room, ours):
    before, wrong = everything(room), []
    for route in CLOSED:
        for role in set(ALL) - set(MATRIX[route].roles):
            answer = ask(people[role], route, ours)
            if answer.status_code not in (403, 404) or told(answer, ours):
                wrong.append((route, role, answer.status_code))
    assert wrong == [], [each[:3] for each in wrong]
    assert everything(room) == before


def test_of_another_site_nothing_comes_out(people, room, ours, theirs):
    before, wrong = everything(room), []
    for route in CLOSED:
        entry = MATRIX[route]
        if entry.of_all_sites or not entry.owned:
            continue
        for role in entry.roles:
            answer = ask(people[role], route, theirs)
            of_all = role == ADMINISTRATOR and "/sites/" in route
            if not of_all and (answer.status_code not in (404,) or told(answer, theirs)):
                wrong.append((route, role, answer.status_code, told(answer, theirs)))
    assert wrong == [], [each[:3] for each in wrong]
    assert everything(room) == before


@pytest.mark.services
def test_lists_hold_nothing_of_another_site(people, ours, theirs):
    wrong = []
    for route in CLOSED:
        entry = MATRIX[route]
        if entry.owned or entry.of_all_sites or not route.startswith("GET"):
            continue
        for role in entry.roles:
            answer = ask(people[role], route, ours)
            if answer.status_code != 200 or told(answer, theirs):
                wrong.append((route, role, answer.status_code, told(answer, theirs)))
            searched = people[role].get(answer.request.url.path, params={"search": theirs.mark[:5]})
            if told(searched, theirs):
                wrong.append((route, role, "search"))
    assert wrong == [], [each[:3] for each in wrong]


@pytest.mark.services
def test_under_a_foreign_name_and_from_a_foreign_page_nothing_comes_out(people, client, room, ours):
    before, wrong = everything(room), []
    for route, entry in MATRIX.items():
        person = people[entry.roles[0]] if entry.roles else client
        answer = ask(person, route, ours, **FOREIGN_HOST)
        if answer.status_code not in (400, 421) or told(answer, ours) or len(answer.content) > 10_000:
            wrong.append((route, "host", answer.status_code))
        if route.startswith("GET"):
            continue
        for origin in (FOREIGN_ORIGIN, {"Origin": "null"}, {"Origin": "", "X-CSRF-Token": ""}):
            answer = ask(person, route, ours, **origin)
            if answer.status_code != 403 or told(answer, ours):
                wrong.append((route, origin, answer.status_code))
        if entry.roles:
            answer = ask(person, route, ours, **{"X-CSRF-Token": "x" * 43})
            if answer.status_code != 403 or told(answer, ours):
                wrong.append((route, "token of the form", answer.status_code))
    assert wrong == [], [each[:3] for each in wrong]
    assert everything(room) == before
    for route, entry in MATRIX.items():  # a page elsewhere may ask, and is not let read the answer
        if route.startswith("GET") and not entry.streams:
            person = people[entry.roles[0]] if entry.roles else client
            assert "access-control-allow-origin" not in ask(person, route, ours, **FOREIGN_ORIGIN).headers, route


@pytest.mark.services
def test_who_may_is_let_in(people, room, ours):
    """The other tests would pass on a room that refuses everything."""
    wrong = []
    for route in CLOSED:
        entry = MATRIX[route]
        if entry.streams:
            continue
        own = {"account": people[entry.roles[0]].id} if "tokens" in route else {}
        answer = ask(people[entry.roles[0]], route, ours)
        may_not_be_there = 404 if own else None
        if answer.status_code in {401, 403, 404, 405, 421} - {may_not_be_there} or answer.status_code >= 500:
            wrong.append((route, entry.roles[0], answer.status_code, answer.text[:200]))
        if answer.status_code == 303 and answer.headers["location"].startswith("/sign-in"):
            wrong.append((route, entry.roles[0], "signed out"))
    assert wrong == [], [each[:3] for each in wrong]
