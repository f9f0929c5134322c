"""Does a screening's report tell when photographs are unlike those that the bundle learnt from, and is it quiet when not?

    python benchmarks/likeness.py --data ../shared/data [--simulated 80] [--deals 20]

The reference is made of RetCam's photographs (HVDROPDB), which the shipped bundle learnt from. RetCam itself is left out fold by
fold: five parts by group (near-duplicates stay together), dealt `--deals` times, each judged by a reference of the other four.
Other cameras and other eyes are judged by the reference of all: Neo's infants, simulated infants, and adults of five public sets.
Of each also small sets are drawn, 1, 5 and 20 photographs at a time (of RetCam from what a fold left out), 2,000 times.

Last rows: Neo's photographs make the reference and RetCam's are judged, as if the bundle had learnt from Neo.

Columns: `share_beyond` is the share of photographs beyond the limit, `warned` the share of sets that are called unlike, of
`sets`. Writes docs/results/likeness.csv; about three minutes on one core.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles import open_bundle
from fundoscope.cohort import Cohort, audit, make_groups
from fundoscope.evaluation import results_table
from fundoscope.evaluation.likeness import LikenessReference, fit_likeness, judge_likeness
from fundoscope.imaging.measures import measure
from fundoscope.simulate import infant

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "docs" / "results" / "likeness.csv"
ADULTS = {
    "CHASE_DB1": "chase_db1/images/*.jpg",
    "STARE": "stare/images/*",
    "IOSTAR": "iostar/images/*",
    "LES-AV": "les_av/images/*",
    "HRF": "hrf_av/images/*",
}
PARTS, SETS, SIZES = 5, 2000, (1, 5, 20)

Array = NDArray[np.float64]
Measures = list[dict[str, float]]


def measured(paths: Iterable[Path]) -> Measures:
    """The measurements of photographs, read as screening reads them."""
    standard = open_bundle("rop").card.standard
    return [measure(standard.prepare(path, path.name)) for path in paths]


def simulated(count: int) -> Measures:
    """The measurements of simulated infants' photographs; camera, disease and light are drawn."""
    standard = open_bundle("rop").card.standard
    return [measure(standard.prepare(infant(seed).pixels, "simulated")) for seed in range(count)]


def left_out(known: Measures, groups: Sequence[int], deals: int) -> Iterator[tuple[Array, float]]:
    """The distances of each part by a reference of the others, and that one's limit."""
    codes = np.array(groups)
    for seed in range(deals):
        part = np.random.default_rng(seed).permutation(codes.max() + 1)[codes] % PARTS
        for number in range(PARTS):
            kept = np.flatnonzero(part != number)
            reference = fit_likeness([known[row] for row in kept], codes[kept].tolist())
            yield distances(reference, [known[row] for row in np.flatnonzero(part == number)]), reference.limit


def distances(reference: LikenessReference, measures: Measures) -> Array:
    """The distances of photographs, (n,)."""
    return np.array([reference.distance(each) for each in measures])


def rows_of(name: str, learnt: str, sets: Sequence[tuple[Array, float]]) -> Iterator[dict[str, Any]]:
    """A row for the sets as they are, and one for each size of sets drawn from them."""
    share = float(np.mean(np.concatenate([each > limit for each, limit in sets])))
    whole = [judge_likeness(each, limit).unlike for each, limit in sets]
    photographs = round(float(np.mean([len(each) for each, _ in sets])))
    facts = {"photographs_of": name, "reference": learnt, "share_beyond": share}
    yield {**facts, "photographs_a_set": photographs, "sets": len(sets), "warned": float(np.mean(whole))}
    rng = np.random.default_rng(0)
    for size in SIZES:
        drawn = (sets[number] for number in rng.integers(len(sets), size=SETS))
        fits = [
            judge_likeness(rng.choice(each, size, replace=False), limit).unlike
            for each, limit in drawn
            if len(each) >= size
        ]
        if fits:
            yield {**facts, "photographs_a_set": size, "sets": len(fits), "warned": float(np.mean(fits))}


def rows(data: Path, count: int, deals: int) -> Iterator[dict[str, Any]]:
    """All rows of the table."""
    cameras = {}
    for camera in ("retcam", "neo"):
        cohort = Cohort.from_folders(data / f"hvdropdb_{camera}")
        groups = make_groups(cohort, audit(cohort).pairs).numbers.tolist()
        cameras[camera] = measured(cohort.paths), groups
    (retcam, groups), (neo, neo_groups) = cameras["retcam"], cameras["neo"]
    yield from rows_of("RetCam, left out", "RetCam", list(left_out(retcam, groups, deals)))
    reference = fit_likeness(retcam, groups)
    others = {"Neo, infants": neo, "simulated infants": simulated(count)}
    others |= {f"{name}, adults": measured(sorted(data.glob(pattern))[:30]) for name, pattern in ADULTS.items()}
    for name, measures in others.items():
        yield from rows_of(name, "RetCam", [(distances(reference, measures), reference.limit)])
    yield from rows_of("Neo, left out", "Neo", list(left_out(neo, neo_groups, deals)))
    reference = fit_likeness(neo, neo_groups)
    yield from rows_of("RetCam, infants", "Neo", [(distances(reference, retcam), reference.limit)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds hvdropdb_retcam and the others")
    parser.add_argument("--simulated", type=int, default=80, help="simulated infants")
    parser.add_argument("--deals", type=int, default=20, help="how often the parts of RetCam are dealt")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    for row in results_table(list(rows(given.data, given.simulated, given.deals)), RESULTS):
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
