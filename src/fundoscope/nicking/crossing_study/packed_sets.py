"""The sets whose crossings are all known, packed small to be trained on elsewhere: same folders, same names, same truth.

    python -m fundoscope.nicking.crossing_study.packed_sets --data DATA --out OUT

TIFF becomes PNG, which keeps every pixel; a PNG photograph larger than DRIVE's becomes JPEG, which the way down to the
scale of a detector hides. Everything else is copied as it is.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import cv2

from fundoscope.datasets import open_dataset
from fundoscope.imaging import read
from fundoscope.nicking.crossing_study.transfer_detectors import COMPLETE_SETS

_LARGE = 800  # pixels on the longer side, from which a photograph is packed as JPEG
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
_TRUTH = ("av", "vessel", "mask", "junctions", "vessel_512", "images_1024")


def pack_set(folder: Path, out: Path) -> int:
    """Pack a set's photographs and truth into `out`; returns the number of bytes there."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    for source in open_dataset(folder).sources:
        if source.path.suffix.lower() in (".jpg", ".jpeg"):
            shutil.copy(source.path, out / "images")
            continue
        pixels = cv2.cvtColor(read(source.path).pixels, cv2.COLOR_RGB2BGR)
        if max(pixels.shape) > _LARGE:
            cv2.imwrite(str(out / "images" / f"{source.path.stem}.jpg"), pixels, _QUALITY)
        else:
            cv2.imwrite(str(out / "images" / f"{source.path.stem}.png"), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    for name in _TRUTH:
        if (folder / name).is_dir():
            shutil.copytree(folder / name, out / name, dirs_exist_ok=True)
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def main() -> None:
    """The command `python -m fundoscope.nicking.crossing_study.packed_sets`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the packed sets")
    given = parser.parse_args()
    for name in COMPLETE_SETS.values():
        print(f"{given.out / name}: {pack_set(given.data / name, given.out / name) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
