"""A reading room to try out: accounts, infants and adults who do not exist, and simulated photographs of their eyes.

`fundoscope serve --demo` furnishes a new room so; the photographs are judged by the worker as any others are.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from fundoscope.errors import UsageError
from fundoscope.server.models import ExamPhotograph, Site, User
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.room import Room
from fundoscope.server.security.passwords import hash_password
from fundoscope.server.services import accounts, exams, patients, readings, uploads
from fundoscope.server.services.eye_findings import EyeFindings, ReadingContent
from fundoscope.server.services.sessions import as_caller
from fundoscope.simulate import Findings, adults, cameras, infants

SITE = "Demonstration ward"
ACCOUNTS = {
    "nurse": ("Nurse of the demonstration", Role.TECHNICIAN),
    "reader": ("First reader of the demonstration", Role.READER),
    "second": ("Second reader of the demonstration", Role.READER),
    "admin": ("Administrator of the demonstration", Role.ADMINISTRATOR),
}
_WORDS = (
    "amber", "birch", "cedar", "coral", "delta", "ember", "fjord", "grove", "heron", "inlet", "lotus", "maple", "north", "ocean",
    "pearl", "quartz", "river", "stone", "tulip", "violet", "willow", "zephyr",
)  # fmt: skip
#: Where a simulated camera is aimed for each view.
_AIMS = {"disc": "posterior", "macula": "temporal", "temporal": "temporal", "nasal": "nasal"}
_VIEWS = ("disc", "macula", "temporal")
_GOOD, _UNGRADABLE = cameras.LEVELS.index("good"), cameras.LEVELS.index("ungradable")
_RETCAM_SIDE = 640  # pixels


@dataclass(frozen=True)
class DemoInfant:
    """An infant who does not exist: born so many days ago; what its eyes show; days since its exams, the last one last.

    `signed` of its exams are read and signed; of the last one `missing` is not photographed, and `blurred` is not sharp.
    """

    code: str
    born: int
    gestational_age: str
    birth_weight: int
    findings: Findings
    exams: tuple[int, ...] = (0,)
    signed: int = 0
    finished: bool = True
    missing: tuple[str, str] | None = None
    blurred: tuple[str, str] | None = None


INFANTS = (
    DemoInfant("D-001", 40, "27+5", 980, Findings(3, 2, "plus")),
    DemoInfant("D-002", 37, "30+0", 1350, Findings()),
    DemoInfant("D-003", 38, "28+6", 1120, Findings(1, 2), finished=False, missing=("left", "macula")),
    DemoInfant("D-004", 47, "26+3", 850, Findings(2, 2), exams=(7, 0), signed=1),
    DemoInfant("D-005", 35, "29+2", 1240, Findings(), finished=False, blurred=("right", "temporal")),
    DemoInfant("D-006", 58, "31+1", 1560, Findings(), exams=(24,), signed=1),
)
ADULTS = (("D-101", 54, 1), ("D-102", 67, 3))  # number, years, nicking of the simulated crossings


def furnish(room: Room, say: Callable[[str], None]) -> None:
    """Fill a new room, or give the accounts of one that was furnished before new passwords, and say them.

    Raises `UsageError` for a room that is somebody's own.
    """
    with room.database.transaction() as session:
        new = session.scalar(select(User.id).limit(1)) is None
        if not new and session.scalar(select(Site.id).where(Site.name == SITE)) is None:
            raise UsageError(
                f"{room.settings.data}: holds a room of its own. Name another folder to --data, or leave out --demo."
            )
        if not new and session.scalars(select(User.password).where(User.name == "admin")).first() is None:
            raise UsageError(
                f"{room.settings.data}: was cut off while it was furnished. Remove the folder and start again."
            )
        if new:
            _add_accounts(session)
    if new:
        say("Simulated eyes are drawn for the room; this takes a minute.")
        _add_patients(room)
    passwords = {
        name: "-".join([*(secrets.choice(_WORDS) for _ in range(3)), str(secrets.randbelow(900) + 100)])
        for name in ACCOUNTS
    }
    hashes = {name: hash_password(password) for name, password in passwords.items()}
    with room.database.transaction() as session:
        for user in session.scalars(select(User).where(User.name.in_(ACCOUNTS))):
            user.password, user.failures, user.locked_until = hashes[user.name], 0, None
    say("A demonstration: nobody in it exists, and every photograph is simulated. Sign in as")
    for name, password in passwords.items():
        say(f"  {name:<8} {password:<28} {ACCOUNTS[name][1]}")


def _add_accounts(session: Session) -> None:
    site = accounts.add_site(session, accounts.NOBODY, accounts.SiteValues(name=SITE, second_reading_share=1.0))
    for name, (full_name, role) in ACCOUNTS.items():
        session.add(User(name=name, full_name=full_name, role=role, sites=[site]))
    session.flush()


def _add_patients(room: Room) -> None:
    with room.database.reading() as session:
        callers = {user.name: as_caller(user, "command", "") for user in session.scalars(select(User))}
        site = session.scalars(select(Site.id).where(Site.name == SITE)).one()
    today = date.today()
    for number, infant in enumerate(INFANTS):
        with room.database.transaction() as session:
            new = patients.NewPatient(
                site_id=site, code=infant.code, birth_date=today - timedelta(days=infant.born),
                gestational_age=infant.gestational_age, birth_weight=infant.birth_weight,
            )  # fmt: skip
            patient = patients.add_patient(session, callers["nurse"], new).id
        for k, ago in enumerate(infant.exams):
            last = k == len(infant.exams) - 1
            files = list(_photograph_infant(infant, 100 * number + k, last))
            exam = _add_exam(
                room, callers["nurse"], patient, today - timedelta(days=ago), files, infant.finished or not last
            )
            if k < infant.signed:
                _sign(room, callers["reader"], exam, infant.findings)
    for code, years, grade in ADULTS:
        with room.database.transaction() as session:
            born = today - timedelta(days=365 * years)
            new = patients.NewPatient(site_id=site, kind="adult", code=code, birth_date=born)
            patient = patients.add_patient(session, callers["nurse"], new).id
        files = [(f"{code}_{side}.jpg", file) for side, file in _photograph_adult(years, grade)]
        _add_exam(room, callers["nurse"], patient, today, files, True)


def _photograph_infant(infant: DemoInfant, seed: int, last: bool) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each photograph of an exam; the names tell eye and view."""
    rng = np.random.default_rng([seed, 31])
    camera, cast = cameras.CAMERAS["retcam"].resized(_RETCAM_SIDE), cameras.draw_cast(rng)
    for side in ("right", "left"):
        eye = infants.grow_eye(2 * seed + (side == "left"), infant.findings, side, appearance_seed=seed)
        for view in _VIEWS:
            if last and infant.missing == (side, view):
                continue
            level = _UNGRADABLE if last and infant.blurred == (side, view) else _GOOD
            exposure = cameras.draw_exposure(camera, level, cast, rng)
            projection = infants.draw_projection(exposure, _AIMS[view], side, rng)
            yield (
                f"{infant.code}_{side}_{view}.jpg",
                infants.photograph_eye(eye, exposure, projection, _AIMS[view]).file,
            )


def _photograph_adult(seed: int, grade: int) -> Iterator[tuple[str, bytes]]:
    """Side and bytes of a photograph of each eye."""
    rng = np.random.default_rng([seed, 32])
    camera, cast = cameras.CAMERAS["drive"], cameras.draw_cast(rng, 0.5)
    for side in ("right", "left"):
        exposure = cameras.draw_exposure(camera, _GOOD, cast, rng)
        eye = adults.grow_eye(2 * seed + (side == "left"), side, grade, camera.laser)
        yield side, adults.photograph_eye(eye, exposure, adults.draw_projection(exposure, side, rng)).file


def _add_exam(
    room: Room, caller: Caller, patient: int, day: date, files: Sequence[tuple[str, bytes]], finished: bool
) -> int:
    """An exam with its photographs, which wait to be judged; its number."""
    with room.database.transaction() as session:
        exam = exams.add_exam(session, caller, exams.NewExam(patient_id=patient, day=day)).id
    with uploads.incoming_folder(room.settings) as folder:
        sent = []
        for name, content in files:
            (folder / name).write_bytes(content)
            sent.append(uploads.SentFile(name, folder / name, len(content), hashlib.sha256(content).hexdigest()))
        found = uploads.sort_files(sent, folder, room.settings.limits)
        uploads.keep_files(found, room.settings)
        with room.database.transaction() as session:
            uploads.add_photographs(session, caller, exam, found, room.settings.limits)
    with room.database.transaction() as session:
        for photograph in session.scalars(select(ExamPhotograph).where(ExamPhotograph.exam_id == exam)):
            photograph.placed = bool(photograph.eye and photograph.view)
        if finished:
            exams.finish_exam(session, caller, exam)
    return exam


def _sign(room: Room, caller: Caller, exam: int, findings: Findings) -> None:
    """The exam read and signed by a reader, as the simulated eyes are."""
    zone = {1: "I", 2: "II", 3: "III", None: "II"}[findings.zone]
    plus = {"none": "no", "pre-plus": "pre-plus", "plus": "plus"}[findings.plus]
    eyes = [
        EyeFindings.model_validate({"eye": eye, "zone": zone, "stage": str(findings.stage), "plus": plus})
        for eye in ("right", "left")
    ]
    password = secrets.token_urlsafe(24)
    hashed = hash_password(password)
    with room.database.transaction() as session:
        session.get_one(User, caller.user_id).password = hashed
        reading = readings.save_reading(session, caller, exam, ReadingContent(eyes=tuple(eyes))).id
    readings.sign_reading(room.database, caller, reading, password)
