import csv
import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fundoscope.datasets import open_dataset
from fundoscope.errors import PhotographError
from fundoscope.imaging.local_contrast import DIAMETER
from fundoscope.imaging.places import sample_square
from fundoscope.nicking.grade_study.chosen_crossings import (
    VERDICTS,
    Candidate,
    chosen_places,
    count_chosen,
    draw_contact_sheets,
    has_four_arms,
    read_candidates,
)
from fundoscope.nicking.grade_study.nicked_patches import (
    DrawnPhotograph,
    crossing_window,
    draw_nicked_patches,
    draw_plans,
    write_nicked_patches,
    write_simulated_patches,
)
from fundoscope.nicking.grade_study.patch_table import COLUMNS, WIDE_SPAN, read_patch_table
from fundoscope.nicking.grading.crossing_patches import VEIN_WIDTH, lit_pixels
from fundoscope.nicking.recipes.nicked_patches import (
    LesionTable,
    NickedPatchRecipe,
    PlannedLesion,
    SimulatedSet,
    read_nicked_patch_recipe,
)
from fundoscope.simulate import adult, write_adults
from fundoscope.simulate.pinch import SHAMS
from fundoscope.simulate.pinch.lesion import map_widths
from fundoscope.vessels.grade_rule import grade_of

DRAWING = read_nicked_patch_recipe().drawing
LARGEST = DRAWING.largest_field


def lesions(*plans):
    planned = [PlannedLesion(grade=grade, sides="bands", shams=shams) for grade, shams in plans]
    return LesionTable(table="real", renderer="pinch", seed=1, plans=planned)


HOW = lesions((0, ("none", "artery")), (2, ("none",)), (3, ("drawn",)))
PLANS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two simulated adults, both with crossings that can be pinched."""
    out = tmp_path_factory.mktemp("eyes") / "eyes"
    write_adults(2, out, seed=4, camera="drive")
    return out


@pytest.fixture(scope="module")
def photograph(folder):
    return DrawnPhotograph.from_record(open_dataset(folder)[1], LARGEST)


@pytest.fixture(scope="module")
def kept(photograph):
    return photograph.chosen_crossings()


@pytest.fixture(scope="module")
def of_both(folder, kept):
    """The chosen crossings of both photographs, each with its photograph, in the order of the table."""
    first = DrawnPhotograph.from_record(open_dataset(folder)[0], LARGEST)
    second = DrawnPhotograph.from_record(open_dataset(folder)[1], LARGEST)
    return [(first, c) for c in first.chosen_crossings()] + [(second, c) for c in kept]


@pytest.fixture(scope="module")
def table(folder, tmp_path_factory):
    return write_nicked_patches(folder, tmp_path_factory.mktemp("pinched") / "out", HOW, DRAWING)


def lines(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def wide(row):
    return cv2.cvtColor(cv2.imread(str(row.path)), cv2.COLOR_BGR2RGB)


def test_where_nobody_looked_every_usable_crossing_is_taken_and_is_a_true_one(folder, photograph, kept):
    record = open_dataset(folder)[1]
    assert kept and photograph.scale == 1.0 and photograph.name == f"{record.dataset}/{record.name}"
    assert photograph.chosen is None
    eye = adult(int(lines(folder / "cohort.csv")[1]["seed"]), camera="drive")
    for crossing in kept:
        assert min(np.hypot(c.row - crossing.at[0], c.col - crossing.at[1]) for c in eye.truth.crossings) < 5


def test_only_what_readers_chose_is_taken_and_it_must_be_there(photograph, kept):
    chosen = replace(photograph, chosen=np.array([kept[0].at + 1.5]))
    assert [tuple(c.at) for c in chosen.chosen_crossings()] == [tuple(kept[0].at)]
    assert replace(photograph, chosen=np.zeros((0, 2))).chosen_crossings() == []
    with pytest.raises(PhotographError, match="no crossing at row 3, column 4, where one was chosen"):
        replace(photograph, chosen=np.array([[3, 4]])).chosen_crossings()


def test_a_crossing_without_its_four_arms_is_not_usable(photograph, kept):
    crossing = kept[0]
    rows, columns = np.indices(photograph.artery.shape)
    near = np.hypot(rows - crossing.at[0], columns - crossing.at[1]) < 40
    doubt = replace(
        photograph, artery=photograph.artery | (photograph.vein & near)
    )  # as where a map's green means doubt
    assert not [c for c in doubt.usable_crossings() if np.hypot(*(c.at - crossing.at)) < 5]
    assert has_four_arms(crossing, photograph.artery, photograph.vein)


def test_the_frozen_list_says_who_is_chosen(folder):
    listed = read_candidates()
    assert [each.number for each in listed] == list(range(len(listed)))
    assert {verdict for each in listed for verdict in each.verdicts} == set(VERDICTS)
    for each in listed:
        spoilt = {"none", "blurred", "narrowed"} & set(each.verdicts)
        assert each.chosen is not (bool(spoilt) or each.verdicts == ("tangled", "tangled"))
    training = [each for each in listed if not each.photograph.startswith("RITE test") and each.chosen]
    assert len(training) >= 100 and len({each.photograph for each in training}) >= 25


def test_a_listed_photograph_must_be_the_file_that_was_looked_at(folder, tmp_path):
    record = open_dataset(folder)[0]
    digest = hashlib.sha256(record.path.read_bytes()).hexdigest()
    rows = [
        f"0,{record.dataset}/{record.name},{digest},10,20,6,keep,tangled",
        f"1,{record.dataset}/{record.name},{digest},30,40,6,keep,narrowed",
    ]
    table = tmp_path / "list.csv"
    table.write_text("\n".join(["number,photograph,sha256,row,column,vein_px,reader_1,reader_2", *rows]) + "\n")
    assert chosen_places(record, table).tolist() == [[10, 20]]
    assert chosen_places(open_dataset(folder)[1], table).shape == (
        0,
        2,
    )  # its set was looked at, and no place was found in it
    assert chosen_places(record) is None
    other = tmp_path / "other.csv"
    other.write_text(table.read_text().replace(digest, "0" * 64))
    with pytest.raises(PhotographError, match="is not the file whose crossings are listed in other.csv"):
        chosen_places(record, other)


def test_contact_sheets_show_every_candidate(folder, tmp_path):
    record = open_dataset(folder)[1]
    name = f"{record.dataset}/{record.name}"
    listed = [Candidate(k, name, "", 250.0 + k, 260.0, 8.0, ("keep", "keep")) for k in range(21)]
    sheets = list(draw_contact_sheets(listed, {name: record}, tmp_path))
    assert [path.name for path in sheets] == ["sheet_0.png", "sheet_1.png"]
    first, second = (cv2.imread(str(path)) for path in sheets)
    assert first.shape == second.shape and first[:260, :260].any() and not second[260:].any()


def test_maps_of_large_photographs_are_brought_to_drives_size_and_crossings_back():
    field = np.zeros((1400, 1500), bool)
    cv2.circle(mask := field.astype(np.uint8), (750, 700), 648, 1, -1)
    field = mask.astype(bool)
    artery, vein = np.zeros((2, 1400, 1500), bool)
    artery[690:706], vein[:, 740:764] = True, True
    whole = DrawnPhotograph.from_masks(
        "hrf", np.full((1400, 1500, 3), 90, np.uint8), (artery & field, vein & field, field), LARGEST
    )
    assert whole.scale == pytest.approx(1296 / DIAMETER, rel=1e-3)
    assert np.ptp(np.flatnonzero(whole.field.any(axis=0))) == pytest.approx(DIAMETER, abs=3)
    assert whole.map_scale == pytest.approx(1296 / DIAMETER, rel=0.01)
    (crossing,) = whole.usable_crossings()
    assert crossing.at == pytest.approx([697.5, 751.5], abs=2)
    assert map_widths(crossing) == pytest.approx([16, 24], rel=0.06)  # as at the photograph's own size
    small = DrawnPhotograph.from_masks(
        "drive", whole.pixels, (artery[::2, ::2], vein[::2, ::2], field[::2, ::2]), LARGEST
    )
    assert small.scale == 1.0 and small.field.shape == (700, 750)


def test_a_window_holds_the_crossing_where_it_is(photograph, kept):
    assert len(kept) > 2
    for crossing in kept:
        window, here = crossing_window(crossing)
        low = np.array([window[0].start, window[1].start])
        np.testing.assert_allclose(here.at + low, crossing.at)
        np.testing.assert_allclose(here.second.points + low, crossing.second.points)
        around = photograph.pixels[window]
        row, column = np.floor(here.at).astype(int)
        np.testing.assert_array_equal(around[row, column], photograph.pixels[tuple(np.floor(crossing.at).astype(int))])


def test_each_crossing_gets_every_plan_and_the_row_says_what_was_done(table, of_both):
    rows = read_patch_table(table)
    assert tuple(lines(table)[0]) == COLUMNS
    assert len(rows) == PLANS * len(of_both)
    assert [row.grade for row in rows] == [0, 0, 2, 3] * len(of_both)
    assert [row.sham for row in rows[:3]] == ["none", "artery", "none"] and {row.sham for row in rows} <= set(SHAMS)
    for number, row in enumerate(rows):
        assert row.photograph == of_both[number // PLANS][0].name and row.span == WIDE_SPAN
        assert grade_of(*row.narrowing) == row.grade
        losses = zip(row.narrowing, row.calibre, row.fade, strict=True)
        assert all(seen == pytest.approx(1 - (1 - calibre) * (1 - fade), abs=3e-4) for seen, calibre, fade in losses)
        assert wide(row).shape == (round(WIDE_SPAN * VEIN_WIDTH),) * 2 + (3,)
    widths = [map_widths(crossing)[1] for _, crossing in of_both]
    assert [row.vein_px for row in rows[::PLANS]] == pytest.approx(widths, rel=0.05)


def around(row):
    """Distance of each pixel of a wide patch from its middle, in vein widths."""
    side = len(wide(row))
    return np.hypot(*(np.indices((side, side)) - (side - 1) / 2)) / VEIN_WIDTH


def test_patches_of_one_crossing_differ_at_the_vein_only(table):
    rows = read_patch_table(table)
    assert len(rows) > 2 * PLANS
    for first in range(0, len(rows), PLANS):
        plain, pinched = (wide(rows[first + k]).astype(int) for k in (0, 2))
        changed, away = np.abs(plain - pinched).max(axis=2), around(rows[first])
        assert changed[away < 3].max() > 2 * np.percentile(changed[(away > 5) & (away < 9)], 99)


def test_around_what_is_changed_a_wide_patch_is_the_photograph_itself(table, of_both):
    for row, (photograph, crossing) in zip(read_patch_table(table)[::PLANS], of_both, strict=True):
        side = round(WIDE_SPAN * VEIN_WIDTH)
        itself = sample_square(photograph.pixels, crossing.at, map_widths(crossing)[1] / VEIN_WIDTH, side)
        beyond = around(row) > 9 * 2**0.5 + 0.5
        assert np.abs(wide(row)[beyond].astype(int) - itself[beyond]).max() <= 1
        assert lit_pixels(wide(row))[beyond].any()


def turned(crossing):
    """The same crossing, its vein followed from the other end."""
    vein = crossing.second
    other = replace(
        vein,
        points=vein.points[::-1].copy(),
        radius=vein.radius[::-1].copy(),
        crossing_index=len(vein.points) - 1 - vein.crossing_index,
    )
    return replace(crossing, second=other)


@pytest.mark.parametrize("way", [lambda crossing: crossing, turned])
def test_the_upper_side_is_said_first(folder, tmp_path, monkeypatch, way):
    """In a patch of grade 2 one side is pinched: there it differs most from the untouched patch."""
    chosen = DrawnPhotograph.chosen_crossings
    monkeypatch.setattr(DrawnPhotograph, "chosen_crossings", lambda self: [way(c) for c in chosen(self)])
    plans = lesions((0, ("none",)), (2, ("none", "none", "none")))
    rows = read_patch_table(write_nicked_patches(folder, tmp_path / "out", plans, DRAWING))
    middle = slice(round((WIDE_SPAN / 2 - 2) * VEIN_WIDTH), round((WIDE_SPAN / 2 + 2) * VEIN_WIDTH))
    upper_first = set()
    for first in range(0, len(rows), 4):
        plain = wide(rows[first])[..., 1].astype(float)
        for row in rows[first + 1 : first + 4]:
            changed = np.abs(wide(row)[..., 1] - plain)[middle, middle]
            half = len(changed) // 2
            upper_first.add(row.narrowing[0] > row.narrowing[1])
            assert (changed[:half].sum() > changed[half:].sum()) == (row.narrowing[0] > row.narrowing[1])
    assert upper_first == {True, False}


def test_cut_off_it_goes_on_by_photograph_and_ends_the_same(folder, table):
    text, parts = table.read_text(), sorted((table.parent / "patches").glob("*.csv"))
    assert [part.name for part in parts] == ["0000.csv", "0001.csv"]
    patch = table.parent / lines(table)[-1]["patch"]  # of the second photograph
    pixels, marked = patch.read_bytes(), parts[0].stat().st_mtime_ns
    patch.write_bytes(b"kept")
    table.unlink()
    write_nicked_patches(folder, table.parent, HOW, DRAWING)
    assert table.read_text() == text and patch.read_bytes() == b"kept"
    parts[1].unlink()
    write_nicked_patches(folder, table.parent, HOW, DRAWING)
    assert table.read_text() == text and patch.read_bytes() == pixels
    assert parts[0].stat().st_mtime_ns == marked


def test_the_usual_tables_have_at_most_six_patches_a_crossing_and_every_sham_equally_often():
    tables = {each.table: each for each in read_nicked_patch_recipe().lesions}
    assert list(tables) == ["real", "banded", "redrawn", "oblique"]
    for name, table in tables.items():
        by_crossing = [list(draw_plans(table, np.random.default_rng(k), k)) for k in range(50)]
        assert max(map(len, by_crossing)) <= 6
        for drawn in by_crossing:
            assert sorted({plan.grade for plan in drawn}) == [0, 1, 2, 3]
        if table.renderer != "second renderer":
            shams = [plan.sham for drawn in by_crossing for plan in drawn if max(plan.narrowing) <= 0]
            counts = [shams.count(sham) for sham in SHAMS]
            assert max(counts) - min(counts) <= 1 and sum(counts) == len(shams) >= 100
        slight = [plan for drawn in by_crossing for plan in drawn if plan.grade == 0 and max(plan.narrowing) > 0]
        assert len(slight) == (0 if name == "banded" else 50)


def test_shams_go_on_in_turn_from_one_photograph_to_the_next(folder, tmp_path, of_both):
    plans = lesions((0, ("turn",)))
    rows = read_patch_table(write_nicked_patches(folder, tmp_path / "out", plans, DRAWING))
    of_first = sum(photograph.name == of_both[0][0].name for photograph, _ in of_both)
    turns = [*range(of_first), *range(1, 1 + len(rows) - of_first)]  # nobody looked at these: each counts as one
    assert [row.sham for row in rows] == [SHAMS[turn % len(SHAMS)] for turn in turns]
    listed = [each for each in read_candidates() if each.chosen]
    assert count_chosen(listed[0].photograph) == sum(each.photograph == listed[0].photograph for each in listed)


def test_simulated_eyes_give_their_truth(tmp_path):
    eyes = SimulatedSet(camera="drive", size=700, first_seed=6, photographs=2)
    rows = read_patch_table(write_simulated_patches(eyes, tmp_path / "s", DRAWING))
    assert {row.photograph for row in rows} <= {"simulated/6", "simulated/7"} and rows
    for row in rows:
        eye = adult(int(row.photograph.split("/")[1]), camera="drive", size=700, grade=int(row.photograph[-1]) % 4)
        number = int(row.path.stem.split("_")[1])
        true = eye.truth.crossings[number]
        sides = (true.narrowing_1, true.narrowing_2)
        assert row.grade == true.grade and row.sham == "none"
        assert row.narrowing == pytest.approx(sides if true.side_1_up else sides[::-1], abs=1e-4)
        assert row.narrowing == pytest.approx(
            [1 - (1 - c) * (1 - f) for c, f in zip(row.calibre, row.fade, strict=True)], abs=3e-4
        )
        diameter = np.ptp(np.flatnonzero(eye.truth.field.any(axis=0)))
        assert row.vein_px == pytest.approx(true.vein_width_px * DIAMETER / diameter, abs=0.01)
        found = wide(row)[len(wide(row)) // 2, len(wide(row)) // 2].astype(int)
        there = eye.pixels[round(true.row), round(true.col)].astype(int)
        assert np.abs(found - there).max() < 25


def test_a_recipe_draws_every_table_of_the_sets_and_renderers_that_it_names(folder, tmp_path):
    values = read_nicked_patch_recipe().model_dump()
    values["photographs"] = [{"name": "set", "folder": folder.name}]
    for table, known in zip(values["lesions"], ("pinch", "pinch", "second renderer", "oblique profile"), strict=True):
        assert table["renderer"] == known
        table["plans"] = [{"grade": grade, "sides": "bands", "shams": ("none",)} for grade in (0, 3)]
    values["eyes"] = {
        "keep_every_grade_0": 3, "drawn": [{"camera": "drive", "size": 700, "first_seed": 4, "photographs": 1}]
    }  # fmt: skip
    tables = draw_nicked_patches(folder.parent, tmp_path, NickedPatchRecipe.model_validate(values))
    assert [table.stem for table in tables] == ["real", "banded", "redrawn", "oblique", "eyes"]
    real, redrawn, oblique = (read_patch_table(tmp_path / f"{name}.csv") for name in ("real", "redrawn", "oblique"))
    for rows in (real, redrawn, oblique):
        assert [row.grade for row in rows] == [row.grade for row in real] and {row.grade for row in rows} == {0, 3}
    assert {row.photograph for row in real} == {f"simulated/a{k:05d}" for k in range(2)}
    severe = [next(wide(row) for row in rows if row.grade == 3).astype(int) for rows in (real, redrawn, oblique)]
    assert all(np.abs(severe[0] - other).max() > 5 for other in severe[1:])  # by another renderer, of another shape
    eyes, every = lines(tmp_path / "eyes.csv"), lines(tmp_path / "eyes" / "drive" / "patches.csv")
    zeros = [sum(row["grade"] == "0" for row in rows) for rows in (eyes, every)]
    assert zeros[0] == -(-zeros[1] // 3) and len(eyes) - zeros[0] == len(every) - zeros[1]
