"""Step 2 of a study of crossings: train a detector for each pyramid and seed. Reads split.json, writes fits/.

    fits/<pyramid>-<seed>/step_1/   weights and losses after whole photographs
    fits/<pyramid>-<seed>/step_2/   the same after patches around crossings

A finished step is read, a broken-off one goes on at its last whole epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from fundoscope.errors import LeakError
from fundoscope.learning.crossing_photographs import CrossingPhotograph
from fundoscope.learning.detector_fit import fit_step
from fundoscope.networks.mask_rcnn import CrossingDetector
from fundoscope.networks.multiscale_bodies import build_multiscale_body, load_vessel_net_weights
from fundoscope.nicking.crossing_study.detections import STEPS, arm_name
from fundoscope.nicking.crossing_study.plan import CrossingPlan
from fundoscope.nicking.crossing_study.vessel_maps import read_vessel_map_weights
from fundoscope.studies import Progress

FITS = "fits"
WEIGHTS_FILE = "weights.safetensors"  # of a finished step


def train_detectors(
    plan: CrossingPlan,
    photographs: Sequence[CrossingPhotograph],
    first_weights: Mapping[str, Tensor] | None,
    progress: Progress,
) -> None:
    """Train each detector through both steps, as far as that is not done; `first_weights` as in `build_detector`."""
    pace = plan.options.pace
    for pyramid, seed in plan.arms:
        folders = [step_folder(plan, pyramid, seed, number) for number in STEPS]
        if all((folder / WEIGHTS_FILE).exists() for folder in folders):
            continue
        progress.say(f"training {pyramid}, seed {seed}")
        torch.manual_seed(seed)
        detector = build_detector(plan, pyramid, first_weights)
        for options, folder in zip(plan.options.recipe.steps, folders, strict=True):
            fit_step(detector, photographs, options, folder, seed, pace.drawing, pace.stop_at)


def build_detector(
    plan: CrossingPlan, pyramid: str, first_weights: Mapping[str, Tensor] | None = None
) -> CrossingDetector:
    """An untrained detector; `first_weights` are those of a network of maps, for its body."""
    options = replace(plan.options.recipe.detector, pyramid=pyramid)
    body = build_multiscale_body(options.body, options.pretrained, options.frozen_stages)
    if first_weights is not None:
        load_vessel_net_weights(body, first_weights)
    return CrossingDetector(options, body)


def load_detector(plan: CrossingPlan, pyramid: str, seed: int, step: int) -> CrossingDetector:
    """The trained detector after its first or second step."""
    detector = build_detector(plan, pyramid)
    detector.load_state_dict(load_file(step_folder(plan, pyramid, seed, step) / WEIGHTS_FILE))
    return detector.eval()


def step_folder(plan: CrossingPlan, pyramid: str, seed: int, step: int) -> Path:
    """The folder of a step of a detector's training."""
    return plan.study.folder / FITS / arm_name(pyramid, seed) / f"step_{step}"


def unleaked_map_weights(plan: CrossingPlan, progress: Progress) -> dict[str, Tensor] | None:
    """The weights of the network of maps that the body starts from; None where it starts from ImageNet.

    Raises `LeakError` where they were trained on a photograph that is to be tested.
    """
    folder = plan.options.maps
    if folder is None:
        return None
    weights, seen = read_vessel_map_weights(folder)
    leaked = sorted(seen & set(plan.split.names["test"]))
    if leaked:
        raise LeakError(f"{folder} has seen {leaked[0]}, which is to be tested. Give maps that have not seen it.")
    inner = len(seen & set(plan.split.names["inner"]))
    if inner:
        progress.say(f"{folder} has seen {inner} inner photographs, so the confidence may be chosen too high")
    return weights
