"""Step 1: patch tables and upstreams are read and checked; `study.json`, `transferred.json` and `folds_<seed>.json` are written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fundoscope.errors import UsageError, counted
from fundoscope.networks.nick_grader import GraderOptions, NickGrader
from fundoscope.nicking.grade_study.folds import GradeFoldData, PatchTables, make_grade_folds
from fundoscope.nicking.grade_study.patch_table import READERS, SETTLED, PatchRow, read_patch_table
from fundoscope.nicking.grade_study.prediction_table import OWN, TRANSFERRED
from fundoscope.nicking.grade_study.study_arms import USUAL_GRADERS, GradeArm, build_arms
from fundoscope.nicking.grade_study.transfer import Upstream, upstreams_free_of
from fundoscope.nicking.recipes.grades import GradeRecipe, read_grade_recipe
from fundoscope.runs.workers import WorkEngine
from fundoscope.studies import Progress, Study, command, versions_of, write_json
from fundoscope.vessels.grade_rule import GRADES

_PACKAGES = ("fundoscope", "torch", "torchvision", "timm", "lightning", "numpy", "scikit-learn")


@dataclass(frozen=True)
class GradeOptions:
    """The options of a study, as the command line gives them.

    `table` is folded; tables of `extra` only train, those of `also` are only tested. `upstream` are folders of the
    crossing task; where there is none the maps of `bundle` are used, and nothing can be transferred. With `detection` the
    second detection step of paper 002 is repeated on the patches as well. `engine` carries out the fits; `minutes` after
    the beginning no further fit begins. With `export` a grader of all patches is written as a bundle.
    """

    table: Path
    out: Path
    recipe: GradeRecipe = field(default_factory=lambda: read_grade_recipe("lite"))
    graders: tuple[str, ...] = USUAL_GRADERS
    folds: int = 4
    seeds: int = 1
    extra: tuple[Path, ...] = ()
    also: tuple[Path, ...] = ()
    upstream: tuple[Path, ...] = ()
    bundle: str = "nicking"
    detection: bool = False
    engine: WorkEngine = field(default_factory=WorkEngine)
    minutes: float | None = None
    export: bool = False


@dataclass(frozen=True)
class PlannedFit:
    """One arm in one fold of one seed; `step` is its folder in the study."""

    arm: GradeArm
    seed: int
    fold: GradeFoldData

    @property
    def name(self) -> str:
        """As messages have it."""
        return f"{self.arm.name}, seed {self.seed}, fold {self.fold.fold.number}"

    @property
    def step(self) -> str:
        """fits/ARM/seed_S/fold_F."""
        return f"fits/{self.arm.name}/seed_{self.seed}/fold_{self.fold.fold.number}"


@dataclass(frozen=True)
class GradePlan:
    """A study that is planned: its folder, its arms, and the folds of each seed."""

    study: Study
    arms: list[GradeArm]
    folds: dict[int, list[GradeFoldData]]
    recipe: GradeRecipe
    left_out: frozenset[tuple[str, int]] = frozenset()

    @property
    def fits(self) -> list[PlannedFit]:
        """All fits, by arm, then seed, then fold, but for those of arms' seeds that are `left_out`."""
        return [
            PlannedFit(arm, seed, fold)
            for arm in self.arms
            for seed, folds in self.folds.items()
            for fold in folds
            if (arm.name, seed) not in self.left_out
        ]

    def without(self, left_out: set[tuple[str, int]]) -> GradePlan:
        """The plan without these seeds of arms, (name, seed)."""
        return replace(self, left_out=self.left_out | left_out)


def plan_study(options: GradeOptions, progress: Progress) -> GradePlan:
    """Read and check everything, then begin the study in `options.out` or go on with it.

    Raises `UsageError` for a wrong call or table, `LeakError` for a patch that every upstream has seen, and `StudyError`
    where the folder holds another study.
    """
    arms = build_arms(options.graders, options.recipe)
    tables = PatchTables(
        read_patch_table(options.table),
        [row for path in options.extra for row in read_patch_table(path)],
        {_table_name(path): read_patch_table(path) for path in options.also},
    )
    if all(row.grade is None for row in tables.rows):
        raise UsageError(
            f"{options.table}: holds no patch whose grade is known. Fill in grade; in a table for two readers {SETTLED}, "
            f"or equal grades in {READERS[0]} and {READERS[1]}."
        )
    upstreams = [Upstream.read(folder) for folder in options.upstream] or [Upstream.from_bundle(options.bundle)]
    _refuse_equal_names("--also", [OWN, *map(_table_name, options.also)])
    _refuse_equal_names("--upstream", [each.name for each in upstreams])
    for rows in tables.others.values():
        for row in rows:
            upstreams_free_of(upstreams, row.photograph)
    for name in arms_without_weights(arms, upstreams):
        progress.say(
            f"{name}: not every upstream has a detector's weights to transfer; with those that have none it starts without"
        )
    seen = [row for row in tables.extra if all(row.photograph in each.seen_photographs for each in upstreams)]
    if seen:
        progress.say(
            f"{counted(len(seen), 'patch')} of --extra: every upstream has seen the photograph, so their maps flatter"
        )
    shares = measure_transfer(arms, upstreams)
    rows = [*tables.rows, *tables.extra, *(row for each in tables.others.values() for row in each)]
    read = [options.table, *options.extra, *options.also, *options.upstream, *(row.path for row in rows)]
    study = Study.open(options.out, _describe_study(options, tables, upstreams), read)
    write_json(study.folder / TRANSFERRED, shares)
    folds = {}
    for seed in range(options.seeds):
        path = study.folder / f"folds_{seed}.json"
        dealt = make_grade_folds(tables.rows, upstreams, options.folds, seed, options.recipe.folds, path)
        folds[seed] = [
            GradeFoldData(
                tables, fold, upstreams[fold.upstream], study.folder / "patches", options.recipe, tuple(upstreams)
            )
            for fold in dealt
        ]
        without = [fold.fold.number for fold in folds[seed] if not len(fold.unlabelled)]
        if without and any(arm.pseudo and not arm.few for arm in arms):
            raise UsageError(
                f"pseudo: in fold {', '.join(map(str, without))} of seed {seed} no training photograph has a patch without a "
                f"grade, so this arm would be trained exactly as ours is. Add patches with a blank grade to {options.table} or "
                "to a table of --extra, or leave pseudo out of --graders."
            )
    return GradePlan(study, arms, folds, options.recipe)


def _table_name(path: Path) -> str:
    return path.parent.name if path.name == "patches.csv" else path.stem


def _refuse_equal_names(option: str, names: Sequence[str]) -> None:
    """Raise `UsageError` for a name that stands there twice: it tells files on disk and rows of tables apart."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{option}: '{twice}' would be the name of two. Rename one of the files or folders.")


def measure_transfer(arms: Sequence[GradeArm], upstreams: Sequence[Upstream]) -> dict[str, dict[str, float]]:
    """The share of a stream's parameters that each transferred arm takes from each upstream's detector; 0 without one.

    Raises `UsageError` where the detector's weights do not fit the arm's streams.
    """
    shares: dict[str, dict[str, float]] = {}
    for arm in arms:
        if arm.transferred and arm.network is not None:
            untrained = arm.network.model_copy(update={"pretrained": False, "frozen_stages": 0})
            grader = NickGrader(GraderOptions(**untrained.model_dump()))
            shares[arm.name] = {
                each.name: 0.0 if each.detector is None else round(each.transfer_weights(grader), 3)
                for each in upstreams
            }
    return shares


def arms_without_weights(arms: Sequence[GradeArm], upstreams: Sequence[Upstream]) -> list[str]:
    """Names of the arms that start from a detector's weights, where not every upstream has a detector."""
    if all(each.detector is not None for each in upstreams):
        return []
    return [arm.name for arm in arms if arm.transferred]


def _describe_study(options: GradeOptions, tables: PatchTables, upstreams: Sequence[Upstream]) -> dict[str, object]:
    """What study.json says: data with counts and checksum, the whole recipe, folds, upstreams, versions."""
    every = [*tables.rows, *tables.extra, *(row for rows in tables.others.values() for row in rows)]
    checksum = hashlib.sha256()
    for row in every:
        checksum.update(repr((row.photograph, row.grade, row.span, row.vein_px, row.narrowing, row.sham)).encode())
        checksum.update(row.path.read_bytes())
    return {
        "task": "grades",
        "patches": _count_patches(tables.rows),
        "extra": _count_patches(tables.extra),
        "also": {name: _count_patches(rows) for name, rows in tables.others.items()},
        "data": checksum.hexdigest(),
        "seeds": options.seeds,
        "upstream": [each.name for each in upstreams],
        "recipe": options.recipe.model_dump(mode="json"),
        "folds": options.folds,
        "versions": versions_of(_PACKAGES),
        "commands": [command()],
    }


def _count_patches(rows: Sequence[PatchRow]) -> dict[str, int]:
    grades = {f"grade {grade}": sum(row.grade == grade for row in rows) for grade in range(GRADES)}
    unknown = sum(row.grade is None for row in rows)
    return {**grades, "unlabelled": unknown, "photographs": len({row.photograph for row in rows})}
