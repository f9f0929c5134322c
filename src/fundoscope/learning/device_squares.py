"""Squares that lie on a device as bytes, and are turned, shifted and coloured there: for studies that fit a GPU.

The draws are those of `Squares` and `Augment`, from (seed, epoch, row, copy) alone, so that both give the same photographs
but for the rounding of grey levels. Only what moves or colours a photograph is known here; its contrast must have been evened
before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fundoscope.errors import UsageError
from fundoscope.imaging import Pixels, Standard
from fundoscope.learning.augment import Augment, draw_colours
from fundoscope.learning.squares import Index

_NOT_HERE = ("field", "light", "sharpness", "noise", "encoding", "rendering")


class DeviceSquares:
    """Photographs (n, S, S, 3), uint8 RGB, enhanced, as network input on a device.

    Raises `UsageError` for a standard that enhances squares after they were resized, and for squares of another size.
    """

    def __init__(self, pixels: Sequence[Pixels] | NDArray[np.uint8], standard: Standard, device: str) -> None:
        stacked = np.asarray(pixels, np.uint8)
        if standard.clahe_when == "after resize" or stacked.shape[1] != standard.size:
            raise UsageError(
                f"Squares of {stacked.shape[1]} px, contrast evened {standard.clahe_when}: on a device they must be "
                f"{standard.size} px and enhanced already. Enhance and resize them first."
            )
        self.bytes = torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous().to(device)
        self.mean, self.deviation = (
            torch.tensor(values, device=device, dtype=torch.float32)[:, None, None]
            for values in (standard.mean, standard.deviation)
        )

    def inputs(self, rows: NDArray[np.int64]) -> Tensor:
        """Network input (len(rows), 3, S, S) of these photographs as they are."""
        return self._scaled(self._take(rows) / 255)

    def views(self, drawn: Sequence[Index], augment: Augment, seed: int) -> Tensor:
        """Network input (len(drawn), 3, S, S) of other views; a copy is turned by 90 degrees as often as its number.

        Raises `UsageError` for an augmentation that does more than move and colour.
        """
        if any(getattr(augment, name) for name in _NOT_HERE):
            raise UsageError(f"On a device photographs are moved and coloured only: set {', '.join(_NOT_HERE)} to 0.")
        matrices, colours = [], []
        for epoch, row, copy in drawn:
            rng = np.random.default_rng((seed, epoch, row, copy))
            matrices.append(self._sampling_matrix(augment, rng, copy))
            rng.random()  # the draw of the light, which is off
            colours.append(draw_colours(rng, augment.colour) if augment.colour else None)
        device = self.bytes.device
        moved = _sampled(self._take(np.array([row for _, row, _ in drawn])) / 255, matrices)
        if augment.colour:
            gain, gamma, mixed = (
                torch.from_numpy(np.stack(part).astype(np.float32)).to(device) for part in zip(*colours, strict=True)
            )
            lit = (moved.clamp_min(1e-6) ** gamma[:, :, None, None] * gain[:, :, None, None]).clamp(0, 1)
            moved = torch.einsum("nij,njhw->nihw", mixed, lit * (moved > 0)).clamp(0, 1)
        return self._scaled(moved)

    def moved(self, maps: Tensor, drawn: Sequence[Index], augment: Augment, seed: int) -> Tensor:
        """Maps (n, M, M) of all photographs, on the device, as `views` moves their photographs: (len(drawn), M, M), float32."""
        matrices = [
            self._sampling_matrix(augment, np.random.default_rng((seed, epoch, row, copy)), copy)
            for epoch, row, copy in drawn
        ]
        rows = torch.tensor([row for _, row, _ in drawn], device=maps.device)
        return _sampled(maps[rows][:, None].float(), matrices)[:, 0]

    def _sampling_matrix(self, augment: Augment, rng: np.random.Generator, copy: int) -> NDArray[np.float32]:
        size = self.bytes.shape[-1]
        return _sampling_matrix(augment.draw_geometry(size, rng), copy, size)

    def _take(self, rows: NDArray[np.int64]) -> Tensor:
        return self.bytes[torch.from_numpy(np.asarray(rows, np.int64)).to(self.bytes.device)].float()

    def _scaled(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.deviation).contiguous(memory_format=torch.channels_last)


def _sampled(pictures: Tensor, matrices: Sequence[NDArray[np.float32]]) -> Tensor:
    """Pictures (N, C, S, S) looked at through these matrices."""
    theta = torch.from_numpy(np.stack(matrices)).to(pictures.device)
    grid = functional.affine_grid(theta, list(pictures.shape), align_corners=True)
    return functional.grid_sample(pictures, grid, align_corners=True)


def _sampling_matrix(seen_at: NDArray[np.float64], turns: int, size: int) -> NDArray[np.float32]:
    """Torch's matrix (2, 3) from a place of the view to the place of the photograph, both in -1..1.

    `seen_at` (2, 3) leads from a place in pixels, after `turns` of 90 degrees as `numpy.rot90` turns, to where it is seen.
    """
    quarter = np.array([[0.0, 1, 0], [-1, 0, size - 1], [0, 0, 1]])
    forward = np.vstack([seen_at, [0, 0, 1]]) @ np.linalg.matrix_power(quarter, turns % 4)
    half = (size - 1) / 2
    to_pixels = np.array([[half, 0, half], [0, half, half], [0, 0, 1]])
    return (np.linalg.inv(to_pixels) @ np.linalg.inv(forward) @ to_pixels)[:2].astype(np.float32)
