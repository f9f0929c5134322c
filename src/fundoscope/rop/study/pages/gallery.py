"""Photographs with the maps behind their answers, and how the networks learnt."""

from __future__ import annotations

from fundoscope.reports import ReportFigure, Section
from fundoscope.reports.plots import learning_curve
from fundoscope.rop.recipes import USUAL_ARMS
from fundoscope.rop.study.pages.files import EvaluationFiles, StudyFiles
from fundoscope.rop.study.results import maps_section


def sections(files: EvaluationFiles) -> list[Section]:
    """Right and wrong photographs of each question with their maps."""
    text = (
        "Warm colours speak for the positive answer, and their mean over the map is the network's log-odds. "
        "Wrong answers come first: look at these."
    )
    titles = [maps_section(found["name"]) for found in files.results["questions"]]
    return [Section(title, explained=(text,), pictures=files.pictures(title)) for title in titles]


def learning(files: StudyFiles) -> Section:
    """How the networks learnt, in the first fold."""
    figures = []
    for arm in files.manifest["arms"]:
        for found in files.results["questions"] if arm in USUAL_ARMS else ():
            step = f"fits/{found['name']}/{arm}/seed-0/fold-0"
            path = learning_curve(
                files.drawn / f"learning_{found['name']}_{arm}.png", files.folder / step / "epochs.csv"
            )
            figures.append(ReportFigure(path, f"{step}: loss in training and on inner photographs"))
    return Section("Learning", figures=figures)
