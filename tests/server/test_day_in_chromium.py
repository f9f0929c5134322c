"""A day of the reading room in a real browser, in both languages, by the keyboard alone but for what only a hand does: dragging.

The nurse signs in, adds an infant, drags twelve photographs, watches them judged, repeats a refused one and finishes; the reader
opens the exam, slides the map, enters findings, signs and takes the PDF; a second one reads masked, and a third decides.

On every page: no error on the console, no request to another host, no serious fault by axe. With FUNDOSCOPE_SCREENSHOTS=DIR each
page is kept as a picture at 1400 and at 390 pixels.
"""

import base64
import os
import re
import shutil
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("playwright", reason="playwright is not installed")
pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright
from sqlalchemy import select

from fundoscope.languages import speaking
from fundoscope.server import demo, pages
from fundoscope.server.database import Database
from fundoscope.server.models import Exam, User
from fundoscope.server.room import Room
from fundoscope.server.security.passwords import hash_password
from fundoscope.server.settings import ServerSettings
from fundoscope.simulate import Findings, cameras, infants

pytestmark = pytest.mark.services
CHROMIUM = shutil.which("chromium")
PASSWORD = "a sentence for the tests"
PEOPLE = {"nurse": "technician", "reader": "reader", "second": "reader", "third": "reader", "admin": "administrator"}
VIEWS = {"disc": "posterior", "macula": "temporal", "temporal": "temporal", "nasal": "nasal", "superior": "superior", "inferior": "inferior"}  # fmt: skip
BLURRED = ("right", "temporal")
MINUTE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """A room on SQLite with people in it and nobody to examine."""
    settings = ServerSettings(data=tmp_path_factory.mktemp("day") / "room")
    settings.data.mkdir(mode=0o700)
    room = Room(settings, Database(settings.database_url))
    room.database.upgrade()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "INFANTS", ())
        patch.setattr(demo, "ADULTS", ())
        demo.furnish(room, lambda line: None)
    hashed = hash_password(PASSWORD)
    with room.database.transaction() as session:
        known = session.scalars(select(User)).all()
        session.add(User(name="third", full_name="Third reader", role="reader", sites=list(known[0].sites)))
        session.flush()
        for user in session.scalars(select(User)):
            user.password = hashed
    yield room
    room.database.dispose()


@pytest.fixture(scope="module")
def address(room):
    """Where `fundoscope serve` listens, in a process of its own with its worker."""
    call = "from fundoscope.cli.main import run; run()"
    command = [sys.executable, "-c", call, "serve", "--data", str(room.settings.data), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        yield re.search(r"http://\S+?(?=/ )", server.stdout.readline())[0]
        server.terminate()


class Visitor:
    """Somebody at a browser, and all that went wrong there."""

    def __init__(self, browser, address, name, language, faults):
        locale = {"en": "en-US", "zh": "zh-CN"}[language]
        context = browser.new_context(viewport={"width": 1400, "height": 1000}, locale=locale, accept_downloads=True)
        self.page = page = context.new_page()
        self.address, self.name, self.language, self.faults = address, name, language, faults
        page.set_default_timeout(MINUTE)
        page.on("console", lambda m: m.type in ("error", "warning") and faults.append(f"{page.url}: console: {m.text}"))
        page.on("pageerror", lambda error: faults.append(f"{page.url}: script: {error}"))
        page.on("request", lambda r: r.url.startswith((address, "data:", "blob:")) or faults.append(f"asked {r.url}"))
        page.on("dialog", lambda dialog: dialog.accept())

    def sign_in(self):
        self.page.goto(f"{self.address}/sign-in?language={self.language}")
        self.look("sign-in")
        self.page.keyboard.type(self.name)  # the name has the focus
        self.page.keyboard.press("Tab")
        self.page.keyboard.type(PASSWORD)
        self.press("Enter", leads_to=r"/$")
        return self

    def press(self, key, leads_to=""):
        """Press a key; wait until the address of the page matches a pattern."""
        if not leads_to:
            self.page.keyboard.press(key)
            return
        with self.page.expect_navigation(url=re.compile(re.escape(self.address) + leads_to)):
            self.page.keyboard.press(key)

    def tab_to(self, selector):
        """Go by the Tab key to what matches; fails where the keyboard does not reach it."""
        for _ in range(150):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("s => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"{self.page.url}: the Tab key does not reach {selector}")

    def write(self, selector, text):
        self.tab_to(selector)
        self.page.keyboard.type(text)

    def look(self, name, phone=True):
        """Examine the page as it stands: axe at both widths, nothing wider than the window, pictures where they are wanted."""
        folder = os.environ.get("FUNDOSCOPE_SCREENSHOTS")
        for width in (1400, 390) if phone else (1400,):
            self.page.set_viewport_size({"width": width, "height": 1000 if width > 400 else 844})
            self.page.wait_for_timeout(150)
            if folder:
                Path(folder).mkdir(parents=True, exist_ok=True)
                self.page.screenshot(path=Path(folder) / f"{self.language}-{name}-{width}.png", full_page=True)
            for fault in Axe().run(self.page).response["violations"]:
                if fault["impact"] in ("serious", "critical"):
                    where = "; ".join(node["html"][:160] for node in fault["nodes"][:3])
                    self.faults.append(f"{name} at {width}: {fault['id']}: {fault['help']}: {where}")
            wide = self.page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                self.faults.append(f"{name}: {wide} pixels wide in a window of {width}")
        self.page.set_viewport_size({"width": 1400, "height": 1000})


def photograph_infant(seed, findings):
    """Two eyes in six views each, {name: bytes}; one view is not sharp, and its sharp repetition."""
    rng = np.random.default_rng([seed, 5])
    camera, cast = cameras.CAMERAS["retcam"].resized(480), cameras.draw_cast(rng)
    files, again = {}, {}
    for side in ("right", "left"):
        eye = infants.grow_eye(seed + (side == "left"), findings, side, appearance_seed=seed)
        for view, aim in VIEWS.items():
            for level in ("ungradable", "good") if (side, view) == BLURRED else ("good",):
                exposure = cameras.draw_exposure(camera, cameras.LEVELS.index(level), cast, rng)
                projection = infants.draw_projection(exposure, aim, side, rng)
                into = again if (side, view) == BLURRED and level == "good" else files
                into[f"{side}_{view}{'_again' if into is again else ''}.jpg"] = infants.photograph_eye(eye, exposure, projection, aim).file  # fmt: skip
    return files, again


def drop(page, selector, files):
    """Drag files onto an element, as the browser tells it to the page."""
    encoded = {name: base64.b64encode(content).decode() for name, content in files.items()}
    page.evaluate(
        """([selector, files]) => {
          const carried = new DataTransfer();
          for (const [name, text] of Object.entries(files)) {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            carried.items.add(new File([bytes], name, { type: "image/jpeg" }));
          }
          for (const kind of ["dragenter", "dragover", "drop"])
            document.querySelector(selector).dispatchEvent(new DragEvent(kind, { dataTransfer: carried, bubbles: true, cancelable: true }));
        }""",
        [selector, encoded],
    )


def wait_until_judged(page, count):
    page.wait_for_function(
        "n => document.querySelectorAll('#live .shot[data-photograph]').length === n && !document.querySelector('#live .shot.waiting')",
        arg=count, timeout=4 * MINUTE,
    )  # fmt: skip


def enter_findings(visitor, keys):
    """Findings of both eyes by the keys of the reader's page, saved."""
    page = visitor.page
    for key in (*keys, "e", *keys):
        page.keyboard.press(key)
    page.keyboard.press("s")
    page.wait_for_function("() => document.getElementById('saved').textContent.trim() !== ''")


def sign(visitor, leads_to):
    visitor.press("Control+Enter", leads_to=r"/exams/\d+/read")
    visitor.page.wait_for_selector("#sign-dialog[open] #password")
    visitor.look(f"{visitor.name}-sign", phone=False)
    visitor.page.keyboard.type(PASSWORD)
    visitor.press("Enter", leads_to=leads_to)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_day(chromium, room, address, language):
    faults = []
    with room.database.transaction() as session:
        for user in session.scalars(select(User)):
            user.language = language

    def come(name):
        return Visitor(chromium, address, name, language, faults).sign_in()

    number = nurse_examines(come("nurse"), language)
    with room.database.reading() as session:
        exam = session.get_one(Exam, number)
        assert exam.state == "to_read" and exam.finished_at is not None
        by_when = exam.day + timedelta(days=7)  # zone II, stage 2: every week
    with speaking(language):
        due = re.sub("<[^>]*>", "", str(pages.write_day(by_when)))
    reader_signs(come("reader"), number, due)
    another_reads_masked(come("second"), number)
    third_decides(come("third"), number)
    with room.database.reading() as session:
        kinds = (
            [reading.kind for reading in session.get_one(Exam, number).readings] if hasattr(Exam, "readings") else []
        )
        assert kinds in ([], ["first", "second", "adjudication"])
    rest_of_the_room(come("admin"))
    assert not faults, "\n".join(faults)


def nurse_examines(nurse, language):
    """Sign in, an infant, twelve photographs, the refused one again, finish; the number of the exam."""
    page = nurse.page
    nurse.look("worklist-empty")
    nurse.press("n", leads_to="/patients/new")
    nurse.look("new-patient")
    born = date.today() - timedelta(days=38)
    nurse.write("#code", f"W-{language}-1")
    nurse.write("#birth_date", born.strftime("%m%d%Y"))  # Chromium without a display asks in this order
    nurse.write("#gestational_age", "28+3")
    nurse.write("#birth_weight", "1050")
    nurse.press("Enter", leads_to=r"/patients/\d+$")
    nurse.look("patient")
    nurse.tab_to("form[action$='/exams'] button[type=submit]")
    nurse.press("Enter", leads_to=r"/exams/\d+$")
    nurse.look("exam-new")
    files, again = photograph_infant({"en": 31, "zh": 12}[language], Findings(2, 2))
    drop(page, "#upload", files)
    page.wait_for_selector("#live progress")  # they are watched while they are judged
    wait_until_judged(page, 12)
    todo = page.locator(".todo li").all_inner_texts()
    assert len(todo) == 1, todo
    # the reason is told in the language of the nurse
    assert bool(re.search("[a-z]{4}", todo[0])) == (language == "en"), todo
    nurse.look("exam-refused")
    page.keyboard.press("c")
    page.wait_for_selector("form[action$='/confirm']", state="detached")
    nurse.tab_to("#files")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    ((name, content),) = again.items()
    chooser.value.set_files([{"name": name, "mimeType": "image/jpeg", "buffer": content}])
    wait_until_judged(page, 13)
    page.wait_for_selector(".todo li", state="detached")
    page.keyboard.press("c")
    page.wait_for_selector("form[action$='/confirm']", state="detached")
    number = int(page.url.rpartition("/")[2])
    nurse.tab_to("form[action$='/finish'] button")
    nurse.press("Enter", leads_to=r"/")
    nurse.look("finished")
    return number


def reader_signs(reader, number, due):
    """Open the exam from the worklist, slide the map, enter findings, sign, see the due date, take the PDF."""
    page = reader.page
    reader.look("worklist")
    page.keyboard.press("j")
    reader.press("Enter", leads_to=rf"/exams/{number}/read")
    page.wait_for_selector("#panes canvas")
    page.wait_for_timeout(1000)
    reader.look("read")
    page.keyboard.press("ArrowRight")  # the next photograph, on whose map something stands
    page.wait_for_timeout(1500)
    before = page.locator("#panes canvas").first.screenshot()
    reader.tab_to("#map")
    for _ in range(14):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(1500)
    assert page.locator("#map").input_value() == "70" and page.locator("#panes canvas").first.screenshot() != before
    reader.look("read-map", phone=False)
    enter_findings(reader, "zz2p")
    reader.look("read-entered")
    sign(reader, leads_to=r"/exams/\d+/(report|read)")
    reader.look("signed")
    assert due in page.inner_text("main")
    if not page.url.endswith("/report"):
        page.goto(f"{reader.address}/exams/{number}/report")
        reader.look("report")
    with page.expect_download() as download:
        reader.tab_to("a[href*='report.pdf']")
        page.keyboard.press("Enter")
    content = Path(download.value.path()).read_bytes()
    assert content.startswith(b"%PDF") and len(content) > 10_000


def another_reads_masked(second, number):
    """The same exam by another reader, who sees neither the tool's answer nor the first reading."""
    page = second.page
    page.goto(f"{second.address}/second-readings")
    second.look("second-readings")
    second.tab_to(f"a[href='/exams/{number}/read']")
    second.press("Enter", leads_to=rf"/exams/{number}/read")
    page.wait_for_selector("#panes canvas")
    second.look("masked")
    assert page.get_attribute("#reader", "data-masked") == "1" and page.locator(".thumb .flag:not(.off)").count() == 0
    enter_findings(second, "z3ppp")  # zone I, stage 3, plus: type 1
    sign(second, leads_to="/")


def third_decides(third, number):
    """The two differ: a third reader sees both and decides."""
    page = third.page
    page.goto(f"{third.address}/second-readings")
    third.tab_to(f"a[href='/exams/{number}/read']")
    third.press("Enter", leads_to=rf"/exams/{number}/read")
    page.wait_for_selector("#panes canvas")
    third.look("adjudication")
    assert page.locator(".others li").count() == 4  # two eyes by two readers
    enter_findings(third, "zz3ppp")
    sign(third, leads_to="/")
    page.goto(f"{third.address}/")  # type 1: it stands first in the list until somebody has put a name to it
    third.tab_to(f"form[action='/exams/{number}/acknowledge'] button")
    third.press("Enter", leads_to=r"/")
    third.look("acknowledged")
    page.goto(f"{third.address}/programme")
    third.look("programme")
    page.goto(f"{third.address}/second-readings")
    third.look("agreement")
    page.goto(f"{third.address}/account")
    third.look("account")


def rest_of_the_room(admin):
    """Pages that the day did not lead to."""
    for path in ("/settings", "/settings/accounts/new", "/settings/sites/1", "/settings/audit", "/patients/1",
                 "/patients", "/exams/1", "/programme"):  # fmt: skip
        answer = admin.page.goto(admin.address + path)
        if answer.status == 200:
            admin.look("admin" + path.replace("/", "-"))
