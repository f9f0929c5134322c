"""What a study of grades compares: ours, the published system, that without one of its parts, and the rivals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fundoscope.errors import UsageError, nearest
from fundoscope.learning import FitOptions
from fundoscope.networks.nick_grader import GraderOptions

#: Rules on measured widths, and the one that looks at nothing.
RULES = ("nguyen", "roy", "majority")

#: What a study trains unless it is told otherwise: ours, paper 002's system and its baseline, and the rules.
USUAL = ("ours", "published", "baseline", *RULES)
RIVALS = ("baseline", "one-stream", "mdtnet", *RULES, "masked")
ABLATION = (
    "ours", "published", "no-transfer", "plain-pyramid", "no-excitation", "side-by-side", "ordinal-head", "pseudo",
)  # fmt: skip
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


def build_arm(name: str, recipe: GradeRecipe) -> GradeArm:
    """The arm of that name (`NAMES`)."""
    ours = GradeArm(name, recipe.network)
    alone = replace(recipe.network, streams=1)
    whole = replace(recipe.network, excited=True, pyramid="safpn", head="plain")
    published = GradeArm(name, whole, transferred=True)
    arms = {
        "ours": ours,
        "published": published,
        "no-transfer": replace(published, transferred=False),
        "plain-pyramid": replace(published, network=replace(whole, pyramid="fpn")),
        "no-excitation": replace(published, network=replace(whole, excited=False)),
        "side-by-side": replace(published, network=replace(whole, pooled="side by side")),
        "ordinal-head": replace(published, network=replace(whole, head="ordinal")),
        "one-stream": replace(published, network=replace(whole, streams=1)),
        "pseudo": replace(ours, pseudo=True),
        "baseline": GradeArm(name, replace(alone, excited=False, pyramid="none", head="plain")),
        "mdtnet": GradeArm(name, recipe.network),
        "masked": replace(ours, masked=True),
        "shuffled": replace(ours, shuffled=True),
        **{rule: GradeArm(rule) for rule in RULES},
    }
    if name not in arms:
        raise UsageError(f"There is no way of grading '{name}': {nearest(name, NAMES)}")
    return arms[name]


def build_arms(names: Sequence[str], recipe: GradeRecipe) -> list[GradeArm]:
    """The arms of these names, each once, `ours` first where it is among them."""
    return [build_arm(name, recipe) for name in sorted(dict.fromkeys(names), key=lambda n: n != "ours")]


_FIT = FitOptions(epochs=15, patience=15, batch=16, learning_rate=1e-3, weight_decay=1e-2, average=0.97, smoothing=0.0)
#: Two streams pooled bilinearly, and nothing else of paper 002: with a few hundred patches no other part can be told to help
#: (docs/explanation/nicking.md).
_LITE = GraderOptions(frozen_stages=2, excited=False, pyramid="none")
_PAPER = GraderOptions(body="seresnet50", maps=256)

RECIPES = {
    "paper": GradeRecipe("paper", _PAPER, replace(_FIT, epochs=50)),
    "lite": GradeRecipe("lite", _LITE, _FIT),
    "tiny": GradeRecipe(
        "tiny", replace(_LITE, pretrained=False, frozen_stages=0, maps=8), replace(_FIT, epochs=1, batch=4), views=1
    ),
}


def recipe_of(name: str) -> GradeRecipe:
    """`paper`, `lite` or `tiny`; `UsageError` for another."""
    if name not in RECIPES:
        raise UsageError(f"There is no recipe '{name}': {nearest(name, tuple(RECIPES))}")
    return RECIPES[name]
