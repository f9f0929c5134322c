"""photographs.csv and the measures in the report, by a bundle that knows the truth of a simulated eye."""

import csv

import cv2
import numpy as np
import pytest
from test_maps_bundle import card
from test_nicking_widths import HOW, maps_of
from typer.testing import CliRunner

from fundoscope.cli.main import app
from fundoscope.findings import Mention
from fundoscope.nicking.grading.grader import NickingGrader
from fundoscope.nicking.grading.measures import PHOTOGRAPH_COLUMNS
from fundoscope.runs import run
from fundoscope.simulate import adult


class Perfect:
    """A bundle whose network answers with the truth of one simulated eye."""

    runtime = "onnxruntime"

    def __init__(self, truth):
        self.card, self.truth = card(crossings=HOW), truth

    def map_vessels(self, contrast):
        return maps_of(self.truth)


@pytest.fixture(scope="module")
def photograph():
    return adult(3, camera="drive", level="perfect", grade=0)


@pytest.fixture(scope="module")
def answered(photograph, tmp_path_factory):
    """The folder of a run over a good photograph, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("measures")
    cv2.imwrite(str(folder / "adult.png"), photograph.pixels[..., ::-1])
    (folder / "broken.png").write_bytes(b"no picture")
    named = [Mention(str(folder / "adult.png")), Mention(str(folder / "broken.png"))]
    run(NickingGrader(Perfect(photograph.truth), mm_per_pixel=0.02), named, folder / "out")
    return folder / "out"


def table(folder):
    with (folder / "photographs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_photograph_has_a_row_that_agrees_with_its_crossings(answered):
    good, broken = table(answered)
    with (answered / "results.csv").open(newline="") as file:
        crossings = [row for row in csv.DictReader(file) if row["crossing"]]
    assert tuple(good) == PHOTOGRAPH_COLUMNS
    assert int(good["crossings"]) == len(crossings) == int(good["not_graded"]) and good["worst_grade"] == ""
    measured = [row for row in crossings if row["artery_width_px"] and row["vein_width_px"]]
    artery, vein = (np.median([float(row[f"{kind}_width_px"]) for row in measured]) for kind in ("artery", "vein"))
    assert float(good["crossing_calibre_ratio"]) == pytest.approx(artery / vein, abs=1e-3)
    assert (
        broken["status"] == "failed" and broken["reason"] and broken["not_measured"] == "the photograph was not graded"
    )
    assert not any(broken[name] for name in PHOTOGRAPH_COLUMNS if name.startswith(("disc", "zone", "grade")))


def test_units_and_ratio_go_together(answered, photograph):
    good = table(answered)[0]
    disc = np.argwhere(photograph.truth.disc)
    assert float(good["disc_diameter_px"]) == pytest.approx((np.ptp(disc, axis=0) + 1).mean(), rel=0.1)
    zones = [name for name in "bc" if good[f"zone_{name}_avr"]]
    assert zones, good["not_measured"]
    for name in zones:
        crae, crve = (float(good[f"zone_{name}_{which}_px"]) for which in ("crae", "crve"))
        assert float(good[f"zone_{name}_avr"]) == pytest.approx(crae / crve, abs=1e-3)
        assert float(good[f"zone_{name}_crae_dd"]) == pytest.approx(crae / float(good["disc_diameter_px"]), abs=1e-3)
        assert float(good[f"zone_{name}_crve_um"]) == pytest.approx(20 * crve, rel=1e-3)
    assert 0 < float(good["zone_c_in_view"]) <= float(good["zone_b_in_view"]) <= 1


def test_the_report_shows_zones_vessels_and_widths(answered):
    page = (answered / "report.html").read_text()
    row = table(answered)[0]
    zone = "b" if row["zone_b_avr"] else "c"
    assert f"<strong>{float(row[f'zone_{zone}_avr']):.2f}</strong>" in page
    assert page.count('class="calibre artery"') >= 6 and page.count('class="band"') == page.count('class="calibre')
    assert page.count('<circle class="zone"') == 3 and "µm" in page


def test_a_run_that_was_cut_off_goes_on_with_its_table(photograph, answered, tmp_path):
    named = [Mention(str(answered.parent / name)) for name in ("adult.png", "broken.png")]

    class Stopping(NickingGrader):
        def grade_one(self, source, name):
            if name.endswith("broken.png"):
                raise SystemExit
            return super().grade_one(source, name)

    with pytest.raises(SystemExit):
        run(Stopping(Perfect(photograph.truth), mm_per_pixel=0.02), named, tmp_path / "out")
    assert len(table(tmp_path / "out")) == 1
    run(NickingGrader(Perfect(photograph.truth), mm_per_pixel=0.02), named, tmp_path / "out")
    assert (tmp_path / "out/photographs.csv").read_bytes() == (answered / "photographs.csv").read_bytes()


def test_an_impossible_scale_is_refused_and_an_unlikely_one_said(photograph, answered, tmp_path):
    path = str(answered.parent / "adult.png")
    for value, more in (
        ("0", ["--out", str(tmp_path / "o")]),
        ("-1", ["--out", str(tmp_path / "o")]),
        ("0.01", ["--json"]),
    ):
        result = CliRunner().invoke(app, ["nicking", "grade", path, f"--mm-per-pixel={value}", *more])
        assert result.exit_code != 0 and not (tmp_path / "o").exists()
    run(NickingGrader(Perfect(photograph.truth), mm_per_pixel=0.9), [Mention(path)], tmp_path / "r")
    assert "check --mm-per-pixel" in table(tmp_path / "r")[0]["not_measured"]
