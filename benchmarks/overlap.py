"""Whether the hashes that a bundle carries find copies of its training photographs, and stay quiet on all others.

    python benchmarks/overlap.py [--data ../shared/data] [--draws 20]

Found: every RetCam and Neo photograph of HVDROPDB in five altered forms (re-encoded, darker, cropped by 3 %, turned, mirrored),
looked up among the hashes of its own camera. Quiet: in `--draws` divisions of each camera into five folds by group, the share
of left-out folds in which no photograph is taken for one of the others; one camera looked up among the other; and 60 simulated
infants among RetCam. Writes docs/results/overlap.csv; three minutes on one idle core.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort import Cohort, Folds, audit, make_groups
from fundoscope.cohort.fingerprints import Fingerprint, apply_turn, fingerprint
from fundoscope.cohort.photograph_hashes import PhotographHashes
from fundoscope.evaluation import results_table
from fundoscope.evaluation.metrics import clopper_pearson
from fundoscope.imaging import Photograph, read
from fundoscope.simulate import infant

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "docs" / "results" / "overlap.csv"
SIMULATED = 60


def re_encoded(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The photograph at 640 pixels, JPEG quality 50."""
    scale = 640 / max(pixels.shape[:2])
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def darker(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two thirds of the light, with a bluish tint."""
    return np.clip(pixels * np.array([0.62, 0.66, 0.75]), 0, 255).astype(np.uint8)


def cropped(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Without 3 % of the rows at the top and of the columns on the left."""
    rows, columns = pixels.shape[:2]
    return np.ascontiguousarray(pixels[round(0.03 * rows) :, round(0.03 * columns) :])


ALTERED: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    "re-encoded": re_encoded, "darker": darker, "cropped": cropped, "turned": lambda pixels: apply_turn(pixels, 1),
    "mirrored, re-encoded": lambda pixels: re_encoded(apply_turn(pixels, 4)),
}  # fmt: skip


def print_of(pixels: NDArray[np.uint8]) -> Fingerprint:
    """The fingerprint of pixels."""
    return fingerprint(Photograph(pixels, "altered", 0, "array"))


def share_row(what: str, photographs: str, hits: int, n: int, unit: str) -> dict[str, object]:
    """A share with its exact 95 % interval."""
    low, high = clopper_pearson(hits, n)
    return {
        "what": what,
        "photographs": photographs,
        "share": hits / n,
        "low": low,
        "high": high,
        "of": n,
        "unit": unit,
    }


def quiet_folds(cohort: Cohort, prints: Sequence[Fingerprint], hashes: PhotographHashes, draws: int) -> tuple[int, int]:
    """Left-out folds in which nothing is found again, and all of them."""
    groups, quiet, every = make_groups(cohort, audit(cohort).pairs), 0, 0
    for seed in range(draws):
        for fold in Folds.make(cohort, groups, 5, seed=seed):
            learnt = PhotographHashes(hashes.bits[[*fold.train, *fold.inner]])
            every += 1
            quiet += all(learnt.find(prints[row]) is None for row in fold.test)
    return quiet, every


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--draws", type=int, default=20)
    given = parser.parse_args()
    rows, kept = [], {}
    for camera in ("retcam", "neo"):
        folder = given.data / f"hvdropdb_{camera}"
        cohort = Cohort.from_folders(folder)
        hashes = PhotographHashes.of_photographs(cohort.paths)
        prints, found = [], dict.fromkeys(ALTERED, 0)
        for row, record in enumerate(cohort):
            pixels = np.asarray(read(record.path).pixels)
            prints.append(print_of(pixels))
            for name, alter in ALTERED.items():
                seen = hashes.find(print_of(alter(pixels)))
                found[name] += seen is not None and seen.number == row
        kept[camera] = prints, hashes
        rows += [
            share_row(f"copies found: {name}", camera, hits, len(cohort), "photographs") for name, hits in found.items()
        ]
        quiet, every = quiet_folds(cohort, prints, hashes, given.draws)
        rows.append(share_row("left-out folds without an alarm", camera, quiet, every, "folds"))
    for first, second in (("neo", "retcam"), ("retcam", "neo")):
        alarms = sum(kept[second][1].find(each) is not None for each in kept[first][0])
        rows.append(share_row("false alarms", f"{first} among {second}", alarms, len(kept[first][0]), "photographs"))
    simulated = [print_of(infant(seed, camera="retcam").pixels) for seed in range(SIMULATED)]
    alarms = sum(kept["retcam"][1].find(each) is not None for each in simulated)
    rows.append(share_row("false alarms", "simulated infants among retcam", alarms, SIMULATED, "photographs"))
    for row in results_table(rows, RESULTS):
        print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
