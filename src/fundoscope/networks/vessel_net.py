"""A photograph to its vessels, arteries, veins and crossings: a U-Net (Ronneberger 2015, MICCAI) on EfficientNet-Lite0.

The input is local contrast (`imaging.local_contrast`) at one scale, so the network need know neither cameras nor sizes.
The body gives maps at strides 2, 4, 8 and 16; two convolutions add maps at stride 1, two more at stride 32. On the way
up each level is enlarged bilinearly, concatenated with the next finer one and mixed by two 3x3 convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from fundoscope.networks.multiscale_bodies import LITE, build_multiscale_body

#: What the output channels are, in their order.
VESSEL_MAPS = ("vessel", "artery", "vein", "crossing")


@dataclass(frozen=True)
class VesselNetOptions:
    """`widths` are the numbers of maps on the way up at full, half, quarter, ... size, six of them down to a thirty-second;
    with fewer the body is cut so much earlier, and the network is smaller. `dropout` acts at the last. `pretrained` starts from
    ImageNet. `maps` name the output channels.
    """

    widths: tuple[int, ...] = (16, 32, 48, 64, 96, 128)
    dropout: float = 0.1
    pretrained: bool = True
    maps: tuple[str, ...] = VESSEL_MAPS

    def without_pretraining(self) -> VesselNetOptions:
        """The same network from random weights, which are to be replaced."""
        return replace(self, pretrained=False)


class VesselNet(nn.Module):
    """(N, 3, H, W) local contrast -> (N, K, H, W) logits of the K maps of its options, `VESSEL_MAPS`; any H and W."""

    def __init__(self, options: VesselNetOptions = VesselNetOptions()) -> None:
        super().__init__()
        w = options.widths
        self.stride = 2 ** (len(w) - 1)
        self.body = build_multiscale_body(LITE, options.pretrained, strides=(2, 4, 8, 16)[: len(w) - 2])
        self.body.fixed_norms = False  # batches of crops are large enough to measure batch statistics
        self.fine = _convolution(3, w[0])
        self.bottom = nn.Sequential(_convolution(self.body.channels[-1], w[-1]), _convolution(w[-1], w[-1]))
        self.dropout = nn.Dropout2d(options.dropout)
        beside = (w[0], *self.body.channels)  # maps that join each level on the way up, finest first
        self.up = nn.ModuleList(
            nn.Sequential(_convolution(coarser + joining, own), _convolution(own, own))
            for (own, coarser), joining in zip(pairwise(w), beside, strict=True)
        )
        self.head = nn.Conv2d(w[0], len(options.maps), 1)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, -2.0)  # about one pixel in eight is a vessel

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the maps at every pixel; edges are repeated up to a multiple of the stride."""
        rows, columns = x.shape[2:]
        x = functional.pad(x, (0, -columns % self.stride, 0, -rows % self.stride), mode="replicate")
        levels = [self.fine(x), *self.body(x).values()]  # (N, w0, H, W), (N, 16, H/2, W/2) ... (N, 112, H/16, W/16)
        x = self.dropout(self.bottom(functional.max_pool2d(levels[-1], 2)))  # (N, w5, H/32, W/32)
        for block, beside in zip(reversed(self.up), reversed(levels), strict=True):
            larger = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(torch.cat([larger, beside], dim=1))  # twice the size
        return self.head(x)[:, :, :rows, :columns]  # (N, K, H, W)


class VesselEnsemble(nn.Module):
    """Several `VesselNet`s that learn from the same photographs and answer together.

    In training (N, 3, S, S) -> (members N, 4, S, S), the logits of one member after another: each sees the batch turned or
    mirrored in another way, so that the members become different. In use (N, 3, H, W) -> (N, 4, H, W), logits of the members' mean
    probability.
    """

    def __init__(self, members: Sequence[VesselNet]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """All members' logits in training, those of their mean in use."""
        if not self.training:
            mean = torch.stack([torch.sigmoid(member(x).float()) for member in self.members]).mean(dim=0)
            return torch.logit(mean, eps=1e-6)
        ways = torch.randperm(SYMMETRIES)[: len(self.members)].tolist()
        return torch.cat([turn_back(member(turn(x, way)), way) for member, way in zip(self.members, ways, strict=True)])


#: How many ways there are to turn a square by right angles and mirror it.
SYMMETRIES = 8


def turn(x: Tensor, way: int) -> Tensor:
    """Pictures (..., H, W) turned by `way` % 4 right angles, and from `way` 4 on mirrored before."""
    return torch.rot90(x.flip(-1) if way >= 4 else x, way % 4, (-2, -1))


def turn_back(x: Tensor, way: int) -> Tensor:
    """What `turn` did, undone."""
    x = torch.rot90(x, -(way % 4), (-2, -1))
    return x.flip(-1) if way >= 4 else x


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
