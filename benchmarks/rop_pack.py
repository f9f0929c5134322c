"""One small file of everything that `rop_networks.py` learns from and is tested on, so that it runs where no photograph lies.

    python benchmarks/rop_pack.py --out runs/rop_pack.npz [--data ../shared/data] [--treatment 350]

Real photographs of both cameras of HVDROPDB, with labels, camera, duplicate group and fold (five, by group); simulated
eyes, one photograph an infant, with the place of the ridge for pretraining, and others with ROP for the question of treatment. All are prepared as
recipe `paper` says (CLAHE on the photograph, then 256 px) and kept alike as WebP of quality 85 (2 grey
levels on average). It holds photographs:
do not publish it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from pathlib import Path

import cv2
import numpy as np
from rop_pack_files import RIDGE_SIDE

from fundoscope.cohort import Cohort, Folds, audit, make_groups
from fundoscope.imaging import Photograph
from fundoscope.rop.recipes import FOLDER, read_recipe
from fundoscope.simulate import infant

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT.parent / "shared" / "data"))
CAMERAS = {"RetCam": "hvdropdb_retcam", "Neo": "hvdropdb_neo"}
QUALITY = 85
RECIPE = read_recipe(FOLDER / "paper_comparison.toml")
STANDARD = read_recipe("paper").standard
_FRESH = 10_000_000  # added to the seed for the eyes of the second question

Columns = dict[str, list[object]]


def real_cohort(data: Path) -> Cohort:
    """The photographs of both cameras, one camera after the other."""
    with tempfile.TemporaryDirectory() as folder:
        table, records = Path(folder) / "cohort.csv", []
        for name in CAMERAS.values():
            Cohort.from_folders(data / name).write(table)
            records += list(Cohort.read(table))
        Cohort(records, str(table)).write(table)
        return Cohort.read(table)


def real_photographs(data: Path) -> tuple[list[bytes], dict[str, np.ndarray]]:
    """Squares of both cameras, and a column each of labels, cameras, groups (numbers) and folds."""
    cohort = real_cohort(data)
    groups = make_groups(cohort, audit(cohort).pairs)
    fold = np.zeros(len(cohort), np.int64)
    for each in Folds.make(cohort, groups, 5):
        fold[list(each.test)] = each.number
    cameras = [next(c for c, name in CAMERAS.items() if name in str(record.path)) for record in cohort]
    files = [encoded(STANDARD.square(STANDARD.prepare(record.path, record.image))) for record in cohort]
    known = {"labels": cohort.labels, "cameras": cameras, "groups": groups.numbers, "folds": fold}
    return files, {name: np.asarray(values) for name, values in known.items()}


def draw_eye(seed: int, diseases: tuple[str, ...]) -> tuple[bytes, dict[str, object]] | None:
    """One simulated photograph, and what it shows; none where it is ungradable."""
    numbers = RECIPE.pretraining
    assert numbers is not None
    eye = infant(seed, disease=diseases[seed % len(diseases)], size=numbers.side)  # ty: ignore[invalid-argument-type]
    if eye.truth.level == "ungradable":
        return None
    shown = eye.truth.in_view
    ridge = cv2.resize(eye.truth.ridge.astype(np.float32), (RIDGE_SIDE, RIDGE_SIDE), interpolation=cv2.INTER_AREA)
    known = {"labels": int(shown.label == "rop"), "treatment": int(shown.treatment_requiring), "stage": shown.stage,
             "plus": shown.plus, "seed": seed, "ridge": np.packbits(ridge > 0)}  # fmt: skip
    return encoded(STANDARD.square(Photograph(eye.pixels, "simulated", 0, "array"))), known


def draw_pretraining_eye(seed: int) -> tuple[bytes, dict[str, object]] | None:
    """An eye without ROP and two with it in turn: in a third of these no view shows it, so that both labels are as frequent."""
    return draw_eye(seed, ("normal", "rop", "treatment-requiring"))


def draw_treatment_eye(seed: int) -> tuple[bytes, dict[str, object]] | None:
    """An eye with ROP in view, which needs treatment or does not."""
    drawn = draw_eye(seed, ("rop", "treatment-requiring"))
    return drawn if drawn and drawn[1]["labels"] else None


def simulated_photographs(
    wanted: int, draw: Callable[[int], object], seed: int, workers: int
) -> tuple[list[bytes], dict[str, np.ndarray]]:
    """The first `wanted` eyes from `seed` on that can be used."""
    files: list[bytes] = []
    known: Columns = {}
    start = time.perf_counter()
    with ProcessPoolExecutor(workers) as pool:
        for seeds in _chunks(seed, 16 * workers):
            for drawn in pool.map(draw, seeds):
                if drawn is not None and len(files) < wanted:
                    files.append(drawn[0])  # ty: ignore[not-subscriptable]
                    for name, value in drawn[1].items():  # ty: ignore[not-subscriptable]
                        known.setdefault(name, []).append(value)
            print(f"{len(files)} of {wanted} simulated, {time.perf_counter() - start:.0f} s", flush=True)
            if len(files) >= wanted:
                break
    return files, {name: np.array(values) for name, values in known.items()}


def _chunks(first: int, number: int) -> Iterator[range]:
    yield from (range(first + k * number, first + (k + 1) * number) for k in count())


def encoded(square: np.ndarray) -> bytes:
    """A square as a small file."""
    square = cv2.cvtColor(square, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".webp", square, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])[1].tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--simulated", type=int, default=RECIPE.pretraining and RECIPE.pretraining.photographs)
    parser.add_argument("--treatment", type=int, default=350)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    assert RECIPE.pretraining is not None
    seed = RECIPE.pretraining.seed * 1000
    parts = {
        "real": real_photographs(given.data),
        "pretraining": simulated_photographs(given.simulated, draw_pretraining_eye, seed, given.workers),
        "treatment": simulated_photographs(given.treatment, draw_treatment_eye, seed + _FRESH, given.workers),
    }
    packed = {}
    for part, (files, known) in parts.items():
        packed[f"{part}/bytes"] = np.frombuffer(b"".join(files), np.uint8)
        packed[f"{part}/ends"] = np.cumsum([len(file) for file in files])
        packed |= {f"{part}/{name}": values for name, values in known.items()}
        counts = ", ".join(
            f"{name} {np.bincount(known[name])}" for name in ("labels", "treatment", "folds") if name in known
        )
        print(f"{part}: {len(files)} photographs, {sum(map(len, files)) / 1e6:.1f} MB; {counts}")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(given.out, **packed)
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
