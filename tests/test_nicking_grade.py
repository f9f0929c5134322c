import csv
import json

import cv2
import numpy as np
import pytest
from test_maps_bundle import SMALL, card
from test_nicking_measuring import HOW, maps_of
from typer.testing import CliRunner

import fundoscope
from fundoscope.cli.main import app
from fundoscope.findings import NICKING_COLUMNS
from fundoscope.nicking.grading import MEASURED_ONLY, NickingGrader
from fundoscope.simulate import adult, infant

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from fundoscope.bundles.write_maps import write_maps
from fundoscope.networks import VesselNet


class Perfect:
    """A bundle whose network answers with the truth of one simulated eye."""

    def __init__(self, truth):
        self.card, self.truth = card(crossings=HOW), truth

    def maps(self, contrast):
        assert contrast.shape[1:] == self.truth.field.shape
        return maps_of(self.truth)


@pytest.fixture(scope="module")
def photograph():
    return adult(3, camera="drive", level="perfect", grade=0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The folder of a bundle around an untrained network, which is sure of no crossing."""
    torch.manual_seed(0)
    check = np.zeros((3, 64, 64), np.float32)
    return write_maps(
        VesselNet(SMALL), card(crossings=HOW), [check], tmp_path_factory.mktemp("b") / "maps", lambda _: None
    )


@pytest.fixture(scope="module")
def files(photograph, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    cv2.imwrite(str(folder / "adult.png"), photograph.pixels[..., ::-1])
    cv2.imwrite(str(folder / "infant.png"), infant(4, size=640).pixels[..., ::-1])
    (folder / "broken.png").write_bytes(b"no picture")
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
    for finding in found:
        row = json.loads(json.dumps(finding.as_row()))
        assert row["narrowing_1"] is None or -2 < row["narrowing_1"] <= 1


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
    assert json.loads((tmp_path / "r/results.json").read_text())[0]["crossing"] is None
    page = (tmp_path / "r/report.html").read_text()
    assert page.count("data:image") == 3 and "Research use only" in page and "adult.png" in page
    assert len(list((tmp_path / "r/pictures").iterdir())) == 3


def test_json_prints_an_object_a_row(files, bundle):
    result = CliRunner().invoke(app, ["nicking", "grade", str(files / "adult.png"), "--bundle", str(bundle), "--json"])
    (line,) = result.stdout.splitlines()
    assert result.exit_code == 0 and list(json.loads(line)) == list(NICKING_COLUMNS)


def test_crossings_are_drawn_with_their_numbers(photograph, files, tmp_path):
    from fundoscope.nicking.run import grade_all, marked

    grader = NickingGrader(Perfect(photograph.truth))
    (graded,) = grade_all(grader, [("as given.png", files / "adult.png")], tmp_path, print_json=False)
    assert {finding.file for finding in graded.findings} == {"as given.png"}
    assert (marked(graded) != photograph.pixels).any(axis=-1).sum() > 500
    table = rows(tmp_path / "results.csv")
    assert len(table) == len(graded.findings) and table[0]["crossing"] == "1"


def test_wrong_calls_are_told(files, bundle, tiny_bundle):
    for more, words in (
        (["--bundle", str(bundle)], "--out DIR, --json"),
        (["--json", "--bundle", str(tiny_bundle)], "fundoscope rop"),
    ):
        result = CliRunner().invoke(app, ["nicking", "grade", str(files / "adult.png"), *more])
        assert words in str(result.exception)


def test_from_python_it_is_loaded_by_its_task(bundle, files):
    grader = fundoscope.load("nicking", bundle)
    assert [f.status for f in grader.grade([files / "adult.png", files / "broken.png"])] == ["ok", "failed"]
