import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fundoscope.errors import UsageError
from fundoscope.evaluation.detection import (
    DetectionOutcome,
    Instances,
    OverlapRuns,
    best_f1,
    best_worst_f1,
    coco_lines,
    coco_scores,
    detection_estimates,
    f1_difference,
    match_detections,
    match_overlaps,
    paired_differences,
    precision_recall,
    score_instances,
    score_points,
)

pytest.importorskip("faster_coco_eval")


def marked(seed=0, n=6, size=(120, 130), side=20):
    """Boxes that do not touch, each with a cross of vessels in it."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation([(r, c) for r in range(4) for c in range(4)])[:n]
    corners = cells[:, ::-1] * 28.0 + rng.integers(0, 6, (n, 2))
    boxes = np.hstack([corners, corners + side])
    masks = np.zeros((n, *size), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int), strict=True):
        mask[(y1 + y2) // 2 - 2 : (y1 + y2) // 2 + 2, x1:x2] = True
        mask[y1:y2, (x1 + x2) // 2 - 2 : (x1 + x2) // 2 + 2] = True
    return Instances.true(boxes, masks)


def answered(truth, right=0, scores=None):
    """The truth as an answer, moved to the right by so many pixels."""
    scores = np.linspace(0.9, 0.5, len(truth.boxes)) if scores is None else scores
    return Instances(truth.boxes + np.array([right, 0, right, 0]), scores, np.roll(truth.masks, right, axis=2))


def test_the_surest_takes_the_nearest_and_nobody_takes_twice():
    truth = [[10, 10], [10, 18], [90, 90]]
    points = [[10, 13], [10, 11], [80, 90], [50, 50], [90, 101]]
    assert match_detections(points, [0.5, 0.9, 0.4, 0.99, 0.8], truth).tolist() == [1, 0, 2, -1, -1]
    assert match_detections(points, [0.5, 0.9, 0.4, 0.99, 0.8], truth, radius=3).tolist() == [-1, 0, -1, -1, -1]


def test_nothing_found_and_nothing_to_find():
    assert match_detections([], [], [[1, 1]]).tolist() == []
    assert match_detections([[1, 1]], [0.5], []).tolist() == [-1]
    assert score_points([], [], [[1, 1]]).counts(0.5) == (0, 0, 1)
    with pytest.raises(UsageError, match="one finite score"):
        match_detections([[1, 1]], [0.5, 0.5], [])


def test_what_is_found_at_a_doubtful_place_does_not_count():
    points, scores = [[10, 10], [50, 50], [90, 90]], [0.9, 0.8, 0.7]
    outcome = score_points(points, scores, [[10, 12]], doubtful=[[50, 60], [10, 10]])
    assert outcome.counts(0) == (1, 1, 0) and outcome.scores.tolist() == [0.9, 0.7]
    assert score_points(points, scores, [[10, 12]]).counts(0) == (1, 2, 0)


def test_the_middle_of_a_box_is_its_pixel():
    found = Instances.true([[0, 10, 1, 11], [5, 2, 25, 22]])
    assert found.centres.tolist() == [[10, 0], [11.5, 14.5]]


places = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12)


@given(places, places, st.integers(0, 10**6), st.floats(0, 1))
def test_what_is_matched_above_a_threshold_does_not_depend_on_what_lies_below(points, truth, seed, threshold):
    scores = np.random.default_rng(seed).random(len(points))
    all_of_them = match_detections(points, scores, truth)
    called = scores >= threshold
    chosen = np.asarray(points, float).reshape(-1, 2)[called]
    assert match_detections(chosen, scores[called], truth).tolist() == all_of_them[called].tolist()
    hit = all_of_them[all_of_them >= 0]
    assert len(set(hit.tolist())) == len(hit)


def test_figures_are_those_of_the_counts_and_resample_photographs():
    rng = np.random.default_rng(0)
    outcomes = [DetectionOutcome(rng.random(8), rng.random(8) < rng.random(), 9) for _ in range(20)]
    hits = sum(int((o.hits & (o.scores >= 0.4)).sum()) for o in outcomes)
    called = sum(int((o.scores >= 0.4).sum()) for o in outcomes)
    figures = detection_estimates(outcomes, 0.4)
    assert figures["precision"].value == pytest.approx(hits / called)
    assert figures["recall"].value == pytest.approx(hits / 180)
    assert figures["f1"].value == pytest.approx(2 * hits / (called + 180))
    assert figures["f1"].low < figures["f1"].value < figures["f1"].high
    assert (figures["f1"].n, figures["f1"].positives, figures["f1"].groups) == (20, 180, 20)
    few = detection_estimates(outcomes[:6], 0.4)["f1"]
    assert np.isnan(few.low) and len(few.points) == 6
    assert len(detection_estimates(outcomes, 0.4, groups=[i // 5 for i in range(20)])["f1"].points) == 4


def test_equal_scores_are_called_together_and_the_best_threshold_keeps_what_it_promised():
    outcomes = [
        DetectionOutcome(np.array([0.9, 0.5, 0.5]), np.array([True, True, False]), 2),
        DetectionOutcome(np.array([0.8, 0.2]), np.array([True, False]), 2),
    ]
    curve = precision_recall(outcomes)
    assert curve.scores.tolist() == [0.9, 0.8, 0.5, 0.2]
    assert curve.precision.tolist() == pytest.approx([1, 1, 0.75, 0.6])
    assert curve.recall.tolist() == pytest.approx([0.25, 0.5, 0.75, 0.75])
    point = best_f1(outcomes)
    assert point.threshold == pytest.approx(0.35) and point.f1 == pytest.approx(0.75)
    assert detection_estimates(outcomes, point.threshold)["f1"].value == pytest.approx(point.f1)
    with pytest.raises(UsageError, match="inner data"):
        best_f1([DetectionOutcome(np.empty(0), np.empty(0, bool), 3)])


def test_the_threshold_of_the_worst_camera_lies_between_those_of_each():
    sure = [DetectionOutcome(np.array([0.9, 0.8, 0.7, 0.3, 0.2]), np.array([True, True, True, False, False]), 3)]
    unsure = [DetectionOutcome(np.array([0.5, 0.4, 0.25, 0.1]), np.array([True, True, True, False]), 4)]
    assert best_f1(sure).threshold == pytest.approx(0.5) and best_f1(unsure).threshold == pytest.approx(0.175)
    point = best_worst_f1({"sure": sure, "unsure": unsure})
    both = [detection_estimates(own, point.threshold)["f1"].value for own in (sure, unsure)]
    assert min(both) == pytest.approx(point.f1) and point.threshold == pytest.approx(0.225)
    for other in (0.15, 0.275, 0.35, 0.6):
        assert min(detection_estimates(own, other)["f1"].value for own in (sure, unsure)) <= point.f1
    with pytest.raises(UsageError, match="each camera"):
        best_worst_f1({"sure": sure, "empty": [DetectionOutcome(np.array([0.5]), np.array([False]), 0)]})


def test_two_detectors_are_compared_on_the_same_photographs():
    rng = np.random.default_rng(1)

    def runs(share):
        return [[DetectionOutcome(np.full(10, 0.7), rng.random(10) < share, 10) for _ in range(20)] for _ in range(3)]

    good, bad = runs(0.8), runs(0.5)
    at = ([0.5] * 3, [0.5] * 3)
    found = f1_difference(good, bad, at, ("SAFPN", "FPN"))
    means = [np.mean([detection_estimates(run, 0.5)["f1"].value for run in each]) for each in (good, bad)]
    assert (found.first, found.second) == pytest.approx(means)
    assert found.estimate.value == pytest.approx(means[0] - means[1]) and found.differs
    assert found.verdict == "SAFPN has the higher f1"
    assert not f1_difference(good, good, at).differs
    with pytest.raises(UsageError, match="same photographs"):
        f1_difference(good, [run[1:] for run in bad], at)
    with pytest.raises(UsageError, match="1 thresholds were given for 3 runs"):
        f1_difference(good, bad, ([0.5], [0.5] * 3))


def test_each_run_counts_from_its_own_threshold_on():
    """Scores of the second run are all lower: at the mean of both thresholds one run finds all and calls false alarms, the
    other nothing.
    """
    hits = np.array([True, True, False])
    runs = [[DetectionOutcome(np.array(scores), hits, 2)] * 20 for scores in ([0.9, 0.8, 0.7], [0.3, 0.2, 0.1])]
    found = f1_difference(runs, runs, ([0.75, 0.15], [0.45, 0.45]))
    assert found.first == pytest.approx(1.0) and found.second == pytest.approx((0.8 + 0.0) / 2)


def test_the_interval_knows_that_another_seed_would_have_answered_otherwise():
    """All photographs are alike, so that only the seeds vary: two are 0.5 better, one is 0.5 worse."""

    def run(hit):
        return [DetectionOutcome(np.full(10, 0.7), np.arange(10) < hit, 10) for _ in range(20)]

    at = ([0.5] * 3, [0.5] * 3)
    found = f1_difference([run(9), run(9), run(4)], [run(4), run(4), run(9)], at).estimate
    assert found.value == pytest.approx(0.5 / 3)
    assert (found.low, found.high) == pytest.approx((-0.5, 0.5)), "three times the same seed is drawn now and then"


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_perfect_answers_score_one_and_no_answers_nought(kind):
    truths = [marked(seed) for seed in range(3)]
    perfect = coco_scores(truths, [answered(truth) for truth in truths], kind)
    assert (perfect.ap, perfect.ap50, perfect.ap75) == pytest.approx((1, 1, 1))
    assert perfect.values[6] == pytest.approx(1 / 6) and perfect.values[7] == pytest.approx(1)  # recall of 1, of 10
    assert (perfect.photographs, perfect.truths) == (3, 18)
    empty = Instances(np.empty((0, 4)), np.empty(0), np.empty((0, 120, 130), bool))
    assert coco_scores(truths, [empty] * 3, kind).values[:3] == (0, 0, 0)


@pytest.mark.parametrize(("right", "share"), [(2, 0.7), (4, 0.4), (7, 0.0)])
def test_boxes_moved_aside_score_what_their_overlap_allows(right, share):
    truths = [marked(seed) for seed in range(2)]
    scores = coco_scores(truths, [answered(truth, right) for truth in truths])
    overlap = (20 - right) / (20 + right)
    assert scores.ap == pytest.approx(np.mean(np.arange(0.5, 1, 0.05) <= overlap)) == pytest.approx(share)


def test_masks_moved_aside_score_less_than_their_boxes():
    truth = marked()
    moved = answered(truth, 3)
    assert coco_scores([truth], [moved], "segm").ap < coco_scores([truth], [moved]).ap < 1


def test_average_precision_agrees_with_its_definition():
    rng = np.random.default_rng(4)
    truths = [marked(seed) for seed in range(5)]
    found = []
    for truth in truths:  # some right, some far away
        boxes = np.where(rng.random((6, 1)) < 0.6, truth.boxes, truth.boxes + np.array([0, 400, 0, 400]))
        found.append(Instances(boxes, rng.random(6)))
    curve = precision_recall([score_instances(a, b) for a, b in zip(found, truths, strict=True)])
    at = [max(curve.precision[curve.recall >= r - 1e-12], default=0) for r in np.linspace(0, 1, 101)]
    assert coco_scores(truths, found).ap50 == pytest.approx(np.mean(at))


def test_the_lines_are_those_that_the_library_prints(capsys):
    from faster_coco_eval import COCO, COCOeval_faster

    truth, moved = marked(), answered(marked(), 2)
    lines = coco_lines(coco_scores([truth], [moved]))
    boxes = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in truth.boxes.tolist()]
    entries = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": box, "area": 400, "iscrowd": 0}
        for n, box in enumerate(boxes, 1)
    ]
    said = []
    known = COCO({"images": [{"id": 1}], "annotations": entries, "categories": [{"id": 1}]})
    answers = [
        {"image_id": 1, "category_id": 1, "bbox": [box[0] + 2, *box[1:]], "score": float(score)}
        for box, score in zip(boxes, moved.scores, strict=True)
    ]
    COCOeval_faster(known, known.loadRes(answers), "bbox", print_function=said.append).run()
    printed = [line for line in said if "Average" in line]
    assert lines[0] == "IoU metric: bbox"
    assert lines[1:] == printed[:12]


def scattered(seed, photographs=8):
    """True boxes, and detections of which some are off a little and some are false."""
    rng = np.random.default_rng(seed)
    truths = [marked(seed + k, n=int(rng.integers(0, 8))) for k in range(photographs)]
    found = []
    for truth in truths:
        near = truth.boxes + rng.normal(0, 2.5, truth.boxes.shape)
        false = rng.random((5, 1)) * 90 + np.array([[0, 0, 20, 20]]) + rng.normal(0, 2, (5, 4))
        boxes = np.concatenate([near, near[:2] + 1, false])
        found.append(Instances(boxes, np.round(rng.random(len(boxes)), 2)))
    return truths, found


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_cocos_and_a_photograph_drawn_twice_counts_twice(seed):
    truths, found = scattered(seed)
    matched = [match_overlaps(*pair) for pair in zip(found, truths, strict=True)]
    runs = OverlapRuns([matched], np.arange(8), 8)
    weights = np.array([np.ones(8), [2, 0, 1, 0, 3, 0, 0, 1]])
    figures = runs.figures(weights)
    for row, drawn in enumerate(weights.astype(int)):
        again = np.repeat(np.arange(8), drawn)
        known = coco_scores([truths[k] for k in again], [found[k] for k in again])
        assert figures["ap50"][row, 0] == pytest.approx(known.ap50, abs=6e-3)  # equal scores may stand in another order
        assert figures["ap"][row, 0] == pytest.approx(known.ap, abs=6e-3)
    assert 0.1 < figures["ap"][0, 0] < 0.9


def test_spared_detections_count_where_they_hit_and_patches_are_drawn_with_their_photograph():
    truth = marked(1, n=2)
    found = Instances(np.vstack([truth.boxes, [[100, 100, 120, 120]]]), np.array([0.9, 0.5, 0.7]))
    spared = np.array([True, False, True])
    with_alarm, without = match_overlaps(found, truth), match_overlaps(found, truth, spared)
    assert with_alarm.alarms[0].sum() == 1 and not without.alarms.any() and (without.hits == with_alarm.hits).all()
    nothing = match_overlaps(Instances(np.zeros((0, 4)), np.zeros(0)), truth)
    runs = OverlapRuns([[without, nothing, with_alarm]], np.array([0, 1, 1]), 2)
    assert runs.truths.tolist() == [2, 4]
    values = runs.figures(np.array([[1.0, 0], [0, 1], [0, 0]]))["ap"][:, 0]
    assert values[0] == 1 and 0 < values[1] < 0.5 and np.isnan(values[2])
    with pytest.raises(UsageError, match="same photographs"):
        OverlapRuns([[without], [match_overlaps(found, marked(1, n=3))]], np.array([0]), 1)


def test_a_detector_that_is_better_on_every_photograph_is_told_apart_and_one_compared_with_itself_is_not():
    truths, found = scattered(5, photographs=14)
    exact = [match_overlaps(Instances.true(t.boxes), t) for t in truths]
    loose = [match_overlaps(*pair) for pair in zip(found, truths, strict=True)]
    runs = [OverlapRuns([each, each], np.arange(14), 14) for each in (exact, loose)]
    better = paired_differences(runs[0].figures, runs[1].figures, runs[0].truths)["ap"]
    assert better.first == 1 and better.estimate.low > 0 and better.estimate.value == pytest.approx(1 - better.second)
    same = paired_differences(runs[1].figures, runs[1].figures, runs[1].truths)["ap50"].estimate
    assert same.low == same.value == same.high == 0


def test_masks_that_are_wanted_and_not_there_are_an_error():
    truth = marked()
    with pytest.raises(UsageError, match=r"Photograph 1 has no masks\. Leave"):
        coco_scores([Instances.true(truth.boxes)], [answered(truth)], "segm")
    with pytest.raises(UsageError, match="One|one"):
        coco_scores([truth], [])


def test_the_published_differences_of_pyramids_are_those_of_their_own_table():
    """docs/results/crossings_pyramids: a difference is of the seeds' own F1, each at the confidence of its row."""
    folder = Path(__file__).parent.parent / "docs" / "results" / "crossings_pyramids"
    tables = {}
    for name in ("detection", "difference"):
        with (folder / f"{name}.csv").open() as file:
            tables[name] = list(csv.DictReader(file))
    for row in tables["difference"]:  # one for each step of the training
        own = {
            pyramid: [
                float(each["f1"])
                for each in tables["detection"]
                if (each["set"], each["detector"], each.get("step")) == ("all", pyramid, row.get("step"))
            ]
            for pyramid in ("safpn", "fpn")
        }
        assert [len(each) for each in own.values()] == [3, 3]
        assert float(row["difference"]) == pytest.approx(np.mean(own["safpn"]) - np.mean(own["fpn"]), abs=1.1e-3)
