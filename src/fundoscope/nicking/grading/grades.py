"""Step 5: the grade of each patch, or the reason why there is none. No torch.

Two independent measurements speak of a crossing: the networks' probabilities, and the widths measured on the vein's own
edges. No grade is given where the networks are not sure, where artery and vein cannot be distinguished, where the vein's
course and width cannot be told, where the two witnesses contradict each other, or where only the networks show grade 2 or 3
and are not very sure of it: most eyes have no such crossing. A side whose width was not measured is unknown, and confirms
nothing: a grade that stands beside it says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles.read_nicking import NickingBundle
from fundoscope.errors import BundleError
from fundoscope.languages import kept_text
from fundoscope.nicking.grading.crossing_patches import CrossingPatch
from fundoscope.nicking.grading.widths import explain_unmeasured
from fundoscope.vessels import Narrowing
from fundoscope.vessels.grade_rule import possible_grades

NOT_SURE = kept_text("the networks are not sure of a grade")
NO_ARTERY_AND_VEIN = kept_text("artery and vein cannot be told apart here")
NO_POSE = kept_text("how the vein lies and how wide it is cannot be told here")
UNCONFIRMED = kept_text("the networks say grade {0}, and no narrowing could be measured that would confirm it")
CONTRADICTED = kept_text("networks and measured widths contradict each other: graded {0}, measured as {1}")

ALONE = kept_text("graded by the networks alone: {0}")

_CONTRADICTION = 2  # grades between the networks' and the measured one that are a contradiction
_SURE_ALONE = 0.8  # lowest probability of grade 2 or 3 that is believed without a measured narrowing
_KIND_MARGIN = 0.15  # between the probabilities of artery and vein, at a pixel that is clearly one of them
_VESSEL_LEVEL = 127  # of 255: a pixel of a patch's maps above it is vessel
_BATCH = 32

Probabilities = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class PatchGrade:
    """The grade of a patch: `probabilities` of grades 0 to 3; `grade`, or None; `reason`, why there is none (blank where
    there is one). `attention` (2, PATCH_SIDE, PATCH_SIDE) shows where pixels and maps speak for a nick.
    """

    patch: CrossingPatch
    probabilities: Probabilities
    grade: int | None
    reason: str
    attention: NDArray[np.float32]


def grade_patches(
    patches: Sequence[CrossingPatch], narrowings: Sequence[Narrowing | None], bundle: NickingBundle
) -> list[PatchGrade]:
    """The grade of each patch, by the networks of a bundle and the narrowing that was measured there.

    Raises `BundleError` where the bundle holds no network that grades.
    """
    settings = bundle.card.grades
    if settings is None:
        raise BundleError(f"{bundle.card.name}: this bundle holds no network that grades. Give one that does.")
    graded: list[PatchGrade] = []
    for first in range(0, len(patches), _BATCH):
        batch = patches[first : first + _BATCH]
        probabilities, attentions = bundle.grade_patches(np.stack([np.concatenate(patch.inputs) for patch in batch]))
        for patch, narrowing, p, attention in zip(batch, narrowings[first:], probabilities, attentions, strict=False):
            grade, reason = decide_grade(patch, p, narrowing, settings.minimum_confidence)
            p0, p1, p2, p3 = (float(x) for x in p)
            unposed = np.stack([patch.unposed(plane) for plane in attention])
            graded.append(PatchGrade(patch, (p0, p1, p2, p3), grade, reason, unposed))
    return graded


def decide_grade(
    patch: CrossingPatch, p: NDArray[np.float64], narrowing: Narrowing | None, minimum: float
) -> tuple[int | None, str]:
    """The grade, or None and the reason for that; `p` (4,), of which the highest must reach `minimum`."""
    if not shows_artery_and_vein(patch):
        return None, NO_ARTERY_AND_VEIN
    if not patch.knows_pose:
        return None, NO_POSE
    if p.max() < minimum:
        return None, NOT_SURE
    grade = median_grade(p.tolist())
    lowest, highest = measured_grades(narrowing)
    if max(lowest - grade, grade - highest) >= _CONTRADICTION:
        return None, CONTRADICTED.format(grade, " or ".join(map(str, range(lowest, highest + 1))))
    if grade >= 2 and p[2:].sum() < _SURE_ALONE and not measures_as_nicked(narrowing):
        return None, UNCONFIRMED.format(grade)
    return grade, ""


def median_grades(p: NDArray[np.float64]) -> NDArray[np.int64]:
    """The grades of probabilities (n, 4): the lowest grade that is not exceeded with a probability over one half."""
    return (p.cumsum(axis=1)[:, :3] < 0.5).sum(axis=1)


def median_grade(p: Sequence[float]) -> int:
    """The grade of the probabilities of one patch, as `median_grades`."""
    return int(median_grades(np.array([p], float))[0])


def measured_grades(narrowing: Narrowing | None) -> tuple[int, int]:
    """The lowest and the highest grade that the measured widths allow: one grade where both sides were measured, and more
    where a side is unknown.
    """
    return possible_grades(*((math.nan, math.nan) if narrowing is None else narrowing.sides))


def measures_as_nicked(narrowing: Narrowing | None) -> bool:
    """Whether at least one side was measured, and so narrow that the grade is 1 or more, whatever the other side is."""
    return measured_grades(narrowing)[0] > 0


def explain_row(grade: PatchGrade, narrowing: Narrowing | None) -> str:
    """Why a row lacks its grade, a width or a side, or stands on the networks alone; blank where nothing is missing."""
    missing = explain_unmeasured(narrowing)
    if grade.grade is not None and (narrowing is None or not np.isfinite(narrowing.sides).any()):
        return ALONE.format(missing)
    return "; ".join(filter(None, (grade.reason, missing)))


def shows_artery_and_vein(patch: CrossingPatch) -> bool:
    """Whether the maps show an artery and a vein near the middle of the patch, each clearly of its kind."""
    maps = patch.middle.maps
    third = slice(len(maps) // 3, -(len(maps) // 3))
    vessel, artery, vein = maps[third, third].astype(int).transpose(2, 0, 1)
    lead = (vein - artery)[vessel > _VESSEL_LEVEL] / 255  # of vein over artery
    return bool((lead > _KIND_MARGIN).sum() and (lead < -_KIND_MARGIN).sum())
