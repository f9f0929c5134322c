"""Montages, exchanged channels and bright borders, made from every real photograph: python benchmarks/odd_pictures.py

Each photograph of the data folder is judged as it is, in montages with other photographs of its camera, with red and blue
exchanged, beside a small inset or a banner, and in bright frames. Prints a table and writes docs/results/odd_pictures.csv:
of `n` pictures, `found` were answered as `asked`. FUNDOSCOPE_DATA names the data (default ../shared/data).
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from fundoscope.imaging import Pixels, Prepared, find_field, read
from fundoscope.imaging.quality import EyeKind, QualityVerdict, judge_quality
from fundoscope.learning.quality_pictures import data_folder

ROOT = Path(__file__).resolve().parents[1]
SETS: dict[str, tuple[EyeKind, str]] = {
    "RetCam": ("infant", "hvdropdb_retcam/*/*"),
    "Neo": ("infant", "hvdropdb_neo/*/*"),
    "DRIVE": ("adult", "drive_av/*/images/*"),
    "HRF": ("adult", "hrf_av/images/*"),
    "IOSTAR": ("adult", "iostar/images_1024/*"),
    "LES-AV": ("adult", "les_av/images/*"),
    "STARE": ("adult", "stare/images/*"),
    "CHASE_DB1": ("adult", "chase_db1/images/*"),
    "HVDROPDB ridges": ("infant", "hvdropdb_ridge/images/*"),
}
LONGEST = 1200  # pixels: larger photographs are made smaller first, since only their arrangement is asked about
Montage = Callable[[Pixels, Pixels, np.random.Generator], Pixels]
Change = Callable[[Pixels, np.random.Generator], Pixels]


def load(file: Path) -> Pixels:
    """A photograph of at most `LONGEST` pixels."""
    pixels = read(file).pixels
    scale = min(1.0, LONGEST / max(pixels.shape[:2]))
    return pixels if scale == 1 else cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def joined(a: Pixels, b: Pixels, axis: int, gap: int = 0, shade: int = 0) -> Pixels:
    """Two pictures above each other (axis 0) or side by side (1), the smaller one in the middle of its place."""
    across = 1 - axis
    longest = max(a.shape[across], b.shape[across])
    parts = []
    for part in (a, b):
        missing = longest - part.shape[across]
        before, after = missing // 2, missing - missing // 2
        margins = (0, 0, before, after) if axis == 0 else (before, after, 0, 0)
        parts.append(cv2.copyMakeBorder(part, *margins, cv2.BORDER_CONSTANT, value=(shade,) * 3))
    size = list(parts[0].shape)
    size[axis] = gap
    return np.concatenate([parts[0], np.full(size, shade, np.uint8), parts[1]], axis)


def smaller(picture: Pixels, share: float) -> Pixels:
    return cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)


MONTAGES: dict[str, Montage] = {
    "side by side": lambda a, b, _: joined(a, b, 1),
    "above each other": lambda a, b, _: joined(a, b, 0),
    "side by side, black gap": lambda a, b, _: joined(a, b, 1, 24),
    "above each other, white gap": lambda a, b, _: joined(a, b, 0, 24, 255),
    "two by two": lambda a, b, _: joined(joined(a, b, 1), joined(b, a, 1), 0),
    "three side by side": lambda a, b, _: joined(joined(a, b, 1), a[:, ::-1], 1),
    "the second half as large": lambda a, b, rng: joined(a, smaller(b, 0.5), int(rng.integers(2))),
    "the first two thirds as large, white page": lambda a, b, rng: cv2.copyMakeBorder(
        joined(smaller(a, 0.67), b, int(rng.integers(2)), 20, 255),
        30,
        30,
        30,
        30,
        cv2.BORDER_CONSTANT,
        value=(255,) * 3,
    ),
    "JPEG 70": lambda a, b, rng: cv2.imdecode(
        cv2.imencode(".jpg", joined(a, b, int(rng.integers(2))), [cv2.IMWRITE_JPEG_QUALITY, 70])[1], 1
    ),
}


def with_inset(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """A thumbnail of the whole photograph, a quarter as large, in one of its corners."""
    picture, small = picture.copy(), smaller(picture, 0.25)
    rows, columns = small.shape[:2]
    row, column = (
        int(rng.integers(2)) * (whole - part) for whole, part in zip(picture.shape[:2], small.shape[:2], strict=True)
    )
    picture[row : row + rows, column : column + columns] = small
    return picture


def with_banner(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """A banner with text below, dark or white."""
    white = rng.random() < 0.5
    banner = np.full((picture.shape[0] // 8, picture.shape[1], 3), 255 if white else 0, np.uint8)
    cv2.putText(banner, "Name 0123  2024-01-02  OD", (10, banner.shape[0] // 2), 0, picture.shape[1] / 900,
                (0,) * 3 if white else (255,) * 3, 2)  # fmt: skip
    return np.concatenate([picture, banner])


def with_logo(picture: Pixels, _: np.random.Generator) -> Pixels:
    """A bright round logo in a corner and a reflex beside the field."""
    picture, size = picture.copy(), picture.shape[1] // 16
    cv2.circle(picture, (size + 2, size + 2), size, (240, 200, 40), -1)
    cv2.ellipse(
        picture, (picture.shape[1] - size, picture.shape[0] // 2), (size // 2, size), 20, 0, 360, (190, 190, 170), -1
    )
    return picture


def framed(width: int, level: int) -> Change:
    return lambda p, _: cv2.copyMakeBorder(p, *(width,) * 4, cv2.BORDER_CONSTANT, value=(level,) * 3)


def on_paper(picture: Pixels, _: np.random.Generator) -> Pixels:
    """The field cut out on white."""
    picture = picture.copy()
    picture[~find_field(picture).mask()] = 255
    return picture


ADDITIONS: dict[str, Change] = {"a small inset": with_inset, "a banner": with_banner, "a logo and a reflex": with_logo}
FRAMES: dict[str, Change] = {
    "white frame, 2 pixels": framed(2, 255),
    "white frame, 12 pixels": framed(12, 255),
    "white frame, 60 pixels": framed(60, 255),
    "grey frame, 20 pixels": framed(20, 150),
    "white frame, JPEG 75": lambda p, rng: cv2.imdecode(
        cv2.imencode(".jpg", framed(20, 255)(p, rng), [cv2.IMWRITE_JPEG_QUALITY, 75])[1], 1
    ),
    "cut out on white paper": on_paper,
}


def verdict(picture: Pixels, expects: EyeKind) -> QualityVerdict:
    return judge_quality(Prepared.read(np.ascontiguousarray(picture)), expects)


def same_field(plain: Pixels, changed: Pixels, expects: EyeKind) -> bool:
    """Whether the same circle is found in the middle of a framed picture, to 2.5 % of its radius, or the border is named."""
    before, after = find_field(plain), find_field(changed)
    if after.bright_border or not before.found:
        return "bright_border" in verdict(changed, expects).codes or not before.found
    margin = [(a - b) // 2 for a, b in zip(changed.shape, plain.shape, strict=True)]
    moved = np.hypot(after.row - before.row - margin[0], after.column - before.column - margin[1])
    return bool(after.found and max(moved, abs(after.radius - before.radius)) <= 0.025 * before.radius)


def rows_of(name: str, expects: EyeKind, files: list[Path]) -> Iterator[tuple[str, str, str, int, int]]:
    pictures = [load(file) for file in files]
    verdicts = [verdict(p, expects) for p in pictures]
    n = len(pictures)
    yield name, "as it is", "several fields", n, sum("several_fields" in v.codes for v in verdicts)
    yield name, "as it is", "exchanged channels", n, sum("swapped_channels" in v.warnings for v in verdicts)
    yield name, "as it is", "a bright border", n, sum("bright_border" in v.codes for v in verdicts)
    grey = [verdict(cv2.cvtColor(p[..., 1], cv2.COLOR_GRAY2RGB), expects) for p in pictures]
    yield name, "red-free", "exchanged channels", n, sum("swapped_channels" in v.warnings for v in grey)
    swapped = [verdict(p[..., ::-1], expects) for p in pictures]
    yield (
        name,
        "red and blue exchanged",
        "exchanged channels",
        n,
        sum("swapped_channels" in v.warnings for v in swapped),
    )
    rng = np.random.default_rng(0)
    for how, montage in MONTAGES.items():
        others = rng.permutation(n)
        made = [
            find_field(np.ascontiguousarray(montage(p, pictures[k], rng)))
            for p, k in zip(pictures, others, strict=True)
        ]
        yield name, how, "several fields", n, sum(field.count > 1 for field in made)
    for how, change in ADDITIONS.items():
        made = [find_field(np.ascontiguousarray(change(p, rng))) for p in pictures]
        yield name, how, "several fields", n, sum(field.count > 1 for field in made)
    for how, change in FRAMES.items():
        same = [same_field(p, np.ascontiguousarray(change(p, rng)), expects) for p in pictures]
        yield name, how, "the same field, or a bright border", n, sum(same)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/odd_pictures.csv")
    args = parser.parse_args()
    table = [("set", "picture", "asked", "n", "found")]
    for name, (expects, pattern) in SETS.items():
        for row in rows_of(name, expects, sorted(data_folder().glob(pattern))):
            print("{:16s} {:44s} {:36s} {:4d} {:4d}".format(*row), flush=True)
            table.append(row)
    with args.out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(table)


if __name__ == "__main__":
    main()
