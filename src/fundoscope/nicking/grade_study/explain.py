"""Step 6: where the networks look: the class activation of each stream, and how much of it lies on the vein's flanks.

    explanations/activations.csv     a row a nicked patch, network and stream: share of the activation on the flanks
    explanations/*.png               a patch of each grade in each variant: patch, maps, activation of both streams

The flanks are the vein on both sides of the artery, where a nick is.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fundoscope.imaging import Pixels
from fundoscope.networks.nick_grader import NickGrader
from fundoscope.nicking.grade_study.batches import network_input
from fundoscope.nicking.grade_study.folds import GradeFoldData
from fundoscope.nicking.grade_study.plan import GradePlan, PlannedFit
from fundoscope.nicking.grade_study.prediction_table import ACTIVATIONS, EXPLANATIONS, OWN, UNPERTURBED, VARIANTS
from fundoscope.nicking.grade_study.train import WEIGHTS, load_network
from fundoscope.nicking.grade_study.views import table_patches, unpack_patch
from fundoscope.nicking.grading.crossing_patches import PATCH_MAPS, PATCH_SIDE, VEIN_WIDTH, CrossingPatch
from fundoscope.nicking.recipes.grades import ExplanationNumbers
from fundoscope.outputs import save_picture
from fundoscope.reports.overlay import overlay
from fundoscope.studies import Study

COLUMNS = ("grader", "stream", "fold", "patch", "photograph", "mass", "area")

_STREAMS = ("patch", "maps")
_VESSEL_LEVEL = 127  # of 255: a pixel above it is vein
_RIM = np.ones((5, 5), np.uint8)  # pixels by which the flanks are widened: a nick lies at the vein's wall

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FlankActivation:
    """The share of an activation's `mass` that lies on the venous flanks, and these flanks' share of the patch's `area`."""

    mass: float
    area: float


def explain(plan: GradePlan) -> None:
    """Measure and draw the activation of every network that gives one, in the folds of the first seed."""
    networks = [fit for fit in plan.fits if fit.seed == 0 and fit.arm.network is not None and not fit.arm.team]
    folder = plan.study.folder / EXPLANATIONS
    folder.mkdir(exist_ok=True)
    for earlier in folder.glob("*.png"):
        earlier.unlink()
    with (folder / ACTIVATIONS).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for fit in networks:
            writer.writerows(_measure_fit(fit, _load_grader(fit, plan.study)))
    if networks:
        for name, picture in draw_examples(networks[0].fold, _load_grader(networks[0], plan.study)):
            save_picture(folder / f"{name}.png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def _load_grader(fit: PlannedFit, study: Study) -> NickGrader:
    grader = load_network(fit.arm, fit.fold, fit.seed, study.result(fit.step) / WEIGHTS)
    assert isinstance(grader, NickGrader)
    return grader


def _measure_fit(fit: PlannedFit, grader: NickGrader) -> Iterator[dict[str, object]]:
    """The rows of one network in one fold: its nicked test patches, stream by stream."""
    fold, packed = fit.fold, table_patches(fit.fold, OWN, UNPERTURBED)
    nicked = [k for k in fold.tested(OWN) if fold.tables.rows[k].grade][: fold.recipe.explanation.patches]
    patches = [unpack_patch(packed[k]) for k in nicked]
    for k, patch, streams in zip(nicked, patches, activation_maps(grader, patches) if patches else [], strict=True):
        for stream, activation in zip(_STREAMS, streams, strict=False):
            found = measure_activation(activation, patch, fold.recipe.explanation)
            if found is not None:
                row = fold.tables.rows[k]
                yield {
                    "grader": fit.arm.name, "stream": stream, "fold": fold.fold.number, "patch": row.path.name,
                    "photograph": row.photograph, "mass": found.mass, "area": found.area,
                }  # fmt: skip


def activation_maps(grader: NickGrader, patches: Sequence[CrossingPatch]) -> NDArray[np.float32]:
    """Class activation of each stream, (n, streams, PATCH_SIDE, PATCH_SIDE), 0 where nothing speaks for nicking."""
    x = torch.from_numpy(np.array([network_input(patch) for patch in patches]))
    with torch.no_grad():
        maps = grader.eval().activation_maps(grader.stream_maps(x))
    streams = [[patch.unposed(m) for patch, m in zip(patches, stream.numpy(), strict=True)] for stream in maps]
    return np.stack(streams, axis=1)


def venous_flanks(patch: CrossingPatch, numbers: ExplanationNumbers) -> NDArray[np.bool_]:
    """The vein on both sides of the artery near the middle of the patch, by its maps, (PATCH_SIDE, PATCH_SIDE)."""
    rows, columns = np.ogrid[:PATCH_SIDE, :PATCH_SIDE]
    distance = np.hypot(rows - (PATCH_SIDE - 1) / 2, columns - (PATCH_SIDE - 1) / 2) / VEIN_WIDTH
    artery_map, vein_map = (patch.maps[..., PATCH_MAPS.index(kind)] for kind in ("artery", "vein"))
    vein = (vein_map > _VESSEL_LEVEL) & (vein_map >= artery_map)
    flanks = vein & (distance < numbers.reach) & (distance > numbers.artery_half_width)
    return cv2.dilate(flanks.astype(np.uint8), _RIM).astype(bool)


def measure_activation(activation: Plane, patch: CrossingPatch, numbers: ExplanationNumbers) -> FlankActivation | None:
    """How much of an activation (PATCH_SIDE, PATCH_SIDE) lies on the flanks; None where it is empty or no vein is seen."""
    flanks = venous_flanks(patch, numbers)
    if not flanks.any() or activation.sum() <= 0:
        return None
    return FlankActivation(float(activation[flanks].sum() / activation.sum()), float(flanks.mean()))


def draw_examples(fold: GradeFoldData, grader: NickGrader) -> Iterator[tuple[str, Pixels]]:
    """Name and picture of the first test patch of each grade, in each variant."""
    tested = fold.tested(OWN)
    grades = fold.tables.grades[tested]
    for grade in np.unique(grades):
        k = tested[grades == grade][0]
        for number, variant in enumerate(VARIANTS):
            patch = unpack_patch(table_patches(fold, OWN, variant)[k])
            (streams,) = activation_maps(grader, [patch])
            yield f"grade {grade}, {number} {variant}", draw_activation(patch, streams)


def draw_activation(patch: CrossingPatch, streams: NDArray[np.float32]) -> Pixels:
    """Side by side: the patch, its arteries (red) and veins (blue), and each stream's activation over the patch."""
    overlays = [overlay(patch.pixels, each, max(float(each.max()), 1e-9)) for each in streams]
    return np.ascontiguousarray(np.concatenate([patch.pixels, colour_maps(patch), *overlays], axis=1))


def colour_maps(patch: CrossingPatch) -> Pixels:
    """The vessel maps of a patch as a picture, arteries red, veins blue."""
    vessel, artery, vein = cv2.split(patch.maps)
    return np.dstack([np.maximum(artery, vessel // 4), vessel // 4, np.maximum(vein, vessel // 4)])
