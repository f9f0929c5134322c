"""Does the map behind an answer point at the ridge? On simulated infants, where the ridge is known to the pixel.

    python benchmarks/pointing.py [--bundle rop] [--photographs 240]

The shipped bundle screens fresh simulated photographs in which a ridge shows. Of the map's mass that speaks for ROP, how
much lies on the ridge, on the disc, and on the brightest reflexes of the healthy part, against these places' share of the
field (chance)? Writes docs/results/pointing.csv. SIMULATED eyes: a map may point elsewhere on real ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles import open_bundle
from fundoscope.evaluation import results_table
from fundoscope.evaluation.detection import Pointing, pointing, pointing_summary
from fundoscope.imaging import Photograph, Standard, find_field
from fundoscope.simulate.infants import infant

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "pointing.csv"
SEED = 90_000
_AROUND = 0.03  # of the square's side: a map of 8 x 8 cannot point finer than at the neighbourhood of a line
_REFLEX = 0.99  # the brightest hundredth of the field that is neither ridge nor disc


def squared(mask: NDArray[np.bool_], photograph: Photograph, standard: Standard) -> NDArray[np.bool_]:
    """A mask of the photograph in the frame of the standard square."""
    picture = Photograph(np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2), "mask", 0, "array")
    return standard.square(picture, find_field(photograph.pixels))[..., 0] > 127


def score(seed: int, bundle: object, standard: Standard) -> Pointing | None:
    """The pointing of one simulated photograph; None where no ridge shows."""
    eye = infant(seed, disease=("rop", "treatment-requiring")[seed % 2])
    if not eye.truth.ridge.any():
        return None
    photograph = Photograph(eye.pixels, f"simulated {seed}", 0, "array")
    square = standard.square(photograph, find_field(photograph.pixels))
    ridge, disc, inside = (
        squared(getattr(eye.truth, name), photograph, standard) for name in ("ridge", "disc", "field")
    )
    near = cv2.dilate(ridge.astype(np.uint8), np.ones((2 * round(_AROUND * standard.size) + 1,) * 2)) > 0
    light = cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)
    rest = inside & ~near & ~disc
    reflexes = rest & (light >= np.quantile(light[rest], _REFLEX))
    _, activation = bundle.run(standard.tensor(standard.enhance(square))[None])  # ty: ignore[unresolved-attribute]
    return pointing(activation[0], {"ridge": near & inside, "disc": disc & inside, "reflexes": reflexes}, inside)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="rop")
    parser.add_argument("--photographs", type=int, default=240)
    given = parser.parse_args()
    bundle = open_bundle(given.bundle)
    found = [score(SEED + number, bundle, bundle.card.standard) for number in range(given.photographs)]
    kept = [one for one in found if one is not None]
    rows = [{"simulated": "yes", "photographs": len(kept), **row} for row in pointing_summary(kept)]
    results_table(rows, RESULTS)
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
