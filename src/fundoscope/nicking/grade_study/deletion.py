"""The deletion test of activation maps (Samek 2017, IEEE Trans Neural Netw Learn Syst): blank what a map marks, and see how far the
probability of a nick falls; then blank as much elsewhere.

Blanking anything is a change that no network was trained on. So the fall at the marked place says something only beside the
falls at a random place on vessels, at the place that is marked least, and of a network that learnt shuffled grades.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from fundoscope.networks.nick_grader import NickGrader
from fundoscope.nicking.grade_study.class_activation import blank_input
from fundoscope.nicking.recipes.grades import DeletionNumbers

_TIES = 1e-6  # of the activation's maximum: places with the same activation are ordered by a smooth random plane
_SMOOTH = 8.0  # pixels, of that plane

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Falls:
    """By how much the probability of a nick falls, (n,) each, from `before`: where the `marked` place is blanked, one
    `elsewhere` on vessels (the mean of several), and the `least` marked one.
    """

    before: NDArray[np.float32]
    marked: NDArray[np.float32]
    elsewhere: NDArray[np.float32]
    least: NDArray[np.float32]


@torch.no_grad()
def measure_falls(
    grader: NickGrader, x: Tensor, activations: Plane, temperature: float, numbers: DeletionNumbers, rng: Generator
) -> Falls:
    """The falls of inputs (n, 6, s, s) whose `activations` (n, s, s) speak for a nick."""

    def nicked(inputs: Tensor) -> NDArray[np.float32]:
        return 1 - grader.probabilities(grader(inputs) / temperature)[:, 0].cpu().numpy()

    vessels = x[:, 3].cpu().numpy() > 0
    masks = [deleted_places(plane, vessel, numbers, rng) for plane, vessel in zip(activations, vessels, strict=True)]
    before, blank, falls = nicked(x), blank_input(x), []
    for places in zip(*masks, strict=True):
        soft = np.stack([cv2.GaussianBlur(place.astype(np.float32), (0, 0), numbers.edge) for place in places])
        share = torch.from_numpy(soft).to(x.device)[:, None]
        falls.append(before - nicked(x + share * (blank - x)))
    return Falls(before, falls[0], np.mean(falls[2:], axis=0), falls[1])


def deleted_places(activation: Plane, vessel: Mask, numbers: DeletionNumbers, rng: Generator) -> list[Mask]:
    """Places (s, s) of equal area: the most and the least activated one, then random ones around a pixel of a vessel, apart
    from the first.
    """
    count = round(numbers.area * activation.size)
    noise = cv2.GaussianBlur(rng.normal(size=activation.shape), (0, 0), _SMOOTH)
    order = np.argsort(
        (activation + _TIES * float(activation.max()) * noise / np.abs(noise).max()).ravel(), kind="stable"
    )
    marked = _mask(order[-count:], activation.shape)
    places = [marked, _mask(order[:count], activation.shape)]
    free = np.argwhere(vessel & ~marked)
    free = free if len(free) else np.argwhere(~marked)
    rows, columns = np.ogrid[: activation.shape[0], : activation.shape[1]]
    for row, column in free[rng.integers(len(free), size=numbers.places)]:
        distance = np.where(marked, np.inf, (rows - row) ** 2 + (columns - column) ** 2)
        places.append(_mask(np.argsort(distance.ravel(), kind="stable")[:count], activation.shape))
    return places


def _mask(numbers: NDArray[np.int64], shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(shape, bool)
    mask.ravel()[numbers] = True
    return mask
