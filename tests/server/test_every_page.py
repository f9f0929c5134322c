"""Every page in a made-up language, whose letters carry accents and whose texts stand in brackets: unmarked text fails.

Also: every page renders for somebody, and none holds a style or a script of its own.
"""

import re
from datetime import date, timedelta
from gettext import NullTranslations
from html.parser import HTMLParser

import pytest

from fundoscope import languages
from fundoscope.guidelines import shipped_guidelines
from fundoscope.languages import LANGUAGES
from fundoscope.server.models import (
    DicomDestination,
    DicomSource,
    Grading,
    Job,
    SentObject,
    Site,
    SourceItem,
    User,
    now,
)
from fundoscope.server.services import readings
from fundoscope.server.services.exam_state import refresh_exam
from fundoscope.server.services.eye_findings import EyeFindings, ReadingContent

ACCENTS = str.maketrans("aeiouAEIOUcnsz", "áéíóúÁÉÍÓÚçñšž")
#: What reads the same in every language: names of things, of rules and of files, and units.
SAME = {"Fundoscope", "ROP", "ETROP", "AAP", "PDF", "CSV", "ZIP", "JSON", "SHA", "DICOM", "JPEG", "PNG", "TIFF", "UTC", "English", "II", "III"}  # fmt: skip
#: What is cited as it was published: sources of guidelines, names of guidelines and of their rules.
KNOWN = sorted(
    {rule.citation for rule in shipped_guidelines()} | {rule.name for rule in shipped_guidelines()} | {"zone-2-stage-2-3"} | set(LANGUAGES.values()),
    key=len, reverse=True,
)  # fmt: skip
#: Pages that answer with something else, or only in a state of their own.
OTHER = re.compile(r"/v1/|/static/|/healthz|/metrics|/favicon|\.csv|\.zip|\.pdf|/events|/sign-in/single|/export|/photographs/\{\w+\}/(?!correct)")  # fmt: skip


class PseudoLocale(NullTranslations):
    """A language that nobody speaks: [Wórklíšt]."""

    def gettext(self, message):
        parts = re.split(r"(\{[^}]*\})", message)
        return "⟦" + "".join(p if p.startswith("{") else p.translate(ACCENTS) for p in parts) + "⟧"

    def ngettext(self, one, many, count):
        return self.gettext(one if count == 1 else many)


class ShownTexts(HTMLParser):
    """The texts of a page that a person sees or hears: of elements, and of attributes that are spoken or asked."""

    SPOKEN = ("title", "alt", "aria-label", "placeholder", "data-confirm", "data-label")

    def __init__(self):
        super().__init__()
        self.texts, self.open = [], []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        hushed = tag in ("style", "script", "time", "kbd", "code", "datalist") or {"file", "key"} & set(
            (values.get("class") or "").split()
        )
        if tag not in (
            "img",
            "input",
            "meta",
            "link",
            "br",
            "hr",
            "path",
            "circle",
            "rect",
            "line",
            "polyline",
            "use",
            "fecolormatrix",
        ):
            self.open.append((tag, hushed or bool(self.open and self.open[-1][1])))
        self.texts += [values[name] for name in self.SPOKEN if values.get(name)]
        self.texts += [
            text
            for name, text in values.items()
            if name.startswith("data-") and text and " " in text.strip() and not text.startswith(("{", "[", "/"))
        ]

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, text):
        if not (self.open and self.open[-1][1]):
            self.texts.append(text)


def unmarked(html):
    """Runs of letters that no bracket holds."""
    shown = ShownTexts()
    shown.feed(html)
    found = []
    for text in shown.texts:
        depth, outside = 0, ""
        for letter in text:
            depth += {"⟦": 1, "⟧": -1}.get(letter, 0)
            outside += letter if depth == 0 else " "
        for known in KNOWN:
            outside = outside.replace(known, "")
        outside = re.sub(
            r"\b[0-9a-f]{64}\b|\b\d+\.png\b|\b[a-z]+\.[a-z_]+\b", "", outside
        )  # a digest, a file, an action
        words = set(re.findall(r"[A-Za-z\u4e00-\u9fff]{2,}", outside)) - SAME
        if words:
            found.append(" ".join(text.split())[:120])
    return found


def test_texts_out_of_brackets_are_found():
    page = '<p>⟦Á ⟦B⟧ ç⟧ 7 g</p><p class="file">a.jpg</p><p title="Hello">⟦Á⟧</p><button data-confirm="Sure then?">⟦Ó⟧</button><p>by</p>'
    assert unmarked(page) == ["Hello", "Sure then?", "Sure then?", "by"]


@pytest.fixture
def people(room, site, sign_in, monkeypatch):
    """One of each role, who speak the language that nobody speaks."""
    monkeypatch.setattr(languages, "_catalogue", lambda tag: PseudoLocale() if tag == "zh" else NullTranslations())
    with room.database.transaction() as session:
        session.get_one(Site, site.id).name = "⟦Š⟧"
    found = {
        role: sign_in(role, name=f"{n}", language="zh")
        for n, role in enumerate(("technician", "reader", "administrator"), 1)
    }
    with room.database.transaction() as session:
        for user in session.query(User):
            user.full_name = "⟦Ú⟧"
    return found


@pytest.fixture
def numbers(room, site, people, make_patient, make_exam, make_photograph):
    """What stands in the room: numbers for the parameters of addresses, several of a kind for pages in several states."""
    today = date.today()
    infant = make_patient(code="7", name="⟦Ñ⟧", birth_date=today - timedelta(days=60))
    adult = make_patient(kind="adult", code="8", gestational_age=None, birth_weight=None, birth_date=date(1960, 1, 1))
    opened, signed = (make_exam(infant, day=today - timedelta(days=ago), uploaded_at=now()) for ago in (0, 14))
    grown = make_exam(adult, day=today, uploaded_at=now(), state="to_read")
    shots = []
    for exam, state in (
        (opened, "graded"),
        (opened, "refused"),
        (opened, "waiting"),
        (signed, "graded"),
        (grown, "graded"),
    ):
        reason = (
            "out of focus: no fine vessels can be seen. Focus, hold the camera still and take it again."
            if state == "refused"
            else ""
        )
        shot = make_photograph(
            exam, state=state, reason=reason, view="disc" if state == "graded" else "macula", file_name="1.png"
        )
        shots.append(shot)
        if state == "waiting":
            continue
        kind = "nicking grade" if exam is grown else "rop screen"
        row = {"crossing": 1, "row": 10.0, "col": 10.0, "grade": 2, "reason": "", "confidence": 0.9}
        with room.database.transaction() as session:
            session.add(Grading(
                site_id=site.id, photograph_id=shot.id, grader=kind, bundle="b", bundle_digest="0" * 64, version="0.1.0",
                status="ok" if state == "graded" else "rejected", reason=reason, probability=None if exam is grown else 0.9,
                suspected=None if exam is grown else True, rows={"rows": [row] if exam is grown else []}, pictures={}, created_at=now(),
            ))  # fmt: skip
            refresh_exam(session, session.get_one(type(exam), exam.id))
    eyes = tuple(EyeFindings(eye=eye, zone="II", stage="2", plus="no") for eye in ("right", "left"))
    reader = people["reader"]
    with room.database.transaction() as session:
        reading = readings.save_reading(session, reader.caller, signed.id, ReadingContent(eyes=eyes)).id
    readings.sign_reading(room.database, reader.caller, reading, reader.password)
    with room.database.transaction() as session:
        readings.save_reading(session, reader.caller, opened.id, ReadingContent(eyes=eyes[:1]))
    add_traffic(room, site, opened)
    return {
        "patient_id": (infant.id, adult.id), "exam_id": (opened.id, signed.id, grown.id), "number": (1, 2),
        "photograph_id": tuple(shot.id for shot in shots[:2]), "token": ("no-such-link",), "destination_id": (1, 2),
        "source_id": (1, 2),
    }  # fmt: skip


def add_traffic(room, site, exam):
    """Destinations and sources in several states, and answers on their way in all of theirs."""
    owned = {"site_id": site.id, "name": "7", "created_via": "command"}
    with room.database.transaction() as session:
        web = DicomDestination(protocol="dicomweb", url="http://7/", password="7", **owned)
        other = DicomDestination(
            protocol="dimse",
            host="7",
            port=7,
            called_title="7",
            active=False,
            content="signed",
            moment="signed",
            **owned,
        )
        found = DicomSource(kind="dicomweb", url="http://7/", looked_at=now(), **owned)
        folder = DicomSource(kind="folder", folder="/7", trouble="7", **owned)
        session.add_all([web, other, found, folder])
        session.flush()
        for outcome in ("taken", "already", "refused"):
            session.add(
                SourceItem(source_id=folder.id, key=outcome, name="7", outcome=outcome, reason="7", exam_id=exam.id)
            )
        for n, (state, attempts, place) in enumerate((("waiting", 1, web), ("waiting", 0, other), ("failed", 2, web), ("done", 1, web), ("done", 1, web))):  # fmt: skip
            payload = {
                "exam": exam.id,
                "what": "tool" if n % 2 else "signed",
                "shown": [],
                "reading": None,
                "destination": place.id,
            }
            job = Job(
                kind="dicom_send",
                key=f"7{n}",
                payload=payload,
                site_id=site.id,
                state=state,
                attempts=attempts,
                error="7",
                finished_at=now(),
            )
            session.add(job)
            session.flush()
        session.add(
            SentObject(destination_id=web.id, sop_instance="7", kind="7", exam_id=exam.id, job_id=job.id, digest="7")
        )


def addresses(app, numbers):
    """Every address of a page, with its route."""
    for path in sorted(path_of_pages(app)):
        names = re.findall(r"\{(\w+)", path)
        for value in numbers[names[0]] if names else ("",):
            yield path, re.sub(r"\{\w+(:\w+)?\}", str(value), path)


def path_of_pages(app):
    from fundoscope.server.routes.register import ROUTERS

    for router in ROUTERS:
        for route in router.routes:
            if "GET" in getattr(route, "methods", ()) and not OTHER.search(route.path):
                yield route.path


def test_every_page_is_marked_for_translation(app, people, numbers, client):
    shown, faults = set(), {}
    for path, address in addresses(app, numbers):
        for person in (*people.values(), client):
            answer = person.get(address, headers={"Accept": "text/html", "Accept-Language": "zh"})
            if "text/html" not in answer.headers.get("Content-Type", ""):
                continue
            assert answer.status_code < 500, address
            if answer.status_code == 200 and "/sign-in" not in str(answer.url).replace(address, ""):
                shown.add(path)
            assert not re.search(r'<script>|<style>| style="|onclick=', answer.text), address
            for text in unmarked(answer.text):
                faults.setdefault(text, address)
    assert faults == {}, "\n".join(f"{where}: {text}" for text, where in faults.items())
    missing = set(path_of_pages(app)) - shown
    assert missing <= {"/link/{token}", "/unlock"}, missing
