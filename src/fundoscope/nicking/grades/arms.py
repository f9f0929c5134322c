"""What a study of grades compares: ours, ours without one of its parts, and the rivals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fundoscope.errors import UsageError, nearest
from fundoscope.learning import FitOptions
from fundoscope.networks.bilinear import GraderOptions

#: Rules on measured widths, and the one that looks at nothing.
RULES = ("nguyen", "roy", "majority")

#: What a study trains unless it is told otherwise: ours, paper 002's baseline, ours with one stream.
USUAL = ("ours", "one-stream", "baseline", "nguyen", "roy", "majority")
RIVALS = ("baseline", "one-stream", "mdtnet", *RULES, "masked")
ABLATION = ("ours", "no-transfer", "plain-pyramid", "no-excitation", "side-by-side", "plain-head", "pseudo")
NAMES = tuple(dict.fromkeys((*ABLATION, *RIVALS, "shuffled")))


@dataclass(frozen=True)
class GradeRecipe:
    """Every number of the training: the network, the fit, views of each patch, and the light or full rivals."""

    name: str
    network: GraderOptions
    fit: FitOptions
    views: int = 8


@dataclass(frozen=True)
class GradeArm:
    """One way of grading. `network` is None for a rule; `transferred` starts from the crossing task's weights; `pseudo`
    learns from unlabelled patches as well; `masked` sees no middle; `shuffled` learns grades that were dealt anew.
    """

    name: str
    network: GraderOptions | None = None
    transferred: bool = False
    pseudo: bool = False
    masked: bool = False
    shuffled: bool = False


def names_of(given: str) -> tuple[str, ...]:
    """Names of arms from a list with commas, in which `usual`, `rivals`, `ablation` and `all` stand for several."""
    several = {"usual": USUAL, "rivals": RIVALS, "ablation": ABLATION, "all": NAMES}
    parts = [part.strip() for part in given.split(",") if part.strip()]
    return tuple(dict.fromkeys(name for part in parts for name in several.get(part, (part,)))) or USUAL


def arm_of(name: str, recipe: GradeRecipe) -> GradeArm:
    """The arm of that name (`NAMES`)."""
    ours = GradeArm(name, recipe.network, transferred=True)
    alone = replace(recipe.network, streams=1)
    arms = {
        "ours": ours,
        "no-transfer": replace(ours, transferred=False),
        "plain-pyramid": replace(ours, network=replace(recipe.network, pyramid="fpn")),
        "no-excitation": replace(ours, network=replace(recipe.network, excited=False)),
        "side-by-side": replace(ours, network=replace(recipe.network, pooled="side by side")),
        "plain-head": replace(ours, network=replace(recipe.network, head="plain")),
        "pseudo": replace(ours, pseudo=True),
        "one-stream": replace(ours, network=alone),
        "baseline": GradeArm(name, replace(alone, excited=False, pyramid="none", head="plain")),
        "mdtnet": GradeArm(name, recipe.network),
        "masked": replace(ours, masked=True),
        "shuffled": replace(ours, shuffled=True),
        **{rule: GradeArm(rule) for rule in RULES},
    }
    if name not in arms:
        raise UsageError(f"There is no way of grading '{name}': {nearest(name, NAMES)}")
    return arms[name]


def arms_of(names: Sequence[str], recipe: GradeRecipe) -> list[GradeArm]:
    """The arms of these names, each once, `ours` first where it is among them."""
    return [arm_of(name, recipe) for name in sorted(dict.fromkeys(names), key=lambda n: n != "ours")]


_FIT = FitOptions(epochs=15, patience=15, batch=16, learning_rate=1e-3, weight_decay=1e-2, average=0.97, smoothing=0.0)
_PAPER = GraderOptions(body="seresnet50", maps=256)

RECIPES = {
    "paper": GradeRecipe("paper", _PAPER, replace(_FIT, epochs=50)),
    "lite": GradeRecipe("lite", GraderOptions(frozen=2), _FIT, views=6),
    "tiny": GradeRecipe("tiny", GraderOptions(pretrained=False, maps=8), replace(_FIT, epochs=1, batch=4), views=1),
}


def recipe_of(name: str) -> GradeRecipe:
    """`paper`, `lite` or `tiny`; `UsageError` for another."""
    if name not in RECIPES:
        raise UsageError(f"There is no recipe '{name}': {nearest(name, tuple(RECIPES))}")
    return RECIPES[name]
