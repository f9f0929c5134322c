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
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from torch import Tensor, nn

from fundoscope.errors import StudyError, UsageError, nearest
from fundoscope.networks.scaling import UNIT, Scaling, rescale

#: The networks that paper 000 compares with, in the sizes of its table 5 where it gives them, by timm's names. ResNet-RS50
#: has its 36 M parameters, and its 2.30 G multiply-accumulates at 160 px; SwinV2-B its 88 M, but its 7.70 G at no input that
#: we know; HaloNet H2, which timm lacks, its 9.40 M.
COMPARED_NETWORKS = {
    "resnet18": "resnet18",
    "densenet121": "densenet121",
    "efficientnet_b2": "efficientnet_b2",
    "mobilenetv1": "mobilenetv1_100",
    "mobilenetv2": "mobilenetv2_100",
    "vit": "vit_small_patch16_224",
    "resnet_rs": "resnetrs50",
    "swinv2": "swinv2_base_window8_256",
    "nest": "nest_tiny",
    "halonet": "halonet_h2",
    "deit": "deit_small_patch16_224",
}

HALONET_H2 = "halonet_h2"
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
    if name == HALONET_H2 and not pretrained:
        return _halonet_h2(**options)
    if name == HALONET_H2:
        raise StudyError(f"There are no ImageNet weights of '{name}'. Say --random-weights, or choose another network.")
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


def _halonet_h2(num_classes: int = 1000, self_attn_kwargs: dict[str, int] | None = None) -> nn.Module:
    """HaloNet H2 (Vaswani 2021, CVPR, table 1): blocks of 8 with a halo of 3, 3 + 3 + 11 + 3 of them, widened by 1.25."""
    stages = zip((3, 3, 11, 3), (80, 160, 320, 640), (1, 2, 2, 2), strict=True)  # blocks, maps, stride
    blocks = tuple(ByoBlockCfg(type="self_attn", d=d, c=maps, s=stride, gs=0, br=0.8) for d, maps, stride in stages)
    network = ByobNet(
        ByoModelCfg(
            blocks, stem_chs=64, stem_type="7x7", stem_pool="maxpool", self_attn_layer="halo",
            self_attn_kwargs={"block_size": 8, "halo_size": 3, **(self_attn_kwargs or {})},
        ),
        num_classes=num_classes,
    )  # fmt: skip
    scaling = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    network.pretrained_cfg = scaling  # ty: ignore[invalid-assignment]
    return network
