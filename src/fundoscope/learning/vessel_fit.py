"""Training a network of vessel maps, and predicting the maps of a whole photograph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fundoscope.imaging import Pixels
from fundoscope.imaging.local_contrast import local_contrast, scale_to_diameter
from fundoscope.learning.fit import FitOptions, M, TrainingData, fit_batches
from fundoscope.learning.vessel_crops import CropOptions, VesselPhotograph, crop_batches
from fundoscope.networks import VESSEL_MAPS


def vessel_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss of vessel maps, a scalar: for each map cross-entropy plus soft Dice, and artery against vein.

    `logits` (N, K, H, W); `targets` (N, 2 K, H, W), 0 to 1: the truth of each map, then the weight of each pixel. Soft
    Dice is that of Milletari 2016 (3DV, eq. 1) with plain sums. A map without any weight in the batch adds nothing.
    """
    truth, weight = targets.chunk(2, dim=1)
    over = (0, 2, 3)  # all but the map
    total = weight.sum(over)  # (K,)
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, weight, reduction="none").sum(over)
    found = torch.sigmoid(logits) * weight
    dice = (2 * (found * truth).sum(over) + 1) / ((found + truth * weight).sum(over) + 1)
    each_map = ((entropy / total.clamp(min=1) + 0.5 * (1 - dice)) * (total > 0).float()).mean()

    # artery against vein, where a pixel is one of them and not both: so few pixels that the maps' own loss hardly
    # notices them
    artery, vein = VESSEL_MAPS.index("artery"), VESSEL_MAPS.index("vein")
    lean = truth[:, artery] - truth[:, vein]
    weight = lean.abs() * weight[:, artery]
    margin = logits[:, artery] - logits[:, vein]
    entropy = functional.binary_cross_entropy_with_logits(margin, (lean > 0).to(margin.dtype), weight, reduction="sum")
    return each_map + entropy / weight.sum().clamp(min=1)


def fit_vessels(
    model: M, photographs: Sequence[VesselPhotograph], crops: CropOptions, options: FitOptions, folder: Path, seed: int,
    workers: int = 0,
) -> M:  # fmt: skip
    """Train `model` on crops of these photographs to the last epoch and return it; resumes as `fit` does."""
    batches = crop_batches(photographs, crops, options.batch, seed, workers)
    return fit_batches(model, TrainingData(batches, vessel_loss), options, folder, seed)


@torch.no_grad()
def predict_vessel_maps(model: nn.Module, pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.bool_], float]:
    """Probabilities of `networks.VESSEL_MAPS`, (4, rows, columns), 0 to 1, at the scale of `imaging.local_contrast`.

    Also the pixels inside the field, (rows, columns), and how many pixels of the photograph make one of these.
    """
    small, inside = scale_to_diameter(pixels)
    x = torch.from_numpy(local_contrast(small, inside))[None].to(memory_format=torch.channels_last)
    found: NDArray[Any] = torch.sigmoid(model.eval()(x))[0].float().numpy() * inside
    return found, inside, pixels.shape[0] / small.shape[0]


def predict_vessel_probabilities(model: nn.Module, pixels: Pixels) -> NDArray[np.float32]:
    """Probabilities of `networks.VESSEL_MAPS` at each pixel of the photograph itself, (4, rows, columns), 0 to 1."""
    found, *_ = predict_vessel_maps(model, pixels)
    size = (pixels.shape[1], pixels.shape[0])
    if found.shape[1:] == pixels.shape[:2]:
        return found
    return np.stack([cv2.resize(kind, size, interpolation=cv2.INTER_LINEAR) for kind in found])
