"""MS-ROP, the teacher of paper 000: several networks see one photograph, and their last maps are fused place by place.

The maps are stacked, mixed by a 1x1 convolution, led through a ReLU (without it convolution and head would fold into one
matrix), averaged over places and led through one linear layer. At 256 px with
ResNet18, DenseNet121 and EfficientNet-B2: 512 + 1024 + 1408 = 2944 maps of 8x8, mixed to 256; 26.59 M parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fundoscope.errors import UsageError
from fundoscope.networks.bodies import build_body, channels_of
from fundoscope.networks.classifier import freeze_body_stages
from fundoscope.networks.scaling import UNIT, Scaling

#: Maps that remain after the fusion (paper 000, section 2.2.1).
MAPS = 256


@dataclass(frozen=True)
class FusionOptions:
    """What a teacher is fused from.

    `streams` are names of bodies, all of one stride; `maps` remain after the fusion, and `relu`
    makes them nonlinear as in paper 000. `size` is the side of the square
    input, `input_scaling` its scaling. `pretrained` starts the streams from ImageNet; those of EfficientNet-Lite then keep
    their first `frozen_stages`.
    """

    streams: tuple[str, ...] = ("resnet18", "densenet121", "efficientnet_b2")
    maps: int = MAPS
    relu: bool = True
    size: int = 256
    pretrained: bool = False
    input_scaling: Scaling = UNIT
    frozen_stages: int = 0


class Fused(nn.Module):
    """(N, 3, S, S) -> the fused maps (N, maps, S / 32, S / 32)."""

    def __init__(self, options: FusionOptions = FusionOptions()) -> None:
        super().__init__()
        bodies = [
            build_body(name, options.size, options.pretrained, options.input_scaling, options.frozen_stages)
            for name in options.streams
        ]
        self.streams = nn.ModuleList(bodies)
        self.mix = nn.Conv2d(sum(channels_of(body) for body in bodies), options.maps, 1)
        self.bend = nn.ReLU() if options.relu else nn.Identity()
        self.channels, self.names = options.maps, options.streams

    def freeze_stages(self, number: int) -> None:
        """Keep the first stages of those streams that have stages as they are."""
        for stream in self.streams:
            freeze_body_stages(stream, number)

    def forward(self, x: Tensor) -> Tensor:
        """The fused maps, which a student may imitate."""
        return self.bend(self.mix(self.stack_streams(x)))  # (N, 256, 8, 8)

    def stack_streams(self, x: Tensor) -> Tensor:
        """The maps of all streams, (N, 2944, 8, 8) for the paper's three at 256 px; `UsageError` for unequal strides."""
        maps = [stream(x) for stream in self.streams]  # (N, 512, 8, 8), (N, 1024, 8, 8), (N, 1408, 8, 8)
        if len({m.shape[2:] for m in maps}) > 1:
            sizes = ", ".join(f"{name} {tuple(m.shape[2:])}" for name, m in zip(self.names, maps, strict=True))
            raise UsageError(f"These streams give maps of different sizes ({sizes}). Choose streams of equal stride.")
        return torch.cat(maps, dim=1)
