"""Step 9, with --export: the grader that learnt from all graded patches, as a bundle with the study's honest figures on its card.

    refit/ARM/seed_S/network.pt      trained on all photographs but those that choose epoch, temperature and minimum confidence
    bundle/own-nicking/              the vessel maps of the upstream, byte for byte, and this grader

The figures are those of the folds, whose graders had not seen the photographs that they were tested on. The grader that is
exported learnt from all of them, so no figure of its own can be given on them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from fundoscope.bundles.card import Attribution, CardFigure, GradeSettings, NickingCard
from fundoscope.bundles.golden import add_golden
from fundoscope.bundles.write_nicking import write_own_graders
from fundoscope.errors import StudyError, UsageError, counted
from fundoscope.evaluation.metrics import Estimate
from fundoscope.nicking.grade_study.folds import GradeFold
from fundoscope.nicking.grade_study.grade_predictions import GradePredictions, StudiedGrader
from fundoscope.nicking.grade_study.grade_tables import grade_figures
from fundoscope.nicking.grade_study.plan import GradePlan
from fundoscope.nicking.grade_study.prediction_table import CALIBRATION
from fundoscope.nicking.grade_study.refit import refit_graders
from fundoscope.nicking.grade_study.study_arms import GradeArm
from fundoscope.nicking.grading.crossing_patches import PATCH_SIDE
from fundoscope.studies import Progress
from fundoscope.vessels.grade_rule import GRADES, SPAN

RULE = "the lowest grade that is not exceeded with a probability over one half; {:.0%} of the inner patches are graded"
BUNDLE, NAME = "bundle", "own-nicking"
_ON_CARD = (
    "quadratic_kappa", "coverage", "kappa_covered", "error_covered", "kappa", "accuracy", "recall_2_or_3", "specificity_2_or_3",
)  # fmt: skip
_RANDOM = Attribution(name="random initial weights", licence="none")
_TIMM = Attribution(name="ImageNet weights of {}", licence="as their source states", citation="Wightman, timm, 2019")


def exportable_arms(arms: Sequence[GradeArm]) -> list[GradeArm]:
    """The arms whose network a bundle can hold: one network that sees whole patches and learnt true grades of all of them.

    Raises `UsageError` where there is none.
    """
    found = [arm for arm in arms if arm.network is not None and not (arm.team or arm.masked or arm.shuffled or arm.few)]
    if not found:
        raise UsageError("--export: none of --graders is a network that a bundle can hold. Add ours to --graders.")
    return found


def export_grader(plan: GradePlan, progress: Progress) -> Path:
    """Train the exported arm on everything and write its bundle, unless that is done; returns the bundle's folder.

    Of several arms that one is exported whose log loss on inner patches is lowest, the mean over folds and seeds.
    """
    log_loss = pd.read_csv(plan.study.folder / CALIBRATION).groupby("arm")["inner_log_loss"].mean()
    arms = [each for each in exportable_arms(plan.arms) if each.name in log_loss]
    if not arms:
        raise StudyError(
            f"{plan.study.folder}: no network that can be exported is trained in all folds yet. Run the command again."
        )
    arm = min(arms, key=lambda each: float(log_loss[each.name]))
    if plan.study.done(BUNDLE):
        progress.say("the bundle of an earlier --export is kept; remove the folder bundle to export again")
        return plan.study.result(BUNDLE) / NAME
    progress.say(f"exporting {arm.name}: trained on all graded patches")
    first = plan.folds[0][0]
    fold = replace(first, fold=GradeFold(0, first.fold.upstream, frozenset(), first.fold.inner))
    graders, minimum = refit_graders(arm, fold, list(plan.folds), plan.study)
    card = _describe(plan, arm, minimum)
    kappa = card.figures[0]
    if kappa.name != "quadratic_kappa" or kappa.low is None or kappa.low <= 0:
        progress.say(
            "WARNING: on its own folds this grader is not shown to be better than chance; the card's figures say so"
        )
    with plan.study.step(BUNDLE) as folder:
        write_own_graders(first.upstream.bundle, card, graders, folder / NAME, progress.say)
        add_golden(folder / NAME)
    return plan.study.result(BUNDLE) / NAME


def _describe(plan: GradePlan, arm: GradeArm, minimum: float) -> NickingCard:
    """The card of the bundle: that of the maps, with who graded what, and the figures of the folds."""
    first = plan.folds[0][0]
    maps, tables = first.upstream.bundle.card, first.tables
    rows = [row for row in tables.rows if row.grade is not None]
    photographs = {row.photograph for row in rows}
    by_grade = ", ".join(f"{sum(row.grade == k for row in rows)} of grade {k}" for k in range(GRADES))
    extra = sum(row.grade is not None for row in tables.extra)
    learnt = f"{counted(len(rows), 'graded patch')} of {counted(len(photographs), 'photograph')} ({by_grade})"
    learnt += f", and {counted(extra, 'patch')} that only trained" if extra else ""
    pretrained = arm.network is not None and arm.network.pretrained
    weights = _TIMM.model_copy(update={"name": _TIMM.name.format(plan.recipe.network.body)}) if pretrained else _RANDOM
    return maps.model_copy(update={
        "name": NAME, "created": NickingCard.model_fields["created"].get_default(call_default_factory=True),
        "fundoscope": NickingCard.model_fields["fundoscope"].get_default(call_default_factory=True),
        "recipe": plan.recipe.name, "seeds": tuple(plan.folds), "commands": tuple(plan.study.manifest["commands"]),
        "trained_on": (*(f"vessel maps: {each}" for each in maps.trained_on), f"grades: {learnt}"),
        "never_tested_on": ("any camera, clinic or reader other than those of these patches",),
        "figures": (*_figures(plan, arm), *maps.figures), "initial_weights": weights, "files": {},
        "attributions": tuple(dict.fromkeys((maps.initial_weights, *maps.attributions))), "parity_grades": None,
        "grades": GradeSettings(
            side=PATCH_SIDE, span=SPAN, networks=len(plan.folds), minimum_confidence=minimum,
            rule=RULE.format(plan.recipe.calibration.coverage), learnt_from=learnt,
        ),
    })  # fmt: skip


def _figures(plan: GradePlan, arm: GradeArm) -> Iterator[CardFigure]:
    """The figures of the folds' graders, each seed alone, and that of a grader which always says the commonest grade."""
    grades = GradePredictions.read(plan.study.folder).out_of_fold(StudiedGrader(arm.name))
    on = f"these patches, out of fold: {len(plan.folds[0])} folds by photograph, {counted(len(plan.folds), 'seed')}"
    seen = _seen_photographs(plan)
    if seen:
        on += f"; too good, since {counted(seen, 'photograph')} of them taught the vessel maps, by the name"
    figures = grade_figures(grades)
    for name in _ON_CARD:
        found = figures[name]
        assert isinstance(found, Estimate)
        if math.isfinite(found.value):
            low, high = (end if math.isfinite(end) else None for end in (found.low, found.high))
            yield CardFigure(name=name, value=found.value, low=low, high=high, n=found.n, on=on)
    commonest = max((grades.truth == k).mean() for k in range(GRADES))
    yield CardFigure(
        name="accuracy of the commonest grade alone", value=float(commonest), n=len(grades.truth), on="these patches"
    )


def _seen_photographs(plan: GradePlan) -> int:
    """How many photographs have the name, without folder and suffix, of one that taught the maps of the first upstream."""
    first = plan.folds[0][0]
    seen = {name.rpartition("/")[2] for name in first.upstream.seen_photographs}
    return len({row.photograph for row in first.tables.rows if Path(row.photograph).stem in seen})
