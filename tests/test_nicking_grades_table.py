import math
from dataclasses import replace
from pathlib import Path

import layouts
import pytest

from fundoscope.errors import PhotographError, UsageError
from fundoscope.nicking.grade_study.patch_table import PatchRow, read_patch_table
from fundoscope.simulate import write_adults
from fundoscope.vessels.grade_rule import SPAN


def write(folder, *lines, header="patch,grade,photograph"):
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(b"a table does not look into its patches")
    table = folder / "patches.csv"
    table.write_text("\n".join((header, *lines)) + "\n", encoding="utf-8-sig")
    return table


def test_a_row_says_what_the_table_says(tmp_path):
    header = "patch,grade,photograph,span,vein_px,narrowing_1,narrowing_2,sham,calibre_1,calibre_2,fade_1,fade_2"
    given = "a.png,2.0,eye 1,27.0,5.5,0.4,-0.1,artery,0.25,-0.1,0.2,0"
    one, two = read_patch_table(write(tmp_path, given, " b.png , ,eye 2,,,,,,,,,", header=header))
    assert one == PatchRow(tmp_path / "a.png", 2, "eye 1", 27.0, 5.5, (0.4, -0.1), "artery", (0.25, -0.1), (0.2, 0.0))
    assert one.is_narrowed and not two.is_narrowed
    assert not replace(one, narrowing=(-0.2, 0.0)).is_narrowed and replace(one, narrowing=(math.nan, 0.1)).is_narrowed
    assert (two.path, two.grade, two.photograph, two.span, two.sham) == (tmp_path / "b.png", None, "eye 2", SPAN, "")
    assert all(math.isnan(x) for x in (two.vein_px, *two.narrowing, *two.calibre, *two.fade))


def test_patches_of_one_crossing_are_known_by_the_numbers_in_their_names():
    def crossing(name, photograph="eye"):
        return PatchRow(Path(name), 0, photograph).crossing

    assert crossing("a/0003_01_04.png") == crossing("b/0003_01_00.png") == "eye/0003_01"
    assert len({crossing("0003_01_04.png"), crossing("0003_02_04.png"), crossing("0003_01_04.png", "other")}) == 3
    assert (
        crossing("003001_005.png") != crossing("003001_006.png") and crossing("HRF_01_dr_05.png") == "eye/HRF_01_dr_05"
    )


def test_three_columns_are_enough_and_image_is_another_name_for_the_photograph(tmp_path):
    (row,) = read_patch_table(write(tmp_path, "a.png,3,eye.jpg", header="patch,grade,image"))
    assert (row.grade, row.photograph, row.span) == (3, "eye.jpg", SPAN)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("c.png,1,e", r"there is no patch 'c.png'. Paths are relative to the table"),
        (",1,e", r"there is no patch ''. Paths are relative"),
        ("b.png,1,", r"does not say which photograph b.png was cut from. Fill in 'photograph'"),
        ("b.png,4,e", r"'4' in 'grade' is no grade. Give 0, 1, 2 or 3, or leave it blank"),
        ("b.png,1.5,e", r"'1.5' in 'grade' is no grade. Give 0, 1, 2 or 3"),
        ("b.png,1,e,wide", r"span 'wide' is no number. Give a number with a decimal point, or leave it blank"),
        ("b.png,1,E ", r"the photograph is written 'e' \(row 2\) and 'E' \(row 3\)"),
        ("a.png,1,e", r"a.png stands there twice. Remove one of the two lines"),
    ],
)
def test_a_wrong_line_is_told_with_file_number_and_remedy(tmp_path, line, words):
    table = write(tmp_path, "a.png,0,e", line, header="patch,grade,photograph,span")
    with pytest.raises(UsageError, match=rf"{table}(, row 3)?: {words}"):
        read_patch_table(table)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("patch,photograph", "has the columns patch, photograph. Give patch, grade and photograph"),
        ("patch,grade", "has the columns patch, grade. Give"),
        ("", "the table is empty"),
        ("patch,grade,photograph", "holds no patch. Add a line a patch"),
    ],
)
def test_a_table_without_columns_or_rows_says_which_it_needs(tmp_path, header, words):
    with pytest.raises(UsageError, match=words):
        read_patch_table(write(tmp_path, header=header))


def test_what_is_no_table_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"none.csv: cannot be read .*Give the path of a CSV table"):
        read_patch_table(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\x89PNG\0\0")
    with pytest.raises(UsageError, match="binary.csv: is not a text file"):
        read_patch_table(tmp_path / "binary.csv")


def test_the_folder_of_the_90_patches_is_a_table(tmp_path):
    layouts.avn(tmp_path / "avn", layouts.eyes())
    rows = read_patch_table(tmp_path / "avn")
    assert [(row.path.name, row.grade, row.photograph) for row in rows] == [
        ("CERA_01_cy_100_cx_250.png", 1, "01"), ("CERA_01_cy_200_cx_250.png", 2, "01"),
        ("CERA_02_cy_100_cx_250.png", 2, "02"), ("CERA_02_cy_200_cx_250.png", 3, "02"),
    ]  # fmt: skip
    assert all(row.path.is_file() and row.span == SPAN for row in rows)
    rows[0].path.unlink()
    with pytest.raises(PhotographError, match=r"cy_100_cx_250.png: is not below .*Copy the set again"):
        read_patch_table(tmp_path / "avn")


def test_simulated_eyes_bring_their_table_and_as_a_folder_are_none(tmp_path):
    write_adults(1, tmp_path / "eyes", seed=3, camera="drive")
    rows = read_patch_table(tmp_path / "eyes" / "patches.csv")
    assert len(rows) > 5 and {row.photograph for row in rows} == {"images/a00000.jpg"}
    assert all(row.path.is_file() and row.grade in range(4) and not math.isnan(row.narrowing[0]) for row in rows)
    with pytest.raises(UsageError, match=r"eyes: is no folder of graded patches. Give one with grading.txt"):
        read_patch_table(tmp_path / "eyes")
