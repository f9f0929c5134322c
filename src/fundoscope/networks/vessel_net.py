"""A photograph to its vessels, arteries, veins and where these cross: a U-Net (Ronneberger 2015, MICCAI) on EfficientNet-Lite0.

It works on local contrast (`imaging.local_contrast`) at one scale, so that it need know neither cameras nor sizes. The body's
maps at half, quarter, eighth and sixteenth size, and its own at full size and at a thirty-second, are joined on the
way up by bilinear enlargement, concatenation and two 3x3 convolutions with batch normalisation and ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from fundoscope.networks.efficientnet_lite import LITE_SCALING, LiteOptions, lite_body

#: What the output channels are, in their order.
VESSEL_MAPS = ("vessel", "artery", "vein", "crossing")

_ENDS = (1, 2, 3, 5)  # how many stages of EfficientNet-Lite0 the maps at strides 2, 4, 8 and 16 have behind them,
_CHANNELS = (16, 24, 40, 112)  # and how many there are


@dataclass(frozen=True)
class VesselNetOptions:
    """`widths` are the numbers of maps on the way up, at full, half, quarter, ... size, the last at a thirty-second;
    `dropout` acts there. `pretrained` starts from ImageNet.
    """

    widths: tuple[int, int, int, int, int, int] = (16, 32, 48, 64, 96, 128)
    dropout: float = 0.1
    pretrained: bool = True


class VesselNet(nn.Module):
    """(N, 3, H, W) local contrast -> (N, 4, H, W) logits of `VESSEL_MAPS`; any H and W."""

    stride = 32

    def __init__(self, options: VesselNetOptions = VesselNetOptions()) -> None:
        super().__init__()
        widths = options.widths
        body = lite_body(LiteOptions(0, options.pretrained, frozen_stages=0, given=LITE_SCALING))
        self.stem, self.stages = body.stem, body.stages[: _ENDS[-1]]
        self.fine = _convolved(3, widths[0])
        self.bottom = nn.Sequential(_convolved(_CHANNELS[-1], widths[-1]), _convolved(widths[-1], widths[-1]))
        self.dropout = nn.Dropout2d(options.dropout)
        given = zip(pairwise(widths), (widths[0], *_CHANNELS), strict=True)
        self.up = nn.ModuleList(
            nn.Sequential(_convolved(below + beside, own), _convolved(own, own)) for (own, below), beside in given
        )
        self.head = nn.Conv2d(widths[0], len(VESSEL_MAPS), 1)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, -2.0)  # about one pixel in eight is a vessel

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the kinds at every pixel; edges are repeated up to a multiple of the stride."""
        rows, columns = x.shape[2:]
        x = functional.pad(x, (0, -columns % self.stride, 0, -rows % self.stride), mode="replicate")
        levels = [self.fine(x)]  # (N, widths[0], H, W)
        x = self.stem(x)
        for number, stage in enumerate(self.stages, start=1):
            x = stage(x)
            if number in _ENDS:
                levels.append(x)  # (N, _CHANNELS[k], H / 2^(k + 1), W / 2^(k + 1))
        x = self.dropout(self.bottom(functional.max_pool2d(x, 2)))
        for block, beside in zip(reversed(self.up), reversed(levels), strict=True):
            wide = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(torch.cat([wide, beside], dim=1))  # twice the size
        return self.head(x)[:, :, :rows, :columns]  # (N, 4, H, W)


def _convolved(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
