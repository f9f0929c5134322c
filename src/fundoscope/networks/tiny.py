"""A very small network for tests and controls: five stride-2 convolutions, about 25 thousand weights."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import nn


@dataclass(frozen=True)
class TinyOptions:
    """`width` is the number of maps after the first convolution; it grows to four times that."""

    width: int = 8


class TinyBody(nn.Sequential):
    """(N, 3, S, S) -> (N, 4 width, S/32, S/32)."""

    def __init__(self, options: TinyOptions = TinyOptions()) -> None:
        w = options.width
        widths = (3, w, 2 * w, 2 * w, 4 * w, 4 * w)  # S, S/2, S/4, S/8, S/16, S/32
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(b)]
            layers += [nn.ReLU6(inplace=True)] if i < len(widths) - 2 else [nn.ReLU(inplace=True)]
        super().__init__(*layers)
        self.channels = widths[-1]
