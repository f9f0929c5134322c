"""What a study found: tables with intervals, baselines beside, controls, INT8, figures, and the report of it all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fundoscope.bundles.card import Figure as CardFigure
from fundoscope.evaluation import Difference, Estimate, auc, difference, estimates, results_table
from fundoscope.evaluation.baselines import majority_class, mean_colour
from fundoscope.evaluation.controls import KINDS
from fundoscope.evaluation.nuisance import nuisance_baseline, nuisance_table
from fundoscope.imaging import Photograph
from fundoscope.rop.export import int8_answers
from fundoscope.rop.material import Material
from fundoscope.rop.out_of_fold import OutOfFold, out_of_fold
from fundoscope.rop.recipes import Recipe
from fundoscope.studies import Study

VARIANTS = ("plain", *KINDS, "all")


class Assessment:
    """The figures of a finished study, each computed once."""

    def __init__(self, study: Study, material: Material, recipes: Sequence[Recipe], seeds: int) -> None:
        self.study, self.material, self.recipes, self.seeds = study, material, recipes, seeds
        self._answers: dict[tuple[str, str], OutOfFold] = {}
        self.labels = material.cohort.labels
        self.groups = np.array(material.groups.numbers)
        self.pairs = [(np.array([*fold.train, *fold.inner]), np.array(fold.test)) for fold in material.folds.folds]

    def answers(self, recipe: Recipe, variant: str = "plain") -> OutOfFold:
        """One network's out-of-fold answers on one variant of the photographs."""
        key = (recipe.network, variant)
        if key not in self._answers:
            folds = self.material.folds.folds
            self._answers[key] = out_of_fold(self.study, recipe, folds, self.seeds, self.labels, variant)
        return self._answers[key]

    @property
    def ours(self) -> OutOfFold:
        """The first network's answers on the photographs as they are."""
        return self.answers(self.recipes[0])

    @cached_property
    def controls(self) -> dict[str, OutOfFold]:
        """The first network's answers on every variant."""
        return {variant: self.answers(self.recipes[0], variant) for variant in VARIANTS}

    @cached_property
    def nuisance(self) -> NDArray[np.float64]:
        """Out-of-fold probabilities of the nuisance baseline on the photographs as they are."""
        return self._nuisance(self.material.photographs)

    @cached_property
    def nuisance_alike(self) -> NDArray[np.float64]:
        """The same on photographs with one field mask, one colour distribution and one encoding."""
        alike = self.material.variants["all"].pixels
        return self._nuisance([Photograph(pixels, "alike", 0, "array") for pixels in alike])

    def _nuisance(self, photographs: Sequence[Photograph]) -> NDArray[np.float64]:
        return nuisance_baseline(nuisance_table(photographs), self.labels, self.pairs, self.groups).p

    @cached_property
    def int8(self) -> pd.DataFrame:
        """Both precisions' out-of-fold answers."""
        return int8_answers(self.study, self.material.folds.folds)

    def _estimates(self, p: NDArray[np.float64], threshold: Any = 0.5) -> dict[Any, Estimate]:
        return estimates(self.labels, p, threshold=threshold, groups=self.groups)

    @cached_property
    def results(self) -> list[dict[str, Any]]:
        """A row a network and a baseline, with every metric and its interval."""
        rows = []
        for recipe in self.recipes:
            answers = self.answers(recipe)
            rows.append({"grader": recipe.network, **self._estimates(answers.p, answers.thresholds)})
        colour = mean_colour(self.material.photographs, self.labels, self.pairs, self.groups).p
        for name, p in (
            ("nuisance baseline", self.nuisance),
            ("mean colour", colour),
            ("majority class", majority_class(self.labels, self.pairs).p),
        ):
            rows.append({"grader": name, **self._estimates(p)})
        return rows

    @cached_property
    def under_controls(self) -> list[dict[str, Any]]:
        """AUC on each variant, and how far it stays above the nuisance baseline on the photographs as they are."""
        rows = []
        for variant, answers in self.controls.items():
            rows.append({
                "photographs": _VARIANT_WORDS[variant],
                "auc": self._estimates(answers.p)["auc"],
                "minus nuisance": self._minus(answers.p, self.nuisance, "nuisance"),
                "minus nuisance, alike": self._minus(answers.p, self.nuisance_alike, "nuisance on photographs made alike"),
            })  # fmt: skip
        return rows

    def _minus(self, first: NDArray[np.float64], second: NDArray[np.float64], name: str) -> Difference:
        return difference(self.labels, first, second, groups=self.groups, names=(self.recipes[0].network, name))

    @cached_property
    def between_networks(self) -> list[dict[str, Any]]:
        """Each further network against the first, paired."""
        return [
            {"network": recipe.network, "minus first": self._minus(self.answers(recipe).p, self.ours.p, recipe.network)}
            for recipe in self.recipes[1:]
        ]

    @cached_property
    def int8_rows(self) -> list[dict[str, Any]]:
        """INT8 against fp32, fold by fold and in all: AUC of both, and decisions that change."""
        frame = self.int8
        rows = [_int8_row(f"fold {fold}", part, self.labels) for fold, part in frame.groupby("fold")]
        return [*rows, _int8_row("all", frame, self.labels)]

    def card_figures(self) -> list[CardFigure]:
        """What the bundle's card says of the recipe."""
        found = self._estimates(self.ours.p, self.ours.thresholds)
        on = f"{len(self.labels)} photographs, out of fold ({len(self.pairs)} folds, {self.seeds} seeds, recipe not this very network)"
        names = ("auc", "sensitivity", "specificity", "accuracy", "brier", "ece")
        return [_card_figure(name, found[name], on) for name in names] + [
            _card_figure("auc of the nuisance baseline", self._estimates(self.nuisance)["auc"], on)
        ]

    def lines(self) -> list[str]:
        """The figures that a person waits for."""
        alike = self.controls["all"]
        last = self.int8_rows[-1]
        return [
            *(f"{row['grader']:<24} AUC {row['auc']}" for row in self.results),
            f"minus nuisance           {self._minus(self.ours.p, self.nuisance, 'nuisance')}",
            f"photographs made alike   AUC {self._estimates(alike.p)['auc']}",
            f"  minus nuisance         {self._minus(alike.p, self.nuisance, 'nuisance')}",
            f"INT8                     AUC {last['auc fp32']:.3f} -> {last['auc int8']:.3f}, "
            f"{last['decisions changed']} of {last['n']} decisions change",
        ]

    def write_tables(self, tables: Path) -> None:
        """Write every table as CSV into the folder `tables`, the out-of-fold answers among them."""
        results_table(self.results, tables / "results.csv")
        results_table(self.under_controls, tables / "controls.csv")
        results_table(self.int8_rows, tables / "int8.csv")
        if len(self.recipes) > 1:
            results_table(self.between_networks, tables / "networks.csv")
        results_table(self.material.folds.table(self.material.cohort), tables / "folds.csv")
        self.out_of_fold_table().to_csv(tables / "out_of_fold.csv", index=False)

    def out_of_fold_table(self) -> pd.DataFrame:
        """Every photograph's answer by every network and seed on every variant, one row each."""
        frames = []
        for recipe in self.recipes:
            for variant in VARIANTS:
                answers = self.answers(recipe, variant)
                frames += [self._frame(answers, seed) for seed in range(self.seeds)]
        return pd.concat(frames, ignore_index=True)

    def _frame(self, answers: OutOfFold, seed: int) -> pd.DataFrame:
        return pd.DataFrame({
            "network": answers.network, "variant": answers.variant, "seed": seed,
            "image": [record.image for record in self.material.cohort], "label": self.labels, "group": self.groups,
            "p_rop": answers.p[seed].round(6), "threshold": answers.thresholds[seed].round(6),
        })  # fmt: skip


_VARIANT_WORDS = {
    "plain": "as they are",
    "field": "one field mask for all",
    "colour": "one colour distribution for all",
    "encoding": "one encoding for all",
    "all": "field, colour and encoding alike",
}


def _int8_row(name: str, frame: pd.DataFrame, labels: NDArray[np.int64]) -> dict[str, Any]:
    y = labels[frame.row.to_numpy()]
    flips = (frame.fp32 >= frame.threshold) != (frame.int8 >= frame.threshold)
    return {
        "part": name, "n": len(frame), "auc fp32": auc(y, frame.fp32), "auc int8": auc(y, frame.int8),
        "decisions changed": int(flips.sum()), "largest change of p": float((frame.fp32 - frame.int8).abs().max()),
    }  # fmt: skip


def _card_figure(name: str, estimate: Estimate, on: str) -> CardFigure:
    ends = (None, None) if np.isnan(estimate.low) else (round(estimate.low, 4), round(estimate.high, 4))
    return CardFigure(name=name, value=round(estimate.value, 4), low=ends[0], high=ends[1], n=estimate.n, on=on)
