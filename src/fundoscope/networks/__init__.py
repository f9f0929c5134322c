"""The networks, one file each, shapes in comments; no training in here."""

from __future__ import annotations

from fundoscope.networks.bodies import NAMES, body_of, channels_of
from fundoscope.networks.classifier import Classifier, count_parameters
from fundoscope.networks.fusion import Fused, FusionOptions
from fundoscope.networks.scaling import UNIT, Scaling
from fundoscope.networks.timm_bodies import COMPARED
from fundoscope.networks.vessel_net import KINDS, VesselNet, VesselNetOptions

_DROPOUT = 0.2  # before the head of EfficientNet-Lite, as its makers trained it


def build(name: str, *, pretrained: bool = True, size: int = 256, given: Scaling = UNIT) -> Classifier:
    """The two-class network of that name for square input of `size` pixels, scaled as `given`.

    `name` is one of `NAMES`, any of timm's, or several joined by `+`: streams that are fused (paper 000). With
    `pretrained` the bodies start from ImageNet weights where they have some. Raises `UsageError` for unknown names.
    """
    streams = tuple(name.split("+"))
    if len(streams) > 1:
        body = Fused(FusionOptions(streams, size=size, pretrained=pretrained, given=given))
        return Classifier(body, body.channels, dropout=0.0)
    body = body_of(name, size, pretrained, given)
    return Classifier(body, channels_of(body), dropout=_DROPOUT if "lite" in name else 0.0)


__all__ = [
    "COMPARED",
    "KINDS",
    "NAMES",
    "UNIT",
    "Classifier",
    "Fused",
    "FusionOptions",
    "Scaling",
    "VesselNet",
    "VesselNetOptions",
    "body_of",
    "build",
    "count_parameters",
]
