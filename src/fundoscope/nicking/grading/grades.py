"""What the graders say of patches, and whether that is to be believed: probabilities, a grade or the reason for none.

Two witnesses speak of a crossing: the networks, and the widths measured on the vein's own edges. No grade is given where
the networks are not sure, where artery and vein cannot be told apart, where the two contradict each other, or where
the networks alone say 2 or 3 and are not very sure of that: most eyes have no such crossing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles.read_nicking import NickingBundle
from fundoscope.errors import BundleError
from fundoscope.nicking.grading.crossing_patches import Patch
from fundoscope.vessels import Narrowing
from fundoscope.vessels.grade_rule import grade_of

NOT_SURE = "the networks are not sure of a grade"
UNTOLD = "artery and vein cannot be told apart here"
UNSEEN = "the networks say grade {}, and no narrowing could be measured that would confirm it"
CONTRADICTED = "networks and measured widths contradict each other: graded {}, measured as {}"

_APART = 2  # grades between what the networks say and what is measured that are a contradiction
_ALONE = 0.8  # least probability of 2 or 3 that is believed without a narrowing that was measured
_TOLD = 0.15  # by so much the vein's probability of being one must exceed that of being an artery
_VESSEL = 127  # of a patch's maps
_BATCH = 32

Chances = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A patch and what was concluded: `p` of grades 0 to 3, `grade` or None, why there is none or what a reader must
    know (blank where nothing is remarkable), and where in the patch it and its maps speak for a pinch, (2, SIDE, SIDE).
    """

    patch: Patch
    p: Chances
    grade: int | None
    reason: str
    attention: NDArray[np.float32]


def called(p: NDArray[np.float64]) -> NDArray[np.int64]:
    """The grade of probabilities (n, 4): the least that is not exceeded with a probability over one half."""
    return (p.cumsum(axis=1)[:, :3] < 0.5).sum(axis=1)


def grade_called(p: Sequence[float]) -> int:
    """The same of one patch."""
    return int(called(np.array([p], float))[0])


def judge_patches(
    patches: Sequence[Patch], measured: Sequence[Narrowing | None], bundle: NickingBundle
) -> list[Judged]:
    """Each patch graded, with the widths that were measured there as the second witness.

    Raises `BundleError` where the bundle holds no network that grades.
    """
    grades = bundle.card.grades
    if grades is None:
        raise BundleError(f"{bundle.card.name}: this bundle holds no network that grades. Give one that does.")
    judged: list[Judged] = []
    for first in range(0, len(patches), _BATCH):
        part = patches[first : first + _BATCH]
        told, attention = bundle.grade_patches(np.stack([np.concatenate(patch.inputs) for patch in part]))
        for patch, own, chances, shown in zip(part, measured[first:], told, attention, strict=False):
            grade, reason = concluded(patch, chances, own, grades.minimum_confidence)
            p0, p1, p2, p3 = (float(x) for x in chances)
            judged.append(Judged(patch, (p0, p1, p2, p3), grade, reason, np.stack([patch.back(m) for m in shown])))
    return judged


def concluded(
    patch: Patch, p: NDArray[np.float64], narrowing: Narrowing | None, least: float
) -> tuple[int | None, str]:
    """The grade, or None, and the reason for that, or what is remarkable about it."""
    if not told_apart(patch):
        return None, UNTOLD
    if p.max() < least:
        return None, NOT_SURE
    grade = grade_called(p.tolist())
    seen = measured_grade(narrowing)
    if seen is not None and abs(seen - grade) >= _APART:
        return None, CONTRADICTED.format(grade, seen)
    if grade >= 2 and p[2:].sum() < _ALONE and not confirmed(narrowing):
        return None, UNSEEN.format(grade)
    return grade, ""


def confirmed(narrowing: Narrowing | None) -> bool:
    """Whether at least one side was measured as narrowed."""
    return narrowing is not None and grade_of(0.0, np.nan_to_num(narrowing.larger_measured)) > 0


def measured_grade(narrowing: Narrowing | None) -> int | None:
    """The grade that the measured widths alone would give; None where one side could not be measured."""
    if narrowing is None or not np.isfinite([narrowing.side_1, narrowing.side_2]).all():
        return None
    return grade_of(narrowing.side_1, narrowing.side_2)


def told_apart(patch: Patch) -> bool:
    """Whether the maps show an artery and a vein near the middle of the patch, each clearly of its kind."""
    third = slice(patch.side // 3, -(patch.side // 3))
    vessel, artery, vein = patch.maps[third, third].astype(int).transpose(2, 0, 1)
    apart = (vein - artery)[vessel > _VESSEL] / 255
    return bool((apart > _TOLD).sum() and (apart < -_TOLD).sum())
