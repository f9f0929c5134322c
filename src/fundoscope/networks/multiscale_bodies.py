"""Bodies that give maps at strides 4, 8, 16 and 32, or the first of these, for a feature pyramid.

EfficientNet-Lite0 with its ImageNet weights (offline), or any convolutional network of timm: `seresnet50` (ResNet50 with
squeeze-and-excitation, Hu 2018, CVPR) is paper 002's. Their input is local contrast (`imaging.local_contrast`), whose mean is
about 0 and deviation about 1, as in the scaled photographs of ImageNet, and so it goes in as it is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from fundoscope.errors import UsageError
from fundoscope.networks.efficientnet_lite import LITE_SCALING, LiteOptions, lite_body
from fundoscope.networks.timm_bodies import COMPARED_NETWORKS, _created

STRIDES = (4, 8, 16, 32)
LITE = "tf_efficientnet_lite0"
SE_RESNET = "seresnet50"

_LITE_ENDS = (2, 3, 5, 7)  # how many stages of EfficientNet-Lite each of the four maps has behind it
_LITE_CHANNELS = (24, 40, 112, 320)


class MultiScaleBody(nn.Module):
    """(N, 3, H, W), H and W multiples of 32 -> maps "0" to "3" at most, (N, `channels[k]`, H / s, W / s) at s of `STRIDES`.

    With `fixed_norms` batch statistics stay as they were given: a detector's batches are too small to measure them.
    """

    def __init__(self, network: nn.Module, channels: Sequence[int], fixed_norms: bool) -> None:
        super().__init__()
        self.network = network
        self.channels, self.fixed_norms = tuple(channels), fixed_norms

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """The maps, finest first."""
        return OrderedDict((str(number), maps) for number, maps in enumerate(self.network(x)))

    def train(self, mode: bool = True) -> MultiScaleBody:
        """As usual, except for batch statistics that are fixed."""
        super().train(mode)
        for module in self.modules():
            if self.fixed_norms and isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


class _LiteStages(nn.Module):
    """(N, 3, H, W) -> the maps of EfficientNet-Lite0 at the first strides."""

    def __init__(self, pretrained: bool, frozen: int, levels: int) -> None:
        super().__init__()
        body = lite_body(LiteOptions(0, pretrained, frozen, given=LITE_SCALING))
        self.stem, self.stages = body.stem, body.stages[: _LITE_ENDS[levels - 1]]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)  # (N, 32, H/2, W/2)
        maps = []
        for number, stage in enumerate(self.stages, start=1):
            x = stage(x)
            if number in _LITE_ENDS:
                maps.append(x)
        return maps


def load_vessel_net_weights(body: MultiScaleBody, taught: Mapping[str, Tensor]) -> None:
    """Give EfficientNet-Lite0 the weights of a `VesselNet` (its state), as far as that goes: the first five of seven stages.

    Raises `UsageError` for another body.
    """
    if not isinstance(body.network, _LiteStages):
        raise UsageError(f"Only '{LITE}' can start from a network of maps. Take it, or start from ImageNet.")
    body.network.load_state_dict(taught, strict=False)  # its way up has no place here


def build_multiscale_body(
    name: str, pretrained: bool = True, frozen: int = 0, levels: int = len(STRIDES)
) -> MultiScaleBody:
    """The body of that name, as far as the first `levels` maps: `tf_efficientnet_lite0`, `seresnet50`, or any of timm's
    that has the four strides.

    `pretrained` starts from ImageNet weights and fixes batch statistics; the first `frozen` stages of EfficientNet-Lite0
    (of seven) then stay as they were. Raises `UsageError` for names that will not do, `StudyError` for weights
    that cannot be had.
    """
    if name == LITE:
        return MultiScaleBody(_LiteStages(pretrained, frozen, levels), _LITE_CHANNELS[:levels], fixed_norms=pretrained)
    if frozen:
        raise UsageError(f"Stages of '{name}' cannot be frozen. Ask for frozen=0, or take '{LITE}'.")
    name = COMPARED_NETWORKS.get(name, name)
    strides = list(_created(name, False, {"features_only": True}).feature_info.reduction())
    if not set(STRIDES) <= set(strides):
        raise UsageError(f"'{name}' gives maps at strides {strides}, not {STRIDES}. Take '{SE_RESNET}' or '{LITE}'.")
    taken = [strides.index(stride) for stride in STRIDES[:levels]]
    network = _created(name, pretrained, {"features_only": True, "out_indices": taken})
    return MultiScaleBody(network, network.feature_info.channels(), fixed_norms=pretrained)
