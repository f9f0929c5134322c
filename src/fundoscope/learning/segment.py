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
from fundoscope.imaging.evened import evened, scaled
from fundoscope.learning.fit import FitOptions, M, Material, fit_batches
from fundoscope.learning.patches import Crops, Drawn, crop_batches


def vessel_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice (Milletari 2016, 3DV, eq. 1, with plain sums) of vessel, artery and vein.

    `logits` (N, 3, H, W); `targets` (N, 4, H, W) in 0 to 1, the last the field, outside of which nothing counts.
    A vessel pixel that is neither artery nor vein (RITE's white) says nothing of either.
    """
    truth, field = targets[:, :3], targets[:, 3:]
    kindless = (truth[:, :1] - truth[:, 1:].amax(1, keepdim=True)).clamp(0, 1)
    weight = torch.cat([field, (field * (1 - kindless)).expand(-1, 2, -1, -1)], dim=1)
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, weight, reduction="sum") / weight.sum()
    found = torch.sigmoid(logits) * weight
    both, either = (found * truth).sum((0, 2, 3)), (found + truth * weight).sum((0, 2, 3))
    return entropy + 0.5 * (1 - (2 * both + 1) / (either + 1)).mean()


def fit_vessels(
    model: M, drawn: Sequence[Drawn], crops: Crops, options: FitOptions, folder: Path, seed: int, workers: int = 0
) -> M:
    """Train on crops of these photographs to the last epoch; resumes as `fit` does."""
    batches = crop_batches(drawn, crops, options.batch, seed, workers)
    return fit_batches(model, Material(batches, vessel_loss), options, folder, seed)


@torch.no_grad()
def vessel_probabilities(model: nn.Module, pixels: Pixels) -> NDArray[np.float32]:
    """Probability of vessel, artery and vein at each pixel of a photograph as it is, (3, rows, columns), 0 to 1."""
    small, inside = scaled(pixels)
    x = torch.from_numpy(evened(small, inside))[None].to(memory_format=torch.channels_last)
    found: NDArray[Any] = torch.sigmoid(model.eval()(x))[0].float().numpy() * inside
    if small is pixels:
        return found
    size = (pixels.shape[1], pixels.shape[0])
    return np.stack([cv2.resize(kind, size, interpolation=cv2.INTER_LINEAR) for kind in found])
