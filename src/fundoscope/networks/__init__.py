"""The networks, one file each, shapes in comments; no training in here."""

from __future__ import annotations

from fundoscope.errors import UsageError, nearest
from fundoscope.networks.classifier import Classifier, count_parameters
from fundoscope.networks.efficientnet_lite import LiteOptions, efficientnet_lite
from fundoscope.networks.fusion import FusionOptions, fusion
from fundoscope.networks.timm_bodies import COMPARED, compared
from fundoscope.networks.tiny import TinyOptions, tiny
from fundoscope.networks.vessel_net import KINDS, VesselNet, VesselNetOptions

_BUILDERS = {
    "tf_efficientnet_lite0": lambda pretrained: efficientnet_lite(LiteOptions(0, pretrained)),
    "tf_efficientnet_lite1": lambda pretrained: efficientnet_lite(LiteOptions(1, pretrained)),
    "tf_efficientnet_lite2": lambda pretrained: efficientnet_lite(LiteOptions(2, pretrained)),
    "tiny": lambda pretrained: tiny(TinyOptions()),
}
NAMES = tuple(_BUILDERS)


def build(name: str, *, pretrained: bool = True) -> Classifier:
    """The two-class network of that name, from ImageNet weights where it has some; else `UsageError`."""
    if name not in _BUILDERS:
        raise UsageError(f"There is no network '{name}': {nearest(name, _BUILDERS)}")
    return _BUILDERS[name](pretrained)


__all__ = [
    "COMPARED",
    "KINDS",
    "NAMES",
    "Classifier",
    "FusionOptions",
    "VesselNet",
    "VesselNetOptions",
    "build",
    "compared",
    "count_parameters",
    "fusion",
]
