"""The exact steps in JavaScript, in Node and in a browser, against Python; and the page that judges there.

It needs Node with npm, and Chromium. The packages of npm are installed once into a cache, about 500 MB.
"""

import csv
import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from fundoscope.bundles import locate, open_bundle
from fundoscope.bundles.export import export_bundle
from fundoscope.bundles.web_files import ONNXRUNTIME_WEB, WEB
from fundoscope.rop.screening.grader import RopGrader
from fundoscope.simulate import infants

pytestmark = pytest.mark.services
CHROMIUM = shutil.which("chromium")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fundoscope-tests" / f"npm-{ONNXRUNTIME_WEB}"
MINUTE = 60_000
FAR = 0.05  # of a probability from the threshold: beyond it decisions must be the same


@pytest.fixture(scope="session")
def packages():
    """The folder with node_modules: ONNX Runtime for Node and for browsers."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("Node is not installed: apt-get install nodejs npm")
    names = ("onnxruntime-node", "onnxruntime-web")
    if not all((CACHE / "node_modules" / name / "package.json").is_file() for name in names):
        CACHE.mkdir(parents=True, exist_ok=True)
        wanted = [f"{name}@{ONNXRUNTIME_WEB}" for name in names]
        command = ["npm", "install", "--prefix", str(CACHE), "--ignore-scripts", "--no-fund", "--no-audit", *wanted]
        if subprocess.run(command, capture_output=True).returncode:
            (pytest.fail if os.environ.get("CI") else pytest.skip)("the packages of npm cannot be had")
    return CACHE


@pytest.fixture(scope="session")
def folder(packages, tmp_path_factory):
    """The shipped grader as a page."""
    out = tmp_path_factory.mktemp("web") / "page"
    export_bundle(locate("rop"), out, "web", packages / "node_modules" / "onnxruntime-web", lambda line: None)
    return out


def node(packages, folder, *photographs, measures=False):
    """What `node node.js` prints, and its exit code."""
    environment = {**os.environ, "FUNDOSCOPE_FOLDER": str(folder), **({"FUNDOSCOPE_MEASURES": "1"} if measures else {})}
    command = ["node", str(folder / "node.js"), *map(str, photographs)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=packages, env=environment)
    assert "Error" not in done.stderr, done.stderr
    return done.stdout, done.returncode


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """Fifty simulated eyes as JPEG of every kind and PNG, among them large, dark, blurred, turned, framed and doubled ones."""
    out, paths = tmp_path_factory.mktemp("photographs"), []
    samplings = [
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    for number in range(50):
        disease = ("normal", "treatment-requiring")[number // 2 % 2]
        pixels = infants.infant(number, disease=disease, size=640).pixels
        if number % 10 == 1:
            pixels = cv2.resize(pixels, None, fx=2.6, fy=2.6, interpolation=cv2.INTER_CUBIC)
        elif number % 10 == 3:
            pixels = (pixels * 0.12).astype(np.uint8)
        elif number % 10 == 5:
            pixels = cv2.GaussianBlur(pixels, (0, 0), 7)
        elif number % 10 == 7:
            pixels = cv2.copyMakeBorder(pixels, 40, 40, 60, 60, cv2.BORDER_CONSTANT, value=(245, 245, 245))
        elif number % 10 == 8:
            pixels = np.concatenate([pixels, pixels[:, ::-1]], axis=1)
        bgr = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
        path = out / f"eye {number:02}.{'png' if number % 2 else 'jpg'}"
        options = []
        if path.suffix == ".jpg":
            options = [cv2.IMWRITE_JPEG_QUALITY, 70 + number % 30, cv2.IMWRITE_JPEG_PROGRESSIVE, number % 4 // 2,
                       cv2.IMWRITE_JPEG_SAMPLING_FACTOR, samplings[number % 3]]  # fmt: skip
        cv2.imwrite(str(path), bgr, options)
        paths.append(path)
    return paths


@pytest.fixture(scope="session")
def findings(photographs):
    """What Python says of them."""
    return RopGrader(open_bundle("rop"), threads=1).screen(photographs)


def agree(answer, finding, threshold):
    """Whether an answer is Python's: the same end, and the same decision beyond `FAR` from the threshold."""
    if answer["status"] != finding.status.value:
        return False
    if finding.p_rop is None:
        return answer["p"] is None
    far = abs(finding.p_rop - threshold) > FAR
    return abs(answer["p"] - finding.p_rop) <= 0.01 and (answer["rop"] == finding.rop or not far)


def test_node_gives_the_golden_numbers_and_the_tensors_to_the_last_bit(packages, folder):
    said, code = node(packages, folder)
    assert code == 0 and said.rstrip().endswith("passed")
    assert "4 of 4 tensors are equal to the last bit" in said


def test_node_gives_pythons_answers_to_fifty_photographs(packages, folder, photographs, findings):
    said, _ = node(packages, folder, *photographs)
    answers = [json.loads(line) for line in said.splitlines()]
    threshold = open_bundle("rop").stage.operating_point.threshold
    wrong = [(a["file"], a, f) for a, f in zip(answers, findings, strict=True) if not agree(a, f, threshold)]
    assert not wrong
    assert {f.status.value for f in findings} == {"ok", "rejected"} and {f.rop for f in findings} >= {True, False}


def test_the_whole_network_agrees_to_1e_4_in_fp32(packages, tiny_bundle, folder, tmp_path):
    from fundoscope.bundles.golden import add_golden

    add_golden(tiny_bundle, tmp_path / "tiny")
    files = {name: record for name, record in open_bundle(tmp_path / "tiny").card.files.items() if "int8" not in name}
    shutil.copytree(folder, tmp_path / "fp32")
    card = open_bundle(tmp_path / "tiny").card.model_copy(update={"files": files})
    for name in files:
        shutil.copyfile(tmp_path / "tiny" / name, tmp_path / "fp32" / name)
    (tmp_path / "fp32" / "bundle.json").write_text(card.sealed_json())
    said, code = node(packages, tmp_path / "fp32")
    assert code == 0 and "model.fp32.onnx, logits" in said, said


def test_one_changed_weight_fails(packages, folder, tmp_path):
    from test_golden import change_weight

    change_weight(locate("rop"), tmp_path / "changed", "model.int8.onnx")
    shutil.copytree(folder, tmp_path / "page")
    for name in ("model.int8.onnx", "bundle.json"):
        shutil.copyfile(tmp_path / "changed" / name, tmp_path / "page" / name)
    said, code = node(packages, tmp_path / "page")
    assert code == 3 and "FAULT" in said
    (tmp_path / "page" / "model.int8.onnx").write_bytes(b"another")
    done = subprocess.run(["node", tmp_path / "page" / "node.js"], capture_output=True, text=True, cwd=packages)
    assert done.returncode and "model.int8.onnx was changed or damaged" in done.stderr


def test_broken_files_are_refused_with_a_reason(packages, folder, photographs, tmp_path):
    jpeg, png = (next(p for p in photographs if p.suffix == kind).read_bytes() for kind in (".jpg", ".png"))
    broken = {
        "cut.jpg": jpeg[: len(jpeg) // 2], "cut.png": png[: len(png) // 2], "empty.png": b"", "words.jpg": b"no picture",
        "flipped.png": png[:60] + bytes([png[60] ^ 255]) + png[61:], "bare.jpg": jpeg[:20] + b"\xff\xd9",
    }  # fmt: skip
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
    said, code = node(packages, folder, *(tmp_path / name for name in broken))
    answers = [json.loads(line) for line in said.splitlines()]
    assert code == 1 and [a["status"] for a in answers] == ["failed"] * len(broken)
    assert all(a["reason"].endswith(".") and "TypeError" not in a["reason"] for a in answers), answers


# --- the browser


class Files(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, with the headers that allow threads; `asked` lists what was asked for."""

    asked: list[str]

    def log_message(self, *_):
        self.asked.append(self.path)

    def end_headers(self):
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


@contextmanager
def served(folder):
    """The address of a folder, and what was asked for there."""
    handler = type("Handler", (Files,), {"asked": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", handler.asked
    finally:
        server.shutdown()


@contextmanager
def visited(folder, **options):
    """A page in Chromium that is ready, what its server was asked for until then and since, and all that went wrong."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("Chromium is not installed: apt-get install chromium")
    with sync_api.sync_playwright() as playwright, served(folder) as (address, asked):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(locale="en-US", accept_downloads=True, **options).new_page()
        page.set_default_timeout(2 * MINUTE)
        faults = []
        page.on("console", lambda m: m.type in ("error", "warning") and faults.append(m.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda r: r.url.startswith((address, "blob:", "data:")) or faults.append(r.url))
        page.goto(address)
        page.wait_for_selector(".notice.good, .notice.bad")
        yield page, asked, faults
        browser.close()


def test_the_page_gives_pythons_answers_and_asks_for_nothing(folder, photographs, findings, tmp_path):
    with visited(folder) as (page, asked, faults):
        assert "24 comparisons" in page.inner_text("#state")
        before = len(asked)
        page.set_input_files("#files", [str(path) for path in photographs])
        page.wait_for_selector("tr.waiting", state="detached", timeout=5 * MINUTE)
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(tmp_path / "results.csv")
        page.wait_for_timeout(500)
        assert asked[before:] == [] and faults == []
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    threshold = open_bundle("rop").stage.operating_point.threshold
    for row, finding in zip(rows, findings, strict=True):
        p = float(row["p_rop"]) if row["p_rop"] else None
        answer = {"status": row["status"], "p": p, "rop": {"yes": True, "no": False, "": None}[row["rop"]]}
        assert agree(answer, finding, threshold), (row, finding)
        assert row["reason"] == finding.reason and list(row)[:9] == list(finding.as_row())
        assert abs(float(row["quality"]) - finding.quality) <= 1e-3


def test_the_page_works_by_the_keyboard_on_a_telephone_in_the_dark(folder, photographs):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    size = {"width": 390, "height": 844}
    with visited(folder, viewport=size, color_scheme="dark") as (page, _, faults):
        page.set_input_files("#files", [str(path) for path in photographs[:4]])
        page.wait_for_selector("tr.waiting", state="detached")
        page.focus("tr .open")
        page.keyboard.press("Enter")
        assert page.is_visible("#viewer")
        serious = [v for v in axe.Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
        assert serious == [], serious
        page.keyboard.press("Escape")
        assert page.is_hidden("#viewer")
        page.click("#language")
        assert "早产儿视网膜病变筛查" in page.inner_text("h1") and page.get_attribute("html", "lang") == "zh-Hans"
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        serious = [v for v in axe.Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
        assert serious == [], serious
        page.click("#clear")
        assert page.is_hidden("#answers") and faults == []


def test_a_page_with_another_network_judges_nothing(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "page")
    golden = json.loads((tmp_path / "page" / "golden.json").read_text())
    golden["pictures"][0]["outputs"]["model.int8.onnx"]["logits"]["samples"][0] += 1
    (tmp_path / "page" / "golden.json").write_text(json.dumps(golden))
    with visited(tmp_path / "page") as (page, _, _):
        assert "does not give the makers' answers" in page.inner_text("#state") and page.is_hidden("#drop")


def test_every_module_is_named_in_the_page_of_exact_steps():
    steps = (Path(__file__).parent.parent / "docs" / "reference" / "exact-steps.md").read_text(encoding="utf-8")
    ours = {path.name for path in WEB.glob("*.js")} - {"page.js", "worker.js", "node.js"}
    assert all(f"`{name}`" in steps for name in ours)
