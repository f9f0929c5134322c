import re
import shutil

import layouts
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from scipy.io import savemat

from fundoscope.datasets import PhotographRecord, drive_scale, find_map_crossings, open_dataset
from fundoscope.datasets.drawn_maps import split_colours
from fundoscope.errors import PhotographError, UsageError
from fundoscope.imaging.places import rescale_points
from fundoscope.simulate import write_adults


@pytest.fixture(scope="module")
def eyes():
    return layouts.eyes()


@pytest.fixture(scope="module")
def filled(eyes, tmp_path_factory):
    """Puts a layout into a folder; each is drawn once and copied from then on."""
    whole = {}

    def fill(folder, layout):
        if layout not in whole:
            whole[layout] = tmp_path_factory.mktemp(layout)
            getattr(layouts, layout)(whole[layout], eyes)
        shutil.copytree(whole[layout], folder, dirs_exist_ok=True)
        return folder

    return fill


# layouts


@pytest.mark.parametrize("layout", ["drive", "rite", "hrf", "les_av", "les_av_short", "junctions", "iostar"])
def test_a_layout_is_recognised_and_read_to_the_pixel(layout, tmp_path, eyes, filled):
    dataset = open_dataset(filled(tmp_path, layout))
    assert (dataset.layout, len(dataset)) == (layout, 2)
    for record, eye in zip(dataset, eyes.values(), strict=True):
        assert np.array_equal(record.pixels, eye.pixels)
        if layout != "junctions":
            assert np.array_equal(record.field, eye.truth.field)
            assert np.array_equal(record.vessel, eye.truth.vessel)
        assert record.name == record.group == record.path.stem
        assert record.scale == 1


@pytest.mark.parametrize("layout", ["rite", "hrf", "les_av", "les_av_short", "iostar"])
def test_maps_give_arteries_veins_and_where_they_cross(layout, tmp_path, eyes, filled):
    for record, eye in zip(open_dataset(filled(tmp_path, layout)), eyes.values(), strict=True):
        truth = eye.truth
        assert np.array_equal(record.artery, truth.artery)
        assert np.array_equal(record.vein, truth.vein)
        assert np.array_equal(record.crossing_map, truth.artery & truth.vein)


def test_where_a_set_says_nothing_the_record_says_none(tmp_path, filled):
    record = open_dataset(filled(tmp_path, "drive"))[0]
    assert record.artery is None and record.vein is None and record.crossing_map is None
    assert record.crossings is None and record.wide is None and record.bifurcations is None


def test_parts_keep_their_names(tmp_path, eyes):
    layouts.rite(tmp_path, eyes, "training")
    layouts.rite(tmp_path, eyes, "test")
    assert [source.dataset for source in open_dataset(tmp_path).sources] == ["RITE training"] * 2 + ["RITE test"] * 2
    assert open_dataset(tmp_path / "test").names == ("01_test", "02_test")
    assert open_dataset(tmp_path / "test").sources[0].dataset == "RITE test"


@pytest.mark.parametrize("layout", ["stare", "chase"])
def test_the_first_observers_vessels_are_the_truth_and_a_child_is_one_group(layout, tmp_path, eyes, filled):
    dataset = open_dataset(filled(tmp_path, layout))
    for record, eye in zip(dataset, eyes.values(), strict=True):
        assert np.array_equal(record.vessel, eye.truth.vessel) and record.artery is None and record.crossings is None
        assert (record.field == eye.truth.field).mean() > 0.98
    assert dataset.layout == layout and dataset.groups == (
        dataset.names if layout == "stare" else tuple(name[:-1] for name in dataset.names)
    )


def test_without_a_mask_the_field_is_found(tmp_path, eyes):
    layouts.rite(tmp_path, eyes, mask=False)
    for record, eye in zip(open_dataset(tmp_path), eyes.values(), strict=True):
        assert (record.field == eye.truth.field).mean() > 0.98


def test_the_green_of_hrf_is_not_the_whole_truth(tmp_path, filled):
    assert [record.complete for record in open_dataset(filled(tmp_path, "hrf"))] == [False, False]


def test_the_colours_of_maps():
    names = {"black": 0, "red": 4, "blue": 1, "green": 2, "white": 7, "magenta": 5, "yellow": 6, "cyan": 3}
    picture = np.array([[[255 * (code >> bit & 1) for bit in (2, 1, 0)] for code in names.values()]], np.uint8)
    kinds = {name: set() for name in names}
    read = split_colours(picture)
    for kind in ("artery", "vein", "crossing", "vessel"):
        for name, inside in zip(names, getattr(read, kind)[0], strict=True):
            kinds[name] |= {kind} if inside else set()
    assert kinds == {
        "black": set(), "white": {"vessel"}, "magenta": {"vessel"},
        "red": {"artery", "vessel"}, "yellow": {"artery", "vessel"},
        "blue": {"vein", "vessel"}, "cyan": {"vein", "vessel"},
        "green": {"artery", "vein", "crossing", "vessel"},
    }  # fmt: skip


def test_marked_junctions_are_row_and_column_from_zero(tmp_path, eyes, filled):
    for record, eye in zip(open_dataset(filled(tmp_path, "junctions")), eyes.values(), strict=True):
        assert np.array_equal(record.crossings, layouts.points(eye.truth))
        assert record.bifurcations.tolist() == [[9, 299]]
        assert record.endpoints.shape == (0, 2)
        assert record.dataset == tmp_path.name and record.artery is None


def test_vessels_drawn_on_the_originals_are_carried_over(tmp_path, eyes, filled):
    first, second = open_dataset(filled(tmp_path, "junctions"))
    assert second.vessel is None
    vessel, true = first.vessel, eyes["01"].truth.vessel
    dice = [2 * (vessel & np.roll(true, shift, 0)).sum() / (vessel.sum() + true.sum()) for shift in (-1, 0, 1)]
    assert dice[1] > 0.97 > max(dice[0], dice[2])  # half a pixel off would already cost the thin ones


def test_originals_of_another_eye_are_refused(tmp_path, eyes, filled):
    filled(tmp_path, "junctions")
    layouts.save(tmp_path / "images_1024" / "EYE_01.png", np.flipud(eyes["02"].pixels))
    with pytest.raises(PhotographError, match=r"images_1024/EYE_01.png: does not show what EYE_01.png shows"):
        open_dataset(tmp_path)[0]


def test_marked_points_are_more_than_the_colours_of_iostar(tmp_path, eyes, filled):
    marked, unmarked = open_dataset(filled(tmp_path, "iostar"))
    assert marked.complete and np.array_equal(marked.crossings, layouts.points(eyes["01"].truth))
    assert marked.artery_widths is None and marked.wide is None
    assert not unmarked.complete


def test_patches_are_grouped_by_photograph(tmp_path, filled):
    dataset = open_dataset(filled(tmp_path, "avn"))
    assert dataset.groups == ("01", "01", "02", "02")
    assert [record.grades.tolist() for record in dataset] == [[1], [2], [2], [3]]
    assert dataset[0].crossings is None and dataset[0].field.all() and dataset[0].field.shape == (60, 60)


def test_simulated_eyes_are_known_exactly(tmp_path):
    write_adults(2, tmp_path, seed=4, size=300)
    dataset = open_dataset(tmp_path)
    lines = (tmp_path / "crossings.csv").read_text().splitlines()
    assert dataset.layout == "simulated" and sum(len(record.crossings) for record in dataset) == len(lines) - 1
    record, cells = dataset[0], lines[1].split(",")
    assert record.crossings[0].tolist() == [float(cells[2]), float(cells[3])]
    assert (record.artery_widths[0], record.vein_widths[0]) == (float(cells[4]), float(cells[5]))
    assert np.array_equal(record.vessel, record.artery | record.vein)
    assert record.pixels.shape[:2] == record.field.shape


def test_infants_are_groups(tmp_path):
    from fundoscope.simulate import write_infants

    write_infants(3, tmp_path, seed=2, size=200)
    dataset = open_dataset(tmp_path)
    assert len(set(dataset.groups)) < len(set(dataset.names)) == 3


# the set as a sequence


def test_a_set_reads_nothing_before_it_is_asked(tmp_path, filled):
    filled(tmp_path, "rite")
    (tmp_path / "test/vessel/02_test.png").write_bytes(b"no picture")
    dataset = open_dataset(tmp_path)
    assert dataset[0].vessel is not None
    with pytest.raises(PhotographError, match="vessel/02_test.png"):
        dataset[1]


def test_a_slice_is_a_set(tmp_path, filled):
    part = open_dataset(filled(tmp_path, "les_av"))[1:]
    assert part.names == ("02",) and part.layout == "les_av" and isinstance(part[-1], PhotographRecord)


def test_names_are_one_photographs(tmp_path, filled):
    filled(tmp_path / "training", "les_av")
    filled(tmp_path / "test", "les_av")
    with pytest.raises(UsageError, match="more than one photograph is called 01, 02"):
        open_dataset(tmp_path)


# what is missing or broken


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("drive", "training/mask/02_training_mask.gif"),
        ("drive", "training/1st_manual/02_manual1.gif"),
        ("rite", "test/av/01_test.png"),
        ("hrf", "mask/02_h_mask.tif"),
        ("les_av", "vessel-segmentations/02.png"),
        ("junctions", "junctions/EYE_02_JunctionsPos.mat"),
        ("junctions", "images_1024/EYE_02.png"),
        ("iostar", "GT/STAR 02_OSC_GT.tif"),
        ("avn", "CERA_02_cy_100_cx_250.png"),
    ],
)
def test_a_missing_file_is_named(layout, file, tmp_path, filled):
    filled(tmp_path, layout)
    (tmp_path / file).unlink()
    stem = file.rpartition("/")[2].partition(".")[0].removesuffix("_JunctionsPos")
    with pytest.raises(PhotographError, match=re.escape(stem)):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("layout", "file"),
    [("rite", "test/images/01_test.tif"), ("junctions", "images/EYE_02.png"), ("avn", "grading.txt")],
)
def test_a_file_without_its_photograph_is_named(layout, file, tmp_path, filled):
    filled(tmp_path, layout)
    if layout == "avn":
        lines = (tmp_path / file).read_text().splitlines()
        (tmp_path / file).write_text("\n".join(lines[:-1]))
    else:
        (tmp_path / file).unlink()
    with pytest.raises(PhotographError, match="(01_test.png|EYE_02.*): belongs to no|CERA_02_cy_200.*: has no grade"):
        open_dataset(tmp_path)


def test_broken_pictures_are_named(tmp_path, filled):
    filled(tmp_path, "drive")
    gif = tmp_path / "training/mask/01_training_mask.gif"
    gif.write_bytes(gif.read_bytes()[:300])
    with pytest.raises(PhotographError, match="01_training_mask.gif: cannot be read as a GIF"):
        open_dataset(tmp_path)[0]


def test_pictures_of_other_sizes_are_named(tmp_path, eyes, filled):
    filled(tmp_path, "rite")
    layouts.save(tmp_path / "test/av/01_test.png", layouts.colours(eyes["01"].truth)[1:])
    layouts.save(tmp_path / "test/images/02_test.tif", eyes["02"].pixels[1:])
    dataset = open_dataset(tmp_path)
    with pytest.raises(PhotographError, match="av/01_test.png.*583x565 and 584x565"):
        dataset[0]
    with pytest.raises(PhotographError, match="02_test.tif.*583x565.*584x565"):
        dataset[1].pixels  # noqa: B018


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ({"CrossPos": np.ones((3, 2))}, "holds no BiffPos"),
        ({"CrossPos": np.ones((2, 3))}, "no list of"),
        ({"CrossPos": [[600, 20]]}, "outside"),
        ({"CrossPos": [[0, 20]]}, "outside"),
        ({"CrossPos": np.random.default_rng(0).integers(1, 290, (40, 2))}, "another frame"),
    ],
)
def test_points_that_cannot_be_meant_are_refused(stored, told, tmp_path, filled):
    filled(tmp_path, "junctions")
    if told != "holds no BiffPos":
        stored = {"BiffPos": [[5, 5]], "EndpointPos": [[5, 5]]} | stored
    savemat(tmp_path / "junctions/EYE_01_JunctionsPos.mat", stored)
    with pytest.raises(PhotographError, match=f"EYE_01_JunctionsPos.mat.*{told}"):
        open_dataset(tmp_path)[0]


def test_a_missing_folder_is_named(tmp_path, filled):
    filled(tmp_path, "junctions")
    for path in (tmp_path / "images_1024").iterdir():
        path.unlink()
    (tmp_path / "images_1024").rmdir()
    with pytest.raises(UsageError, match="images_1024: there is no such folder"):
        open_dataset(tmp_path)


def test_a_broken_mat_file_is_named(tmp_path, filled):
    filled(tmp_path, "junctions")
    (tmp_path / "junctions/EYE_01_JunctionsPos.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(PhotographError, match=r"EYE_01_JunctionsPos.mat: cannot be read"):
        open_dataset(tmp_path)[0]


@pytest.mark.parametrize(
    "line", ["5, CERA_01_cy_100_cx_250", "5, CERA_01_cy_7_cx_9, 4", "1, CERA_01_cy_100_cx_250, 1", "5, patch, 1"]
)
def test_a_line_that_grades_nothing_is_named(line, tmp_path, eyes, filled):
    filled(tmp_path, "avn")
    layouts.save(tmp_path / "patch.png", eyes["01"].pixels[:40, :40])
    with (tmp_path / "grading.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UsageError, match="grading.txt(, row 6|: 'patch')"):
        open_dataset(tmp_path)


def test_an_unknown_layout_says_what_was_looked_for(tmp_path):
    with pytest.raises(UsageError, match=r"no set in a known layout.*avn: grading.txt; rite: images/ av/ vessel/; "):
        open_dataset(tmp_path)
    with pytest.raises(UsageError, match="did you mean 'rite'"):
        open_dataset(tmp_path, "rites")
    with pytest.raises(UsageError, match="no such folder"):
        open_dataset(tmp_path / "none")


def test_a_named_layout_is_the_only_one_tried(tmp_path, filled):
    filled(tmp_path, "rite")
    with pytest.raises(UsageError, match=r"\(les_av: images/ vessel-segmentations/ arteries-and-veins/\)"):
        open_dataset(tmp_path, "les_av")
    assert open_dataset(tmp_path, "rite").layout == "rite"


# crossings


def bars(shape=(120, 160), artery=8, vein=6, scale=1):
    """A level artery over an upright vein, of these widths, crossing at (59.5, 69.5) by 6 x 8 pixels."""
    masks = np.zeros((2, *shape), bool)
    masks[0, 60 - artery // 2 : 60 + artery // 2] = True
    masks[1, :, 70 - vein // 2 : 70 + vein // 2] = True
    return [np.kron(mask, np.ones((scale, scale), bool)) for mask in masks]


def test_a_crossing_lies_where_the_bars_cross():
    found = find_map_crossings(*bars())
    assert found.centres.tolist() == [[59.5, 69.5]] and found.areas.tolist() == [48]
    assert found.artery_widths[0] == pytest.approx(8, abs=0.5) and found.vein_widths[0] == pytest.approx(6, abs=0.5)
    assert found.wide.tolist() == [True] and find_map_crossings(*bars(vein=2)).wide.tolist() == [False]


def test_a_crossing_is_the_same_at_another_scale():
    small, large = find_map_crossings(*bars()), find_map_crossings(*bars(scale=5), scale=5)
    assert np.allclose(large.centres, rescale_points(small.centres, 5))
    assert large.wide.tolist() == [True] and len(find_map_crossings(*bars(vein=2), scale=5)) == 0


def test_specks_and_overlaps_without_both_vessels_are_none():
    artery, vein = bars()
    assert (
        len(find_map_crossings(artery, vein, min_overlap=49)) == 0
        and len(find_map_crossings(artery, vein, min_overlap=48)) == 1
    )
    assert len(find_map_crossings(artery & vein, vein)) == 0 and len(find_map_crossings(artery, artery & vein)) == 0


def test_a_crossing_needs_the_artery_on_both_sides_and_the_vein_on_one():
    artery, vein = bars()
    assert find_map_crossings(artery, vein).certain.tolist() == [True]
    assert find_map_crossings(artery, vein & (np.arange(120) < 64)[:, None]).certain.tolist() == [True]
    stump = artery & (np.arange(160) < 76)  # ends 3 pixels behind the vein
    found = find_map_crossings(stump, vein)
    assert (found.artery_arms.tolist(), found.vein_arms.tolist(), found.certain.tolist()) == ([1], [2], [False])
    both = (np.arange(160) > 65) & (np.arange(160) < 74)  # no artery but what lies in the vein and beside it
    found = find_map_crossings(artery & both, vein)
    assert found.artery_arms.tolist() == [0] and not found.certain.any()


def test_arms_are_counted_alike_at_another_scale_and_through_a_second_crossing():
    artery, vein = bars()
    vein |= np.roll(vein, 12, axis=1)
    for scale in (1, 4):
        masks = [np.kron(mask, np.ones((scale, scale), bool)) for mask in (artery, vein)]
        found = find_map_crossings(*masks, scale=scale)
        assert found.artery_arms.tolist() == found.vein_arms.tolist() == [2, 2]


def test_an_overlap_without_arms_is_a_doubtful_place(tmp_path, eyes, filled):
    folder = filled(tmp_path, "rite")
    whole = open_dataset(folder)[0]
    path = min((folder / "test/av").iterdir())
    colours = np.array(Image.open(path))
    at = np.round(whole.crossings[0]).astype(int)
    rows, columns = np.indices(colours.shape[:2])
    around = np.hypot(rows - at[0], columns - at[1]) < 30
    red = (colours[..., 0] > 127) & (colours[..., 1] < 128) & (colours[..., 2] < 128)
    colours[around & red & (columns > at[1])] = 0  # the artery is not drawn on one side
    Image.fromarray(colours).save(path)
    torn = open_dataset(folder)[0]
    assert len(torn.doubtful) > len(whole.doubtful) and len(torn.crossings) < len(whole.crossings)
    assert len(torn.crossings) == len(torn.artery_widths) == len(torn.vein_widths)


def test_two_overlaps_that_touch_at_a_corner_are_one():
    artery, vein = np.zeros((2, 40, 40), bool)
    artery[10:14, 5:20], vein[10:14, 10:13] = True, True
    vein[14:18, 13:16], artery[14:18, 13:30] = True, True
    vein[2:10, 10:13] = True
    assert len(find_map_crossings(artery, vein)) == 1


@pytest.mark.parametrize("number", ["01", "02"])
def test_crossings_agree_with_a_slow_search(number, eyes):
    artery, vein = eyes[number].truth.artery, eyes[number].truth.vein
    both, places, widths = artery & vein, [], []
    depths = [ndimage.distance_transform_edt(mask) for mask in (artery, vein)]
    blobs, n = ndimage.label(both, np.ones((3, 3)))
    for k in range(1, n + 1):
        blob = blobs == k
        ring = ndimage.binary_dilation(blob, np.ones((3, 3)))
        if blob.sum() >= 8 and all((mask & ~both & ring).any() for mask in (artery, vein)):
            near = ndimage.binary_dilation(blob, np.ones((3, 3)), iterations=7)
            places.append(ndimage.center_of_mass(blob))
            widths.append([2 * depth[near].max() for depth in depths])
    found = find_map_crossings(artery, vein)
    order = np.lexsort(np.array(places).T[::-1])
    assert np.allclose(found.centres, np.array(places)[order])
    measured = np.column_stack([found.artery_widths, found.vein_widths])
    assert np.abs(measured - np.array(widths)[order]).max() < 0.3  # OpenCV's distances are within a few per cent


def test_map_crossings_lie_at_the_drawn_ones(tmp_path, eyes, filled):
    for record, eye in zip(open_dataset(filled(tmp_path, "rite")), eyes.values(), strict=True):
        drawn = np.array([(c.row, c.col) for c in eye.truth.crossings])
        apart = np.hypot(*(record.crossings[:, None] - drawn[None]).transpose(2, 0, 1)).min(axis=1)
        assert len(record.crossings) > 15 and np.median(apart) < 1.5


# scale


@given(st.lists(st.tuples(st.floats(0, 4000), st.floats(0, 4000)), max_size=20), st.floats(0.15, 8))
def test_points_survive_scaling_and_back(at, scale):
    at = np.array(at).reshape(-1, 2)
    there = rescale_points(at, scale)
    assert np.allclose(rescale_points(there, 1 / scale), at, atol=1e-6)
    if scale >= 1:  # even where the larger picture keeps whole pixels only
        assert np.abs(rescale_points(np.rint(there), 1 / scale) - at).max(initial=0) <= 0.5 + 1e-6


def test_scaled_points_stay_on_what_they_marked():
    small = np.zeros((30, 40), bool)
    small[12, 33] = True
    rows, columns = np.nonzero(np.kron(small, np.ones((6, 6))))
    assert np.allclose(rescale_points([[12, 33]], 6), [[rows.mean(), columns.mean()]])


@pytest.mark.parametrize(("diameter", "scale"), [(540, 1), (535, 1), (552, 1), (1080, 2), (270, 0.5)])
def test_scale_is_that_of_the_field_even_where_it_is_cut(diameter, scale):
    row, column = np.ogrid[: diameter + 20, : diameter + 20]
    middle = (diameter + 19) / 2
    field = (row - middle) ** 2 + (column - middle) ** 2 < (diameter / 2) ** 2
    assert drive_scale(field) == pytest.approx(scale, rel=0.01) and (scale != 1 or drive_scale(field) == 1)
    field[: diameter // 6] = False
    assert drive_scale(field) == pytest.approx(scale, rel=0.01)
