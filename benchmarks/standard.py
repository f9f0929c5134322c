"""What standard pixels cost, how steady they are, and whether CLAHE belongs before or after the resize.

    python benchmarks/standard.py [--photographs 8]

Reads RetCam, DRIVE and HRF photographs from $FUNDOSCOPE_DATA (default ../shared/data). Writes two tables that
docs/explanation/standard.md shows. All times are of the processor, the least of many runs on one core.

docs/results/standard.csv, a row a camera and setting (when, clip):
    half, double, jpeg75   mean absolute difference in grey levels, within the field, between the square of a
                           photograph and that of the same at half or double resolution, or saved as JPEG 75
    contrast, noise        of the green channel: RMS between sigma 1 and 4 pixels; Immerkaer's (1996) estimate
    vessel_d               (DRIVE) distance of vessel and background in their pooled standard deviation, after
                           the local mean (sigma 12) is taken away
docs/results/standard_speed.csv, a row a step: milliseconds, and the ratio to bare OpenCV.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from fundoscope.imaging import Field, Photograph, Pixels, Standard, find_field, read

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
CAMERAS = {
    "RetCam": "hvdropdb_retcam/*/*.png",
    "DRIVE": "drive_av/training/images/*",
    "HRF": "hrf_av/images/*",
}
SETTINGS = (
    Standard(clahe_when="never"),
    *(Standard(clahe_when="after resize", clahe_clip=clip) for clip in (1.0, 2.0, 3.0, 4.0)),
    *(Standard(clahe_when="before resize", clahe_clip=clip) for clip in (1.0, 2.0, 3.0, 4.0)),
)
_AGAINST = "square + enhance + tensor, against four bare OpenCV calls"
_LAPLACE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


def milliseconds(work: Callable[[], object], runs: int) -> float:
    """Processor time of one call, the least of `runs`: what others do on the machine only ever adds."""
    times = []
    for _ in range(runs):
        begin = time.thread_time()
        work()
        times.append(time.thread_time() - begin)
    return 1000 * min(times)


def resized(photograph: Photograph, columns: int, rows: int) -> Photograph:
    shrinks = columns < photograph.pixels.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return replace(photograph, pixels=cv2.resize(photograph.pixels, (columns, rows), interpolation=method))


def scaled(field: Field, shape: tuple[int, int]) -> Field:
    """The same field in the photograph at another resolution, so that the search for it plays no part."""
    by = shape[0] / field.shape[0]
    row, column = (field.row + 0.5) * by - 0.5, (field.column + 0.5) * by - 0.5
    return replace(field, row=row, column=column, radius=field.radius * by, shape=shape)


def variants(photograph: Photograph) -> dict[str, Photograph]:
    rows, columns = photograph.pixels.shape[:2]
    jpeg = cv2.imencode(".jpg", photograph.pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
    return {
        "half": resized(photograph, columns // 2, rows // 2),
        "double": resized(photograph, columns * 2, rows * 2),
        "jpeg75": read(jpeg.tobytes()),
    }


def standard_square(standard: Standard, photograph: Photograph, field: Field) -> Pixels:
    return standard.enhance(standard.square(photograph, scaled(field, photograph.pixels.shape[:2])))


def inside(size: int, field: Field) -> np.ndarray:
    """Pixels of a square that show the eye, a little away from every rim."""
    white = Photograph(np.full((*field.shape, 3), 255, np.uint8), "white", 0, "array")
    seen = (Standard(clahe_when="never", size=size).square(white, field)[..., 0] > 127).astype(np.uint8)
    return cv2.erode(seen, np.ones((9, 9), np.uint8), borderValue=0).astype(bool)


def contrast_and_noise(square: Pixels, mask: np.ndarray) -> tuple[float, float]:
    green = square[..., 1].astype(np.float32)
    band = cv2.GaussianBlur(green, (0, 0), 1) - cv2.GaussianBlur(green, (0, 0), 4)
    noise = np.sqrt(np.pi / 2) / 6 * np.abs(cv2.filter2D(green, -1, _LAPLACE))[mask].mean()
    return float(band[mask].std()), float(noise)


def vessel_distance(square: Pixels, vessels: np.ndarray, mask: np.ndarray) -> float:
    green = square[..., 1].astype(np.float32)
    level = green - cv2.GaussianBlur(green, (0, 0), 12)
    vessel, ground = level[vessels & mask], level[~vessels & mask]
    return float((ground.mean() - vessel.mean()) / np.sqrt((ground.var() + vessel.var()) / 2))


def vessel_square(path: Path, field: Field) -> np.ndarray | None:
    """DRIVE's mask of vessels as a standard square, True where more than half a pixel is vessel."""
    names = list((path.parent.parent / "vessel").glob(path.name.split("_")[0] + "*"))
    if not names:
        return None
    return Standard(clahe_when="never").square(read(names[0]), field)[..., 0] > 127


def of_photograph(path: Path) -> list[dict[str, float]]:
    """The figures of one photograph, a dictionary a setting."""
    photograph = read(path)
    field = find_field(photograph.pixels)
    others, mask, vessels = variants(photograph), inside(256, field), vessel_square(path, field)
    rows = []
    for standard in SETTINGS:
        square = standard_square(standard, photograph, field)
        row = {
            name: float(np.abs(standard_square(standard, other, field).astype(int) - square)[mask].mean())
            for name, other in others.items()
        }
        row["contrast"], row["noise"] = contrast_and_noise(square, mask)
        row["vessel_d"] = np.nan if vessels is None else vessel_distance(square, vessels, mask)
        rows.append(row)
    return rows


def compare(files: dict[str, list[Path]]) -> list[dict[str, object]]:
    table = []
    for camera, paths in files.items():
        figures = [of_photograph(path) for path in paths]
        for number, standard in enumerate(SETTINGS):
            mean = {key: np.mean([photo[number][key] for photo in figures]) for key in figures[0][0]}
            shown = {key: "" if np.isnan(value) else f"{value:.3f}" for key, value in mean.items()}
            clip = "" if standard.clahe_when == "never" else standard.clahe_clip
            table.append({"camera": camera, "n": len(paths), "when": standard.clahe_when, "clip": clip, **shown})
    return table


def reading(photograph: Photograph) -> list[dict[str, object]]:
    """Reading from memory against bare OpenCV, which neither checks nor turns anything."""
    rows = []
    for suffix in (".png", ".jpg"):
        data = cv2.imencode(suffix, photograph.pixels[..., ::-1])[1]
        ours, bare = in_turn(partial(read, data.tobytes()), partial(cv2.imdecode, data, cv2.IMREAD_COLOR_RGB), 300)
        row = {"step": f"read {suffix[1:]}, against bare OpenCV", "size": _size(photograph)}
        rows.append(row | {"ms": f"{ours:.2f}", "ratio": f"{ours / bare:.3f}"})
    return rows


def in_turn(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Milliseconds of two calls, made one after the other so that a busy moment hits both."""
    pairs = [(milliseconds(first, 1), milliseconds(second, 1)) for _ in range(rounds)]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


def bare_calls(photograph: Photograph, standard: Standard) -> None:
    """The four OpenCV calls without which no standard square can be had, on the whole photograph."""
    rows, columns = photograph.pixels.shape[:2]
    size = (standard.size, round(standard.size * rows / columns))
    cv2.resize(photograph.pixels, size, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(np.zeros((standard.size, standard.size, 3), np.uint8), cv2.COLOR_RGB2LAB)
    cv2.createCLAHE(2.0, (8, 8)).apply(lab[..., 0])
    cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def steps(photograph: Photograph, runs: int) -> list[dict[str, object]]:
    field = find_field(photograph.pixels)
    standard = Standard()
    square = standard.square(photograph, field)
    enhanced = standard.enhance(square)
    before = Standard(clahe_when="before resize")
    work: dict[str, Callable[[], object]] = {
        "find field": lambda: find_field(photograph.pixels),
        "square": lambda: standard.square(photograph, field),
        "enhance": lambda: standard.enhance(square),
        "tensor": lambda: standard.tensor(enhanced),
        "square + enhance + tensor, CLAHE after resize": lambda: standard.apply(photograph, field),
        "square + enhance + tensor, CLAHE before resize": lambda: before.apply(photograph, field),
    }
    rows: list[dict[str, object]] = [
        {"step": name, "size": _size(photograph), "ms": f"{milliseconds(call, runs):.2f}", "ratio": ""}
        for name, call in work.items()
    ]
    ours, bare = in_turn(partial(standard.apply, photograph, field), partial(bare_calls, photograph, standard), runs)
    return [
        *rows,
        {"step": _AGAINST, "size": _size(photograph), "ms": f"{ours:.2f}", "ratio": f"{ours / bare:.3f}"},
    ]


def _size(photograph: Photograph) -> str:
    rows, columns = photograph.pixels.shape[:2]
    return f"{columns}x{rows}"


def write(name: str, table: list[dict[str, object]]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    print(f"\n{name}\n  " + "  ".join(table[0]))
    for row in table:
        print("  " + "  ".join(str(value) for value in row.values()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=8, help="of each camera, evenly spread")
    count = parser.parse_args().photographs
    cv2.setNumThreads(1)
    data = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT.parent / "shared" / "data"))
    files = {camera: sorted(data.glob(pattern)) for camera, pattern in CAMERAS.items()}
    files = {camera: paths[:: max(1, len(paths) // count)][:count] for camera, paths in files.items() if paths}
    if set(files) != set(CAMERAS):
        missing = ", ".join(sorted(set(CAMERAS) - set(files)))
        print(f"photographs of {missing} are not in {data}: set FUNDOSCOPE_DATA")
        return 0
    infant, adult = read(files["RetCam"][0]), read(files["HRF"][0])
    speed = reading(infant) + steps(infant, 40)
    speed += steps(resized(infant, 2000, 1500), 10) + steps(resized(adult, 2000, 1500), 10)
    speed += steps(resized(adult, 2040, 2040), 10)
    write("standard_speed.csv", speed)
    write("standard.csv", compare(files))
    return 0


if __name__ == "__main__":
    sys.exit(main())
