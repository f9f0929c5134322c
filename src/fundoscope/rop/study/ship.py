"""The ROP graders that ship: the studies of `rop/recipes/shipped.toml` and `shipped_nano.toml`, run by `make weights-rop` and
`make weights-nano`.

Each goes on where it was cut off. What it makes stays in its folder until it is installed: then the bundle goes where the package
ships it, the tables into docs/results.
"""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

from fundoscope.bundles.card import Card, unmeasured_eyes
from fundoscope.bundles.folder import rewrite_card
from fundoscope.bundles.read import verify_task
from fundoscope.bundles.training_hashes import write_training_hashes
from fundoscope.cohort import Cohort, audit, make_groups
from fundoscope.cohort.photograph_hashes import PhotographHashes
from fundoscope.errors import UsageError
from fundoscope.rop.recipes import FOLDER, ShippedStudy, read_recipe
from fundoscope.rop.screening.likeness import write_likeness
from fundoscope.rop.study.plan import StudyOptions
from fundoscope.rop.study.run import run_study
from fundoscope.runs.workers import WorkEngine
from fundoscope.studies import Progress

#: Of a checkout of the project: where bundles and tables lie.
PROJECT = Path(__file__).resolve().parents[4]
#: The bundles that ship, and the file of each one's study.
SHIPPED_STUDIES = {"rop": "shipped.toml", "nano": "shipped_nano.toml"}


def read_shipped_study(name: str = "rop") -> ShippedStudy:
    """What the file of a shipped bundle's study says."""
    return ShippedStudy.model_validate(tomllib.loads((FOLDER / SHIPPED_STUDIES[name]).read_text(encoding="utf-8")))


def shipped_options(table: Path, out: Path, name: str = "rop") -> StudyOptions:
    """The options of the study of the bundle `name` on the cohort in `table`, in the folder `out`."""
    shipped = read_shipped_study(name)
    return StudyOptions(
        table, out, read_recipe(shipped.recipe), folds=shipped.folds, networks=shipped.arms, seeds=shipped.seeds, export=True,
        independent=shipped.images_are_independent, shuffles=shipped.shuffles, origin=shipped.origin,
        simulated_stage=shipped.simulated_stage,
    )  # fmt: skip


def make_shipped_study(
    data: Path, out: Path, progress: Progress, name: str = "rop", engine: WorkEngine = WorkEngine()
) -> Path:
    """Run or continue the study of the bundle `name` in `out` on the photographs in `data`, its fits by `engine`; returns the folder
    of its bundle, not yet shipped.

    Raises `UsageError` where the photographs are not there.
    """
    shipped = read_shipped_study(name)
    cohort = shipped_cohort(data, shipped)
    table = out.with_suffix(".csv")
    table.parent.mkdir(parents=True, exist_ok=True)
    cohort.write(table)
    run_study(replace(shipped_options(table, out, name), engine=engine), progress)
    return out / "bundle" / shipped.origin.name


def install_shipped_study(out: Path, project: Path = PROJECT, name: str = "rop") -> Path:
    """Ship the bundle of the finished study in `out`, its tables into docs/results; returns the folder of the shipped bundle.

    Raises `UsageError` where the study has made no bundle yet.
    """
    shipped = read_shipped_study(name)
    made = out / "bundle" / shipped.origin.name
    if not made.is_dir() or not (out / "results.json").exists():
        raise UsageError(f"{out} holds no finished study. Run it to its end before its bundle is installed.")
    bundle = project / "src" / "fundoscope" / "shipped" / shipped.origin.name
    results = project / "docs" / "results" / shipped.results
    _replace(made, bundle)
    _replace(out / "tables", results)
    shutil.copy(out / "results.json", results)
    return bundle


def rewrite_shipped_card(project: Path = PROJECT) -> Card:
    """Write the card of the shipped bundle as this version makes cards, without training; returns it.

    Its photographs do not tell infants apart, so that its rule for eyes is the photograph's and was never measured on eyes.
    """
    shipped = read_shipped_study()
    folder = project / "src" / "fundoscope" / "shipped" / shipped.origin.name
    _check_origin(folder, shipped)
    if not shipped.images_are_independent:
        raise UsageError(
            "The shipped study knows its infants: make the bundle anew, so that its rule for eyes is measured."
        )
    known = {"eyes": unmeasured_eyes(verify_task(folder, Card).stages[0])}
    return rewrite_card(folder, {**known, "never_tested_on": tuple(shipped.origin.never_tested_on)})


def add_shipped_hashes(data: Path, project: Path = PROJECT) -> Card:
    """Write the hashes of the shipped study's photographs in `data` into the shipped bundle, without training; its card.

    Raises `UsageError` where the photographs are not there.
    """
    shipped = read_shipped_study()
    folder = project / "src" / "fundoscope" / "shipped" / shipped.origin.name
    _check_origin(folder, shipped)
    cohort = shipped_cohort(data, shipped)
    return write_training_hashes(folder, PhotographHashes.of_photographs(cohort.paths))


def add_shipped_likeness(data: Path, project: Path = PROJECT) -> Card:
    """Write what the shipped study's photographs in `data` look like into the shipped bundle, without training; its card.

    Raises `UsageError` where the photographs are not there.
    """
    shipped = read_shipped_study()
    folder = project / "src" / "fundoscope" / "shipped" / shipped.origin.name
    _check_origin(folder, shipped)
    cohort = shipped_cohort(data, shipped)
    return write_likeness(folder, cohort.paths, make_groups(cohort, audit(cohort).pairs).numbers.tolist())


def shipped_cohort(data: Path, shipped: ShippedStudy) -> Cohort:
    """The photographs in `data` that the shipped study learns from, with their cameras; `UsageError` where they are not there."""
    rows = []
    for each in shipped.photographs:
        folder = data / each.folder
        if not folder.is_dir():
            raise UsageError(f"{folder} is not there. Give --data the folder that holds {each.folder}.")
        rows += [
            {"image": f"{each.folder}/{record.image}", "label": record.label, "camera": each.camera}
            for record in Cohort.from_folders(folder)
        ]
    return Cohort.from_rows(rows, data, str(data))


def _check_origin(bundle: Path, shipped: ShippedStudy) -> None:
    """Raise `UsageError` where a bundle learnt from other photographs than the shipped study does: it must not be told of these."""
    if verify_task(bundle, Card).trained_on != shipped.origin.trained_on:
        raise UsageError(
            f"{bundle} learnt from other photographs than shipped.toml names. Run the study and install its bundle first: "
            "make weights-rop, then python benchmarks/weights_rop.py --install --out runs/weights-rop."
        )


def _replace(made: Path, place: Path) -> None:
    """Copy a folder to its place in the project, replacing what was there."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(made, place)
