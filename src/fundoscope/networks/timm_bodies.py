"""Any timm network as a body: one input for all, the last maps out, whatever the network's own layout.

The input is (N, 3, S, S) in one scaling. Each body rescales it to the means and deviations that its own weights were
trained with, so that several bodies can share one input. Convolutional networks give their last maps; transformers
give their tokens laid out as maps, without class tokens. These are the maps before timm's own head (`forward_features`):
timm's `features_only` would leave out the last convolution of EfficientNet and MobileNet, 1280 maps and more.
"""

from __future__ import annotations

import math
from typing import Any

import timm
from torch import Tensor, nn

from fundoscope.errors import StudyError, UsageError, nearest
from fundoscope.networks.scaling import UNIT, Scaling, rescale

#: The networks that the papers compare with, by the name that timm gives a size that trains without a cluster.
COMPARED_NETWORKS = {
    "resnet18": "resnet18",
    "densenet121": "densenet121",
    "efficientnet_b2": "efficientnet_b2",
    "mobilenetv1": "mobilenetv1_100",
    "mobilenetv2": "mobilenetv2_100",
    "vit": "vit_small_patch16_224",
    "resnet_rs": "resnetrs50",
    "swinv2": "swinv2_tiny_window8_256",
    "nest": "nest_tiny",
    "halonet": "halonet26t",
    "deit": "deit_small_patch16_224",
}

_SIZED = ("vit", "deit", "nest", "swinv2")  # families whose layers depend on the size of the input


class TimmBody(nn.Module):
    """(N, 3, S, S) scaled as `input_scaling` -> the last maps (N, `channels`, S / stride, S / stride) of the timm network `name`."""

    def __init__(self, name: str, size: int = 256, pretrained: bool = False, input_scaling: Scaling = UNIT) -> None:
        super().__init__()
        self.network = create_network(name, pretrained, num_classes=0, **_size_options(name, size))
        self.channels = int(self.network.num_features)
        own = self.network.pretrained_cfg
        self.rescale = rescale(input_scaling, Scaling(tuple(own["mean"]), tuple(own["std"])))

    def forward(self, x: Tensor) -> Tensor:
        """The last maps."""
        features = self.network.forward_features(self.rescale(x))
        if features.ndim == 3:  # (N, tokens, C)
            patches = features[:, getattr(self.network, "num_prefix_tokens", 0) :]
            side = math.isqrt(patches.shape[1])
            return patches.transpose(1, 2).reshape(len(x), self.channels, side, side)
        return features if features.shape[1] == self.channels else features.permute(0, 3, 1, 2)  # Swin: channels last


def _size_options(name: str, size: int) -> dict[str, Any]:
    """Options by which some families learn the size of their input."""
    if name.startswith(_SIZED):
        return {"img_size": size}
    if name.startswith("halonet") and size < 256:  # blocks of attention that divide the last maps
        return {"self_attn_kwargs": {"block_size": max(1, size // 32), "halo_size": 1}}
    return {}


def create_network(name: str, pretrained: bool, **options: Any) -> Any:
    """Timm's network of that name, made with these options of `timm.create_model`.

    Raises `UsageError` for a name that timm does not have, `StudyError` where ImageNet weights cannot be fetched.
    """
    if not timm.is_model(name):
        raise UsageError(f"timm has no network '{name}': {nearest(name, timm.list_models())}")
    try:
        return timm.create_model(name, pretrained=pretrained, **options)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise StudyError(
            f"The ImageNet weights of '{name}' could not be fetched ({type(error).__name__}). Connect to the network once, "
            "so that timm keeps them, or say --random-weights."
        ) from error
