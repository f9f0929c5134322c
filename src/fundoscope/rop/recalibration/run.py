"""`fundoscope rop recalibrate`: a labelled cohort and a bundle in, the same network with local thresholds out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles.card import LOCAL, Card, CardFigure, DecisionThreshold, EyeDecision, Recalibration, Stage
from fundoscope.bundles.folder import rewrite_card
from fundoscope.bundles.training_hashes import read_training_hashes
from fundoscope.cohort import Audit, Cohort, Folds, Groups, ProblemKind, make_groups
from fundoscope.errors import CohortError, UsageError, counted, list_names
from fundoscope.evaluation import Estimate, estimates
from fundoscope.evaluation.decisions import LocalPoint
from fundoscope.outputs import new_file, refuse_overwriting
from fundoscope.rop.recalibration.answers import LocalAnswers, answer_cohort
from fundoscope.rop.recalibration.fit import (
    CrossFittedFigures,
    LocalCalibration,
    calibrate_locally,
    cross_fit,
    describe_targets,
    refuse_too_few,
)
from fundoscope.rop.screening.grader import RopGrader
from fundoscope.rop.study.plan import audit_cohort
from fundoscope.rop.study.questions import TREATMENT
from fundoscope.studies import Progress

#: Parts of the cohort for the cross-fitted figures.
PARTS = 5

#: Problems of a photograph or a label that stop a recalibration: a threshold rests on every one of them.
_FATAL_PROBLEMS = (ProblemKind.MISSING, ProblemKind.UNREADABLE, ProblemKind.TWO_LABELS, ProblemKind.TWO_INFANTS)

#: Figures of a card that depend on its temperature or threshold; they do not hold for others.
_OF_THE_THRESHOLD = ("sensitivity", "specificity", "accuracy", "brier", "ece", "decisions that change")

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class RecalibrationOptions:
    """What the command line asks for; `command` is the call as a person would type it again, for the card."""

    cohort: Path
    bundle: str
    out: Path
    sensitivity: float = 0.90
    independent: bool = False
    command: str = "fundoscope rop recalibrate"


@dataclass(frozen=True)
class LocalCohort:
    """A cohort after its audit: its groups, what they are called in the singular, and the bundle's answers."""

    cohort: Cohort
    groups: Groups
    answers: LocalAnswers

    @property
    def unit(self) -> str:
        """What a group is called: without infants each photograph is taken for another eye's, but for near-duplicates."""
        return "infant" if self.cohort.has_infants else "eye"

    @property
    def in_words(self) -> str:
        """Which photographs these are, for a card."""
        groups = counted(len(self.groups), self.unit)
        table = Path(self.cohort.name).name
        unknown = "" if self.cohort.has_infants else " (infants unknown: photographs are taken for independent)"
        return f"{counted(int(self.answers.graded.sum()), 'graded photograph')} of {groups} in {table}{unknown}"


def recalibrate(options: RecalibrationOptions, progress: Progress) -> Card:
    """Write the recalibrated bundle to `options.out` and tell what it is worth; returns its card.

    Raises `UsageError` where something lies at `out`, or the table has no infants, unless images are said to be independent;
    `CohortError` for photographs that cannot be used; `StudyError` where the cohort does not support the sensitivity, with
    those that it does and how many would be enough; `BundleError` for a bundle that cannot be used.
    """
    grader = RopGrader.open(options.bundle)
    cohort = Cohort.read(options.cohort)
    _check_place(options, grader, cohort)
    audit = audit_cohort(
        options.cohort, options.independent, _FATAL_PROBLEMS, "recalibration", progress, keep_prints=True
    )
    _refuse_known(grader, audit, progress)
    groups = make_groups(cohort, audit.pairs)
    del audit  # with the fingerprints of all photographs
    local = LocalCohort(cohort, groups, answer_cohort(grader, cohort, groups, progress))
    answers, card = local.answers, grader.bundle.card
    refuse_too_few(answers, options.sensitivity, local.unit)
    parts = [np.array(fold.test) for fold in Folds.make(cohort, groups, PARTS)]
    views, with_eyes = card.eye_decision.views, answers.decides_eyes
    fitted = calibrate_locally(answers, views, options.sensitivity, with_eyes)
    figures = cross_fit(answers, parts, views, options.sensitivity, with_eyes)
    made = rewrite_card(grader.bundle.folder, _changes(options, grader, local, fitted, figures), options.out)
    for line in _summary(grader, local, fitted, figures):
        progress.say(line)
    for doubt in made.doubts.values():
        progress.say(f"WARNING: {doubt}")
    return made


def _check_place(options: RecalibrationOptions, grader: RopGrader, cohort: Cohort) -> None:
    """Raise `UsageError` unless a bundle can be made at `out`, under the name of its folder."""
    inputs = [options.cohort, *cohort.paths, *grader.bundle.folder.iterdir()]
    refuse_overwriting(inputs, [options.out], [options.out])
    new_file(options.out, inputs)
    name = options.out.name
    if not (name.isascii() and name[:1].isalnum() and all(c.isalnum() or c in "._-" for c in name) and len(name) <= 60):
        raise UsageError(
            f"--out {options.out}: the folder's name becomes the bundle's, and '{name}' is none. "
            "Use up to 60 letters, digits, points and hyphens, such as clinic-2026."
        )
    if len(set(cohort.labels.tolist())) < 2:
        raise CohortError(
            f"{options.cohort}: all photographs have one label, and a threshold parts two. Add normal ones and ones with ROP."
        )


def _refuse_known(grader: RopGrader, audit: Audit, progress: Progress) -> None:
    """Raise `CohortError` for photographs that the bundle learnt from: it answers them too well, and its threshold would rise.

    The audit has read them all; nothing is read again.
    """
    hashes = read_training_hashes(grader.bundle.folder, grader.bundle.card)
    if hashes is None:
        progress.say("the bundle remembers no photograph: see to it yourself that it learnt from none of these")
        return

    found = progress.follow(audit.prints.items(), len(audit.prints), "looking for photographs that the bundle knows")
    cohort = audit.cohort
    files = {cohort.digests[row] for row, print_ in found if hashes.find(print_) is not None}
    known = [record.image for record, digest in zip(cohort, cohort.digests, strict=True) if digest in files]
    if known:
        raise CohortError(
            f"{cohort.name}: the bundle learnt from {counted(len(known), 'photograph')} of these, which it answers too well "
            f"to set a threshold on: {list_names(known)}. Remove these rows, and others of the same eyes."
        )


def _changes(
    options: RecalibrationOptions,
    grader: RopGrader,
    local: LocalCohort,
    fitted: LocalCalibration,
    figures: CrossFittedFigures,
) -> dict[str, object]:
    """The fields of the card that change; the network, its standard and the second question stay."""
    card, data = grader.bundle.card, local.in_words
    first = card.stages[0].model_copy(
        update={
            "temperature": fitted.temperature.value,
            "operating_point": _threshold(fitted.point, data, "photographs", local.unit),
        }
    )
    kept = [
        figure for figure in card.figures
        if not _is_of_the_threshold(figure.name) and not figure.name.startswith(LOCAL)
    ]  # fmt: skip
    return {
        "name": options.out.name,
        "created": type(card).model_fields["created"].get_default(call_default_factory=True),
        "fundoscope": type(card).model_fields["fundoscope"].get_default(call_default_factory=True),
        "commands": (*card.commands, options.command),
        "stages": (first, *card.stages[1:]),
        "eyes": _eye_decision(first, fitted, data, local.unit),
        "figures": (*_card_figures(figures, data), *kept),
        "recalibration": _origin(options, grader, local, fitted),
    }


def _is_of_the_threshold(name: str) -> bool:
    """Whether a figure was measured at the first question's own threshold, also by eye or by camera (`Neo: sensitivity`)."""
    of, _, metric = name.rpartition(": ")
    return metric in _OF_THE_THRESHOLD and of != TREATMENT


def _threshold(point: LocalPoint, data: str, units: str, group: str) -> DecisionThreshold:
    support = point.support
    return DecisionThreshold(
        threshold=point.threshold,
        rule=f"highest threshold that calls the positives of {support.hits} of {support.groups} {group}s, each counted once "
        f"by the share of its {units} called, for a sensitivity of {support.target:g}",
        data=data,
        n_positive=point.positives,
        sensitivity_bound=f"{point.called:.4g} of {support.groups} called there; for a new {group} there at least "
        f"{support.bound:.3f} with 95 % confidence, however alike {units} of one {group} are",
    )


def _eye_decision(stage: Stage, fitted: LocalCalibration, data: str, group: str) -> EyeDecision:
    if fitted.eye_point is None:
        return EyeDecision(views="any", operating_point=stage.operating_point, measured=False)
    views = cast(Literal["any", "second", "mean"], fitted.views)
    of_eyes = f"{fitted.eye_point.n} eyes of {data}"
    return EyeDecision(views=views, operating_point=_threshold(fitted.eye_point, of_eyes, "eyes", group), measured=True)


def _card_figures(figures: CrossFittedFigures, data: str) -> list[CardFigure]:
    on = f"{data}, cross-fitted in {figures.parts} parts by group"
    named = {**figures.photographs, **{f"{name} by eye": each for name, each in figures.eyes.items()}}
    return [_card_figure(f"{LOCAL}{name}", each, on) for name, each in named.items() if np.isfinite(each.value)]


def _card_figure(name: str, estimate: Estimate, on: str) -> CardFigure:
    low, high = (round(end, 4) if np.isfinite(end) else None for end in (estimate.low, estimate.high))
    return CardFigure(name=name, value=round(estimate.value, 4), low=low, high=high, n=estimate.n, on=on)


def _origin(
    options: RecalibrationOptions, grader: RopGrader, local: LocalCohort, fitted: LocalCalibration
) -> Recalibration:
    card, answers, identity = grader.bundle.card, local.answers, grader.identity
    return Recalibration(
        source=card.name, source_created=card.created, source_digest=identity.digest,
        source_temperature=card.stages[0].temperature, source_threshold=card.stages[0].operating_point.threshold,
        cohort=options.cohort.name, cohort_sha256=local.cohort.sha256, photographs=len(local.cohort),
        graded=int(answers.graded.sum()), refused=int((~answers.graded).sum()),
        refused_positives=answers.refused_positives, positives=fitted.point.positives, groups=len(local.groups),
        positive_groups=fitted.point.support.groups, group_rule=local.groups.rule, target=options.sensitivity,
        bound=fitted.stated.support.bound,
    )  # fmt: skip


def _summary(grader: RopGrader, local: LocalCohort, fitted: LocalCalibration, figures: CrossFittedFigures) -> list[str]:
    """What a person waits for: the data, what they support, the point, and what it is worth beside the old one."""
    answers, point, stage = local.answers, fitted.point, grader.bundle.stage
    refused = int((~answers.graded).sum())
    lines = [
        f"data: {local.in_words}; {point.positives} with ROP, of {counted(point.support.groups, local.unit)}",
        f"refused, in no figure: {counted(refused, 'photograph')}, {answers.refused_positives} of them with ROP",
        f"what {counted(point.support.groups, local.unit)} with ROP support, as a sensitivity with its bound:",
        *(f"  {line}" for line in describe_targets(point.support.groups)),
        f"temperature {stage.temperature:.3g} -> {fitted.temperature.value:.3g}",
        f"threshold of a photograph {stage.operating_point.threshold:.4f} -> {point.threshold:.4f}: "
        f"{point.called:.4g} of {point.support.groups} called",
    ]
    eye = fitted.eye_point
    if eye is not None:
        old = grader.bundle.card.eye_decision.operating_point.threshold
        lines.append(f"threshold of an eye ({fitted.views}) {old:.4f} -> {eye.threshold:.4f}, on {eye.n} eyes")
    elif grader.bundle.card.eye_decision.measured:
        lines.append("eyes: no eye has two graded views here, so that any view decides, at the photograph's threshold")
    stated = fitted.stated.support
    lines.append(
        f"for a new {local.unit} there the sensitivity is at least {stated.bound:.3f}, with 95 % confidence "
        f"({stated.hits} of {stated.groups}; wished for: {stated.target:g})"
    )
    lines += [f"before, {name}: {each}" for name, each in _before(grader, answers).items()]
    lines += [f"now, cross-fitted, {name}: {each}" for name, each in figures.photographs.items()]
    return [*lines, *(f"now, cross-fitted, {name} by eye: {each}" for name, each in figures.eyes.items())]


def _before(grader: RopGrader, answers: LocalAnswers) -> dict[str, Estimate]:
    """Sensitivity and specificity by photograph at the threshold that the bundle came with, which these never chose."""
    kept, stage = answers.graded, grader.bundle.stage
    p = stage.probabilities(np.column_stack([np.zeros(int(kept.sum())), answers.logits[kept]]))
    found = estimates(
        answers.labels[kept], p, metrics=("sensitivity", "specificity"), threshold=stage.operating_point.threshold,
        groups=answers.groups[kept].tolist(),
    )  # fmt: skip
    return {str(name): each for name, each in found.items()}
