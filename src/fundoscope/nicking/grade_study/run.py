"""`fundoscope nicking study-grades`: graders of nicking compared on one table of patches (paper 002, section 6).

    folds_<seed>.json   by photograph, each with the upstream that has not seen its test part; written once
    shown/              views and maps of the patches, by upstream: all networks see the same ones
    fits/               a folder an arm, seed and fold, with curves, weights and answers
    tables/             figures, paired differences, shams, spoilt patches, out-of-fold predictions
    report.html         the same with curves, confusion matrices, and where the networks look

Each fit is skipped when it is there, and goes on where it was cut off.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fundoscope.errors import UsageError
from fundoscope.nicking.grade_study.detection import detect
from fundoscope.nicking.grade_study.evaluate import GradeAnswers
from fundoscope.nicking.grade_study.folds import make_grade_folds
from fundoscope.nicking.grade_study.patch_table import PatchRow, read_patch_table
from fundoscope.nicking.grade_study.perturbed import VARIANTS
from fundoscope.nicking.grade_study.study_arms import RECIPES, USUAL, GradeArm, GradeRecipe, build_arms
from fundoscope.nicking.grade_study.train import GradeFoldData, PatchTables, run_arm
from fundoscope.nicking.grade_study.transfer import Upstream, upstreams_free_of
from fundoscope.studies import Progress, Study, command, versions_of

_PACKAGES = ("fundoscope", "torch", "torchvision", "timm", "lightning", "numpy", "scikit-learn")


@dataclass(frozen=True)
class GradeOptions:
    """What the command line asked for: the `table` that is folded, `extra` tables that only train, `also` tables that are
    only tested, and folders of `upstream` tasks (none: the shipped maps, and nothing to transfer); with `detection` the
    paper's second detection step is repeated on the patches as well.
    """

    table: Path
    out: Path
    recipe: GradeRecipe = field(default_factory=lambda: RECIPES["lite"])
    names: tuple[str, ...] = USUAL
    folds: int = 4
    seeds: int = 1
    extra: tuple[Path, ...] = ()
    also: tuple[Path, ...] = ()
    upstream: tuple[Path, ...] = ()
    bundle: str = "nicking"
    detection: bool = False


def run_study(options: GradeOptions, voice: Progress) -> Path:
    """Run or continue the study in `options.out`; returns the path of its report."""
    from fundoscope.nicking.grade_study.pages import write_report

    arms = build_arms(options.names, options.recipe)
    tables = PatchTables(
        read_patch_table(options.table),
        [row for path in options.extra for row in read_patch_table(path)],
        {_name(path): read_patch_table(path) for path in options.also},
    )
    upstreams = [Upstream.read(folder) for folder in options.upstream] or [Upstream.from_bundle(options.bundle)]
    _check(options, tables, upstreams)
    for name in _untransferred(arms, upstreams):
        voice.say(
            f"{name}: not every upstream has a detector's weights to transfer; with those that have none it starts without"
        )
    study = Study.open(options.out, _manifest(options, tables, upstreams))
    folds = {seed: _folds(study, options, tables, upstreams, seed) for seed in range(options.seeds)}
    if options.detection:
        detect(folds[0], study, voice)
    where = _fit_all(study, arms, folds, voice)
    answers = GradeAnswers(folds, where, [arm.name for arm in arms], tuple(VARIANTS))
    answers.write_tables(study.folder / "tables")
    for line in answers.lines():
        voice.say(line)
    report = write_report(answers, study, options.recipe)
    voice.say(f"report: {report}")
    return report


def _name(table: Path) -> str:
    return table.parent.name if table.name == "patches.csv" else table.stem


def _check(options: GradeOptions, tables: PatchTables, upstreams: Sequence[Upstream]) -> None:
    """Names are what kept views and figures are told apart by; a tested photograph needs an upstream that has not seen it."""
    told = {"--also": ["own", *map(_name, options.also)], "--upstream": [each.name for each in upstreams]}
    for option, names in told.items():
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"{option}: '{twice}' would be the name of two. Rename one of the files or folders.")
    for rows in tables.others.values():
        for row in rows:
            upstreams_free_of(upstreams, row.photograph)


def _untransferred(arms: Sequence[GradeArm], upstreams: Sequence[Upstream]) -> list[str]:
    """The arms that were to start from a detector's weights, where an upstream has none."""
    if all(each.detector is not None for each in upstreams):
        return []
    return [arm.name for arm in arms if arm.transferred]


def _folds(
    study: Study, options: GradeOptions, tables: PatchTables, upstreams: Sequence[Upstream], seed: int
) -> list[GradeFoldData]:
    made = make_grade_folds(tables.rows, upstreams, options.folds, seed, study.folder / f"folds_{seed}.json")
    shown = study.folder / "shown"
    return [GradeFoldData(tables, fold, upstreams[fold.upstream], shown, options.recipe) for fold in made]


def _fit_all(
    study: Study, arms: Sequence[GradeArm], folds: dict[int, list[GradeFoldData]], voice: Progress
) -> dict[tuple[str, int, int], Path]:
    """Every arm, seed and fold; gives where each one's answers lie."""
    where = {}
    tasks = [(fold, seed, arm) for seed, each in folds.items() for fold in each for arm in arms]
    for fold, seed, arm in voice.follow(tasks, len(tasks), "fitting"):
        step = f"fits/{arm.name}/seed_{seed}/fold_{fold.fold.number}"
        if not study.done(step):
            with study.step(step) as folder:
                run_arm(arm, fold, seed, tuple(VARIANTS), folder)
            voice.say(f"{arm.name}, seed {seed}, fold {fold.fold.number}: done")
        where[arm.name, seed, fold.fold.number] = study.result(step)
    return where


def _manifest(options: GradeOptions, tables: PatchTables, upstreams: Sequence[Upstream]) -> dict[str, object]:
    return {
        "task": "grades",
        "patches": _counts(tables.rows),
        "extra": _counts(tables.extra),
        "also": {name: _counts(rows) for name, rows in tables.others.items()},
        "data": _checksum([*tables.rows, *tables.extra, *(row for rows in tables.others.values() for row in rows)]),
        "seeds": options.seeds,
        "upstream": [each.name for each in upstreams],
        "recipe": asdict(options.recipe),
        "folds": options.folds,
        "versions": versions_of(_PACKAGES),
        "commands": [command()],
    }


def _counts(rows: Sequence[PatchRow]) -> dict[str, int]:
    grades = {f"grade {grade}": sum(row.grade == grade for row in rows) for grade in range(4)}
    unknown = sum(row.grade is None for row in rows)
    return {**grades, "unlabelled": unknown, "photographs": len({row.photograph for row in rows})}


def _checksum(rows: Sequence[PatchRow]) -> str:
    """SHA-256 over all patches and what is known of them."""
    seen = hashlib.sha256()
    for row in rows:
        seen.update(repr((row.photograph, row.grade, row.span, row.vein_px, row.narrowing, row.sham)).encode())
        seen.update(row.path.read_bytes())
    return seen.hexdigest()
