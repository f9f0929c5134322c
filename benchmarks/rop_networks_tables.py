"""Tables 4, 5 and 6 of paper 000 in kind, from the fits of `rop_networks.py`.

    python benchmarks/rop_networks_tables.py --pack runs/rop_pack.npz --run runs/rop_networks [--data ../shared/data]

stage_1.csv: the paper's columns (the likelier class, mean of the folds) beside the AUC within each camera and over the pairs
within a camera, out of fold, with intervals by duplicate group and the paired difference from MN-ROP; the nuisance baseline
(with the camera among the nuisances) stands below. stage_2.csv: treatment, SIMULATED infants, likewise. cost.csv: parameters
and multiply-accumulates. curves.csv: loss and AUC of what was held out, by photographs seen. Writes docs/results/rop_networks;
a minute on one core, the most for the nuisances of the photographs.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rop_networks import ALONE, FEW, FOLDS, NETWORKS, PRETRAINING, ROP, STUDENT, TREATMENT
from rop_pack import real_cohort
from rop_pack_files import PackPart, read_pack

from fundoscope.evaluation import Estimate, compute_metrics, estimate, results_table
from fundoscope.evaluation.controls import nuisance_baseline, nuisance_table
from fundoscope.evaluation.metrics.intervals import bootstrap
from fundoscope.evaluation.metrics.scores import weighted_metrics
from fundoscope.imaging import read
from fundoscope.networks import COMPARED_NETWORKS, build
from fundoscope.networks.cost import measure_cost
from fundoscope.networks.timm_bodies import create_network

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "docs" / "results" / "rop_networks"
PAPERS_COLUMNS = ("accuracy", "precision", "f1", "sensitivity", "specificity")
#: Table 5 as REPAIRS.md mends it, M parameters and G multiply-accumulates, with 1000 classes; the input that fits them.
STATED = {
    "resnet18": (11.69, 1.82, 224), "densenet121": (7.98, 2.88, 224), "efficientnet_b2": (9.20, 1.03, 256),
    "mobilenetv1": (4.20, 0.57, 224), "mobilenetv2": (3.50, 0.33, 224), "resnet_rs": (36.03, 2.30, 160),
    "swinv2": (88.12, 7.70, 256), "halonet": (9.40, 1.75, 256), NETWORKS["MS-ROP"]: (26.83, 5.12, 224),
}  # fmt: skip

Scores = np.ndarray
Row = dict[str, Any]


def out_of_fold(run: Path, name: str, question: str, n: int, folds: int) -> Scores | None:
    """The probability of the second class of each photograph by the network that did not learn from it; nan where none was."""
    p = np.full(n, np.nan)
    for fold in range(folds):
        path = run / "results" / name / f"{question}-{fold}.csv"
        if not path.exists():
            return None
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                p[int(row["row"])] = 1 / (1 + np.exp(float(row["logit_0"]) - float(row["logit_1"])))
    return p


def photographs_seen(run: Path, name: str, question: str) -> int | None:
    """How many photographs, repeats included, the first fold's network of a question learnt from; None in a rehearsal."""
    path = run / "results" / name / f"{question}-0_curve.csv"
    if not path.exists():
        return None
    with path.open(newline="") as file:
        return int(list(csv.DictReader(file))[-1]["photographs_seen"])


def papers_columns(y: np.ndarray, p: Scores, folds: np.ndarray) -> Row:
    """The likelier class against the truth, mean of the folds."""
    each = [compute_metrics(y[folds == fold], p[folds == fold]) for fold in np.unique(folds)]
    return {name: round(float(np.nanmean([metrics[name] for metrics in each])), 4) for name in PAPERS_COLUMNS}


def within_cameras(y: np.ndarray, cameras: np.ndarray) -> Callable[[Scores, np.ndarray], np.ndarray]:
    """The AUC over pairs of one camera, of scores (n,) under weightings (B, n)."""

    def values(p: Scores, weights: np.ndarray) -> np.ndarray:
        total, pairs = np.zeros(len(weights)), np.zeros(len(weights))
        for camera in np.unique(cameras):
            own = weights * (cameras == camera)
            number = own[:, y == 1].sum(1) * own[:, y == 0].sum(1)
            total += np.nan_to_num(weighted_metrics(y, p, own, 0.5, ("auc",))["auc"]) * number
            pairs += number
        return total / np.where(pairs > 0, pairs, np.nan)

    return values


def stage_1(run: Path, real: PackPart, data: Path) -> Iterator[Row]:
    """A row a network, then the nuisance baseline."""
    y = real.labels.astype(float)
    pairs = within_cameras(y, real.cameras)
    scores = {name: out_of_fold(run, name, ROP, len(y), FOLDS) for name in NETWORKS}
    reference = scores[STUDENT]
    for name, p in scores.items():
        if p is None:
            yield {"network": name, "why not": "not reached in the time"}
            continue
        seen = {
            "simulated_seen": photographs_seen(run, NETWORKS[name], PRETRAINING),
            "real_seen": photographs_seen(run, name, ROP),
        }
        yield {
            "network": name,
            **papers_columns(y, p, real.folds),
            **cameras_columns(real, p, pairs, reference),
            **seen,
        }
    if (data / "hvdropdb_retcam").exists():
        cohort = real_cohort(data)
        nuisances = nuisance_table(read(record.path, record.image) for record in cohort)
        measures = np.column_stack([nuisances, real.cameras == "Neo"])
        folds = [(np.flatnonzero(real.folds != k), np.flatnonzero(real.folds == k)) for k in range(FOLDS)]
        p = nuisance_baseline(measures, real.labels, folds, real.groups).p
        name = "file size, field, colour, sharpness, camera alone"
        yield {"network": name, **papers_columns(y, p, real.folds), **cameras_columns(real, p, pairs, reference)}


def cameras_columns(
    real: PackPart, p: Scores, pairs: Callable[[Scores, np.ndarray], np.ndarray], reference: Scores | None
) -> Row:
    """The AUC over pairs of a camera, its difference from the reference's on the same photographs, and each camera's AUC."""
    y = real.labels.astype(float)
    found: Row = bootstrap(lambda w: {"auc within cameras": pairs(p, w)}, y, real.groups)
    if reference is not None and reference is not p:
        key = f"less that of {STUDENT}"
        found |= bootstrap(lambda w: {key: pairs(p, w) - pairs(reference, w)}, y, real.groups)
    for camera in ("RetCam", "Neo"):
        own = real.cameras == camera
        found[f"auc {camera}"] = estimate(real.labels[own], p[own], groups=real.groups[own])
    return found


def stage_2(run: Path, simulated: PackPart) -> Iterator[Row]:
    """A row a network: all folds of the paper's three, and the two folds that every network has."""
    y = simulated.treatment
    few = simulated.folds < FEW
    scores = {name: out_of_fold(run, name, TREATMENT, len(y), FEW) for name in NETWORKS}
    reference = scores[STUDENT]
    for name, p in scores.items():
        if p is None:
            yield {"network": name, "infants": "SIMULATED", "why not": "not reached in the time"}
            continue
        every = out_of_fold(run, name, TREATMENT, len(y), FOLDS)
        row: Row = {"network": name, "infants": "SIMULATED", **papers_columns(y[few], p[few], simulated.folds[few])}
        row["auc"] = estimate(y[few], p[few])
        if reference is not None and name != STUDENT:
            row[f"auc less that of {STUDENT}"] = paired_auc(y[few], p[few], reference[few])
        if every is not None:
            row["auc, five folds"] = estimate(y, every)
        yield row


def paired_auc(y: np.ndarray, first: Scores, second: Scores) -> Estimate:
    """The AUC of the first less that of the second, photographs drawn (one an infant)."""

    def values(w: np.ndarray) -> dict[str, np.ndarray]:
        a, b = (weighted_metrics(y.astype(float), p, w, 0.5, ("auc",))["auc"] for p in (first, second))
        return {"auc": a - b}

    return bootstrap(values, y.astype(float))["auc"]


def cost() -> Iterator[Row]:
    """Table 5: with 1000 classes at the input that comes nearest the paper's figures, and with two at 256 px as trained here."""
    for name, body in NETWORKS.items():
        if name == ALONE:  # the student's
            continue
        with torch.device("meta"):
            ours = measure_cost(build(body, pretrained=False, size=256), 256)
        row: Row = {
            "network": name, "body": COMPARED_NETWORKS.get(body, body), "parameters_M, 2 classes": ours.parameters / 1e6,
            "macs_G, 256 px": ours.macs / 1e9,
        }  # fmt: skip
        if body in STATED:
            parameters, macs, size = STATED[body]
            row |= {"stated_M": parameters, "stated_G": macs}
            if "+" not in body:
                with torch.device("meta"):
                    stock = measure_cost(create_network(COMPARED_NETWORKS[body], False), size)
                row |= {"parameters_M, 1000 classes": stock.parameters / 1e6, "macs_G": stock.macs / 1e9, "at_px": size}
        yield row


def curves(run: Path) -> Iterator[Row]:
    """All learning curves, a row a look."""
    for path in sorted((run / "results").glob("*/*_curve.csv")):
        question, _, fold = path.stem.removesuffix("_curve").partition("-")
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                yield {"network": path.parent.name, "question": question, "fold": fold, **row}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    parts = read_pack(given.pack, 64)
    tables = {
        "stage_1": stage_1(given.run, parts["real"], given.data), "cost": cost(),
        "stage_2": stage_2(given.run, parts[TREATMENT]), "curves": curves(given.run),
    }  # fmt: skip
    for name, rows in tables.items():
        table = results_table(list(rows), given.out / f"{name}.csv")
        print(f"{name}.csv: {len(table)} rows")
        for row in table if name != "curves" else ():
            print("  ".join(str(value) for value in row.values() if value is not None))
    counts = np.bincount(parts[PRETRAINING].labels)
    print(f"simulated for pretraining: {counts[0]} normal, {counts[1]} ROP")


if __name__ == "__main__":
    main()
