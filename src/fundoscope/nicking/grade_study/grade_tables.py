"""The figures of a study of grades as rows, from what its graders predict out of fold. Pure: arrays in, rows with intervals out.

A figure of an arm with several seeds is the mean over its seeds, each grading alone. `forced` figures grade every patch;
`covered` ones leave out where the arm is not confident, by the minimum that inner patches chose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fundoscope.evaluation.metrics import Difference, cut_into_bands, paper_weights, weighted_metrics
from fundoscope.nicking.grade_study.grade_predictions import GradePredictions, Mask, OutOfFoldGrades, StudiedGrader
from fundoscope.nicking.grade_study.prediction_table import EXCHANGED, OWN, UNPERTURBED
from fundoscope.nicking.grade_study.resampling import Array
from fundoscope.simulate.pinch import SHAMS

Row = dict[str, Any]

COVERAGES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5)
WIDTH_CUTS = (3.0, 4.0, 6.0)  # pixels of the vein's width at the scale of the vessel maps
_PAIRS = (("few-pseudo", "few-labels"),)  # compared besides the first arm and each other
_OWN_METRICS = ("kappa", "accuracy", *(f"recall_{k}" for k in range(4)), "recall_2_or_3", "specificity_2_or_3")


def grade_figures(grades: OutOfFoldGrades) -> Row:
    """Kappa forced on all patches and where the grader is confident, errors, recalls."""
    forced, covered = grades.metrics(), grades.metrics(grades.confident)
    nicked, chosen = grades.truth > 0, grades.confident.any(axis=0)
    estimate, every = grades.resamples.estimate, np.ones_like(grades.confident)
    return {
        "quadratic_kappa": estimate(forced["quadratic_kappa"], nicked),
        "coverage": estimate(grades.share(grades.confident, every), nicked),
        "kappa_covered": estimate(covered["quadratic_kappa"], nicked, chosen),
        "error_covered": estimate(1 - covered["accuracy"], nicked, chosen),
        **{name: estimate(forced[name], nicked) for name in _OWN_METRICS},
        "crossings": grades.patches["crossing"].nunique(),
    }


def separation_figures(grades: OutOfFoldGrades) -> Row:
    """How well grade 2 or 3 is separated from 0 or 1, and nicked from not; kappa and accuracy with the grades weighed as they come
    in the 90-patch set (`papers_mix`).
    """
    y, weights, found = grades.truth, grades.resamples.weights, {}
    for name, least in (("2_or_3", 2), ("nicked", 1)):
        true, metrics = (y >= least).astype(float), ("auc", "average_precision")
        each = [weighted_metrics(true, p[:, least:].sum(axis=1).clip(0, 1), weights, names=metrics) for p in grades.p]
        for metric in metrics:
            values = grades.resamples.mean_over_seeds(np.array([of[metric] for of in each]), grades.stream)
            found[f"{name}_{metric}"] = grades.resamples.estimate(values, true > 0)
    mixed = grades.metrics(np.tile(paper_weights(y), (len(grades.p), 1)))
    for name in ("quadratic_kappa", "accuracy"):
        found[f"papers_mix_{name}"] = grades.resamples.estimate(mixed[name], y > 0)
    return found


def kappa_differences(predictions: GradePredictions) -> Iterator[Row]:
    """Quadratic kappa of the first arm less each other's, paired, on each table; seeds together less seeds together; and with few
    labels, that with pseudo-labels less that without.
    """
    graders = predictions.graders
    by_arm = {(grader.arm, bool(grader.together)): grader for grader in graders}
    pairs: list[tuple[StudiedGrader | None, StudiedGrader | None]] = [
        (by_arm.get((graders[0].arm, bool(grader.together))), grader) for grader in graders
    ]
    pairs += [
        (by_arm.get((one, together)), by_arm.get((other, together)))
        for one, other in _PAIRS
        for together in (False, True)
    ]
    for table in predictions.tables:
        grades = {grader: predictions.out_of_fold(grader, table) for grader in graders}
        kappas = {grader: _kappas(each) for grader, each in grades.items()}
        for first, other in pairs:
            if first is None or other is None or first == other:
                continue
            names, own = (first.name, other.name), grades[first]
            row: Row = {"table": table, "comparison": f"{first.name} less {other.name}"}
            for name, one, less in zip(("quadratic_kappa", "kappa_covered"), kappas[first], kappas[other], strict=True):
                found = own.resamples.estimate(one - less, own.truth > 0)
                row[name] = Difference(found, float(one[0]), float(less[0]), names, name)
            yield row


def _kappas(grades: OutOfFoldGrades) -> tuple[Array, Array]:
    """Quadratic kappa forced on all, and where the grader is confident, (1 + B,) each."""
    chosen = (None, grades.confident)
    forced, covered = (grades.metrics(each)["quadratic_kappa"] for each in chosen)
    return forced, covered


def tell_apart(differences: Sequence[Row], table: str = OWN) -> str:
    """In one sentence: from which arms the first one can be told apart on a table, and from which not."""
    found: dict[str, list[str]] = {"ahead of": [], "behind": [], "not to be told apart from": []}
    rows = [row["quadratic_kappa"] for row in differences if row["table"] == table]
    first = rows[0].names[0] if rows else ""
    for each in rows:
        if each.names[0] == first:
            kind = (
                "ahead of"
                if each.estimate.low > 0
                else "behind"
                if each.estimate.high < 0
                else "not to be told apart from"
            )
            found[kind].append(each.names[1])
    if not rows:
        return ""
    said = "; ".join(f"{kind} {', '.join(names) or 'none'}" for kind, names in found.items())
    where = "the study's own patches" if table == OWN else f"the patches of {table}"
    return f"On {where}, by quadratic kappa forced on all, {first} is {said}."


def coverage_figures(grader: StudiedGrader, grades: OutOfFoldGrades) -> Iterator[Row]:
    """Kappa and share of errors where the surest share of the patches is graded, by the grader's own confidence."""
    order = np.argsort(np.argsort(-grades.confidence, axis=1, kind="stable"), axis=1)
    nicked = grades.truth > 0
    for coverage in COVERAGES:
        chosen = order < round(coverage * order.shape[1])
        found = grades.metrics(chosen)
        kappa, error = (
            grades.resamples.estimate(values, nicked, chosen.any(axis=0))
            for values in (found["quadratic_kappa"], 1 - found["accuracy"])
        )
        yield {"grader": grader.name, "coverage": coverage, "quadratic_kappa": kappa, "error": error}


def width_figures(grader: StudiedGrader, grades: OutOfFoldGrades) -> Iterator[Row]:
    """Kappa by the width of the vein, forced and where the grader is confident."""
    widths = grades.patches["vein_px"].to_numpy(float)
    bands = np.array(cut_into_bands(widths, WIDTH_CUTS, "px"))
    for band in dict.fromkeys(bands[np.argsort(widths)].tolist()):  # unknown ones come last
        among = bands == band
        yield {"grader": grader.name, "vein": band, **_two_kappas(grades, among)}


def _two_kappas(grades: OutOfFoldGrades, among: Mask) -> Row:
    chosen = grades.confident & among
    forced = grades.metrics(np.tile(among, (len(grades.p), 1)))["quadratic_kappa"]
    estimate, nicked = grades.resamples.estimate, grades.truth > 0
    return {
        "quadratic_kappa": estimate(forced, nicked, among),
        "coverage": estimate(grades.share(grades.confident, np.tile(among, (len(grades.p), 1))), nicked, among),
        "kappa_covered": estimate(grades.metrics(chosen)["quadratic_kappa"], nicked, chosen.any(axis=0)),
    }


def perturbed_figures(predictions: GradePredictions, grader: StudiedGrader) -> Iterator[Row]:
    """Quadratic kappa of a network's grades of perturbed patches with those of the same ones unperturbed, and with the truth;
    the first also of patches in which it is confident both ways.
    """
    unperturbed = predictions.out_of_fold(grader)
    estimate, nicked = unperturbed.resamples.estimate, unperturbed.truth > 0
    for variant in predictions.perturbed_variants:
        perturbed = predictions.out_of_fold(grader, OWN, variant)
        both = perturbed.confident & unperturbed.confident
        kappas = {
            "kappa_to_unperturbed": (None, unperturbed.predicted), "kappa_to_unperturbed_covered": (both, unperturbed.predicted),
            "kappa_to_truth": (None, None), "kappa_to_truth_covered": (perturbed.confident, None),
        }  # fmt: skip
        found = {name: perturbed.metrics(*how)["quadratic_kappa"] for name, how in kappas.items()}
        yield {"grader": grader.name, "variant": variant} | {
            name: estimate(values, nicked, both.any(axis=0) if "covered" in name else None)
            for name, values in found.items()
        }


def exchanged_figures(predictions: GradePredictions, grader: StudiedGrader) -> Row:
    """How far a network's grades move when the maps of artery and vein are exchanged in its input."""
    before, after = (predictions.out_of_fold(grader, OWN, variant) for variant in (UNPERTURBED, EXCHANGED))
    moved, every = np.abs(after.predicted - before.predicted), np.ones_like(before.confident)
    figures = {
        "mean_absolute_difference": after.share(moved, every), "share_changed": after.share(moved > 0, every),
        "kappa_to_unexchanged": after.metrics(against=before.predicted)["quadratic_kappa"],
        "kappa_to_truth": after.metrics()["quadratic_kappa"],
    }  # fmt: skip
    nicked = before.truth > 0
    return {"grader": grader.name, **{k: after.resamples.estimate(v, nicked) for k, v in figures.items()}}


def sham_figures(grader: StudiedGrader, grades: OutOfFoldGrades) -> Iterator[Row]:
    """The share of healthy veins with each sham that is told as 0, forced on all and of those that are graded; and of veins
    that are narrowed by less than a grade's worth.
    """
    none, narrowed = grades.truth == 0, grades.patches["narrowed"].to_numpy(bool)
    shams, told = grades.patches["sham"].replace("", SHAMS[0]).to_numpy(), grades.predicted == 0
    kinds: dict[str, Mask] = {sham: none & ~narrowed & (shams == sham) for sham in SHAMS}
    kinds |= {"every sham": none & ~narrowed & np.isin(shams, SHAMS[1:]), "narrowed by less than 0.15": none & narrowed}
    for sham, among in kinds.items():
        if among.any():
            forced, chosen = np.tile(among, (len(told), 1)), grades.confident & among
            estimate = grades.resamples.estimate
            yield {
                "grader": grader.name, "sham": sham, "told_as_0": estimate(grades.share(told, forced), ~none, among),
                "coverage": estimate(grades.share(grades.confident, forced), ~none, among),
                "told_as_0_covered": estimate(grades.share(told, chosen), ~none, chosen.any(axis=0)),
            }  # fmt: skip
