"""Photographs per second from file to decision: the bundle against the same network in plain torch with PIL reading.

    python benchmarks/screening_speed.py [--bundle rop] [--count 200]

Distinct simulated photographs at 640x480 (PNG) and 2000x1500 (JPEG) lie in a temporary folder. Both sides read a
file, find the field, make the standard square, enhance it and grade it; ours runs as `rop screen` does, the other
as a user would write it: a loop, PIL, torch at its default threads. Both run interleaved; the ratio is of medians.
Also printed: milliseconds a stage on one thread, the start-up of the command line, and the peak memory of
`rop screen` on a thousand photographs, report included. Writes docs/results/screening_speed.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from fundoscope.bundles import Bundle, open_bundle
from fundoscope.imaging import Photograph, Prepared, find_field, read
from fundoscope.imaging.quality import judge_quality
from fundoscope.rop.screening.grader import RopGrader
from fundoscope.simulate import infant

ROUNDS = 7
RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results" / "screening_speed.csv"


def photographs(folder: Path, count: int, size: tuple[int, int], suffix: str) -> list[Path]:
    """Distinct files: a few simulated eyes, each shifted in brightness by its number."""
    eyes = [cv2.cvtColor(infant(seed, camera="retcam", level="good").pixels, cv2.COLOR_RGB2BGR) for seed in range(4)]
    files = []
    for number in range(count):
        picture = cv2.resize(eyes[number % 4], size, interpolation=cv2.INTER_CUBIC)
        picture = cv2.add(picture, np.full_like(picture, number % 23), mask=(picture.max(axis=2) > 12).astype(np.uint8))
        noise = np.random.default_rng(number).integers(0, 3, picture.shape, dtype=np.uint8)
        files.append(folder / f"{size[0]}-{number}{suffix}")
        cv2.imwrite(str(files[-1]), cv2.add(picture, noise))
    return files


def plain_torch(bundle: Bundle) -> Callable[[list[Path]], None]:
    """The loop that a user would write: PIL, the same standard pixels, the same network in torch."""
    import torch
    from PIL import Image

    from fundoscope.networks import build

    network = build("tf_efficientnet_lite0", pretrained=False).eval()
    standard = bundle.card.standard

    def loop(files: list[Path]) -> None:
        for file in files:
            with Image.open(file) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            inputs = standard.apply(Photograph(pixels, file.name, 0, "array"))
            with torch.no_grad():
                features = network.features(torch.from_numpy(inputs)[None])
                torch.softmax(network.head(features.mean((2, 3))), dim=1)

    return loop


def seconds(work: Callable[[list[Path]], object], files: list[Path]) -> float:
    start = time.perf_counter()
    work(files)
    return time.perf_counter() - start


def rates(bundle: Bundle, files: list[Path]) -> tuple[float, float]:
    """Photographs per second of both sides, medians over interleaved rounds on parts of the files."""
    ours, theirs = RopGrader(bundle), plain_torch(bundle)
    theirs(files[:3])
    ours.screen(files[:3])
    found: dict[str, list[float]] = {"ours": [], "torch": []}
    part = max(8, len(files) // ROUNDS)
    for number in range(ROUNDS):
        files_now = files[number * part : (number + 1) * part] or files[:part]
        found["ours"].append(len(files_now) / seconds(ours.screen, files_now))
        some_files = files_now[: max(8, part // 4)]
        found["torch"].append(len(some_files) / seconds(theirs, some_files))
    return statistics.median(found["ours"]), statistics.median(found["torch"])


def stages(bundle: Bundle, files: list[Path]) -> dict[str, float]:
    """Median milliseconds of each stage on one thread."""
    cv2.setNumThreads(1)
    standard, times = (
        bundle.card.standard,
        {name: [] for name in ("decode", "field", "quality", "square", "clahe", "network")},
    )
    for file in files:
        marks = [time.perf_counter()]
        photograph = read(file)
        marks.append(time.perf_counter())
        field = find_field(photograph.pixels)
        marks.append(time.perf_counter())
        judge_quality(Prepared(photograph, field), "infant")
        marks.append(time.perf_counter())
        square = standard.square(photograph, field)
        marks.append(time.perf_counter())
        inputs = standard.tensor(standard.enhance(square))[None]
        marks.append(time.perf_counter())
        bundle.run(inputs)
        marks.append(time.perf_counter())
        for name, start, end in zip(times, marks, marks[1:], strict=False):
            times[name].append(1000 * (end - start))
    return {name: round(statistics.median(values), 2) for name, values in times.items()}


def start_up() -> float:
    """Median seconds of `fundoscope --help`."""
    command = [sys.executable, "-m", "fundoscope.cli.main", "--help"]
    return statistics.median(
        seconds(lambda _: subprocess.run(command, capture_output=True, check=True), []) for _ in range(7)
    )


def peak_megabytes(bundle: str, files: list[Path], folder: Path, count: int = 1000) -> float:
    """Peak resident memory of a whole `rop screen` on `count` photographs, report included."""
    listed = "\n".join(str(files[number % len(files)]) for number in range(count))
    command = [
        sys.executable,
        "-m",
        "fundoscope.cli.main",
        "rop",
        "screen",
        "-",
        "-q",
        "--bundle",
        bundle,
        "--out",
        str(folder / "out"),
    ]
    script = f"import resource, subprocess, sys; subprocess.run({command!r}, check=True, stdin=sys.stdin); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    done = subprocess.run([sys.executable, "-c", script], input=listed, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="rop")
    parser.add_argument("--count", type=int, default=200)
    given = parser.parse_args()
    bundle = open_bundle(given.bundle)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small: list[Path] = []
        for size, suffix in (((640, 480), ".png"), ((2000, 1500), ".jpg")):
            files = photographs(folder, given.count if size[0] == 640 else given.count // 4, size, suffix)
            small = small or files
            ours, theirs = rates(bundle, files)
            rows.append(
                {
                    "what": f"{size[0]}x{size[1]} photographs per second",
                    "ours": round(ours, 1),
                    "plain torch": round(theirs, 1),
                    "ratio": round(ours / theirs, 2),
                }
            )
            rows += [
                {"what": f"{size[0]}x{size[1]} {stage}, ms on one thread", "ours": value}
                for stage, value in stages(bundle, files[:40]).items()
            ]
        rows.append({"what": "fundoscope --help, s", "ours": round(start_up(), 3)})
        rows.append(
            {
                "what": "peak MB of rop screen, 1000 photographs",
                "ours": round(peak_megabytes(given.bundle, small, folder), 1),
            }
        )
    for row in rows:
        print("  ".join(f"{key}: {value}" for key, value in row.items()))
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["what", "ours", "plain torch", "ratio"])
        writer.writeheader()
        writer.writerows(rows)
    print(
        f"{os.cpu_count()} processors; this process peaked at {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    )


if __name__ == "__main__":
    main()
