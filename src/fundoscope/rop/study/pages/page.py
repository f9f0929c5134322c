"""The page that the sections stand on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fundoscope.reports import StudyPage, write_study_report
from fundoscope.rop.study.evaluate import Assessment
from fundoscope.rop.study.pages import clinic, gallery, results, sample
from fundoscope.rop.study.pages.checklists import checklists


def write_report(found: Assessment, folder: Path, stamps: Sequence[str]) -> Path:
    """Draw the figures into `folder`/figures and write `folder`/report.html; returns its path."""
    drawn = folder / "figures"
    drawn.mkdir(exist_ok=True)
    manifest, recipe = found.fits.study.manifest, found.fits.recipe
    page = StudyPage(
        title="Retinopathy of prematurity: is it there, and does it need treatment?",
        lead="Out-of-fold figures: every photograph was graded by networks that never saw it, nor any of its group; "
             "stopping, temperature, threshold and every choice between networks were settled on inner photographs.",
        stamps=tuple(stamps),
        facts={
            "recipe": recipe.name,
            "networks": ", ".join(f"{arm.name} ({arm.network})" for arm in found.arms),
            "folds": len(found.fits.folds), "seeds": found.fits.seeds, "photographs": len(found.material.cohort),
            "data (SHA-256)": manifest["cohort_sha256"],
            "versions": ", ".join(f"{name} {version}" for name, version in manifest["versions"].items()),
        },
        commands=manifest["commands"],
        sections=[
            *sample.sections(found, drawn), *results.sections(found, drawn), *clinic.sections(found, drawn),
            *gallery.sections(found, drawn), checklists(found, folder / "tables"),
        ],
    )  # fmt: skip
    report = folder / "report.html"
    write_study_report(report, page)
    return report
