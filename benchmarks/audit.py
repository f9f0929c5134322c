"""How well the audit finds copies and second views, and how seldom it errs, on the RetCam photographs.

    python benchmarks/audit.py copies [CHANGE...]   recall of each change under the eight turns and mirrorings
    python benchmarks/audit.py views                pairs found, and found among those that cannot be one eye
    python benchmarks/audit.py speed [N]            processor seconds for N photographs, by stage

Each writes its rows into docs/results/audit.csv and leaves the others' there.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from fundoscope.cohort.fingerprints import TURNS, Fingerprint, apply_turn, fingerprint
from fundoscope.cohort.near_duplicates import SAME_EYE, find_near_duplicates
from fundoscope.cohort.second_views import find_second_views
from fundoscope.imaging import Photograph, Pixels, read

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT.parent / "shared" / "data"))
TABLE = ROOT / "docs" / "results" / "audit.csv"
COLUMNS = ("measurement", "condition", "turn", "n", "found", "share", "wrong", "lowest_or_highest_similarity")

# Pairs that show one eye, judged by eye on both photographs laid on each other: every vessel and ridge
# continues.
JUDGED = {
    "normal": "001-002 009-010 019-020 023-024 028-029 033-045",
    "rop": "002-005 003-004 003-011 004-011 005-010 012-013 018-021 020-024 020-029 021-028 024-025 026-028 "
    "030-031 032-033 048-049",
}


def main() -> None:
    what, *rest = sys.argv[1:] or ["copies"]
    photographs = _retcam()
    if not photographs:
        sys.exit(f"no photographs in {DATA / 'hvdropdb_retcam'}: set FUNDOSCOPE_DATA. Nothing was measured.")
    rows = {"copies": copies, "views": views, "speed": speed}[what](photographs, rest)
    _keep(rows)


def copies(photographs: list[Photograph], wanted: list[str]) -> Iterator[dict[str, object]]:
    """Recall: among all photographs, changed copies of all (as they are) or of every fourth (turned)."""
    originals = [fingerprint(photograph) for photograph in photographs]
    for name, change in CHANGES.items():
        if wanted and name not in wanted:
            continue
        for turn, words in enumerate(TURNS):
            rows = range(len(originals))[turn % 4 :: 4] if turn else range(len(originals))
            prints = [_print(apply_turn(change(photographs[row].pixels), turn)) for row in rows]
            found = {(m.first, m.second): m.similarity for m in find_near_duplicates(originals + prints)}
            true = [(row, len(originals) + at) for at, row in enumerate(rows)]
            right = [found[pair] for pair in true if pair in found]
            wrong = len(found) - len(right)
            yield _row("copies", name, words, len(rows), len(right), wrong, min(right, default=0.0))


def views(photographs: list[Photograph], _: list[str]) -> Iterator[dict[str, object]]:
    """Second views among the photographs; and between them and their mirror images, where each is false."""
    names = ["/".join(Path(photograph.name).parts[-2:]).removesuffix(".png") for photograph in photographs]
    judged = {tuple(f"{label}/{end}" for end in pair.split("-")) for label, t in JUDGED.items() for pair in t.split()}
    found = {(names[m.first], names[m.second]): m.similarity for m in find_second_views(_prints(photographs, 0))}
    for pair in sorted(set(found) - judged):
        print(f"not judged yet, look at it: {pair[0]} {pair[1]} {found[pair]:.2f}")
    right = [found[pair] for pair in judged if pair in found]
    yield _row(
        "second views",
        "pairs judged by eye",
        TURNS[0],
        len(judged),
        len(right),
        len(found) - len(right),
        min(right),
    )
    sets = [_prints(photographs, turn) for turn in (0, 2, 4, 6)]
    n, every = len(photographs), [p for prints in sets for p in prints]
    crossed = [m.similarity for m in find_second_views(every, minimum_similarity=0.0) if m.first // n != m.second // n]
    pairs = len(every) * (len(every) - n) // 2
    wrong = sum(similarity >= SAME_EYE for similarity in crossed)
    condition = "pairs that cannot be one eye"
    yield _row("second views", condition, "turned or mirrored", pairs, 0, wrong, max(crossed))


def speed(photographs: list[Photograph], rest: list[str]) -> Iterator[dict[str, object]]:
    """Processor seconds by stage, of all cores together; the searches run on noise in the photographs' fields."""
    n = int(rest[0]) if rest else 2000
    begin = time.process_time()
    prints = _prints(photographs, 0)
    yield _seconds("fingerprints, 640x480, decoding left out", len(photographs), begin)
    rng = np.random.default_rng(0)
    prints = [_noisy(prints[at % len(prints)], rng) for at in range(n)]
    for name, search in (("copies", find_near_duplicates), ("second views", find_second_views)):
        begin = time.process_time()
        search(prints)
        yield _seconds(f"{name} among all", n, begin)


def _noisy(first: Fingerprint, rng: np.random.Generator) -> Fingerprint:
    """Noise in place of the vessels: no two are alike, as in a cohort of many eyes."""
    fine, coarse = (np.where(square != 0, rng.normal(size=square.shape), 0).astype(np.float32)
                    for square in (first.fine, first.coarse))  # fmt: skip
    return Fingerprint(fine, coarse, first.field, first.pixels)


def _jpeg(pixels: Pixels, quality: int = 70) -> Pixels:
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return read(data.tobytes()).pixels


def _exposed(pixels: Pixels, gain: float) -> Pixels:
    return np.clip(np.round(pixels * gain), 0, 255).astype(np.uint8)


def _cropped(pixels: Pixels, top: float, bottom: float, left: float, right: float) -> Pixels:
    rows, columns = pixels.shape[:2]
    return pixels[round(top * rows) : round((1 - bottom) * rows), round(left * columns) : round((1 - right) * columns)]


def _stretched(pixels: Pixels) -> Pixels:
    return cv2.resize(_cropped(pixels, 0.05, 0, 0.05, 0), pixels.shape[1::-1], interpolation=cv2.INTER_AREA)


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "none": lambda pixels: pixels,
    "JPEG at quality 70": _jpeg,
    "10 % brighter": lambda pixels: _exposed(pixels, 1.1),
    "10 % darker": lambda pixels: _exposed(pixels, 0.9),
    "5 % cropped, half at each side": lambda pixels: _cropped(pixels, 0.025, 0.025, 0.025, 0.025),
    "5 % cropped at every side": lambda pixels: _cropped(pixels, 0.05, 0.05, 0.05, 0.05),
    "5 % cropped at one side": lambda pixels: _cropped(pixels, 0, 0, 0.05, 0),
    "5 % cropped at a corner, resized back": _stretched,
    "all: cropped, darker, JPEG at 70": lambda pixels: _jpeg(_exposed(_cropped(pixels, 0.025, 0.025, 0, 0.05), 0.9)),
}


def _retcam() -> list[Photograph]:
    return [read(path) for path in sorted((DATA / "hvdropdb_retcam").glob("*/*.png"))]


def _print(pixels: Pixels) -> Fingerprint:
    return fingerprint(Photograph(np.ascontiguousarray(pixels), "copy", 0, "array"))


def _prints(photographs: list[Photograph], turn: int) -> list[Fingerprint]:
    return [_print(apply_turn(photograph.pixels, turn)) for photograph in photographs]


def _row(measurement: str, condition: str, turn: str, n: int, found: int, wrong: int, edge: float) -> dict[str, object]:
    return dict(
        zip(
            COLUMNS,
            (measurement, condition, turn, n, found, f"{found / n:.4f}", wrong, f"{edge:.3f}"),
            strict=True,
        )
    )


def _seconds(condition: str, n: int, begin: float) -> dict[str, object]:
    row = dict.fromkeys(COLUMNS, "") | {"measurement": "processor seconds", "condition": condition, "n": n}
    return row | {"found": f"{time.process_time() - begin:.1f}"}


def _keep(rows: Iterator[dict[str, object]]) -> None:
    """Write each row as it comes, in place of an older one of the same measurement."""
    for row in rows:
        print("  ".join(f"{value}" for value in row.values()), flush=True)
        key = [str(row[column]) for column in COLUMNS[:3]]
        old = list(csv.DictReader(TABLE.open(encoding="utf-8"))) if TABLE.exists() else []
        kept = [r for r in old if [r[column] for column in COLUMNS[:3]] != key]
        with TABLE.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(sorted([*kept, row], key=_order))


def _order(row: dict[str, object]) -> tuple[int, int, int]:
    places = (["copies", "second views", "processor seconds"], list(CHANGES), list(TURNS))
    return tuple(p.index(row[c]) if row[c] in p else 99 for p, c in zip(places, COLUMNS[:3], strict=True))  # type: ignore


if __name__ == "__main__":
    main()
