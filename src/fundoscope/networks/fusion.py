"""MS-ROP, the teacher of paper 000: several networks look at one photograph, and their last maps are fused by places.

The maps are stacked, mixed by a 1x1 convolution, averaged over places and led through one linear layer. At 256 px with
ResNet18, DenseNet121 and EfficientNet-B2: 512 + 1024 + 1408 = 2944 maps of 8x8, mixed to 256; 26.59 M parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fundoscope.errors import UsageError
from fundoscope.networks.classifier import Classifier
from fundoscope.networks.timm_bodies import Body


@dataclass(frozen=True)
class FusionOptions:
    """`streams` are timm's names, all of one stride; `maps` remain after the fusion; `size` of the square input."""

    streams: tuple[str, ...] = ("resnet18", "densenet121", "efficientnet_b2")
    maps: int = 256
    size: int = 256
    classes: int = 2
    dropout: float = 0.0
    pretrained: bool = False


class Fused(nn.Module):
    """(N, 3, S, S) in [0, 1] -> the fused maps (N, maps, S / 32, S / 32)."""

    def __init__(self, options: FusionOptions) -> None:
        super().__init__()
        bodies = [Body(name, options.size, options.pretrained) for name in options.streams]
        self.streams = nn.ModuleList(bodies)
        self.mix = nn.Conv2d(sum(body.channels for body in bodies), options.maps, 1)
        self.names = options.streams

    def stacked(self, x: Tensor) -> Tensor:
        """The maps of all streams, (N, 2944, 8, 8) for the paper's three at 256 px; `UsageError` for unequal strides."""
        maps = [stream(x) for stream in self.streams]
        if len({m.shape[2:] for m in maps}) > 1:
            told = ", ".join(f"{name} {tuple(m.shape[2:])}" for name, m in zip(self.names, maps, strict=True))
            raise UsageError(f"These streams give maps of different sizes ({told}). Choose streams of equal stride.")
        return torch.cat(maps, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """The fused maps, which a student may imitate."""
        return self.mix(self.stacked(x))


def fusion(options: FusionOptions = FusionOptions()) -> Classifier:
    """The multi-stream classifier: average over places, one linear layer (equations 1 to 4 of the paper)."""
    return Classifier(Fused(options), options.maps, options.classes, options.dropout)
