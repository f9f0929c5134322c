"""Pictures of crossings of a known size, and a detector's body small enough for a test."""

import numpy as np
from torch import nn

from fundoscope.learning.crossing_photographs import CrossingPhotograph


class TinyStages(nn.Module):
    """(N, 3, H, W) -> maps at these strides, each twice the one before."""

    widths = (8, 12, 16, 16)

    def __init__(self, strides=(4, 8, 16, 32)):
        super().__init__()
        self.channels = self.widths[: len(strides)]
        before = (3, *self.channels)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(m, n, 5, stride=strides[0] if m == 3 else 2, padding=2), nn.GroupNorm(4, n), nn.ReLU()
            )
            for m, n in zip(before, self.channels, strict=False)
        )

    def forward(self, x):
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def tiny_body(name="", pretrained=False, frozen_stages=0, strides=(4, 8, 16, 32)):
    """In the place of `build_multiscale_body`: a body of a few convolutions, quick to train and to export."""
    from fundoscope.networks.multiscale_bodies import MultiScaleBody

    network = TinyStages(strides)
    return MultiScaleBody(network, network.channels, fixed_norms=False)


def draw_cross(pixels, at, side):
    """A dark upright cross that fills a box; gives the box and the mask in it."""
    top, left = at
    width = max(2, side // 6)
    part = np.zeros((side, side), bool)
    part[(side - width) // 2 : (side + width) // 2] = True
    part[:, (side - width) // 2 : (side + width) // 2] = True
    pixels[top : top + side, left : left + side][part] = (90, 30, 20)
    return (left, top, left + side, top + side), part


def crossed(seed=0, size=(96, 96), sides=(20, 20, 20), masks=True):
    """A retina without anything but crosses of these sides, which do not touch."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.normal((170, 90, 50), 4, (*size, 3)), 0, 255).astype(np.uint8)
    pixels[:, rng.integers(0, size[1] - 3) :][:, :3] = (90, 30, 20)  # a vessel that nothing crosses
    free, drawn = np.ones(size, bool), []
    for side in sides:
        places = [
            (r, c)
            for r in range(0, size[0] - side + 1, 3)
            for c in range(0, size[1] - side + 1, 3)
            if free[r : r + side, c : c + side].all()
        ]
        row, column = places[rng.integers(len(places))]
        free[row : row + side, column : column + side] = False
        drawn.append(draw_cross(pixels, (row, column), side))
    boxes = np.array([box for box, _ in drawn], np.int64).reshape(-1, 4)
    return CrossingPhotograph(pixels, np.ones(size, bool), boxes, tuple(part for _, part in drawn) if masks else None)
