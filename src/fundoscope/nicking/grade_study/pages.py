"""The report of a study of grades: figures, curves, confusion matrices, and where the networks look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fundoscope.evaluation.metrics import bootstrap, grade_counts, results_table
from fundoscope.imaging import Pixels
from fundoscope.networks.nick_grader import NickGrader
from fundoscope.nicking.grade_study.evaluate import GradeAnswers, Row
from fundoscope.nicking.grade_study.perturbed import VARIANTS
from fundoscope.nicking.grade_study.pointing import attention, pointed
from fundoscope.nicking.grade_study.study_arms import GradeRecipe, build_arm
from fundoscope.nicking.grade_study.train import GradeFoldData
from fundoscope.nicking.grade_study.training_views import unpacked
from fundoscope.nicking.grading.crossing_patches import CrossingPatch
from fundoscope.reports import StudyPage, write_study_report
from fundoscope.reports.overlay import overlay
from fundoscope.reports.plots import Curve, grade_confusion, learning_curve, precision_recall, roc
from fundoscope.reports.study import Picture, ReportFigure, Section, Table
from fundoscope.studies import Study

_SHOWN = 4  # patches, one a grade
_LOOKED = 200  # patches of a fold at most whose activation is measured


def write_report(answers: GradeAnswers, study: Study, recipe: GradeRecipe) -> Path:
    """Draw the figures, measure where the networks look (tables/pointing.csv), write report.html; returns its path."""
    drawn = study.folder / "figures"
    drawn.mkdir(exist_ok=True)
    looking = Looking(answers, recipe)
    points = results_table(looking.rows(), study.folder / "tables" / "pointing.csv")
    manifest = study.manifest
    page = StudyPage(
        title="How far the artery pinches the vein",
        lead="Every figure is of patches whose photographs took no part in training or choosing, with 95 % intervals by photograph.",
        facts={
            "patches": ", ".join(f"{name} {n}" for name, n in manifest["patches"].items()),
            "recipe": recipe.name, "folds": manifest["folds"], "upstream": ", ".join(manifest["upstream"]),
            "versions": ", ".join(f"{name} {version}" for name, version in manifest["versions"].items()),
        },
        commands=manifest["commands"],
        sections=[_figures(answers, drawn), _robust(answers), _curves(answers, drawn), _looking(looking, points)],
    )  # fmt: skip
    report = study.folder / "report.html"
    write_study_report(report, page)
    return report


def _figures(answers: GradeAnswers, drawn: Path) -> Section:
    curves, figures = [], []
    for arm in answers.arms:
        said = answers.said(arm)
        nicked = 1 - said.p[said.known][:, 0]
        curves.append(Curve(arm, (said.truth > 0).astype(int), nicked, said.groups))
        path = grade_confusion(drawn / f"confusion_{arm}.png", grade_counts(said.truth, said.told), arm)
        figures.append(ReportFigure(path, f"{arm}: truth by row, grade told by column"))
    first = [
        ReportFigure(roc(drawn / "roc.png", curves, "grade 0 against 1 to 3"), "ROC: nicked or not"),
        ReportFigure(precision_recall(drawn / "pr.png", curves, "grade 0 against 1 to 3"), "Precision and recall"),
    ]
    tables = [
        Table(results_table(answers.figures), "On the study's own patches, out of fold", strong=[0]),
        Table(results_table(answers.differences), "Paired differences of quadratic kappa"),
        *([Table(results_table(answers.elsewhere), "On other patches")] if answers.elsewhere else []),
    ]
    told = "papers_mix: the same patches, weighed so that grades come as in the 90-patch set (48, 16, 14, 12)."
    return Section("How well grades are told", [told], tables=tables, figures=[*first, *figures])


def _robust(answers: GradeAnswers) -> Section:
    shams = Table(results_table(answers.shams), "Of the patches that are graded at all")
    spoilt = Table(
        results_table(answers.spoilt), "Quadratic kappa against the grade of the untouched patch, and the truth"
    )
    told = "The tenth of the inner patches that was told least surely sets the bound below which a patch is not graded."
    return Section("Shams, and patches spoilt in ways that leave the grade", [told], tables=[shams, spoilt])


def _curves(answers: GradeAnswers, drawn: Path) -> Section:
    figures = []
    for (arm, seed, fold), folder in answers.where.items():
        log = folder / "fit" / "epochs.csv"
        if seed == 0 and fold == 0 and log.exists():
            path = learning_curve(drawn / f"losses_{arm}.png", log, ("train_loss", "inner_loss"), arm)
            figures.append(ReportFigure(path, f"{arm}, first fold: loss on training and inner patches"))
    return Section("Losses", figures=figures)


class Looking:
    """Where the networks of a study look in the test patches of their folds."""

    def __init__(self, answers: GradeAnswers, recipe: GradeRecipe) -> None:
        self.answers, self.recipe = answers, recipe
        self.seed, self.folds = next(iter(answers.folds.items()))

    def networks(self) -> list[str]:
        """Arms whose network gives a map."""
        return [a for a in self.answers.arms if a != "mdtnet" and build_arm(a, self.recipe).network is not None]

    def grader(self, arm: str, fold: GradeFoldData) -> NickGrader:
        """The network of an arm in a fold."""
        options = build_arm(arm, self.recipe).network
        assert options is not None
        grader = NickGrader(options)
        folder = self.answers.where[arm, self.seed, fold.fold.number]
        grader.load_state_dict(torch.load(folder / "network.pt", weights_only=True)["model"])
        return grader.eval()

    def rows(self) -> list[Row]:
        """The pointing score of each network and stream: mass on the venous flanks of nicked patches, over chance."""
        return [row for arm in self.networks() for row in self._of_arm(arm)]

    def _of_arm(self, arm: str) -> Iterator[Row]:
        scores: dict[int, list[tuple[float, float, str]]] = {}
        for fold in self.folds:
            rows, kept = fold.tables.rows, fold.asked("", "usual")
            ranks = [k for k in fold.tested("") if rows[k].grade][:_LOOKED]
            if ranks:
                maps = attention(self.grader(arm, fold), [unpacked(kept.kept[k]) for k in ranks])
                for k, streams in zip(ranks, maps, strict=True):
                    for number, activation in enumerate(streams):
                        found = pointed(activation, unpacked(kept.kept[k]))
                        if found is not None:
                            scores.setdefault(number, []).append((found.mass, found.area, rows[k].photograph))
        for number, told in scores.items():
            table = np.array([(mass, area) for mass, area, _ in told])
            groups = [group for *_, group in told]
            over = bootstrap(
                lambda w, t=table: {"over chance": (w @ t[:, 0]) / (w @ t[:, 1])}, np.ones(len(told)), groups
            )
            mass = bootstrap(lambda w, t=table: {"mass": (w @ t[:, 0]) / w.sum(axis=1)}, np.ones(len(told)), groups)
            yield {
                "grader": arm,
                "stream": ("patch", "maps")[number],
                "over_chance": over["over chance"],
                "mass": mass["mass"],
            }

    def pictures(self) -> Iterator[Picture]:
        """A patch of each grade, untouched and in each variant, with the activation of each stream of the first network."""
        fold = self.folds[0]
        grader = self.grader(self.networks()[0], fold)
        ranks = fold.tested("")
        grades = fold.tables.labelled[ranks]
        chosen = [int(ranks[grades == g][0]) for g in np.unique(grades)][:_SHOWN]
        for k in chosen:
            for variant in VARIANTS:
                patch = unpacked(fold.asked("", variant).kept[k])
                (streams,) = attention(grader, [patch])
                yield Picture(side_by_side(patch, streams), f"grade {fold.tables.labelled[k]}, {variant}", side=128 * 4)


def side_by_side(patch: CrossingPatch, streams: NDArray[np.float32]) -> Pixels:
    """The patch, its arteries (red) and veins (blue), and the activation of each stream on the patch."""
    shown = [
        patch.pixels,
        kinds_picture(patch),
        *(overlay(patch.pixels, each, max(float(each.max()), 1e-9)) for each in streams),
    ]
    return np.ascontiguousarray(np.concatenate(shown, axis=1))


def kinds_picture(patch: CrossingPatch) -> Pixels:
    """The maps as a picture: red arteries, blue veins."""
    vessel, artery, vein = cv2.split(patch.maps)
    return np.dstack([np.maximum(artery, vessel // 4), vessel // 4, np.maximum(vein, vessel // 4)])


def _looking(looking: Looking, points: list[Row]) -> Section:
    told = (
        "Gradient-weighted class activation of each stream, in closed form. The score is the share of its mass on the vein "
        "within 2.5 widths of the crossing, over that of the patch's area. Pictures: patch, maps, activation of both streams."
    )
    pictures = list(looking.pictures()) if looking.networks() else []
    return Section("Where the networks look", [told], tables=[Table(points, "Nicked patches")], pictures=pictures)
