import csv
import gc
import json
import weakref

import cv2
import numpy as np
import pytest
from test_maps_bundle import card
from test_nicking_widths import HOW, maps_of
from typer.testing import CliRunner

import fundoscope
from fundoscope.bundles import write_nicking
from fundoscope.bundles.card import GradeSettings
from fundoscope.cli.main import app
from fundoscope.errors import BundleError
from fundoscope.findings import NICKING_COLUMNS, PATCH_COLUMNS, Mention
from fundoscope.nicking.grading.evidence import MEASURED_ONLY
from fundoscope.nicking.grading.grader import NickingGrader
from fundoscope.runs import run
from fundoscope.simulate import adult, infant
from fundoscope.simulate.crossing_patches import crossing_patch

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")


GRADES = GradeSettings(side=128, span=12, networks=1, minimum_confidence=0.0, rule="the median", learnt_from="nothing")


class Perfect:
    """A bundle whose network answers with the truth of one simulated eye."""

    runtime = "onnxruntime"

    def __init__(self, truth):
        self.card, self.truth = card(crossings=HOW), truth

    def map_vessels(self, contrast):
        assert contrast.shape[1:] == self.truth.field.shape
        return maps_of(self.truth)


class Sure(Perfect):
    """The same with graders that are sure of grade 2 wherever they are asked."""

    def __init__(self, truth):
        self.card, self.truth, self.asked = card(crossings=HOW, grades=GRADES), truth, []

    def grade_patches(self, patches):
        self.asked.append(patches.shape)
        n = len(patches)
        return np.tile([0.02, 0.03, 0.9, 0.05], (n, 1)), np.ones((n, 2, 16, 16), np.float32)


@pytest.fixture(scope="module")
def photograph():
    return adult(3, camera="drive", level="perfect", grade=0)


@pytest.fixture(scope="module")
def bundle(written, tmp_path_factory):
    """The folder of a bundle around an untrained network, which is sure of no crossing."""
    network, out, _ = written
    exported = (out / write_nicking.MAPS_FILE).read_bytes()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(write_nicking, "export_maps", lambda _, path: path.write_bytes(exported))
        return write_nicking.write_nicking_bundle(
            network, card(crossings=HOW), [np.zeros((3, 64, 64), np.float32)],
            tmp_path_factory.mktemp("b") / "maps", lambda _: None,
        )  # fmt: skip


@pytest.fixture(scope="module")
def grading_bundle(graded):
    """The folder of one that also holds an untrained network that grades."""
    return graded[1]


@pytest.fixture(scope="module")
def files(photograph, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    cv2.imwrite(str(folder / "adult.png"), photograph.pixels[..., ::-1])
    cv2.imwrite(str(folder / "infant.png"), infant(4, size=640).pixels[..., ::-1])
    (folder / "broken.png").write_bytes(b"no picture")
    for number, crossing in enumerate(photograph.truth.crossings[:3]):
        cv2.imwrite(str(folder / f"patch {number}.png"), crossing_patch(photograph.pixels, crossing)[..., ::-1])
    return folder


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_crossing_is_a_row_from_top_to_bottom(photograph):
    found = NickingGrader(Perfect(photograph.truth)).grade(photograph.pixels)
    true = np.array([[c.row, c.col] for c in photograph.truth.crossings])
    assert len(found) >= 0.8 * len(true)
    assert [f.crossing for f in found] == list(range(1, len(found) + 1))
    assert [f.row for f in found] == sorted(f.row for f in found)
    assert np.mean([np.hypot(*(true - [f.row, f.col]).T).min() < 5 for f in found]) > 0.85
    row = next(f for f in found if f.vein_width_px).as_row()
    assert tuple(row) == NICKING_COLUMNS and row["status"] == "ok" and row["reason"] == MEASURED_ONLY
    assert row["grade"] is None and row["p0"] is None and 0 < row["confidence"] <= 1 and row["vein_width_px"] > 1


def test_what_could_not_be_measured_is_blank_in_tables_and_null_in_json(photograph):
    found = NickingGrader(Perfect(photograph.truth)).grade(photograph.pixels)
    rows = [json.loads(json.dumps(finding.as_row())) for finding in found]
    narrowed = [row["narrowing_1"] for row in rows if row["narrowing_1"] is not None]
    assert narrowed and all(-2 < value <= 1 for value in narrowed)
    assert None in [row["narrowing_1"] for row in rows]


@pytest.mark.parametrize("kind", [Perfect, "Sure"])
def test_no_row_lacks_a_width_a_side_or_a_grade_without_the_reason(photograph, kind):
    """Each of the vein's width, sides and grade stands in the row, or the reason says why not; no width stands alone."""
    found = NickingGrader((Sure if kind == "Sure" else kind)(photograph.truth)).grade(photograph.pixels)
    kinds = set()
    for one in found:
        sides = (one.narrowing_1, one.narrowing_2)
        kinds.add(sum(side is None for side in sides))
        assert (one.vein_width_px is None) == (sides == (None, None)), "a width stands only beside a measured side"
        assert one.vein_width_px is None or one.vein_width_px >= 1
        assert all(value is None or np.isfinite(value) for value in (*sides, one.artery_width_px))
        if None in (*sides, one.artery_width_px, one.vein_width_px, one.grade):
            assert one.reason
        if one.grade is not None and sides == (None, None):
            assert one.reason.startswith("graded by the networks alone: ")
        if None in sides and sides != (None, None):
            assert f"side {1 + sides.index(None)} of the vein could not be measured" in one.reason
    assert kinds == {0, 1, 2}, "this eye has crossings of all three kinds"


def test_the_command_gives_every_photograph_a_row(files, bundle, tmp_path):
    named = [str(files / name) for name in ("adult.png", "infant.png", "broken.png", "missing.png", "adult.png")]
    result = CliRunner().invoke(
        app, ["nicking", "grade", *named, "--bundle", str(bundle), "--out", str(tmp_path / "r")]
    )
    assert result.exit_code == 1, result.output
    table = rows(tmp_path / "r/results.csv")
    assert [row["file"] for row in table] == named
    assert [row["status"] for row in table] == ["ok", "rejected", "failed", "failed", "ok"]
    assert table[0]["crossing"] == "" and table[0]["reason"] == ""
    assert "infant" in table[1]["reason"] and "no such file" in table[3]["reason"]
    assert json.loads((tmp_path / "r/results.json").read_text())["rows"][0]["crossing"] is None
    page = (tmp_path / "r/report.html").read_text()
    assert page.count("data:image") == 3 and "Research use only" in page and "adult.png" in page
    assert len(list((tmp_path / "r/pictures").iterdir())) == 3


def test_json_prints_an_object_a_row(files, bundle):
    result = CliRunner().invoke(app, ["nicking", "grade", str(files / "adult.png"), "--bundle", str(bundle), "--json"])
    (line,) = result.stdout.splitlines()
    assert result.exit_code == 0 and list(json.loads(line)) == list(NICKING_COLUMNS)


class Watched(NickingGrader):
    """Keeps what it has graded without its pixels, and tells how many photographs were held when one was begun."""

    def grade_one(self, source, name):
        gc.collect()
        held.append(sum(one() is not None for one in alive))
        graded = super().grade_one(source, name)
        alive.append(weakref.ref(graded.evidence.pixels) if graded.evidence.pixels is not None else lambda: None)
        findings.extend(graded.findings)
        return graded

    def failed(self, name, reason):
        graded = super().failed(name, reason)
        findings.extend(graded.findings)
        return graded


held, alive, findings = [], [], []


@pytest.fixture
def watched():
    for one in (held, alive, findings):
        one.clear()
    return Watched


def test_crossings_are_drawn_with_their_numbers(photograph, files, tmp_path, watched):
    run(watched(Perfect(photograph.truth)), [Mention("as given.png", location=files / "adult.png")], tmp_path)
    assert {finding.file for finding in findings} == {"as given.png"}
    assert max(cv2.imread(str(tmp_path / "pictures/0001_as_given.jpg")).shape) == 1000
    page = (tmp_path / "report.html").read_text()
    assert page.count('class="crossing open"') == len(findings) and MEASURED_ONLY in page
    table = rows(tmp_path / "results.csv")
    assert len(table) == len(findings) and table[0]["crossing"] == "1"


def test_crossings_are_graded_where_the_bundle_can(photograph, files, tmp_path, watched):
    bundle = Sure(photograph.truth)
    counts = run(watched(bundle), [Mention(str(files / "adult.png"))], tmp_path).counts
    assert sum(shape[0] for shape in bundle.asked) == len(findings)
    assert all(shape[1:] == (6, 128, 128) for shape in bundle.asked)
    for one in findings:
        assert one.probabilities == (0.02, 0.03, 0.9, 0.05), "kept where no grade is given, too"
        assert one.grade in (2, None) and (one.grade == 2 or one.reason)
    assert counts["grade 2"] and counts["grade 2"] == sum(one.grade == 2 for one in findings)
    assert counts["crossings"] == len(findings) and counts["ok"] == 1
    page = (tmp_path / "report.html").read_text()
    assert page.count('class="crossing graded-2"') == counts["grade 2"]
    assert page.count("with the evidence for a pinch") == len(findings)
    assert [row["grade"] for row in rows(tmp_path / "results.csv")] == [str(f.grade or "") for f in findings]


def test_each_mention_is_worked_afresh_and_nothing_of_a_photograph_is_held(
    photograph, files, tmp_path, watched, capsys
):
    named = [*2 * [Mention("a.png", location=files / "adult.png")], Mention(str(files / "broken.png"))]
    run(watched(Perfect(photograph.truth)), named, tmp_path, print_json=True)
    assert held == [0, 0, 0]
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == shown == [one.as_row() for one in findings]
    assert [row["file"] for row in rows(tmp_path / "results.csv")] == [row["file"] for row in shown]
    n = (len(shown) - 1) // 2
    assert shown[:n] == shown[n:-1]


# --- patches


def test_the_command_gives_every_patch_a_row(files, grading_bundle, tmp_path):
    names = ["patch 0.png", "missing.png", "patch 1.png", "broken.png", "adult.png", "patch 0.png"]
    named = [str(files / name) for name in names]
    call = ["nicking", "grade-patches", *named, "--bundle", str(grading_bundle), "--out", str(tmp_path / "r"), "--json"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 1, result.output
    with (tmp_path / "r/results.csv").open() as file:
        assert next(csv.reader(file)) == list(PATCH_COLUMNS)
    table, shown = rows(tmp_path / "r/results.csv"), [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["file"] for row in table] == named == [row["file"] for row in shown]
    assert [row["status"] for row in table] == ["ok", "failed", "ok", "failed", "ok", "ok"]
    assert shown == json.loads((tmp_path / "r/results.json").read_text())["rows"]
    assert list(shown[0]) == list(PATCH_COLUMNS) and shown[0] == shown[5]
    assert "no such file" in table[1]["reason"] and table[1]["p0"] == ""
    for row in (shown[0], shown[2]):
        assert sum(row[f"p{k}"] for k in range(4)) == pytest.approx(1, abs=1e-3)
        assert row["reason"] or all(row[name] is not None for name in ("grade", "narrowing_1", "narrowing_2"))
    page = (tmp_path / "r/report.html").read_text()
    assert "Research use only" in page and page.count('id="patch-') == 6
    pictures = sorted(path.name for path in (tmp_path / "r/pictures").iterdir())
    assert pictures[:2] == ["0001_patch_0.jpg", "0001_patch_0_activation.jpg"] and len(pictures) == 8


def test_patches_need_a_bundle_that_grades(files, bundle, tmp_path):
    call = [
        "nicking",
        "grade-patches",
        str(files / "patch 0.png"),
        "--bundle",
        str(bundle),
        "--out",
        str(tmp_path / "r"),
    ]
    for more in ([], [str(files / "missing.png")]):
        result = CliRunner().invoke(app, [*call, *more])
        assert isinstance(result.exception, BundleError) and result.exception.exit_code == 3
        assert "holds no network that grades" in str(result.exception) and not (tmp_path / "r").exists()
    with pytest.raises(BundleError, match="no network that grades"):
        fundoscope.load("nicking", bundle).grade_patch(files / "patch 0.png", "p")


def test_whole_photographs_are_graded_by_the_same_bundle(files, grading_bundle, tmp_path):
    call = ["nicking", "grade", str(files / "adult.png"), "--bundle", str(grading_bundle), "--out", str(tmp_path), "-q"]
    assert CliRunner().invoke(app, call).exit_code == 0
    assert [row["status"] for row in rows(tmp_path / "results.csv")] == ["ok"]
    assert "Grades learnt from" in (tmp_path / "report.html").read_text()


def test_wrong_calls_are_told(files, bundle, tiny_bundle):
    for more, words in (
        (["--bundle", str(bundle)], "--out DIR, --json"),
        (["--json", "--bundle", str(tiny_bundle)], "fundoscope rop"),
    ):
        for command in ("grade", "grade-patches"):
            result = CliRunner().invoke(app, ["nicking", command, str(files / "adult.png"), *more])
            assert words in str(result.exception)


def test_from_python_it_is_loaded_by_its_task(bundle, files):
    grader = fundoscope.load("nicking", bundle)
    assert [f.status for f in grader.grade([files / "adult.png", files / "broken.png"])] == ["ok", "failed"]
