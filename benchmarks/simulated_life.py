"""Are simulated eyes like real ones? The same segmenter and calibre model on simulated and on real photographs.

    python benchmarks/simulated_life.py [--workers 2] [--out runs/simulated_life] [--development]

Each statistic of `STATISTICS` is measured on 40 simulated eyes a camera and on real photographs of that camera. A row
of the table holds the real median and the real 5 to 95 % range, the simulated ones, and whether the simulated median
lies inside the real range; a last row holds the cross-validated AUC of a classifier that tells real from simulated by
all the statistics together (0.5: it cannot). The simulator was tuned by the halves called "tuned on" (DRIVE training;
every other RetCam photograph) and nothing else: DRIVE test, the other half and HRF are reported on.
Goes on where it was cut off; what was measured on simulated eyes is thrown away when the simulator changes. Writes
docs/results/simulated_life.csv and prints it. With --development only the halves that may be tuned on are looked at,
and nothing is written to docs.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope import simulate
from fundoscope.imaging import Pixels, find_field, read
from fundoscope.vessels import CalibreModel, Centreline, crossings_on, find_vessels, tortuosity, vessel_graph
from fundoscope.vessels.lines import DIAMETER

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "docs" / "results" / "simulated_life.csv"

EYES = 40  # simulated a camera
SEEDS = {"drive": 70_000, "hrf": 71_000, "retcam": 72_000}  # of the first one; the others follow
Row = dict[str, float]

#: What is measured, and how. Lengths are in pixels of a field 540 across; grey levels are 0 to 255.
STATISTICS = {
    "vessel_share": "vessels' share of the field",
    "width_25": "25th percentile of vessel width along centrelines",
    "width_50": "median vessel width",
    "width_75": "75th percentile",
    "width_95": "95th percentile",
    "wide_share": "share of the centreline that is 5 pixels wide or wider",
    "tortuosity": "arc over chord less 1, median by length of segments over 40 pixels",
    "crossings": "crossings in the photograph",
    "branchings": "places where three centrelines meet",
    "thin_light": "green on thin vessels (under 4 pixels) over green beside them",
    "wide_light": "the same on wide vessels (5 pixels and over)",
    "blur": "deviation of the blur that vessel walls are seen through",
    "red_mean": "mean of red inside the field",
    "red_deviation": "its deviation",
    "green_mean": "mean of green",
    "green_deviation": "its deviation",
    "blue_mean": "mean of blue",
    "blue_deviation": "its deviation",
    "contrast": "local contrast of green: deviation from its surroundings (9 pixels' blur) over its mean",
    "texture": "deviation of green between 2 and 6 pixels' blur, away from vessels, over its mean",
    "noise": "deviation of a pixel's own noise, by the Laplacian of green away from vessels, without its largest tenth",
}
GEOMETRY = tuple(STATISTICS)[:9]
COLUMNS = (
    "camera", "real", "role", "n_real", "n_simulated", "statistic", "real_median", "real_5", "real_95",
    "simulated_median", "simulated_5", "simulated_95", "inside",
)  # fmt: skip

_SHRUNK = 1.5  # a photograph this many times larger than the map is worked at the map's size
_RIM = 12  # pixels inside the field's edge that are not looked at
_THIN, _WIDE = 4.0, 5.0
_NINE_TENTHS = 0.6574  # mean size of the smaller nine tenths of unit normal numbers
_LONG = 40.0
_SHORTEST = 8  # points: on a shorter segment no width is measured


def measure(pixels: Pixels) -> Row:
    """Every one of `STATISTICS` on one RGB photograph."""
    scale = 2 * find_field(pixels).radius / DIAMETER
    if scale > _SHRUNK:
        pixels = cv2.resize(pixels, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
    field = find_field(pixels)
    found = find_vessels(pixels, field)
    graph = vessel_graph(found.mask)
    paths = [Centreline(d["path"], d["radius"], 0) for *_, d in graph.edges()]
    row = {
        "vessel_share": float(found.mask.sum() / found.field.sum()),
        "tortuosity": _tortuosity(paths),
        "crossings": float(len(crossings_on(graph))),
        "branchings": float(sum(graph.degree(node) >= 3 for node in graph)),
    }
    rim = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _RIM + 1, 2 * _RIM + 1))
    inside = cv2.erode(field.mask(pixels.shape[:2]).astype(np.uint8), rim, borderValue=0) > 0
    vessel = cv2.resize(found.mask.astype(np.uint8), pixels.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    return row | _widths(pixels, paths, found.scale) | _light(pixels, inside, vessel)


def _tortuosity(paths: list[Centreline]) -> float:
    long = [path for path in paths if path.length > _LONG]
    values = np.array([tortuosity(path.points).distance for path in long] or [0.0])
    return _percentiles(values, np.array([path.length for path in long] or [1.0]), [50])[0]


def _percentiles(values: NDArray[np.float64], weights: NDArray[np.float64], at: list[float]) -> list[float]:
    order = np.argsort(values)
    share = (np.cumsum(weights[order]) - 0.5 * weights[order]) / weights.sum()
    return [float(v) for v in np.interp(np.array(at) / 100, share, values[order])]


def _widths(pixels: Pixels, paths: list[Centreline], scale: float) -> Row:
    """Widths by the calibre model, in the map's pixels, and how dark thin and wide vessels are beside their surroundings."""
    centrelines = [path.scaled(scale) for path in paths if len(path.points) >= _SHORTEST]
    model = CalibreModel.fit(pixels, centrelines)
    light = _beside(model.plane)
    width, weight, lit = [], [], []
    for centreline in centrelines:
        rays = model.measure_widths(centreline)
        if len(rays.way) > 1:
            width.append(rays.width / scale)
            weight.append(np.gradient(rays.way))
            place = np.clip(np.round(rays.centres).astype(int), 0, np.array(light.shape) - 1)
            lit.append(light[place[:, 0], place[:, 1]])
    names = ("width_25", "width_50", "width_75", "width_95")
    if not width:
        return dict.fromkeys((*names, "wide_share"), 0.0) | {"thin_light": 1.0, "wide_light": 1.0, "blur": model.blur}
    w, along_it, lit = (np.concatenate(part) for part in (width, weight, lit))
    percentiles = _percentiles(w, along_it, [25, 50, 75, 95])
    row = dict(zip(names, percentiles, strict=True)) | {"blur": model.blur / scale}
    row["wide_share"] = float(along_it[w >= _WIDE].sum() / along_it.sum())
    for name, which in (("thin_light", w < _THIN), ("wide_light", w >= _WIDE)):
        row[name] = _percentiles(lit[which], along_it[which], [50])[0] if which.any() else 1.0
    return row


def _beside(green: NDArray[np.float32]) -> NDArray[np.float32]:
    """Green over what it is beside vessels: the median of its surroundings."""
    ground = cv2.medianBlur(np.clip(green, 0, 255).astype(np.uint8), 25).astype(np.float32)
    return cv2.GaussianBlur(green, (0, 0), 0.7) / np.maximum(ground, 1)


def _light(pixels: Pixels, inside: NDArray[np.bool_], vessel: NDArray[np.bool_]) -> Row:
    row: Row = {}
    for channel, name in enumerate(("red", "green", "blue")):
        values = pixels[..., channel][inside]
        row[f"{name}_mean"], row[f"{name}_deviation"] = float(values.mean()), float(values.std())
    green, mean = pixels[..., 1].astype(np.float32), row["green_mean"] + 1e-6
    row["contrast"] = float((green - cv2.GaussianBlur(green, (0, 0), 9))[inside].std()) / mean
    away = inside & (cv2.dilate(vessel.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0)
    band = cv2.GaussianBlur(green, (0, 0), 2) - cv2.GaussianBlur(green, (0, 0), 6)
    row["texture"] = 1.4826 * float(np.median(np.abs(band[away]))) / mean
    laplacian = cv2.Laplacian(green, cv2.CV_32F)[away]  # its five weights squared add up to 20
    size = np.sort(np.abs(laplacian))[: int(0.9 * len(laplacian))]
    row["noise"] = float(size.mean()) / _NINE_TENTHS / np.sqrt(20)
    return row


def measure_file(path: Path) -> Row:
    return measure(read(path).pixels)


def measure_simulated(camera: str, number: int) -> Row:
    seed = SEEDS[camera] + number
    make = simulate.infant if camera == "retcam" else simulate.adult
    return measure(make(seed, camera=camera).pixels)


@dataclass(frozen=True)
class Group:
    """Real photographs of one camera, and whether the simulator was tuned by them."""

    camera: str
    name: str
    tuned: bool
    paths: list[Path]


def groups() -> list[Group]:
    drive, hrf = DATA / "drive_av", sorted((DATA / "hrf_av" / "images").glob("*.*"))
    infants = sorted((DATA / "hvdropdb_retcam").glob("*/*.png"))
    return [
        Group("drive", "DRIVE training", True, sorted((drive / "training" / "images").glob("*.tif"))),
        Group("retcam", "RetCam, even files", True, infants[::2]),
        Group("drive", "DRIVE test", False, sorted((drive / "test" / "images").glob("*.tif"))),
        Group("hrf", "HRF", False, hrf),
        Group("retcam", "RetCam, odd files", False, infants[1::2]),
    ]


def measured(store: Path, jobs: dict[str, Callable[[], Row]], workers: int) -> list[Row]:
    """The rows of all jobs, in order; those that `store` (JSON lines) holds are not done again."""
    store.parent.mkdir(parents=True, exist_ok=True)
    lines = store.read_text().splitlines() if store.exists() else []
    known = {line["name"]: line for line in map(json.loads, lines)}
    left = {name: job for name, job in jobs.items() if name not in known}
    with ProcessPoolExecutor(max(1, workers), initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        running = {name: pool.submit(job) for name, job in left.items()}
        for name, future in running.items():
            known[name] = {"name": name} | future.result()
            with store.open("a") as file:
                file.write(json.dumps(known[name]) + "\n")
    return [{key: float(known[name][key]) for key in STATISTICS} for name in jobs]


def version_of(*folders: str) -> str:
    """Changes when any file of these parts of the package, or this one, does."""
    parts = [Path(simulate.__file__).parent.parent / folder for folder in folders]
    files = [path for part in parts for path in sorted(part.glob("*.py"))]
    text = b"".join(path.read_bytes() for path in [*files, Path(__file__)])
    return hashlib.sha256(text).hexdigest()[:10]


def tell_apart(real: NDArray[np.float64], made: NDArray[np.float64]) -> float:
    """AUC, in five folds, of a standardised logistic regression that tells real rows from simulated ones."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = np.vstack([real, made]), np.repeat([0, 1], [len(real), len(made)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return float(roc_auc_score(y, cross_val_predict(model, x, y, cv=folds, method="predict_proba")[:, 1]))


def compare(group: Group, real: list[Row], made: list[Row]) -> list[dict[str, object]]:
    about = {
        "camera": group.camera, "real": group.name, "role": "tuned on" if group.tuned else "reported",
        "n_real": len(real), "n_simulated": len(made),
    }  # fmt: skip
    tables = [np.array([[row[key] for key in STATISTICS] for row in rows]) for rows in (real, made)]
    low, middle, high = np.percentile(tables[0], [5, 50, 95], axis=0)
    made_low, made_middle, made_high = np.percentile(tables[1], [5, 50, 95], axis=0)
    found: list[dict[str, object]] = []
    for k, name in enumerate(STATISTICS):
        figures = zip(COLUMNS[6:12], (middle, low, high, made_middle, made_low, made_high), strict=True)
        inside = "yes" if low[k] <= made_middle[k] <= high[k] else "no"
        found.append(about | {"statistic": name, "inside": inside} | {key: f"{value[k]:.4g}" for key, value in figures})
    n = len(GEOMETRY)
    for name, part in (("vessels", slice(n)), ("light", slice(n, None)), ("all", slice(None))):
        told = tell_apart(tables[0][:, part], tables[1][:, part])
        found.append(about | {"statistic": f"AUC real or simulated, by {name}", "simulated_median": f"{told:.3f}"})
    return found


def show(rows: Iterable[dict[str, object]]) -> None:
    shown = ("camera", "real", *COLUMNS[5:])
    print(("{:8}{:20}{:34}" + "{:>12}" * 7).format(*(name.replace("simulated", "sim") for name in shown)))
    for row in rows:
        print(("{:8}{:20}{:34}" + "{:>12}" * 7).format(*(str(row.get(name, "")) for name in shown)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "simulated_life")
    parser.add_argument("--development", action="store_true", help="only what may be tuned on; write nothing to docs")
    parser.add_argument("--eyes", type=int, default=EYES, help="simulated eyes a camera")
    given = parser.parse_args()
    rows: list[dict[str, object]] = []
    measurement, simulator = version_of("vessels", "imaging"), version_of("vessels", "imaging", "simulate")
    for group in groups():
        if given.development and not group.tuned:
            continue
        real = {str(path): partial(measure_file, path) for path in group.paths}
        made = {str(k): partial(measure_simulated, group.camera, k) for k in range(given.eyes)}
        known = given.out / f"real_{group.name.replace(' ', '_')}_{measurement}.jsonl"
        drawn = given.out / f"simulated_{group.camera}_{simulator}.jsonl"
        rows += compare(group, measured(known, real, given.workers), measured(drawn, made, given.workers))
    show(rows)
    if not given.development and given.eyes == EYES:
        with RESULTS.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
