"""The networks: one file each, shapes in comments, no training."""

from __future__ import annotations

from fundoscope.networks.bodies import BODY_NAMES, build_body, channels_of
from fundoscope.networks.classifier import Classifier, count_parameters
from fundoscope.networks.fusion import Fused, FusionOptions
from fundoscope.networks.scaling import UNIT, Scaling
from fundoscope.networks.timm_bodies import COMPARED_NETWORKS
from fundoscope.networks.vessel_net import VESSEL_MAPS, VesselEnsemble, VesselNet, VesselNetOptions

_DROPOUT = 0.2  # before the head of EfficientNet-Lite, as its makers trained it


def build(
    name: str,
    *,
    pretrained: bool = True,
    size: int = 256,
    input_scaling: Scaling = UNIT,
    frozen_stages: int = 0,
    fusion_relu: bool = True,
) -> Classifier:
    """The two-class network of that name for square input of `size` pixels, scaled as `input_scaling`.

    `name` is one of `BODY_NAMES`, any of timm's, or several joined by `+`: streams that are fused (paper 000), with
    a ReLU behind the fusion unless `fusion_relu` is false. With
    `pretrained` the bodies start from ImageNet weights where they have some; those of EfficientNet-Lite then keep the
    first `frozen_stages` of their seven stages as they are. Raises `UsageError` for unknown names.
    """
    streams = tuple(name.split("+"))
    if len(streams) > 1:
        fused = FusionOptions(
            streams, relu=fusion_relu, size=size, pretrained=pretrained, input_scaling=input_scaling,
            frozen_stages=frozen_stages,
        )  # fmt: skip
        body = Fused(fused)
        return Classifier(body, body.channels, dropout=0.0)
    body = build_body(name, size, pretrained, input_scaling, frozen_stages)
    return Classifier(body, channels_of(body), dropout=_DROPOUT if "lite" in name else 0.0)


__all__ = [
    "BODY_NAMES",
    "COMPARED_NETWORKS",
    "UNIT",
    "VESSEL_MAPS",
    "Classifier",
    "Fused",
    "FusionOptions",
    "Scaling",
    "VesselEnsemble",
    "VesselNet",
    "VesselNetOptions",
    "build",
    "build_body",
    "count_parameters",
]
