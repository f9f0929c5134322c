"""Average precision compared in pairs: one pyramid with another, and the second step of the training with the first.

Figures are means over seeds; differences are paired by photograph and seed, and both are resampled. A detection within half a
box of a place that does not count (doubtful, or a crossing of another size) is no false alarm. By the vein's width only
photographs are compared whose veins' widths are known; each class has the same false alarms, so that classes hold fewer
crossings, lower figures follow from that alone, and pyramids are to be compared within a class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import StudyError
from fundoscope.evaluation.detection import (
    HIT_RADIUS,
    Instances,
    OverlapOutcome,
    OverlapRuns,
    match_overlaps,
    near_any,
    paired_differences,
)
from fundoscope.evaluation.metrics import Difference
from fundoscope.imaging.local_contrast import DIAMETER
from fundoscope.nicking.crossing_study.detections import STEPS, PhotographDetections

#: What detectors are tested on at the scale of the training, by the name of its part.
WHERE = {"test": "whole photographs", "patches": "patches"}
_OTHER = "test_"  # begins the names of parts at other diameters
_EDGE = 10.0  # pixels from a patch's edge within which a box of the usual size is cut

Detections = list[PhotographDetections]
Found = Mapping[tuple[str, int, int], Mapping[str, Detections]]  # by pyramid, seed and step, then by part
Mask = NDArray[np.bool_]
Row = dict[str, object]


@dataclass(frozen=True)
class WidthClass:
    """Crossings whose vein is at least `low` and less than `high` pixels wide at DRIVE's scale; all, where both are None."""

    name: str
    low: float | None = None
    high: float | None = None

    def holds(self, truth: PhotographDetections) -> Mask:
        """Which crossings of a photograph are of this class; none where widths are unknown."""
        if self.low is None or self.high is None:
            return np.ones(len(truth.instances.boxes), bool)
        return (truth.vein_widths >= self.low) & (truth.vein_widths < self.high)


EVERY_WIDTH = WidthClass("all")


def width_classes(bounds: Sequence[float]) -> tuple[WidthClass, ...]:
    """Thin, middling and wide crossings, parted by these two widths."""
    low, high = bounds
    return (
        WidthClass(f"vein below {low:g} px", 0.0, low), WidthClass(f"vein {low:g} to {high:g} px", low, high),
        WidthClass(f"vein from {high:g} px", high, np.inf),
    )  # fmt: skip


def compare_pyramids(truth: Mapping[str, Detections], found: Found, bounds: Sequence[float]) -> list[Row]:
    """AP50 and AP of each pyramid and the difference of the first and each other: after both steps, on whole photographs and
    patches, by the vein's width, and with fields of other diameters.
    """
    pyramids = list(dict.fromkeys(pyramid for pyramid, _, _ in found))
    seeds = sorted({seed for _, seed, _ in found})
    views = [(part, on, DIAMETER, each) for part, on in WHERE.items() for each in (EVERY_WIDTH, *width_classes(bounds))]
    for part in sorted(truth):
        if part.startswith(_OTHER):
            views.append((part, WHERE["test"], int(part.removeprefix(_OTHER)), EVERY_WIDTH))
    rows: list[Row] = []
    for step in STEPS:
        for part, on, diameter, widths in views:
            kept = [k for k, each in enumerate(truth[part]) if widths is EVERY_WIDTH or _knows_widths(each)]
            known = [truth[part][k] for k in kept]
            if not any(widths.holds(each).any() for each in known):
                continue
            runs = {
                pyramid: _runs(known, [[found[pyramid, seed, step][part][k] for k in kept] for seed in seeds], widths)
                for pyramid in pyramids
            }
            for other in pyramids[1:]:
                differences = paired_differences(
                    runs[pyramids[0]].figures, runs[other].figures, runs[other].truths, (pyramids[0], other)
                )
                about: Row = {"on": on, "diameter": diameter, "crossings": widths.name, "step": step}
                rows += _difference_rows(about, differences)
    return rows


def compare_steps(truth: Mapping[str, Detections], found: Found) -> list[Row]:
    """Why figures on patches after the second step differ from those on whole photographs after the first, in parts.

    The same answers scored as patches: those that the detector gave for whole photographs after the first step, cut to the
    patches. Then the patches themselves are shown to it, and then it is trained on patches. Whole photographs after the second
    step, and patches without the crossings at their edges, stand beside them.
    """
    rows: list[Row] = []
    seeds = sorted({seed for _, seed, _ in found})
    for pyramid in dict.fromkeys(pyramid for pyramid, _, _ in found):
        own = {(seed, step): found[pyramid, seed, step] for seed in seeds for step in STEPS}
        whole = [_runs(truth["test"], [own[seed, step]["test"] for seed in seeds], EVERY_WIDTH) for step in STEPS]
        patches = [_runs(truth["patches"], [own[s, step]["patches"] for s in seeds], EVERY_WIDTH) for step in STEPS]
        inner = [
            _runs(truth["patches"], [own[s, step]["patches"] for s in seeds], EVERY_WIDTH, spare_edges=True)
            for step in STEPS
        ]
        cut = _runs(
            truth["patches"],
            [cut_to_patches(own[seed, STEPS[0]]["test"], truth["test"], truth["patches"]) for seed in seeds],
            EVERY_WIDTH,
        )
        for what, later, earlier in (
            ("patches after step 2 less whole photographs after step 1", patches[1], whole[0]),
            ("of it: the same answers cut to patches, less uncut", cut, whole[0]),
            ("of it: shown patches, less its answers cut to patches", patches[0], cut),
            ("of it: patches after step 2, less after step 1", patches[1], patches[0]),
            ("whole photographs after step 2, less after step 1", whole[1], whole[0]),
            ("patches without crossings at their edge, after step 2, less after step 1", inner[1], inner[0]),
        ):
            differences = paired_differences(later.figures, earlier.figures, whole[0].truths, ("later", "earlier"))
            rows += _difference_rows({"detector": pyramid, "what": what}, differences)
    return rows


def _difference_rows(about: Row, differences: Mapping[str, Difference]) -> list[Row]:
    return [
        {**about, "figure": name, each.names[0]: each.first, each.names[1]: each.second, "difference": each.estimate}
        for name, each in differences.items()
    ]


def _knows_widths(truth: PhotographDetections) -> bool:
    return bool(np.isfinite(truth.vein_widths).all())


def _runs(truth: Detections, runs: Sequence[Detections], widths: WidthClass, spare_edges: bool = False) -> OverlapRuns:
    """The detections of several seeds matched with the crossings of a class, by photograph."""
    names = list(dict.fromkeys(each.photograph for each in truth))
    photograph = np.array([names.index(each.photograph) for each in truth], np.int64)
    matched = [
        [match_class(found, true, widths, spare_edges) for found, true in zip(run, truth, strict=True)] for run in runs
    ]
    return OverlapRuns(matched, photograph, len(names))


def match_class(
    found: PhotographDetections, truth: PhotographDetections, widths: WidthClass, spare_edges: bool = False
) -> OverlapOutcome:
    """The detections of a photograph matched with its crossings of a class of widths; the others and doubtful places do not
    count, nor do crossings near a patch's edge where these are to be spared.
    """
    counted, seen = widths.holds(truth), found.instances
    spared = np.zeros(len(seen.boxes), bool)
    if spare_edges:
        counted &= ~_near_edge(truth.instances, truth)
        spared |= _near_edge(seen, truth)
    others = np.concatenate([truth.instances.centres[~counted], truth.doubtful])
    spared |= near_any(seen.centres, others, HIT_RADIUS * truth.scale)
    return match_overlaps(seen, Instances.true(truth.instances.boxes[counted]), spared)


def _near_edge(instances: Instances, truth: PhotographDetections) -> Mask:
    if truth.window is None:
        raise StudyError(f"{truth.name} is no patch, so it has no edge that could be spared. Run the study again.")
    centres, last = instances.centres, truth.window[2] - 1 - _EDGE
    return np.any((centres < _EDGE) | (centres > last), axis=1)


def cut_to_patches(found: Detections, whole: Detections, patches: Detections) -> Detections:
    """What was found in whole photographs, as if it had been found in their patches: boxes whose middle lies in a patch, cut
    to it. `whole` and `patches` are the truth of both.
    """
    by_name = {true.photograph: own.instances for own, true in zip(found, whole, strict=True)}
    return [_cut(by_name[patch.photograph], patch) for patch in patches]


def _cut(instances: Instances, patch: PhotographDetections) -> PhotographDetections:
    assert patch.window is not None
    row, column, side = patch.window
    boxes = instances.boxes - np.array([column, row, column, row])
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    kept = ((middles >= 0) & (middles < side)).all(axis=1)
    return PhotographDetections(patch.name, patch.dataset, Instances(boxes[kept].clip(0, side), instances.scores[kept]))
