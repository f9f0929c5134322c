"""`fundoscope rop study`: from a cohort to out-of-fold figures, a report and, if asked, a bundle.

Stage 1 of paper 000, without its leaks: normal against ROP, nested folds grouped by infant, every choice made on
inner photographs. The steps, each skipped when its result is there:

    audit        duplicates, unreadable files, one photograph under two labels
    folds.json   written once
    rehearsal/   the network's training on simulated eyes, where the recipe has one
    fits/        one folder a network, seed and fold
    int8/        what integer arithmetic costs, fold by fold
    results      tables, figures, report.html
    bundle       (--export) one network trained on every photograph
"""

from __future__ import annotations

import importlib.metadata
import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fundoscope.cohort import Cohort, Folds, Groups, Kind, audit, groups_of
from fundoscope.errors import CohortError, LeakError, UsageError
from fundoscope.rop.assess import Assessment
from fundoscope.rop.export import Origin, export_fold, final_bundle
from fundoscope.rop.fitting import Task, run_task
from fundoscope.rop.material import Material
from fundoscope.rop.pages import write_report
from fundoscope.rop.recipes import Recipe, recipe_of
from fundoscope.rop.rehearsal import rehearse
from fundoscope.rop.talking import Voice
from fundoscope.studies import Study

_PACKAGES = ("fundoscope", "torch", "lightning", "timm", "onnx", "onnxruntime", "numpy", "opencv-python-headless")

#: What no fold can mend.
_STOPPING = (Kind.MISSING, Kind.UNREADABLE, Kind.TWO_LABELS, Kind.TWO_INFANTS)

#: Stands on every page of a study whose table does not tell the infants apart.
INDEPENDENT = "Images assumed independent: the infants are unknown"


@dataclass(frozen=True)
class StudyOptions:
    """What the command line asked for; `networks` replaces the recipe's own, the first is the one that is exported."""

    cohort: Path
    out: Path
    recipe: str = "lite"
    folds: int = 5
    networks: tuple[str, ...] = ()
    seeds: int = 1
    export: bool = False
    independent: bool = False
    origin: Origin | None = None

    @cached_property
    def recipes(self) -> list[Recipe]:
        """The recipe, once for each network."""
        recipe = recipe_of(self.recipe)
        return [recipe.with_network(network) for network in self.networks] or [recipe]


def run_study(options: StudyOptions, voice: Voice, dry_run: bool = False) -> Path:
    """Run or continue the study in `options.out`; returns the path of its report (of its folder in a dry run)."""
    cohort = Cohort.read(options.cohort)
    if not cohort.has_infants and not options.independent:
        raise UsageError(
            f"{options.cohort}: no column 'infant' tells which photographs show the same infant, and figures from such folds "
            "are too good. Add the column, or say --images-are-independent if each photograph shows another eye."
        )
    groups = _audited_groups(cohort, voice)
    if dry_run:
        _tell_plan(options, cohort, groups, voice)
        return options.out
    study = Study.open(options.out, _manifest(options, cohort))
    folds = _folds(study, cohort, groups, options.folds)
    material = Material.of(cohort, groups, folds, options.recipes[0].standard)
    for recipe in options.recipes:
        rehearse(recipe, study, voice)
    _fit_all(options, study, material, voice)
    origin = options.origin or _origin_of(options)
    for fold in folds.folds:
        export_fold(Task(options.recipes[0], 0, fold), study, material.squares, origin)
    assessment = Assessment(study, material, options.recipes, options.seeds)
    stamps = () if cohort.has_infants else (INDEPENDENT,)
    assessment.write_tables(study.folder / "tables")
    report = write_report(assessment, study.folder, stamps)
    for line in assessment.lines():
        voice.say(line)
    if options.export:
        figures = assessment.card_figures()
        bundle = final_bundle(study, options.recipes[0], folds.folds, options.seeds, material.squares, origin, figures)
        voice.say(f"bundle: {bundle}")
        voice.say(f"next: fundoscope rop screen PHOTOS --bundle {bundle} --out DIR")
    voice.say(f"report: {report}")
    return report


def _audited_groups(cohort: Cohort, voice: Voice) -> Groups:
    """Groups with all pictures of one eye joined; photographs that cannot be used stop the study by name."""
    with voice.stages() as step:
        found = audit(cohort, progress=step)
    stopping = [problem for problem in found.problems if problem.kind in _STOPPING]
    if stopping:
        told = "; ".join(f"{problem.kind}: {', '.join(map(str, problem.paths))}" for problem in stopping[:5])
        kind = LeakError if any(problem.kind is Kind.TWO_INFANTS for problem in stopping) else CohortError
        raise kind(
            f"{cohort.name}: {len(stopping)} problems stop the study ({told}). "
            "Correct or remove these rows; `fundoscope cohort audit` shows them all."
        )
    if found.pairs:
        voice.say(f"audit: {len(found.pairs)} pairs show one eye; they are kept together in the folds")
    return groups_of(cohort, found)


def _manifest(options: StudyOptions, cohort: Cohort) -> dict[str, object]:
    return {
        "task": "rop stage 1",
        "recipes": [recipe.as_json() for recipe in options.recipes],
        "folds": options.folds,
        "seeds": options.seeds,
        "images_are_independent": options.independent,
        "cohort_sha256": cohort.sha256,
        "photographs": len(cohort),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "commands": [shlex.join(["fundoscope", *sys.argv[1:]])],
    }


def _folds(study: Study, cohort: Cohort, groups: Groups, k: int) -> Folds:
    path = study.folder / "folds.json"
    if path.exists():
        folds = Folds.read(path, cohort)
    else:
        folds = Folds.make(cohort, groups, k)
        folds.write(path)
    folds.check(cohort, groups)
    return folds


def _tasks(options: StudyOptions, folds: Folds) -> Iterator[Task]:
    """Fold by fold, so that a study that is cut off holds whole folds."""
    for recipe in options.recipes:
        for seed in range(options.seeds):
            yield from (Task(recipe, seed, fold) for fold in folds.folds)


def _fit_all(options: StudyOptions, study: Study, material: Material, voice: Voice) -> None:
    tasks = list(_tasks(options, material.folds))
    waiting = [task for task in tasks if not study.done(task.step)]
    voice.say(
        f"study: {study.folder}  photographs: {len(material.cohort)}  groups: {len(material.groups)}  "
        f"fits: {len(tasks)}, {len(tasks) - len(waiting)} of them done"
    )
    for task in voice.follow(waiting, len(waiting), "fitting"):
        start = time.perf_counter()
        run_task(task, study, material.variants)
        voice.row(task.step, time.perf_counter() - start)


def _origin_of(options: StudyOptions) -> Origin:
    return Origin(
        name=f"rop-{options.recipe}",
        trained_on=(f"the cohort {options.cohort.name}",),
        never_tested_on=("any other camera or hospital",),
        attributions=(),
        commands=(shlex.join(["fundoscope", *sys.argv[1:]]),),
    )


def _tell_plan(options: StudyOptions, cohort: Cohort, groups: Groups, voice: Voice) -> None:
    """What would run, and about how long: two steps of each network are timed."""
    from fundoscope.rop.timing import seconds_a_photograph

    folds = Folds.make(cohort, groups, options.folds)
    voice.say(f"{len(cohort)} photographs ({int(cohort.labels.sum())} rop), {len(groups)} groups: {groups.rule}")
    total = 0.0
    for recipe in options.recipes:
        each = seconds_a_photograph(recipe)
        for fold in folds.folds:
            majority = int(np.bincount(cohort.labels[list(fold.train)], minlength=2).max())
            total += options.seeds * recipe.fit.epochs * each * (2 * majority + len(fold.inner) / 3)
        voice.say(
            f"{recipe.network}: {options.seeds} seeds x {options.folds} folds x at most {recipe.fit.epochs} epochs, "
            f"{1000 * each:.0f} ms a photograph in training"
        )
    voice.say(f"at most about {total / 60:.0f} minutes on this machine; nothing was trained")
