"""The shipped ROP grader: the study of `rop/recipes/shipped.toml`, run by `make weights-rop`.

The bundle goes where the package ships it, the tables into docs/results. Two hours on two cores; it goes on where it was
cut off.
"""

from __future__ import annotations

import shutil
import tomllib
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
from fundoscope.studies import Progress

#: Of a checkout of the project: where bundles and tables lie.
PROJECT = Path(__file__).resolve().parents[4]


def read_shipped_study() -> ShippedStudy:
    """What `shipped.toml` says."""
    return ShippedStudy.model_validate(tomllib.loads((FOLDER / "shipped.toml").read_text(encoding="utf-8")))


def shipped_options(table: Path, out: Path) -> StudyOptions:
    """The options of the shipped study on the cohort in `table`, in the folder `out`."""
    shipped = read_shipped_study()
    return StudyOptions(
        table, out, read_recipe(shipped.recipe), folds=shipped.folds, networks=shipped.arms, seeds=shipped.seeds, export=True,
        independent=shipped.images_are_independent, shuffles=shipped.shuffles, origin=shipped.origin,
    )  # fmt: skip


def ship(data: Path, out: Path, progress: Progress, project: Path = PROJECT) -> Path:
    """Run or continue the shipped study in `out` on the photographs in `data`; returns the folder of the shipped bundle.

    Raises `UsageError` where the photographs are not there.
    """
    shipped = read_shipped_study()
    cohort = _shipped_cohort(data, shipped)
    table = out.with_suffix(".csv")
    table.parent.mkdir(parents=True, exist_ok=True)
    cohort.write(table)
    run_study(shipped_options(table, out), progress)
    bundle = project / "src" / "fundoscope" / "shipped" / shipped.origin.name
    results = project / "docs" / "results" / shipped.results
    _replace(out / "bundle" / shipped.origin.name, bundle)
    _replace(out / "tables", results)
    shutil.copy(out / "results.json", results)
    return bundle


def rewrite_shipped_card(project: Path = PROJECT) -> Card:
    """Write the card of the shipped bundle as this version makes cards, without training; returns it.

    Its photographs do not tell infants apart, so that its rule for eyes is the photograph's and was never measured on eyes.
    """
    shipped = read_shipped_study()
    folder = project / "src" / "fundoscope" / "shipped" / shipped.origin.name
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
    cohort = _shipped_cohort(data, shipped)
    folder = project / "src" / "fundoscope" / "shipped" / shipped.origin.name
    return write_training_hashes(folder, PhotographHashes.of_photographs(cohort.paths))


def add_shipped_likeness(data: Path, project: Path = PROJECT) -> Card:
    """Write what the shipped study's photographs in `data` look like into the shipped bundle, without training; its card.

    Raises `UsageError` where the photographs are not there.
    """
    shipped = read_shipped_study()
    cohort = _shipped_cohort(data, shipped)
    folder = project / "src" / "fundoscope" / "shipped" / shipped.origin.name
    return write_likeness(folder, cohort.paths, make_groups(cohort, audit(cohort).pairs).numbers.tolist())


def _shipped_cohort(data: Path, shipped: ShippedStudy) -> Cohort:
    photographs = data / shipped.photographs
    if not photographs.is_dir():
        raise UsageError(f"{photographs} is not there. Give --data the folder that holds {shipped.photographs}.")
    return Cohort.from_folders(photographs)


def _replace(made: Path, place: Path) -> None:
    """Copy a folder to its place in the project, replacing what was there."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(made, place)
