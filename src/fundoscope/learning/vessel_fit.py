"""Teaching a network where vessels are, and asking it about a whole photograph."""

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
    """Cross-entropy plus soft Dice (Milletari 2016, 3DV, eq. 1, with plain sums), by kind; and which of the two a vessel is.

    `logits` (N, K, H, W); `targets` (N, 2 K, H, W) in 0 to 1: the truth, then how much each pixel counts. A kind that
    counts nowhere in the batch adds nothing.
    """
    truth, weight = targets.chunk(2, dim=1)
    kinds = (0, 2, 3)
    counted = weight.sum(kinds)
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, weight, reduction="none").sum(kinds)
    found = torch.sigmoid(logits) * weight
    dice = (2 * (found * truth).sum(kinds) + 1) / ((found + truth * weight).sum(kinds) + 1)
    told = (counted > 0).float()
    return ((entropy / counted.clamp(min=1) + 0.5 * (1 - dice)) * told).mean() + _which(logits, truth, weight)


def _which(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of artery against vein on pixels that are one of them, and not both: few among all pixels, and so
    hardly heard in the loss by kind.
    """
    artery, vein = VESSEL_MAPS.index("artery"), VESSEL_MAPS.index("vein")
    lean = truth[:, artery] - truth[:, vein]
    counts = lean.abs() * weight[:, artery]
    apart = logits[:, artery] - logits[:, vein]
    entropy = functional.binary_cross_entropy_with_logits(apart, (lean > 0).to(apart.dtype), counts, reduction="sum")
    return entropy / counts.sum().clamp(min=1)


def fit_vessels(
    model: M,
    drawn: Sequence[VesselPhotograph],
    crops: CropOptions,
    options: FitOptions,
    folder: Path,
    seed: int,
    workers: int = 0,
) -> M:
    """Train on crops of these photographs to the last epoch; resumes as `fit` does."""
    batches = crop_batches(drawn, crops, options.batch, seed, workers)
    return fit_batches(model, TrainingData(batches, vessel_loss), options, folder, seed)


@torch.no_grad()
def predict_vessel_maps(model: nn.Module, pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.bool_], float]:
    """Probability of each of `networks.KINDS` at the scale of `imaging.local_contrast`, (4, rows, columns), 0 to 1; which pixels
    lie in the field, (rows, columns); and how many of the photograph's pixels make one of these.
    """
    small, inside = scale_to_diameter(pixels)
    x = torch.from_numpy(local_contrast(small, inside))[None].to(memory_format=torch.channels_last)
    found: NDArray[Any] = torch.sigmoid(model.eval()(x))[0].float().numpy() * inside
    return found, inside, pixels.shape[0] / small.shape[0]


def predict_vessel_probabilities(model: nn.Module, pixels: Pixels) -> NDArray[np.float32]:
    """The same at each pixel of the photograph as it is, (4, rows, columns)."""
    found, *_ = predict_vessel_maps(model, pixels)
    size = (pixels.shape[1], pixels.shape[0])
    if found.shape[1:] == pixels.shape[:2]:
        return found
    return np.stack([cv2.resize(kind, size, interpolation=cv2.INTER_LINEAR) for kind in found])
