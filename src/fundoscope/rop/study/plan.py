"""Step 1, `study.json` and `folds.json`: what is asked for, whether the photographs can be used, and how they are divided."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort import Audit, Cohort, Fold, Folds, Groups, ProblemKind, audit, make_groups
from fundoscope.errors import CohortError, LeakError, StudyError, UsageError, counted
from fundoscope.rop.recipes import USUAL_ARMS, BundleOrigin, RopRecipe, StudyArm, teachers_first
from fundoscope.rop.study.questions import Question, answerable_questions
from fundoscope.runs.workers import WorkEngine, WorkItem
from fundoscope.studies import MANIFEST, Progress, Study, command, versions_of

#: Raise it with every change of the folder's layout: folders of another layout are refused.
LAYOUT = 3

_PACKAGES = ("fundoscope", "torch", "lightning", "timm", "onnx", "onnxruntime", "numpy", "opencv-python-headless")

#: Problems of a cohort that no dealing of folds can mend.
_FATAL_PROBLEMS = (
    ProblemKind.MISSING,
    ProblemKind.UNREADABLE,
    ProblemKind.TWO_LABELS,
    ProblemKind.TWO_INFANTS,
)


@dataclass(frozen=True)
class StudyOptions:
    """What the command line asks for.

    `networks` are names of arms or of networks (`RopRecipe.arm`), the usual arms where none is given. `prevalences` are the
    shares of ill eyes for which predictive values are computed, `shuffles` the runs of the control with shuffled labels.
    `tracker` is where losses go besides epochs.csv, and `engine` carries out the fits. Without `simulated_stage` no second stage is
    learnt from simulated eyes for a bundle.
    """

    cohort: Path
    out: Path
    recipe: RopRecipe
    folds: int = 5
    networks: tuple[str, ...] = ()
    seeds: int = 1
    export: bool = False
    independent: bool = False
    prevalences: tuple[float, ...] = ()
    shuffles: int = 0
    tracker: str = "csv"
    origin: BundleOrigin | None = None
    engine: WorkEngine = field(default_factory=WorkEngine)
    simulated_stage: bool = True

    @cached_property
    def arms(self) -> list[StudyArm]:
        """What is trained, teachers first; a teacher that a student needs is added."""
        named = [self.recipe.arm(name) for name in self.networks or USUAL_ARMS]
        teachers = [self.recipe.arm(arm.teacher) for arm in named if arm.teacher]
        return teachers_first(list({arm.name: arm for arm in (*teachers, *named)}.values()))


@dataclass(frozen=True)
class FitTask:
    """One fit of a study: the arm, the question's name, the seed, and the fold."""

    arm: StudyArm
    question: str
    seed: int
    fold: Fold

    @property
    def step(self) -> str:
        """Its folder within the study's."""
        return f"fits/{self.question}/{self.arm.name}/seed-{self.seed}/fold-{self.fold.number}"

    def with_arm(self, arm: StudyArm) -> FitTask:
        """The same fit of another arm."""
        return replace(self, arm=arm)


@dataclass(frozen=True)
class StudyPlan:
    """A study that may begin or go on: its folder, cohort, groups, folds and questions.

    `missing_question` says why there is no second question, "" where there is one. `camera_folds` are by camera the folds that
    learn from all others and test it, numbered after the `folds`; empty where the table tells no cameras apart.
    """

    options: StudyOptions
    study: Study
    cohort: Cohort
    groups: Groups
    folds: Folds
    questions: list[Question]
    missing_question: str = field(default="")
    camera_folds: Mapping[str, Fold] = field(default_factory=dict)

    @property
    def recipe(self) -> RopRecipe:
        """The study's recipe."""
        return self.options.recipe

    @property
    def arms(self) -> list[StudyArm]:
        """What is trained, teachers first."""
        return self.options.arms

    @property
    def folder(self) -> Path:
        """The folder of the study."""
        return self.study.folder

    def question(self, name: str) -> Question:
        """The question of that name."""
        return next(question for question in self.questions if question.name == name)

    def arm(self, name: str) -> StudyArm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    @cached_property
    def group_numbers(self) -> NDArray[np.int64]:
        """The number of each photograph's group, (n,)."""
        return np.array(self.groups.numbers)

    @cached_property
    def fold_rows(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Of each fold the rows that are not tested, and those that are."""
        return [(np.array([*fold.train, *fold.inner]), np.array(fold.test)) for fold in self.folds]

    def tasks(self) -> list[FitTask]:
        """Every fit: fold by fold, so that a study that is cut off holds whole folds; teachers first, stage 1 before 2."""
        return [
            FitTask(arm, question.name, seed, fold)
            for seed in range(self.options.seeds)
            for fold in self.folds
            for question in self.questions
            for arm in self.arms
        ]

    def camera_tasks(self) -> list[FitTask]:
        """The fits of the first question that leave out one camera, of which the table tells several apart."""
        return [
            FitTask(arm, self.questions[0].name, seed, fold)
            for seed in range(self.options.seeds)
            for fold in self.camera_folds.values()
            for arm in self.arms
        ]

    def all_tasks(self) -> list[FitTask]:
        """Every fit, seed by seed: those that are cut off are repeats."""
        return sorted([*self.tasks(), *self.camera_tasks()], key=lambda task: task.seed)

    def work_item(self, task: FitTask) -> WorkItem[FitTask]:
        """The fit as a piece of work: stage 2 begins from stage 1 of the same arm, a student with its teacher."""
        first = [replace(task, question=self.questions[0].name)] if task.question != self.questions[0].name else []
        teacher = [task.with_arm(self.recipe.arm(task.arm.teacher))] if task.arm.teacher else []
        return WorkItem(task.step, task, tuple(each.step for each in (*first, *teacher)))

    def tasks_of(self, arm: StudyArm, question: str) -> Iterator[FitTask]:
        """Every fit of one arm for one question, seed by seed."""
        for seed in range(self.options.seeds):
            yield from (FitTask(arm, question, seed, fold) for fold in self.folds)

    @property
    def origin(self) -> BundleOrigin:
        """What the card of a bundle says of where it comes from."""
        return self.options.origin or BundleOrigin(
            name=f"rop-{self.recipe.name}",
            trained_on=(f"the cohort {self.options.cohort.name}",),
            never_tested_on=("any other camera or hospital",),
            commands=(command(),),
        )


def make_plan(options: StudyOptions, progress: Progress) -> StudyPlan:
    """Audit the cohort, then begin the study in `options.out` or open the one that lies there.

    Raises `UsageError` for a cohort without infants unless images are said to be independent, `CohortError` or `LeakError`
    for photographs that cannot be used, `StudyError` for a folder that holds something else.
    """
    cohort, groups = audit_study_cohort(options, progress)
    _refuse_cameras_of_one_class(cohort)
    _refuse_other_layout(options.out)
    study = Study.open(options.out, _manifest(options, cohort), [options.cohort, *cohort.paths])
    path = study.folder / "folds.json"
    if not path.exists():
        divide(options, cohort, groups).write(path)
    folds = Folds.read(path, cohort)
    folds.check_groups(cohort, groups)
    questions, missing = answerable_questions(cohort, folds)
    if missing:
        progress.say(missing)
    return StudyPlan(
        options, study, cohort, groups, folds, questions, missing, leave_cameras_out(options, folds, cohort, progress)
    )


def leave_cameras_out(options: StudyOptions, folds: Folds, cohort: Cohort, progress: Progress) -> dict[str, Fold]:
    """For each camera a fold that tests it; one that its photographs do not allow is told and left out."""
    numbers, found = options.recipe.folds, {}
    for place, camera in enumerate(sorted(set(cohort.cameras))):
        try:
            found[camera] = folds.leave_out(cohort, camera, len(folds) + place, numbers.inner_share, numbers.seed)
        except CohortError as error:
            progress.say(f"nothing is trained without {camera}: {error}")
    return found


def divide(options: StudyOptions, cohort: Cohort, groups: Groups) -> Folds:
    """The folds that the recipe's numbers give; groups are never parted."""
    numbers = options.recipe.folds
    return Folds.make(cohort, groups, options.folds, inner=numbers.inner_share, seed=numbers.seed)


def audit_study_cohort(options: StudyOptions, progress: Progress) -> tuple[Cohort, Groups]:
    """The cohort, and its groups with all pictures of one eye joined; unusable photographs stop the study by name."""
    found = audit_cohort(options.cohort, options.independent, _FATAL_PROBLEMS, "study", progress)
    if found.pairs:
        progress.say(
            f"audit: {counted(len(found.pairs), 'pair')} of photographs may show one eye; kept together in the folds"
        )
    return found.cohort, make_groups(found.cohort, found.pairs)


def audit_cohort(
    table: Path,
    independent: bool,
    fatal_problems: Collection[ProblemKind],
    what: str,
    progress: Progress,
    keep_prints: bool = False,
) -> Audit:
    """The audit of a cohort of which figures are to be made; `fatal_problems` stop `what` is done with it, by name. The
    fingerprints, 80 kB a photograph, are left out unless `keep_prints`.

    Raises `UsageError` for a cohort without infants unless images are said to be `independent`.
    """
    cohort = Cohort.read(table)
    if not cohort.has_infants and not independent:
        raise UsageError(
            f"{table}: no column 'infant' tells which photographs show the same infant, and figures from such folds "
            "are too good. Add the column, or say --images-are-independent if each photograph shows another eye."
        )
    with progress.stages() as step:
        found = audit(cohort, progress=step)
    fatal = [problem for problem in found.problems if problem.kind in fatal_problems]
    if fatal:
        named = "; ".join(f"{problem.kind}: {', '.join(map(str, problem.paths))}" for problem in fatal[:5])
        kind = LeakError if any(problem.kind is ProblemKind.TWO_INFANTS for problem in fatal) else CohortError
        raise kind(
            f"{cohort.name}: {counted(len(fatal), 'problem')} {'stops' if len(fatal) == 1 else 'stop'} the {what} ({named}). "
            "Correct or remove these rows; `fundoscope cohort audit` shows them all."
        )
    return found if keep_prints else replace(found, prints={})


def _manifest(options: StudyOptions, cohort: Cohort) -> dict[str, object]:
    return {
        "task": "rop",
        "layout": LAYOUT,
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


def _refuse_cameras_of_one_class(cohort: Cohort) -> None:
    """Raise `CohortError` where each camera took one class only: whoever tells cameras apart then tells the classes apart."""
    cameras = np.array(cohort.cameras)
    if len(cameras) and all(len(set(cohort.labels[cameras == camera].tolist())) < 2 for camera in np.unique(cameras)):
        raise CohortError(
            f"{cohort.name}: no camera took photographs of both classes, so that nothing tells a grader of retinas from one of "
            "cameras. Add normal photographs and ones with ROP by one camera."
        )


def _refuse_other_layout(folder: Path) -> None:
    """Raise `StudyError` for a study that an earlier version made, with the command that remakes it."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # no study there, or a broken one: `Study.open` says so
    if isinstance(manifest, dict) and manifest.get("layout") != LAYOUT:
        remake = (manifest.get("commands") or ["fundoscope rop study COHORT.csv --out NEW_FOLDER"])[-1]
        raise StudyError(
            f"{folder} holds a study of another version of Fundoscope, whose files this one does not read. "
            f"Remake it in a new folder: {remake} (with another --out)."
        )
