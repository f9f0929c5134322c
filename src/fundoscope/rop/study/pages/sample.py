"""Whose photographs these are, how they were divided, and what the networks are shown of them."""

from __future__ import annotations

from fundoscope.reports import Check, ReportFigure, Section, Table
from fundoscope.reports.clinic_plots import draw_histograms
from fundoscope.rop.study.pages.files import StudyFiles
from fundoscope.rop.study.results import SEEN_SECTION, TREATMENT_SECTION


def sections(files: StudyFiles) -> list[Section]:
    """Counts and checks, histograms, and pictures."""
    sample = files.results["sample"]
    figures = []
    if sample["histograms"]:
        path = draw_histograms(files.drawn / "infants.png", sample["histograms"])
        figures = [ReportFigure(path, "Infants by class, a photograph each")]
    counts = Section(
        "Photographs and folds",
        explained=(f"Groups that are never parted: {sample['groups_rule']}.",),
        checks=[Check(**check) for check in sample["checks"]],
        tables=(Table(sample["folds"], "Counts by fold, part and class (as table 3 of the paper)"),),
        figures=figures,
    )  # fmt: skip
    pictured = [(title, files.pictures(title)) for title in (SEEN_SECTION, TREATMENT_SECTION)]
    return [counts, *(Section(title, pictures=pictures) for title, pictures in pictured if pictures)]
