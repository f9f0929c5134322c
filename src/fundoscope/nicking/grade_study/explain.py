"""Step 6: where the networks look, and whether it matters: class activation measured on test patches, in a few networks.

    explanations/activations.csv     a row a nicked patch, network and stream: share of the activation on the vein's flanks
    explanations/deletions.csv       a row a nicked patch and network: falls of the probability of a nick (`deletion.py`)
    explanations/changes.csv         a row a patch, network, stream and change: share of the activation of each grade that stays
    explanations/*.png               a patch of each grade: local contrast, maps, activation of both streams

The flanks are the vein on both sides of the artery, where a nick is. All is measured in the inputs of the networks, where
the vein lies level.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from fundoscope.imaging import Pixels
from fundoscope.networks.nick_grader import NickGrader
from fundoscope.nicking.grade_study.batches import network_inputs
from fundoscope.nicking.grade_study.class_activation import class_activations, enlarge, stays_beside, stays_under_moves
from fundoscope.nicking.grade_study.deletion import measure_falls
from fundoscope.nicking.grade_study.plan import GradePlan, PlannedFit
from fundoscope.nicking.grade_study.prediction_table import (
    ACTIVATIONS,
    CALIBRATION,
    CHANGES,
    COLOUR_CHANGES,
    DELETIONS,
    EXPLANATIONS,
    OWN,
    UNPERTURBED,
)
from fundoscope.nicking.grade_study.train import WEIGHTS, load_network
from fundoscope.nicking.grade_study.views import table_patches
from fundoscope.nicking.grading.crossing_patches import INPUT_ZOOM, PATCH_MAPS, PATCH_SIDE, VEIN_WIDTH
from fundoscope.nicking.recipes.grades import ExplanationNumbers
from fundoscope.outputs import save_picture
from fundoscope.reports.overlay import overlay

STREAMS = ("patch", "maps")
_PICTURED = (UNPERTURBED, "turned", "blurred", "recoloured")  # variants of which pictures are drawn
_SHOWN_CONTRAST = 3.0  # local contrast that is black or white in a picture
_RIM = np.ones((7, 7), np.uint8)  # pixels by which the flanks are widened: a nick lies at the vein's wall

Plane = NDArray[np.float32]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FlankActivation:
    """The share of an activation's `mass` that lies on the venous flanks, and these flanks' share of the patch's `area`."""

    mass: float
    area: float


@dataclass(frozen=True, eq=False)
class ExplainedFit:
    """A trained grader with the patches that it is tested on: their `numbers` (n,) in the study's own table."""

    fit: PlannedFit
    grader: NickGrader
    numbers: NDArray[np.int64]

    @classmethod
    def load(cls, fit: PlannedFit, folder: Path) -> ExplainedFit:
        """From the weights in the study's `folder`, on a GPU where there is one."""
        grader = load_network(fit.arm, fit.fold, fit.seed, folder / fit.step / WEIGHTS)
        assert isinstance(grader, NickGrader)
        return cls(fit, grader.to("cuda" if torch.cuda.is_available() else "cpu"), fit.fold.tested(OWN))

    def inputs(self, numbers: NDArray[np.int64], variant: str = UNPERTURBED) -> Tensor:
        """Inputs (n, 6, s, s) of some patches in a variant, where the grader is."""
        x = torch.from_numpy(network_inputs(table_patches(self.fit.fold, OWN, variant), numbers))
        return x.to(next(self.grader.parameters()).device)

    @property
    def batches(self) -> list[NDArray[np.int64]]:
        """The numbers of the patches, as many at once as the recipe says."""
        size = self.fit.fold.recipe.prediction.batch
        return [self.numbers[first : first + size] for first in range(0, len(self.numbers), size)]

    @cached_property
    def nicked(self) -> set[int]:
        """The numbers of the patches of grade 1 to 3."""
        return {int(k) for k in self.numbers if self.fit.fold.tables.grades[k] > 0}

    def describe(self, number: int) -> Row:
        """The columns that say which patch and network a row is of."""
        row = self.fit.fold.tables.rows[number]
        return {
            "grader": self.fit.arm.name, "fold": self.fit.fold.fold.number, "patch": row.path.name,
            "photograph": row.photograph, "crossing": row.crossing,
        }  # fmt: skip


def explain(plan: GradePlan) -> None:
    """Measure the activation of the networks that the recipe names, in the folds of the first seed, and draw that of the first."""
    folder = plan.study.folder / EXPLANATIONS
    folder.mkdir(exist_ok=True)
    for earlier in (*folder.glob("*.png"), *folder.glob("*.csv")):
        earlier.unlink()
    networks = [fit for fit in plan.fits if fit.arm.network is not None and not fit.arm.team]
    wanted = [fit for fit in networks if fit.seed == 0 and fit.arm.name in plan.recipe.explanation.graders]
    fits = pd.read_csv(plan.study.folder / CALIBRATION).set_index(["arm", "seed", "fold"])["temperature"]
    rows: dict[str, list[Row]] = {ACTIVATIONS: [], DELETIONS: [], CHANGES: []}
    for number, fit in enumerate(wanted):
        explained = ExplainedFit.load(fit, plan.study.folder)
        temperature = float(fits.loc[(fit.arm.name, fit.seed, fit.fold.fold.number)])
        for numbers in explained.batches:
            flanks, falls = measure_nicked(explained, numbers, temperature)
            rows[ACTIVATIONS] += flanks
            rows[DELETIONS] += falls
            rows[CHANGES] += measure_changes(explained, numbers)
        if number == 0:
            for name, picture in draw_examples(explained):
                save_picture(folder / f"{name}.png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    for name, found in rows.items():
        if found:
            pd.DataFrame(found).to_csv(folder / name, index=False, float_format="%.5g")


def activation_maps(grader: NickGrader, x: Tensor) -> Plane:
    """What speaks for a nick in each stream, (n, streams, s, s), of inputs (n, 6, s, s); 0 where nothing does."""
    with torch.no_grad():
        maps = grader.eval().activation_maps(grader.stream_maps(x))
    return enlarge(torch.stack(maps, dim=1), x.shape[2:]).cpu().numpy()


def measure_nicked(
    explained: ExplainedFit, numbers: NDArray[np.int64], temperature: float
) -> tuple[list[Row], list[Row]]:
    """Rows of activations.csv and of deletions.csv, of the nicked ones among these patches. What is deleted is told by the sum
    of the streams' activations, each scaled to the same mass.
    """
    numbers, fold = np.array([k for k in numbers if int(k) in explained.nicked], np.int64), explained.fit.fold
    if not len(numbers):
        return [], []
    x = explained.inputs(numbers)
    streams, flanks = activation_maps(explained.grader, x), []
    for k, maps, planes in zip(numbers, x[:, 3:].cpu().numpy(), streams, strict=True):
        for stream, activation in zip(STREAMS, planes, strict=False):
            found = measure_activation(activation, maps, fold.recipe.explanation)
            if found is not None:
                flanks.append(explained.describe(k) | {"stream": stream, "mass": found.mass, "area": found.area})
    mass = np.maximum(streams.sum(axis=(2, 3), keepdims=True), 1e-12)
    rng = np.random.default_rng((0xDE, int(numbers[0])))
    falls = measure_falls(explained.grader, x, (streams / mass).sum(axis=1), temperature, fold.recipe.deletion, rng)
    names = ("before", "marked", "elsewhere", "least")
    return flanks, [
        explained.describe(k) | {name: float(getattr(falls, name)[i]) for name in names} for i, k in enumerate(numbers)
    ]


def measure_changes(explained: ExplainedFit, numbers: NDArray[np.int64]) -> list[Row]:
    """Rows of changes.csv, of these patches: inputs turned and moved, photographs in other colours; and, as a floor, how much of a
    patch's activation lies where that of the next patch does.
    """
    x, grader = explained.inputs(numbers), explained.grader
    before = class_activations(grader, x)
    stays = stays_under_moves(grader, x, before, explained.fit.fold.recipe.explanation)
    for change in COLOUR_CHANGES:
        changed = explained.inputs(numbers, change)
        stays[change] = stays_beside(x, before, changed, class_activations(grader, changed))
    stays["another patch"] = stays_beside(x, before, x.roll(1, dims=0), before.roll(1, dims=0))
    return [
        explained.describe(k) | {"stream": stream, "change": change}
        | {f"stays_{grade}": float(value) for grade, value in enumerate(share[i, :, j].tolist())}
        for change, share in stays.items()
        for i, k in enumerate(numbers)
        for j, stream in enumerate(STREAMS[: share.shape[2]])
    ]  # fmt: skip


def venous_flanks(maps: Plane, numbers: ExplanationNumbers) -> NDArray[np.bool_]:
    """The vein on both sides of the artery near the middle of an input, by its maps (3, s, s), -1 to 1: (s, s)."""
    rows, columns = np.ogrid[:PATCH_SIDE, :PATCH_SIDE]
    middle = (PATCH_SIDE - 1) / 2
    distance = np.hypot(rows - middle, columns - middle) / (INPUT_ZOOM * VEIN_WIDTH)
    artery_map, vein_map = (maps[PATCH_MAPS.index(kind)] for kind in ("artery", "vein"))
    vein = (vein_map > 0) & (vein_map >= artery_map)
    flanks = vein & (distance < numbers.reach) & (distance > numbers.artery_half_width)
    return cv2.dilate(flanks.astype(np.uint8), _RIM).astype(bool)


def measure_activation(activation: Plane, maps: Plane, numbers: ExplanationNumbers) -> FlankActivation | None:
    """How much of an activation (s, s) lies on the flanks; None where it is empty or no vein is seen."""
    flanks = venous_flanks(maps, numbers)
    if not flanks.any() or activation.sum() <= 0:
        return None
    return FlankActivation(float(activation[flanks].sum() / activation.sum()), float(flanks.mean()))


def draw_examples(explained: ExplainedFit) -> Iterator[tuple[str, Pixels]]:
    """Name and picture of the first test patch of each grade, unperturbed and in some variants."""
    grades = explained.fit.fold.tables.grades[explained.numbers]
    for grade in np.unique(grades):
        first = explained.numbers[grades == grade][:1]
        for number, variant in enumerate(_PICTURED):
            x = explained.inputs(first, variant)
            (streams,) = activation_maps(explained.grader, x)
            yield f"grade {grade}, {number} {variant}", draw_activation(x[0].cpu().numpy(), streams)


def draw_activation(x: Plane, streams: Plane) -> Pixels:
    """Side by side, of an input (6, s, s): its local contrast, its arteries (red) and veins (blue), and each stream's activation
    over the contrast.
    """
    shown = np.clip((x[:3].transpose(1, 2, 0) / _SHOWN_CONTRAST + 1) * 127.5, 0, 255).astype(np.uint8)
    overlays = [overlay(shown, each, max(float(each.max()), 1e-9)) for each in streams]
    return np.ascontiguousarray(np.concatenate([shown, colour_maps(x[3:]), *overlays], axis=1))


def colour_maps(maps: Plane) -> Pixels:
    """Vessel maps (3, s, s), -1 to 1, as a picture, arteries red, veins blue."""
    vessel, artery, vein = np.round((maps + 1) * 127.5).astype(np.uint8)
    return np.dstack([np.maximum(artery, vessel // 4), vessel // 4, np.maximum(vein, vessel // 4)])
