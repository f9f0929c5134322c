"""The recipes: every number of a training in one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from fundoscope.errors import UsageError, nearest
from fundoscope.imaging import Standard
from fundoscope.learning import Augment, FitOptions

_LITE_MEAN, _LITE_DEVIATION = 127 / 255, 128 / 255  # EfficientNet-Lite's own scaling of its input (Google, 2020)


@dataclass(frozen=True)
class Rehearsal:
    """Training on `photographs` simulated infants' photographs, drawn from `seed`, before any real one."""

    photographs: int
    seed: int
    fit: FitOptions


@dataclass(frozen=True)
class Recipe:
    """A network, the standard of its input, its rehearsal on simulated eyes if any, and the options of its fit.

    `target_sensitivity` sets the operating point: the highest threshold that reaches it on inner data.
    """

    name: str
    network: str
    standard: Standard
    fit: FitOptions
    rehearsal: Rehearsal | None = None
    target_sensitivity: float = 0.9

    def with_network(self, network: str) -> Recipe:
        """The same recipe for another network: a comparison changes nothing else."""
        return replace(self, network=network)

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values, for the manifest of a study."""
        return {
            "name": self.name,
            "network": self.network,
            "standard": self.standard.model_dump(mode="json"),
            "fit": self.fit.as_json(),
            "rehearsal": asdict(self.rehearsal) if self.rehearsal else None,
            "target_sensitivity": self.target_sensitivity,
        }


RECIPES = {
    "lite": Recipe(
        "lite",
        "tf_efficientnet_lite0",
        Standard(size=256, mean=(_LITE_MEAN,) * 3, deviation=(_LITE_DEVIATION,) * 3),
        FitOptions(epochs=20, patience=10, batch=8, learning_rate=7e-4, warm_up=0.05, average=0.9),
        Rehearsal(800, 2026, FitOptions(epochs=6, patience=6, batch=16, learning_rate=1.5e-3, average=0.98)),
    ),
    "tiny": Recipe(
        "tiny",
        "tiny",
        Standard(size=64),
        FitOptions(
            epochs=6, patience=6, batch=16, learning_rate=5e-3, average=0.8,
            augment=Augment(light=0, sharpness=0, noise=0, encoding=0),
        ),
    ),
}  # fmt: skip


def recipe_of(name: str) -> Recipe:
    """The recipe of that name; `UsageError` names the nearest when there is none."""
    if name not in RECIPES:
        raise UsageError(f"There is no recipe '{name}': {nearest(name, RECIPES)}")
    return RECIPES[name]
