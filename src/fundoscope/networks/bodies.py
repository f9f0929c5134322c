"""Every body by its name: ours, timm's, and the papers' names for these."""

from __future__ import annotations

from torch import nn

from fundoscope.networks.efficientnet_lite import STAGES, LiteOptions, lite_body
from fundoscope.networks.scaling import UNIT, Scaling
from fundoscope.networks.timm_bodies import COMPARED_NETWORKS, TimmBody
from fundoscope.networks.tiny import TinyBody

#: EfficientNet-Lite0 without its last two stages and its last convolution.
CUT_LITE = "tf_efficientnet_lite0_stage5"
_LITE = {f"tf_efficientnet_lite{size}": (size, STAGES) for size in (0, 1, 2)} | {CUT_LITE: (0, 5)}

#: Names of bodies besides those of timm.
BODY_NAMES = (*_LITE, "tiny", *COMPARED_NETWORKS)


def build_body(
    name: str,
    size: int = 256,
    pretrained: bool = True,
    input_scaling: Scaling = UNIT,
    frozen_stages: int = 0,
) -> nn.Module:
    """The body of that name: (N, 3, `size`, `size`) scaled as `input_scaling` -> maps (N, `channels`, h, w).

    `name` is one of `BODY_NAMES`, or any of timm's. `pretrained` starts from ImageNet weights: EfficientNet-Lite's from
    its package, timm's from its hub or cache. EfficientNet-Lite then keeps the first `frozen_stages` of its seven stages
    as they are; the other bodies have no frozen stages. Raises `UsageError` naming the nearest network, `StudyError`
    for weights that cannot be fetched.
    """
    if name in _LITE:
        size, stages = _LITE[name]
        return lite_body(LiteOptions(size, pretrained, frozen_stages, input_scaling, stages))
    if name == "tiny":
        return TinyBody()
    return TimmBody(COMPARED_NETWORKS.get(name, name), size, pretrained, input_scaling)


def channels_of(body: nn.Module) -> int:
    """How many maps a body ends with."""
    channels = body.channels
    assert isinstance(channels, int)
    return channels
