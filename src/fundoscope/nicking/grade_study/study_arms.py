"""The arms of a study of grades: ours, the published system, that without one of its parts, and the rivals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fundoscope.errors import UsageError, nearest
from fundoscope.nicking.recipes.grades import GradeRecipe, GraderNetwork

#: Rules on measured widths, and the one that looks at no patch.
RULES = ("nguyen", "roy", "majority")

#: What a study compares where `--graders` names nothing else: ours, paper 002's system and its baseline, and the rules.
USUAL_GRADERS = ("ours", "published", "baseline", *RULES)
RIVALS = ("baseline", "one-stream", "mdtnet", *RULES, "masked")
ABLATION = (
    "ours", "published", "no-transfer", "plain-pyramid", "no-excitation", "side-by-side", "ordinal-head", "pseudo",
)  # fmt: skip
#: Ours with pseudo-labels; ours with few labels; and with few labels and pseudo-labels for what they leave.
LABELS = ("pseudo", "few-labels", "few-pseudo")
GRADER_NAMES = tuple(dict.fromkeys((*ABLATION, *RIVALS, *LABELS, "shuffled")))


#: The body of the same build without squeeze-and-excitation.
UNEXCITED_BODIES = {"seresnet50": "resnet50"}


@dataclass(frozen=True)
class GradeArm:
    """One way of grading that a study compares.

    `network` is None for a rule. `team` trains MDTNet in its place. `transferred` starts from the crossing task's
    weights, `pseudo` also learns from unlabelled patches, `few` is told the grades of a part of the training crossings only,
    `masked` sees no middle of a patch, `shuffled` learns grades that were dealt at random.
    """

    name: str
    network: GraderNetwork | None = None
    team: bool = False
    transferred: bool = False
    pseudo: bool = False
    few: bool = False
    masked: bool = False
    shuffled: bool = False


def parse_grader_names(text: str) -> tuple[str, ...]:
    """Names of arms from a list with commas, in which `usual`, `rivals`, `ablation`, `labels` and `all` stand for several."""
    several = {"usual": USUAL_GRADERS, "rivals": RIVALS, "ablation": ABLATION, "labels": LABELS, "all": GRADER_NAMES}
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return tuple(dict.fromkeys(name for part in parts for name in several.get(part, (part,)))) or USUAL_GRADERS


def build_arm(name: str, recipe: GradeRecipe) -> GradeArm:
    """The arm of a name of `GRADER_NAMES`; `UsageError` for another."""

    def changed(network: GraderNetwork, **fields: Any) -> GraderNetwork:
        return network.model_copy(update=fields)

    ours = GradeArm(name, recipe.network)
    whole = changed(recipe.network, excited=True, pyramid="safpn", head="plain")
    published = GradeArm(name, whole, transferred=True)
    unexcited = {"excited": False, "body": UNEXCITED_BODIES.get(recipe.network.body, recipe.network.body)}
    arms = {
        "ours": ours,
        "published": published,
        "no-transfer": replace(published, transferred=False),
        "plain-pyramid": replace(published, network=changed(whole, pyramid="fpn")),
        "no-excitation": replace(published, network=changed(whole, **unexcited)),
        "side-by-side": replace(published, network=changed(whole, pooled="side by side")),
        "ordinal-head": replace(published, network=changed(whole, head="ordinal")),
        "one-stream": replace(published, network=changed(whole, streams=1)),
        "pseudo": replace(ours, pseudo=True),
        "few-labels": replace(ours, few=True),
        "few-pseudo": replace(ours, few=True, pseudo=True),
        "baseline": GradeArm(name, changed(recipe.network, streams=1, pyramid="none", head="plain", **unexcited)),
        "mdtnet": replace(ours, team=True),
        "masked": replace(ours, masked=True),
        "shuffled": replace(ours, shuffled=True),
        **{rule: GradeArm(rule) for rule in RULES},
    }
    if name not in arms:
        raise UsageError(f"There is no way of grading '{name}': {nearest(name, GRADER_NAMES)}")
    return arms[name]


def build_arms(names: Sequence[str], recipe: GradeRecipe) -> list[GradeArm]:
    """The arms of these names, each once, `ours` first where it is among them."""
    return [build_arm(name, recipe) for name in sorted(dict.fromkeys(names), key=lambda n: n != "ours")]
