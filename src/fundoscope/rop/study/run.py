"""`fundoscope rop study`: from a cohort to out-of-fold figures, a report and, if asked, a bundle.

Paper 000 without its leaks: normal against ROP, then ROP that needs treatment or not; a teacher, its student, and
whatever they are compared with; nested folds grouped by infant, every choice made on inner photographs. The steps, each
skipped when its result is there:

    audit        duplicates, unreadable files, one photograph under two labels
    folds.json   written once; both questions and all arms share it
    rehearsal/   training on simulated eyes, where the recipe has one
    fits/        one folder a question, arm, seed and fold; answers/ keeps what the teachers said
    int8/        what integer arithmetic costs, fold by fold
    results      tables, figures, report.html
    bundle       (--export) one network trained on every photograph
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from fundoscope.cohort import Cohort, Folds, Groups, ProblemKind, audit, make_groups
from fundoscope.errors import CohortError, LeakError, UsageError
from fundoscope.rop.recipes import USUAL, Arm, Recipe
from fundoscope.rop.study.calibrate import Fits
from fundoscope.rop.study.data import Material
from fundoscope.rop.study.evaluate import Assessment
from fundoscope.rop.study.export import Origin, export_fold, exported_arm
from fundoscope.rop.study.pages import write_report
from fundoscope.rop.study.pretraining import rehearse, simulated_eyes
from fundoscope.rop.study.questions import questions_of
from fundoscope.rop.study.refit import final_bundle
from fundoscope.rop.study.train import Task, in_order, run_task
from fundoscope.studies import Progress, Study, command, versions_of

_PACKAGES = ("fundoscope", "torch", "lightning", "timm", "onnx", "onnxruntime", "numpy", "opencv-python-headless")

#: What no fold can mend.
_STOPPING = (ProblemKind.MISSING, ProblemKind.UNREADABLE, ProblemKind.TWO_LABELS, ProblemKind.TWO_INFANTS)

#: Simulated photographs that join, without labels, where an arm is extended: a teacher must answer all their views.
_EXTENSION = 80

#: Stands on every page of a study whose table does not tell the infants apart.
INDEPENDENT = "Images assumed independent: the infants are unknown"


@dataclass(frozen=True)
class StudyOptions:
    """What the command line asked for: `networks` are names of arms (`Recipe.arm`), the usual ones where none is given;
    `prevalences` are shares of ill eyes for which predictive values are told.
    """

    cohort: Path
    out: Path
    recipe: Recipe
    folds: int = 5
    networks: tuple[str, ...] = ()
    seeds: int = 1
    export: bool = False
    independent: bool = False
    prevalences: tuple[float, ...] = ()
    shuffles: int = 0
    origin: Origin | None = None

    @cached_property
    def arms(self) -> list[Arm]:
        """What is trained, teachers first; a teacher that is needed joins unasked."""
        asked = [self.recipe.arm(name) for name in self.networks or USUAL]
        teachers = [self.recipe.arm(arm.teacher) for arm in asked if arm.teacher]
        return in_order({arm.name: arm for arm in (*teachers, *asked)}.values())


def run_study(options: StudyOptions, voice: Progress, dry_run: bool = False) -> Path:
    """Run or continue the study in `options.out`; returns the path of its report (of its folder in a dry run)."""
    cohort = Cohort.read(options.cohort)
    if not cohort.has_infants and not options.independent:
        raise UsageError(
            f"{options.cohort}: no column 'infant' tells which photographs show the same infant, and figures from such folds "
            "are too good. Add the column, or say --images-are-independent if each photograph shows another eye."
        )
    arms = options.arms  # an unknown name is told before anything is read
    groups = _audited_groups(cohort, voice)
    if dry_run:
        _tell_plan(options, cohort, groups, voice)
        return options.out
    study = Study.open(options.out, _manifest(options, cohort))
    folds = _folds(study, cohort, groups, options.folds)
    material = Material.of(cohort, groups, folds, options.recipe.standard)
    for arm in arms:
        rehearse(options.recipe, arm, study, voice)
    if any(arm.extended for arm in arms) and options.recipe.rehearsal is not None:
        eyes = simulated_eyes(options.recipe, study, voice).squares
        few = replace(eyes, pixels=eyes.pixels[:_EXTENSION], labels=eyes.labels[:_EXTENSION])
        material = replace(material, simulated=few)
    _fit_all(options, study, material, voice)
    fits = Fits(study, options.recipe, folds.folds, options.seeds)
    return _conclude(options, fits, material, voice)


def _conclude(options: StudyOptions, fits: Fits, material: Material, voice: Progress) -> Path:
    """Everything after the fits: INT8, tables, the report, and the bundle if it was asked for."""
    study, origin = fits.study, options.origin or _origin_of(options)
    arm = exported_arm(fits, options.arms, material)
    for fold in fits.folds:
        export_fold(fits, arm, fold, material, origin)
    assessment = Assessment(fits, material, options.arms, arm, options.prevalences, options.shuffles)
    stamps = () if material.cohort.has_infants else (INDEPENDENT,)
    assessment.write_tables(study.folder / "tables")
    report = write_report(assessment, study.folder, stamps)
    for line in assessment.lines():
        voice.say(line)
    if options.export:
        bundle = final_bundle(fits, arm, material, origin, assessment.card_figures(), voice)
        voice.say(f"bundle: {bundle}")
        voice.say(f"next: fundoscope rop screen PHOTOS --bundle {bundle} --out DIR")
    voice.say(f"report: {report}")
    return report


def _audited_groups(cohort: Cohort, voice: Progress) -> Groups:
    """Groups with all pictures of one eye joined; photographs that cannot be used stop the study by name."""
    with voice.stages() as step:
        found = audit(cohort, progress=step)
    stopping = [problem for problem in found.problems if problem.kind in _STOPPING]
    if stopping:
        told = "; ".join(f"{problem.kind}: {', '.join(map(str, problem.paths))}" for problem in stopping[:5])
        kind = LeakError if any(problem.kind is ProblemKind.TWO_INFANTS for problem in stopping) else CohortError
        raise kind(
            f"{cohort.name}: {len(stopping)} problems stop the study ({told}). "
            "Correct or remove these rows; `fundoscope cohort audit` shows them all."
        )
    if found.pairs:
        voice.say(f"audit: {len(found.pairs)} pairs show one eye; they are kept together in the folds")
    return make_groups(cohort, found.pairs)


def _manifest(options: StudyOptions, cohort: Cohort) -> dict[str, object]:
    return {
        "task": "rop",
        "recipe": options.recipe.as_json(),
        "arms": [arm.name for arm in options.arms],
        "folds": options.folds,
        "seeds": options.seeds,
        "images_are_independent": options.independent,
        "cohort_sha256": cohort.sha256,
        "photographs": len(cohort),
        "versions": versions_of(_PACKAGES),
        "commands": [command()],
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


def _tasks(options: StudyOptions, material: Material) -> Iterator[Task]:
    """Fold by fold, so that a study that is cut off holds whole folds; teachers before students, stage 1 before 2."""
    for seed in range(options.seeds):
        for fold in material.folds.folds:
            for question in material.questions:
                yield from (Task(options.recipe, arm, question.name, seed, fold) for arm in options.arms)


def _fit_all(options: StudyOptions, study: Study, material: Material, voice: Progress) -> None:
    tasks = list(_tasks(options, material))
    waiting = [task for task in tasks if not study.done(task.step)]
    voice.say(
        f"study: {study.folder}  photographs: {len(material.cohort)}  groups: {len(material.groups)}  "
        f"fits: {len(tasks)}, {len(tasks) - len(waiting)} of them done"
    )
    if material.missing:
        voice.say(material.missing)
    for task in voice.follow(waiting, len(waiting), "fitting"):
        start = time.perf_counter()
        run_task(task, study, material)
        voice.row(task.step, time.perf_counter() - start)


def _origin_of(options: StudyOptions) -> Origin:
    return Origin(
        name=f"rop-{options.recipe.name}",
        trained_on=(f"the cohort {options.cohort.name}",),
        never_tested_on=("any other camera or hospital",),
        attributions=(),
        commands=(command(),),
    )


def _tell_plan(options: StudyOptions, cohort: Cohort, groups: Groups, voice: Progress) -> None:
    """What would run, and about how long: two steps of each network are timed."""
    from fundoscope.rop.study.duration import photographs_seen, seconds_a_photograph

    folds = Folds.make(cohort, groups, options.folds)
    questions, missing = questions_of(cohort, folds)
    voice.say(f"{len(cohort)} photographs ({int(cohort.labels.sum())} rop), {len(groups)} groups: {groups.rule}")
    voice.say(missing or "both questions: ROP, and whether it requires treatment")
    total = 0.0
    for arm in options.arms:
        each = seconds_a_photograph(options.recipe, arm)
        total += options.seeds * each * photographs_seen(arm, folds, questions)
        voice.say(
            f"{arm.name} ({arm.network}): {options.seeds} seeds x {options.folds} folds x at most {arm.fit.epochs} epochs, "
            f"{1000 * each:.0f} ms a photograph in training"
        )
    voice.say(f"at most about {total / 60:.0f} minutes on this machine; nothing was trained")
