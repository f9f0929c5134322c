"""Training a network of vessel maps, and predicting the maps of a whole photograph."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
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
from fundoscope.networks import VESSEL_MAPS, VesselEnsemble
from fundoscope.networks.vessel_net import turn, turn_back


def map_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss of maps that know nothing of each other, a scalar: for each cross-entropy plus soft Dice.

    `logits` (N, K, H, W); `targets` (N, 2 K, H, W), 0 to 1: the truth of each map, then the weight of each pixel. Soft
    Dice is that of Milletari 2016 (3DV, eq. 1) with plain sums. A map without any weight in the batch adds nothing.
    """
    truth, weight = targets.chunk(2, dim=1)
    over = (0, 2, 3)  # all but the map
    total = weight.sum(over)  # (K,)
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, weight, reduction="none").sum(over)
    found = torch.sigmoid(logits) * weight
    dice = (2 * (found * truth).sum(over) + 1) / ((found + truth * weight).sum(over) + 1)
    return ((entropy / total.clamp(min=1) + 0.5 * (1 - dice)) * (total > 0).float()).mean()


def vessel_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss of vessel maps, a scalar: `map_loss` of the four `VESSEL_MAPS`, and artery against vein; shapes as there."""
    truth, weight = targets.chunk(2, dim=1)
    # artery against vein, where a pixel is one of them and not both: so few pixels that the maps' own loss hardly
    # notices them
    artery, vein = VESSEL_MAPS.index("artery"), VESSEL_MAPS.index("vein")
    lean = truth[:, artery] - truth[:, vein]
    weight = lean.abs() * weight[:, artery]
    margin = logits[:, artery] - logits[:, vein]
    entropy = functional.binary_cross_entropy_with_logits(margin, (lean > 0).to(margin.dtype), weight, reduction="sum")
    return map_loss(logits, targets) + entropy / weight.sum().clamp(min=1)


def soft_vessel_loss(logits: Tensor, soft: Tensor, weight: Tensor) -> Tensor:
    """The loss against another network's maps, a scalar: cross-entropy of each map, and of artery against vein.

    `logits` and `soft` (N, 4, H, W), `soft` 0 to 1; `weight` (N, 1, H, W), 0 where nothing is asked. Artery against vein asks
    for the share of the artery in artery and vein together, weighted by their sum (at most 1).
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, soft, weight.expand_as(soft), reduction="sum")
    artery, vein = VESSEL_MAPS.index("artery"), VESSEL_MAPS.index("vein")
    both = soft[:, artery] + soft[:, vein]
    margin, sure = logits[:, artery] - logits[:, vein], both.clamp(max=1) * weight[:, 0]
    share = soft[:, artery] / both.clamp(min=1e-3)
    kind = functional.binary_cross_entropy_with_logits(margin, share, sure, reduction="sum")
    return entropy / (soft.shape[1] * weight.sum()).clamp(min=1) + kind / sure.sum().clamp(min=1)


def learn_from_both(soft_share: float, logits: Tensor, targets: Tensor) -> Tensor:
    """`vessel_loss` of the truth and `soft_vessel_loss` of soft maps, the latter with this share; where no truth is known the soft
    maps alone teach.

    `logits` (N, 4, H, W), `targets` (N, 13, H, W) as `CropOptions.draw_crop` gives them.
    """
    maps = len(VESSEL_MAPS)
    truth, soft, weight = targets.split([2 * maps, maps, 1], dim=1)
    return (1 - soft_share) * vessel_loss(logits, truth) + soft_share * soft_vessel_loss(logits, soft, weight)


def ensemble_loss(members: int, logits: Tensor, targets: Tensor) -> Tensor:
    """The sum of the members' `vessel_loss`, each with the same `targets` (N, 8, H, W); `logits` (members N, 4, H, W)."""
    return torch.stack([vessel_loss(own, targets) for own in logits.chunk(members)]).sum()


def fit_vessels(
    model: M, photographs: Sequence[VesselPhotograph], crops: CropOptions, options: FitOptions, folder: Path, seed: int,
    workers: int = 0, soft_share: float = 0.0,
) -> M:  # fmt: skip
    """Train `model` on crops of these photographs to the last epoch and return it; resumes as `fit` does.

    A `VesselEnsemble` learns from the truth alone, and so does a network where none of the photographs has soft maps.
    """
    batches = crop_batches(photographs, crops, options.batch, seed, workers)
    loss = vessel_loss
    if isinstance(model, VesselEnsemble):
        loss = partial(ensemble_loss, len(model.members))
    elif any(each.soft is not None for each in photographs):
        loss = partial(learn_from_both, soft_share)
    return fit_batches(model, TrainingData(batches, loss), options, folder, seed)


@torch.no_grad()
def predict_vessel_maps(model: nn.Module, pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.bool_], float]:
    """Probabilities of `networks.VESSEL_MAPS`, (4, rows, columns), 0 to 1, at the scale of `imaging.local_contrast`.

    Also the pixels inside the field, (rows, columns), and how many pixels of the photograph make one of these.
    """
    small, inside = scale_to_diameter(pixels)
    x = torch.from_numpy(local_contrast(small, inside))[None].to(memory_format=torch.channels_last)
    found: NDArray[Any] = torch.sigmoid(model.eval()(x))[0].float().numpy() * inside
    return found, inside, pixels.shape[0] / small.shape[0]


@torch.no_grad()
def predict_turned_maps(model: nn.Module, contrast: NDArray[np.float32], ways: Sequence[int]) -> NDArray[np.float32]:
    """The mean of the probabilities (4, rows, columns) of a local contrast (3, rows, columns), turned and mirrored in these
    `ways` (`networks.vessel_net.turn`); on the device on which the model lies.
    """
    x = torch.from_numpy(contrast)[None].to(next(model.parameters()).device)
    sums = torch.zeros(len(VESSEL_MAPS), *contrast.shape[1:], device=x.device)
    for upright in (True, False):  # pictures of one shape go in one batch
        alike = [way for way in ways if (way % 2 == 0) == upright]
        if alike:
            batch = torch.cat([turn(x, way) for way in alike]).to(memory_format=torch.channels_last)
            found = torch.sigmoid(model.eval()(batch).float())
            for way, own in zip(alike, found, strict=True):
                sums += turn_back(own, way)
    return np.asarray((sums / len(ways)).cpu().numpy(), np.float32)


def predict_vessel_probabilities(model: nn.Module, pixels: Pixels) -> NDArray[np.float32]:
    """Probabilities of `networks.VESSEL_MAPS` at each pixel of the photograph itself, (4, rows, columns), 0 to 1."""
    found, *_ = predict_vessel_maps(model, pixels)
    size = (pixels.shape[1], pixels.shape[0])
    if found.shape[1:] == pixels.shape[:2]:
        return found
    return np.stack([cv2.resize(kind, size, interpolation=cv2.INTER_LINEAR) for kind in found])
