import csv
import json
import re

import layouts
import numpy as np
import pytest
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval import mask as coco_mask
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from fundoscope.cli.main import app
from fundoscope.datasets import PhotographRecord, open_dataset, rle, write_labels
from fundoscope.datasets.coco import CrossingBox, scaled_side, vessels_at_crossing
from fundoscope.errors import UsageError
from fundoscope.imaging.places import rescale_points


@pytest.fixture(scope="module")
def rite(tmp_path_factory):
    """A set of two simulated photographs in RITE's layout, and its labels."""
    folder = tmp_path_factory.mktemp("rite")
    layouts.rite(folder / "set", layouts.eyes())
    dataset = open_dataset(folder / "set")
    path = write_labels(dataset, folder / "labels")
    return dataset, path.parent


def labels_in(folder, name="crossings.json"):
    return json.loads((folder / name).read_text())


def of_image(labels, image):
    return [annotation for annotation in labels["annotations"] if annotation["image_id"] == image["id"]]


# round trip


@pytest.mark.parametrize("name", ["crossings.json", "crossings_scaled.json"])
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_labels_score_their_own_truth_at_one(name, kind, rite):
    truth = COCO(str(rite[1] / name))
    facts = [{"image_id": a["image_id"], "category_id": 1, "score": 0.9} for a in truth.dataset["annotations"]]
    answers = {
        "bbox": [{"bbox": a["bbox"]} for a in truth.dataset["annotations"]],
        "segm": [{"segmentation": _packed(a)} for a in truth.dataset["annotations"]],
    }[kind]
    right = [fact | answer for fact, answer in zip(facts, answers, strict=True)]
    assert _precision(truth, right, kind) == (pytest.approx(1), pytest.approx(1))
    swapped = [fact | answer for fact, answer in zip(facts, answers[::-1], strict=True)]
    assert _precision(truth, swapped, kind)[1] < 0.1


def _packed(annotation):
    """The mask of an annotation, decoded by us and encoded by the other package."""
    packed = coco_mask.encode(np.asfortranarray(rle.decode(annotation["segmentation"]).astype(np.uint8)))
    return packed | {"counts": packed["counts"]}


def _precision(truth, found, kind):
    """AP over all overlaps, and at an overlap of one half."""
    judge = COCOeval_faster(truth, truth.loadRes(found), kind, print_function=lambda *_: None)
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return float(judge.stats[0]), float(judge.stats[1])


def test_points_survive_the_boxes_and_a_change_of_scale(rite):
    dataset, folder = rite
    for name in ("crossings.json", "crossings_scaled.json"):
        labels = labels_in(folder, name)
        for record, image in zip(dataset, labels["images"], strict=True):
            boxes = np.array([a["bbox"] for a in of_image(labels, image)])
            centres = boxes[:, [1, 0]] + boxes[:, [3, 2]] / 2 - 0.5
            inside = (centres > 45).all(axis=1) & (centres < np.array(record.field.shape) - 45).all(axis=1)
            assert inside.sum() > 15
            assert np.abs(centres - record.crossings)[inside].max() <= 0.5 + 1e-9
            back = rescale_points(np.rint(rescale_points(centres, 3504 / 565)), 565 / 3504)
            assert np.hypot(*(back - record.crossings)[inside].T).max() < 1


# the paper's labels


def test_the_papers_boxes_and_numbers(rite):
    dataset, folder = rite
    labels = labels_in(folder)
    assert labels["categories"] == [{"id": 1, "name": "CrossPos", "supercategory": ""}]
    assert [a["id"] for a in labels["annotations"]] == list(range(1, 1 + len(labels["annotations"])))
    assert [image["id"] for image in labels["images"]] == [1, 2]
    for record, image in zip(dataset, labels["images"], strict=True):
        assert image["file_name"] == f"test/images/{record.name}.tif" and image["group"] == record.name
        assert (image["height"], image["width"]) == record.field.shape
        mine = of_image(labels, image)
        assert [a["number"] for a in mine] == list(range(1, 1 + len(record.crossings)))
        assert all(a["bbox"][2:] == [20, 20] and a["area"] == 400 and a["iscrowd"] == 0 for a in mine)


def test_the_papers_masks_by_its_own_words(rite):
    """Each white pixel of the 20 x 20 square in the vessel map takes the counter's number, then that goes up."""
    dataset, folder = rite
    labels = labels_in(folder)
    assert len(labels["annotations"]) > 15
    for record, image in zip(dataset, labels["images"], strict=True):
        picture = np.zeros(record.field.shape, int)
        for counter, annotation in enumerate(of_image(labels, image), 1):
            left, top, _, _ = annotation["bbox"]
            alone = np.zeros(record.field.shape, bool)
            for row in range(top, top + 20):
                for column in range(left, left + 20):
                    if record.vessel[row, column]:
                        picture[row, column], alone[row, column] = counter, True
            assert np.array_equal(rle.decode(annotation["segmentation"]), alone)
        assert np.array_equal(np.asarray(Image.open(folder / "masks" / f"{record.name}.png")), picture)


# ours


def crossing_with_a_neighbour():
    """An artery over a vein of 8 px, and a second vein beside it that they do not meet."""
    artery, vein = np.zeros((2, 120, 120), bool)
    artery[56:62], vein[:, 60:68], vein[:50, 76:80] = True, True, True
    masks = {"artery": artery, "vein": vein, "vessel": artery | vein, "field": np.ones((120, 120), bool)}
    return PhotographRecord("eye", "set", None, "eye", **masks)


def test_the_scaled_box_spans_six_veins_and_holds_the_two_that_meet():
    record, at = crossing_with_a_neighbour(), np.array([58.5, 63.5])
    box = CrossingBox.around(at, scaled_side(1, 8.0), (120, 120))
    assert (box.rows, box.cols) == (48, 48) and scaled_side(6, 8.0) == scaled_side(6) == 120
    parts = vessels_at_crossing(record, at, box)
    beside = np.zeros((120, 120), bool)
    beside[:50, 76:80] = True
    assert (record.vein & beside)[box.window].any() and not (parts["segmentation"] & beside[box.window]).any()
    assert np.array_equal(parts["artery"], record.artery[box.window])
    assert np.array_equal(parts["vein"], (record.vein & ~beside)[box.window])
    assert np.array_equal(parts["segmentation"], parts["artery"] | parts["vein"])


def test_the_scaled_labels_are_of_this_crossing(rite):
    dataset, folder = rite
    labels = labels_in(folder, "crossings_scaled.json")
    assert len(labels["annotations"]) > 15
    for record, image in zip(dataset, labels["images"], strict=True):
        for annotation, at, width in zip(of_image(labels, image), record.crossings, record.vein_widths, strict=True):
            column, row, columns, rows = annotation["bbox"]
            assert max(columns, rows) == max(20, round(6 * round(width, 2)))
            artery, vein, both = (rle.decode(annotation[name]) for name in ("artery", "vein", "segmentation"))
            assert not (artery & ~record.artery).any() and not (vein & ~record.vein).any()
            assert np.array_equal(both, artery | vein) and (artery & vein).any()
            where = np.argwhere(both)
            assert (where >= (row, column)).all() and (where < (row + rows, column + columns)).all()
            assert np.hypot(*(where - at).T).min() < 2
            assert annotation["row"] == pytest.approx(at[0], abs=0.006)


def test_boxes_stay_on_the_photograph():
    box = CrossingBox.around(np.array([3.0, 96.0]), 20, (100, 100))
    assert (box.row, box.col, box.rows, box.cols) == (0, 87, 14, 13)


@given(st.floats(30, 70), st.floats(30, 70), st.integers(3, 40))
def test_boxes_are_centred_to_half_a_pixel(row, col, side):
    box = CrossingBox.around(np.array([row, col]), side, (100, 100))
    assert (box.rows, box.cols) == (side, side)
    assert abs(box.row + (side - 1) / 2 - row) <= 0.5 and abs(box.col + (side - 1) / 2 - col) <= 0.5


# where less is known


def test_without_vessels_there_is_no_mask(tmp_path):
    layouts.junctions(tmp_path / "set", layouts.eyes())
    dataset = open_dataset(tmp_path / "set")
    folder = write_labels(dataset, tmp_path / "labels").parent
    for name in ("crossings.json", "crossings_scaled.json"):
        labels = labels_in(folder, name)
        first, second = (of_image(labels, image) for image in labels["images"])
        assert all(a["has_mask"] and "segmentation" in a for a in first[:5])
        assert second and all(not a["has_mask"] and "segmentation" not in a for a in second)
        assert "artery" not in first[0]
    assert not np.asarray(Image.open(folder / "masks" / "EYE_02.png")).any()
    rows = list(csv.DictReader((folder / "labels.csv").open()))
    assert {row["wide"] for row in rows} == {""} and {row["has_mask"] for row in rows} == {"True", "False"}


def test_photographs_without_known_crossings_are_named_not_negative(tmp_path):
    layouts.iostar(tmp_path / "set", layouts.eyes())
    labels = labels_in(write_labels(open_dataset(tmp_path / "set"), tmp_path / "labels").parent)
    assert [image["file_name"] for image in labels["images"]] == ["image/STAR 01_OSC.png"]
    assert labels["info"]["photographs_without_known_crossings"] == ["STAR 02_OSC"]


@pytest.mark.parametrize("layout", ["hrf", "drive", "avn"])
def test_sets_that_do_not_know_their_crossings_are_refused(layout, tmp_path):
    getattr(layouts, layout)(tmp_path / "set", layouts.eyes())
    with pytest.raises(UsageError, match=f"'{layout}' does not say where all crossings are"):
        write_labels(open_dataset(tmp_path / "set"), tmp_path / "labels")
    assert not (tmp_path / "labels").exists()


def test_labels_are_not_written_over(rite):
    with pytest.raises(UsageError, match="already holds labels"):
        write_labels(*rite)


def test_the_table_has_a_row_a_crossing(rite):
    dataset, folder = rite
    rows = list(csv.DictReader((folder / "labels.csv").open()))
    at = np.vstack([record.crossings for record in dataset])
    assert np.abs(np.array([[float(row["row"]), float(row["col"])] for row in rows]) - at).max() < 0.006
    wide = np.concatenate([record.wide for record in dataset])
    assert [row["wide"] == "True" for row in rows] == wide.tolist() and 0 < wide.sum() < len(wide)
    assert {row["side"] for row in rows} == {"20"} and rows[0]["dataset"] == "RITE test"


# run lengths


@st.composite
def placed(draw):
    """A small mask somewhere in a larger one."""
    rows, columns = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    top, left = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    bits = draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    part = np.array(bits).reshape(rows, columns)
    shape = top + rows + draw(st.integers(0, 5)), left + columns + draw(st.integers(0, 5))
    return part, (top, left), shape


@given(placed())
def test_run_lengths_are_cocos(given_mask):
    part, (top, left), shape = given_mask
    whole = np.zeros(shape, bool)
    whole[top : top + part.shape[0], left : left + part.shape[1]] = part
    runs = rle.encode(part, (top, left), shape)
    assert np.array_equal(rle.decode(runs), whole)
    assert json.loads(json.dumps(runs)) == runs
    packed = coco_mask.frPyObjects(runs, *shape)
    assert np.array_equal(coco_mask.decode(packed).astype(bool), whole)
    assert coco_mask.area(packed) == whole.sum()


# command line


def test_the_command_makes_labels(tmp_path):
    layouts.les_av(tmp_path / "set", layouts.eyes())
    done = CliRunner().invoke(app, ["nicking", "make-labels", str(tmp_path / "set"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "out" / "crossings.json")
    crossings = sum(len(record.crossings) for record in open_dataset(tmp_path / "set"))
    assert re.search(rf"{crossings} crossings in 2 photographs, {crossings} of them with masks", done.stderr)
    assert len(labels_in(tmp_path / "out")["annotations"]) == crossings


def test_the_command_passes_errors_on(tmp_path):
    done = CliRunner().invoke(app, ["nicking", "make-labels", str(tmp_path), "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, UsageError) and done.exception.exit_code == 2
