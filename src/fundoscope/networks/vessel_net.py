"""A photograph to its vessels, arteries, veins and where these cross: a U-Net (Ronneberger 2015, MICCAI) with few maps at full size.

It works on local contrast (`imaging.evened`) at one scale, so that it need know neither cameras nor sizes. Bilinear
enlargement and concatenation on the way up; two 3x3 convolutions a level, each with batch normalisation and ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

#: What the output channels are, in their order.
KINDS = ("vessel", "artery", "vein", "crossing")


@dataclass(frozen=True)
class VesselNetOptions:
    """`widths` are the numbers of maps at full, half, quarter, ... size; `dropout` acts at the coarsest."""

    widths: tuple[int, ...] = (16, 32, 64, 128, 192)
    dropout: float = 0.1


class VesselNet(nn.Module):
    """(N, 3, H, W) local contrast -> (N, 4, H, W) logits of `KINDS`; any H and W."""

    def __init__(self, options: VesselNetOptions = VesselNetOptions()) -> None:
        super().__init__()
        widths = options.widths
        self.stride = 2 ** (len(widths) - 1)
        self.down = nn.ModuleList(_two(a, b) for a, b in pairwise((3, *widths)))
        self.dropout = nn.Dropout2d(options.dropout)
        self.up = nn.ModuleList(_two(b + a, a) for a, b in reversed(list(pairwise(widths))))
        self.head = nn.Conv2d(widths[0], len(KINDS), 1)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, -2.0)  # about one pixel in eight is a vessel

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the kinds at every pixel; edges are repeated up to a multiple of the stride."""
        rows, columns = x.shape[2:]
        x = functional.pad(x, (0, -columns % self.stride, 0, -rows % self.stride), mode="replicate")
        levels = []
        for depth, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if depth else x)  # (N, widths[depth], H / 2^depth, W / 2^depth)
            levels.append(x)
        x = self.dropout(levels.pop())
        for block in self.up:
            wide = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(torch.cat([wide, levels.pop()], dim=1))  # twice the size, half the maps
        return self.head(x)[:, :, :rows, :columns]  # (N, 4, H, W)


def _two(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before in (inputs, outputs):
        layers += [nn.Conv2d(before, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
