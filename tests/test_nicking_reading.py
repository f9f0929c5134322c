"""From one's own photographs to readers' grades: patches that are cut, a table that is filled in, how far readers agree."""

import csv
import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_cli_screen import run
from typer.main import get_command

from fundoscope.cli.main import app
from fundoscope.errors import UsageError
from fundoscope.nicking.grade_study.patch_table import READER_COLUMNS, WIDE_SPAN, read_patch_table
from fundoscope.nicking.grading.grader import NickingGrader
from fundoscope.nicking.reading import cut
from fundoscope.nicking.reading.agreement import read_graded_table, take_results
from fundoscope.nicking.reading.tool_grades import known_scale
from fundoscope.simulate import adult


def read_rows(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    eye = adult(3, camera="drive", level="perfect").pixels[..., ::-1]
    for seed in (3, 4):  # the other one is its mirror image
        cv2.imwrite(str(folder / f"eye {seed}.png"), eye if seed == 3 else eye[:, ::-1])
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def made(photographs, tmp_path_factory):
    out = tmp_path_factory.mktemp("cut") / "patches"
    return run("nicking", "cut-patches", photographs, "--per-photograph", 3, "--out", out), out


@pytest.fixture
def filled(made, tmp_path):
    """The table with made-up grades of two readers, beside the pictures of the run."""
    rows = read_rows(made[1] / "patches.csv")
    for k, row in enumerate(rows):
        row["patch"] = str(made[1] / row["patch"])
        row["reader_1"], row["reader_2"] = str(k % 4), str(min(3, k % 4 + k % 2))
    rows[0]["reader_2"], rows[1]["settled"] = "", "2"
    write_rows(tmp_path / "patches.csv", rows)
    return tmp_path / "patches.csv"


def test_crossings_are_cut_without_a_trace_of_the_tools_grades(made):
    done, out = made
    assert done.returncode == 1, "one photograph is broken"
    rows, found = read_rows(out / "patches.csv"), read_rows(out / "results.csv")
    assert tuple(rows[0]) == READER_COLUMNS and len(rows) == 6
    assert [row["number"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert all(row["reader_1"] == row["reader_2"] == row["settled"] == "" for row in rows)
    assert [row["status"] for row in found if row["crossing"] == ""] == ["failed"], "every photograph has its row"
    shown = " ".join([*found[0], *rows[0], (out / "contact_sheet.html").read_text()[:20000]])
    assert not {"narrowing", "confidence", "p0", "probability of"} & set(shown.replace(",", " ").split())
    assert [row["patch"] for row in rows] != sorted(row["patch"] for row in rows), "photographs are mixed"
    for row in rows:
        assert cv2.imread(str(out / row["patch"])).shape == (cut.WIDE_SIDE, cut.WIDE_SIDE, 3)
        assert cv2.imread(str(out / cut.tile_of(row["patch"]))).shape == (cut.TILE_SIDE, 2 * cut.TILE_SIDE, 3)


def test_a_patch_leads_to_the_inputs_that_its_photograph_leads_to(made):
    grader = NickingGrader.open("nicking")
    rows = read_patch_table(made[1] / "patches.csv")
    row = next(each for each in rows if not np.isnan(each.slope))
    grading = grader.grade_photograph(row.photograph, "it")
    places = np.array([crossing.place for crossing in grading.crossings])
    mine = grading.grades[int(np.argmin(np.hypot(*(places - row.place).T)))].patch
    patch = grader.grade_patch(row.path, "it", known_scale(row)).grade.patch
    edge = (patch.side - mine.side) // 2
    middle = patch.pixels[edge:-edge, edge:-edge].astype(int)
    assert row.span == WIDE_SPAN and np.abs(middle - mine.pixels).max() <= 1
    assert patch.pose == pytest.approx(mine.pose, abs=0.01)
    (contrast, maps), (patch_contrast, patch_maps) = mine.inputs, patch.inputs
    assert np.abs(contrast - patch_contrast).mean() < 0.03, "local contrast, of a deviation"
    assert np.abs(maps - patch_maps).mean() / 2 < 0.1, "maps made anew, 0 to 1"


def test_the_same_command_keeps_what_readers_wrote_and_replace_does_not_remove_it(made, photographs):
    _, out = made
    rows = read_rows(out / "patches.csv")
    untouched = (out / "patches.csv").read_bytes()
    rows[2]["reader_1"] = "3"
    write_rows(out / "patches.csv", rows)
    written = (out / "patches.csv").read_bytes()
    try:
        again = run("nicking", "cut-patches", photographs, "--per-photograph", 3, "--out", out)
        assert again.returncode == 1 and "kept from an earlier run: 3 photographs" in again.stderr
        assert (out / "patches.csv").read_bytes() == written
        refused = run("nicking", "cut-patches", photographs, "--per-photograph", 3, "--out", out, "--replace")
        assert refused.returncode == 2 and "holds readers' grades of 1 patch" in refused.stderr
        other = run("nicking", "cut-patches", photographs, "--out", out)
        assert other.returncode == 2 and "per_photograph: 3 there, None now" in other.stderr
        assert (out / "patches.csv").read_bytes() == written
    finally:
        (out / "patches.csv").write_bytes(untouched)


def test_the_table_of_readers_is_a_table_of_a_study(filled):
    rows = read_patch_table(filled)
    assert [row.grade for row in rows] == [None, 2, 2, 3, 0, None], "settled, or equal"
    assert rows[3].readers == (3, 3) and rows[0].readers == (0, None) and rows[0].number == "1"
    assert all(row.span == WIDE_SPAN and row.vein_px > 1 for row in rows)


def test_agreement_says_how_far_readers_and_tool_agree(filled, tmp_path):
    done = run("nicking", "agreement", filled, "--out", tmp_path / "out")
    assert done.returncode == 0 and "reader_1, reader_2: quadratic kappa" in done.stderr
    figures = {(row["first"], row["second"]): row for row in read_rows(tmp_path / "out" / "agreement.csv")}
    readers = figures["reader_1", "reader_2"]
    assert (readers["listed"], readers["graded_by_both"], readers["same_class"]) == ("6", "5", "0.6")
    assert "reader_2 left 1 blank" in readers["note"] and "too few for an interval" in readers["note"]
    apart = read_rows(tmp_path / "out" / "differences.csv")
    assert [row["number"] for row in apart] == ["2", "6"] and apart[0]["settled"] == "2" and "tool" in apart[0]
    page = (tmp_path / "out" / "agreement.html").read_text()
    assert "2: reader_1 1, reader_2 2, settled 2" in page and "Research use only" in page
    graded = run("nicking", "grade-patches", filled, "--out", tmp_path / "graded")
    assert graded.returncode == 0, graded.stderr
    alone = {Path(row["file"]).name: row["grade"] for row in read_rows(tmp_path / "graded" / "results.csv")}
    assert len(alone) == 6 and [alone[Path(row["patch"]).name] for row in apart] == [row["tool"] for row in apart]
    again = run("nicking", "agreement", filled, "--out", tmp_path / "out", "--without-tool")
    assert again.returncode == 2 and "holds another answer" in again.stderr


def test_the_tools_grades_can_come_from_the_whole_photographs(filled, tmp_path):
    rows = read_graded_table(filled)
    columns = "file,status,reason,crossing,row,col,grade\n"
    lines = [f"{each.photograph},ok,,{k},{each.place[0]},{each.place[1] + (k == 1) * 20},{k % 4}" for k, each in enumerate(rows, 1)]  # fmt: skip
    (tmp_path / "results.csv").write_text(columns + "\n".join(lines) + "\n")
    taken = take_results(rows, [tmp_path / "results.csv"])
    assert [each.grade for each in taken.tool] == [None, 2, 3, 0, 1, 2] and not taken.tool[0].found
    assert "1 crossing it did not find" in taken.how
    (tmp_path / "results.csv").write_text(columns + lines[0].replace("eye", "another") + "\n")
    with pytest.raises(UsageError, match="has no row in the tool's results"):
        take_results(rows, [tmp_path / "results.csv"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"reader_1": "5"}, "'5' in 'reader_1' is no grade. Give 0, 1, 2 or 3"),
        ({"settled": "x1"}, "'x1' in 'settled' is no grade"),
        ({"patch": "gone.png"}, "there is no patch 'gone.png'"),
        ({"row": "low"}, "row 'low' is no number"),
    ],
)
def test_a_wrong_cell_is_named(filled, change, told):
    rows = read_rows(filled)
    rows[1] |= change
    write_rows(filled, rows)
    with pytest.raises(UsageError, match=told):
        read_graded_table(filled)


def test_a_table_that_one_reader_has_not_filled_in_is_refused(filled):
    rows = [row | {"reader_2": ""} for row in read_rows(filled)]
    write_rows(filled, rows)
    with pytest.raises(UsageError, match="holds no grade in reader_2"):
        read_graded_table(filled)


# --- the how-to page

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "readers-grades.md"


def test_the_commands_of_the_page_are_calls_that_the_program_takes():
    calls = [shlex.split(line) for line in PAGE.read_text().splitlines() if line.startswith("    fundoscope ")]
    assert [call[1:3] for call in calls] == [
        ["nicking", "cut-patches"], ["nicking", "agreement"], ["nicking", "study-grades"], ["nicking", "grade"],
        ["cohort", "agreement"],
    ]  # fmt: skip
    for _, group, name, *words in calls:
        command = get_command(app).commands[group].commands[name]
        assert str(command.make_context(name, [*words]).params["out"]) == words[words.index("--out") + 1]
    written = {call[call.index("--out") + 1] for call in calls}
    read = [word for call in calls[1:4] for word in call[3:] if word.startswith(("patches/", "study/"))]
    assert read == ["patches/patches.csv", "patches/patches.csv", "study/bundle/own-nicking"]
    assert {word.partition("/")[0] for word in read} <= written


def test_the_made_up_grades_of_the_page_fill_the_table_that_was_cut(made, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "patches").mkdir()
    shutil.copy(made[1] / "patches.csv", tmp_path / "patches")
    shutil.copytree(made[1] / "pictures", tmp_path / "patches" / "pictures")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    rows = read_graded_table(Path("patches/patches.csv"))
    assert len(rows) == 6 and all(row.readers[0] is not None for row in rows)
    assert sum(row.grade is not None for row in rows) >= 4
