"""Does the lower bound of sensitivity that `fundoscope rop recalibrate` states keep its word?

    python benchmarks/recalibrate_bound.py [--draws 1000] [--seed 0]

Cohorts of made-up scores, of 10 to 160 infants with positives: a score in logits is a part that the photographs of an infant
share and a part of the photograph's own. The sensitivity that the chosen threshold truly has is computed from the distribution
and not from another sample. Each row is one kind of cohort at one target, over `--draws` draws:

    kept                         share of draws in which the stated bound is at or below the true sensitivity of a new
                                 infant's positive, infants drawn alike: this is what is promised, at least 0.95
    kept_by_photograph           the same for the sensitivity of all photographs, in which infants with many weigh more
    bound, bound_after_counting  mean of the stated bound; and of the usual one, which counts photographs as if they were
                                 independent (Clopper and Pearson at the same threshold rule, by photographs)
    kept_by_counting             how often that usual bound keeps its word
    supported                    whether the command accepts so few for this target

Writes docs/results/recalibrate_bound.csv; numpy and scipy only, a few minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fundoscope.evaluation import results_table
from fundoscope.evaluation.decisions import choose_local_point, sensitivity_support
from fundoscope.evaluation.metrics.intervals import clopper_pearson

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results" / "recalibrate_bound.csv"
POSITIVES = (10, 15, 20, 40, 80, 160)
TARGETS = (0.80, 0.90, 0.95, 0.99)
SHIFT = 2.0  # logits between the means of positives and of negatives
GRID = np.linspace(-30, 30, 1501)  # of the part that an infant's photographs share, for the true sensitivity

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreModel:
    """How scores are made: deviations of the part shared in an infant and of a photograph's own, and how many photographs.

    `sizes` gives the number of an infant's photographs by a random number and by the shared part, both (m,); `step` rounds
    the scores, as those of an INT8 network are; `tail` draws the shared part from Student's t with so many degrees of freedom.
    """

    name: str
    shared: float
    own: float
    sizes: Callable[[Array, Array], NDArray[np.int64]]
    step: float = 0.0
    tail: int = 0

    def draw(self, m: int, mean: float, rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
        """Scores in logits of the photographs of m infants, and the number of each one's infant."""
        deviates = rng.standard_t(self.tail, m) if self.tail else rng.normal(size=m)
        counts = self.sizes(rng.random(m), deviates)
        infant = np.repeat(np.arange(m), counts)
        scores = mean + self.shared * deviates[infant] + self.own * rng.normal(size=len(infant))
        return (np.round(scores / self.step) * self.step if self.step else scores), infant

    def sensitivity(self, threshold: float) -> tuple[float, float]:
        """The true sensitivity at a threshold in logits: of a new infant's photograph, and of all photographs together."""
        from scipy.special import ndtr

        edge = (np.ceil(threshold / self.step - 1e-9) - 0.5) * self.step if self.step else threshold
        called = ndtr(-(edge - SHIFT / 2 - self.shared * GRID) / self.own)
        by_infant, by_photograph = _weights(self)
        return float(called @ by_infant), float(called @ by_photograph)


@cache
def _weights(model: ScoreModel) -> tuple[Array, Array]:
    """How much each point of the grid counts among infants and among photographs."""
    from scipy.stats import norm, t

    density = (t(model.tail) if model.tail else norm).pdf(GRID)
    levels = (np.arange(64) + 0.5) / 64
    sizes = np.mean([model.sizes(np.full(len(GRID), level), GRID) for level in levels], axis=0)
    return density / density.sum(), density * sizes / (density * sizes).sum()


def _single(u: Array, a: Array) -> NDArray[np.int64]:
    return np.ones(len(u), np.int64)


def _one_to_eight(u: Array, a: Array) -> NDArray[np.int64]:
    return 1 + (u * 8).astype(np.int64)


def _eight(u: Array, a: Array) -> NDArray[np.int64]:
    return np.full(len(u), 8)


def _more_of_the_hard(u: Array, a: Array) -> NDArray[np.int64]:
    """Infants whose ROP is hard to see are photographed six times, the others once."""
    return np.where(a < -0.5, 6, 1)


MODELS = (
    ScoreModel("one photograph an infant", 0.0, 1.0, _single),
    ScoreModel("1 to 8 an infant, a little alike", 0.5, 0.87, _one_to_eight),
    ScoreModel("1 to 8 an infant, much alike", 0.95, 0.3, _one_to_eight),
    ScoreModel("8 an infant, much alike", 0.95, 0.3, _eight),
    ScoreModel("1 to 8 an infant, independent", 0.0, 1.0, _one_to_eight),
    ScoreModel("1 to 8 an infant, heavy tails", 0.8, 0.5, _one_to_eight, tail=3),
    ScoreModel("1 to 8 an infant, scores in steps of a quarter", 0.8, 0.6, _one_to_eight, step=0.25),
    ScoreModel("the hard ones photographed six times", 0.8, 0.6, _more_of_the_hard),
)


def measure(model: ScoreModel, m: int, draws: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """A row for each target: cohorts of one kind with m infants with positives, and as many without."""
    found = np.zeros(
        (len(TARGETS), draws, 5)
    )  # kept, kept by photograph, bound; kept by counting, bound after counting
    for draw in range(draws):
        ill, infant = model.draw(m, SHIFT / 2, rng)
        well, other = model.draw(m, -SHIFT / 2, rng)
        y = np.concatenate([np.ones(len(ill)), np.zeros(len(well))])
        p = 1 / (1 + np.exp(-np.concatenate([ill, well])))
        groups = np.concatenate([infant, m + other])
        for number, target in enumerate(TARGETS):
            point = choose_local_point(y, p, groups, target)
            truth = model.sensitivity(_logit(point.threshold))
            calls = int(np.ceil(target * len(ill) - 1e-9))
            by_counting = _bound(calls, len(ill))
            counted = model.sensitivity(float(np.sort(ill)[len(ill) - calls]))[0]
            bound = point.support.bound
            found[number, draw] = truth[0] >= bound, truth[1] >= bound, bound, counted >= by_counting, by_counting
    for target, (kept, by_photograph, stated, kept_by_counting, usual) in zip(TARGETS, found.mean(axis=1), strict=True):
        low, high = clopper_pearson(round(kept * draws), draws)
        yield {
            "cohort": model.name, "infants_with_positives": m, "target": target,
            "supported": sensitivity_support(target, m).supported, "draws": draws, "kept": kept, "kept_low": low,
            "kept_high": high, "kept_by_photograph": by_photograph, "bound": stated,
            "kept_by_counting": kept_by_counting, "bound_after_counting": usual,
        }  # fmt: skip


@cache
def _bound(hits: int, n: int) -> float:
    return clopper_pearson(hits, n)[0]


def _logit(p: float) -> float:
    return float(np.log(p) - np.log1p(-p))


def rows(draws: int, seed: int) -> Iterator[dict[str, Any]]:
    """A row for each kind of cohort, number of infants and target."""
    for number, model in enumerate(MODELS):
        for m in POSITIVES:
            yield from measure(model, m, draws, np.random.default_rng([seed, number, m]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    table = []
    for row in results_table(list(rows(given.draws, given.seed)), RESULTS):
        table.append(row)
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    worst = min(table, key=lambda row: row["kept"])
    print(f"least kept: {worst['kept']} ({worst['cohort']}, {worst['infants_with_positives']}, {worst['target']})")


if __name__ == "__main__":
    main()
