"""Whether the answer on a photograph depends on the file that carries it: python benchmarks/deep_photographs.py

Twenty-four RetCam photographs from $FUNDOSCOPE_DATA (default ../shared/data), each saved anew with 10, 12 and 14 bits in
16-bit files, without and with one hot pixel in the middle of the field at the top of all sixteen, and as every other kind of file that keeps its pixels.
Counts the decisions of the shipped ROP grader that differ from those on the photographs as they are, and writes
docs/results/deep_photographs.csv. Exit code 1 if a decision differs.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

import fundoscope
from fundoscope.imaging import Pixels, read

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT.parent / "shared" / "data"))
PHOTOGRAPHS = 24
RESULTS = ROOT / "docs" / "results" / "deep_photographs.csv"

Encode = Callable[[Pixels], bytes]


def deep(bits: int, suffix: str, hot: bool) -> Encode:
    """Encode with `bits` bits in a 16-bit file; `hot`: one pixel in the middle at its top."""

    def encode(pixels: Pixels) -> bytes:
        stored = (pixels.astype(np.uint16) << (bits - 8)) | (pixels >> (16 - bits))
        if hot:
            stored[len(stored) // 2, stored.shape[1] // 2] = 65535
        if suffix == ".png":
            return cv2.imencode(suffix, stored[..., ::-1])[1].tobytes()
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, stored, photometric="rgb")
        return buffer.getvalue()

    return encode


def saved(kind: str, **options: object) -> Encode:
    """Encode by Pillow as one of its kinds of file."""

    def encode(pixels: Pixels) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind, **options)
        return buffer.getvalue()

    return encode


def encodings() -> Iterator[tuple[str, Encode]]:
    """A title and a way to save a photograph."""
    for bits in (10, 12, 14):
        for suffix in (".png", ".tif"):
            for hot in (False, True):
                yield f"{bits} bits in a 16-bit {suffix[1:]}{', one hot pixel' if hot else ''}", deep(bits, suffix, hot)
    yield "TIFF, LZW", saved("TIFF", compression="tiff_lzw")
    yield "TIFF, a second picture behind it", saved("TIFF", save_all=True, append_images=[Image.new("RGB", (64, 64))])
    yield "BMP", saved("BMP")
    yield "WebP without loss", saved("WEBP", lossless=True)
    yield "JPEG 2000 without loss", saved("JPEG2000")
    yield "PPM", saved("PPM")


def main() -> int:
    files = sorted((DATA / "hvdropdb_retcam").rglob("*.png"))
    files = files[:: max(1, len(files) // PHOTOGRAPHS)][:PHOTOGRAPHS]
    if not files:
        print(f"no RetCam photographs in {DATA}: set FUNDOSCOPE_DATA")
        return 2
    grader = fundoscope.load("rop")
    photographs = [read(file).pixels for file in files]
    plain = grader.screen(photographs)
    rows = []
    for title, encode in encodings():
        found = grader.screen(encode(pixels) for pixels in photographs)
        pairs = list(zip(plain, found, strict=True))
        changed = sum((a.status, a.rop) != (b.status, b.rop) for a, b in pairs)
        furthest = max(abs((a.p_rop or 0) - (b.p_rop or 0)) for a, b in pairs)
        rows.append([title, len(files), changed, f"{furthest:.4f}"])
        print("{:45s} {:3d} photographs, {:2d} decisions changed, p_rop by at most {}".format(*rows[-1]))
    with RESULTS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([["file", "photographs", "decisions_changed", "largest_change_of_p_rop"], *rows])
    return 1 if any(row[2] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
