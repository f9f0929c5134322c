"""The page that the sections stand on."""

from __future__ import annotations

from pathlib import Path

from fundoscope.reports import StudyPage, write_study_report
from fundoscope.rop.study.pages import accuracy, clinic, gallery, sample
from fundoscope.rop.study.pages.checklists import checklists
from fundoscope.rop.study.pages.files import StudyFiles
from fundoscope.rop.study.results import RESULTS

#: Stands on every page of a study whose table does not tell the infants apart.
INDEPENDENT = "Images assumed independent: the infants are unknown"


def write_report(folder: Path) -> Path:
    """Draw the figures into `folder`/figures and write `folder`/report.html, unless it is there; returns its path."""
    report = folder / "report.html"
    if report.exists() and report.stat().st_mtime_ns >= (folder / RESULTS).stat().st_mtime_ns:
        return report
    files = StudyFiles.read(folder)
    results, manifest = files.results, files.manifest
    page = StudyPage(
        title="Retinopathy of prematurity: is it there, and does it need treatment?",
        lead="Out-of-fold figures: every photograph was graded by networks that never saw it, nor any of its group; "
             "stopping, temperature, threshold and every choice between networks were settled on inner photographs.",
        stamps=() if results["sample"]["infants"] else (INDEPENDENT,),
        facts={
            "recipe": manifest["recipe"]["name"],
            "networks": ", ".join(f"{row['network']} ({row['made of']})" for row in results["networks"]),
            "folds": manifest["folds"], "seeds": manifest["seeds"], "photographs": manifest["photographs"],
            "data (SHA-256)": manifest["cohort_sha256"],
            "versions": ", ".join(f"{name} {version}" for name, version in manifest["versions"].items()),
        },
        commands=manifest["commands"],
        sections=[
            *sample.sections(files), *accuracy.sections(files), *clinic.sections(files), *gallery.sections(files),
            checklists(files),
        ],
    )  # fmt: skip
    write_study_report(report, page)
    return report
