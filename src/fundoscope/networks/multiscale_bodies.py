"""Bodies that give maps at several strides: timm's `features_only` networks, with EfficientNet-Lite's weights offline.

Feature pyramids (`CrossingDetector`, `NickGrader`) read the strides 4, 8, 16 and 32; `VesselNet` reads 2, 4, 8 and 16.
`seresnet50` (ResNet50 with squeeze-and-excitation, Hu 2018, CVPR) is paper 002's body. The input is local contrast
(`imaging.local_contrast`), whose mean is about 0 and deviation about 1. ImageNet's photographs are scaled to the same
mean and deviation, so the input goes in unchanged.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from fundoscope.errors import UsageError
from fundoscope.networks.classifier import freeze
from fundoscope.networks.efficientnet_lite import imagenet_weights
from fundoscope.networks.timm_bodies import COMPARED_NETWORKS, create_network

STRIDES = (4, 8, 16, 32)
LITE = "tf_efficientnet_lite0"
SE_RESNET = "seresnet50"


class MultiScaleBody(nn.Module):
    """(N, 3, H, W) -> maps "0", "1", ..., finest first: (N, `channels[k]`, H / s, W / s) for each stride s.

    H and W are multiples of 32. With `fixed_norms` batch statistics stay as they are also in training: a detector's
    batches of two photographs are too small to measure them.
    """

    def __init__(self, network: nn.Module, channels: Sequence[int], fixed_norms: bool) -> None:
        super().__init__()
        self.network = network
        self.channels, self.fixed_norms = tuple(channels), fixed_norms

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """The maps, finest first."""
        return OrderedDict((str(number), maps) for number, maps in enumerate(self.network(x)))

    def train(self, mode: bool = True) -> MultiScaleBody:
        """Training mode as usual, except for batch statistics that are fixed."""
        super().train(mode)
        for module in self.modules():
            if self.fixed_norms and isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def build_multiscale_body(
    name: str, pretrained: bool = True, frozen_stages: int = 0, strides: Sequence[int] = STRIDES
) -> MultiScaleBody:
    """The body of that name, cut after the last of the `strides`.

    `name` is `tf_efficientnet_lite0`, `seresnet50`, or any network of timm that has these strides. `pretrained` starts
    from ImageNet weights and fixes the batch statistics. The first `frozen_stages` of EfficientNet-Lite0's seven then
    stay as they are. Raises `UsageError` for a name or an option that does not fit, `StudyError` for weights that
    cannot be fetched.
    """
    if frozen_stages and name != LITE:
        raise UsageError(f"Stages of '{name}' cannot be frozen. Ask for frozen_stages=0, or take '{LITE}'.")
    network = _lite_features(pretrained, strides) if name == LITE else _timm_features(name, pretrained, strides)
    if pretrained and frozen_stages:
        lite = network.model
        freeze([lite.conv_stem, lite.bn1, *list(lite.blocks)[:frozen_stages]])
    return MultiScaleBody(network, network.feature_info.channels(), fixed_norms=pretrained)


def _lite_features(pretrained: bool, strides: Sequence[int]) -> Any:
    taken = [(2, 4, 8, 16, 32).index(stride) for stride in strides]  # 16, 24, 40, 112 and 320 maps
    # timm's "getter" also drops the stages behind the last stride that is taken
    network = create_network("efficientnet_lite0", False, features_only=True, feature_cls="getter", out_indices=taken)
    if pretrained:
        weights, kept = imagenet_weights(0), network.model.state_dict()
        network.model.load_state_dict({name: weights[name] for name in kept})
    return network


def _timm_features(name: str, pretrained: bool, strides: Sequence[int]) -> Any:
    name = COMPARED_NETWORKS.get(name, name)
    there = list(create_network(name, False, features_only=True, num_classes=0).feature_info.reduction())
    if not set(strides) <= set(there):
        raise UsageError(f"'{name}' gives maps at strides {there}, not {strides}. Take '{SE_RESNET}' or '{LITE}'.")
    taken = [there.index(stride) for stride in strides]
    return create_network(name, pretrained, features_only=True, num_classes=0, out_indices=taken)


def load_vessel_net_weights(body: MultiScaleBody, state: Mapping[str, Tensor]) -> None:
    """Give EfficientNet-Lite0 the weights of a `VesselNet` (its state dict): the stem and the first five of seven stages.

    Raises `UsageError` for another body, or where a weight of these stages is missing from `state`.
    """
    own = body.network.state_dict()
    shared = {name: state[f"body.network.{name}"] for name in own if f"body.network.{name}" in state}
    if not any(name.startswith("model.conv_stem") for name in shared):
        raise UsageError(f"Only '{LITE}' can start from a VesselNet. Choose that body, or start from ImageNet.")
    body.network.load_state_dict({**own, **shared})
