"""Time from file to decision: this code against plain torch with PIL, and against another checkout, in pairs within one run.

    python benchmarks/screening_speed.py [--against PATH_TO_OTHER_SRC] [--pairs 40] [--bundle rop]

Three sets of distinct simulated photographs lie in a temporary folder: 640x480 PNG, 640x480 JPEG and 2000x1500 JPEG. Two
processes screen the same file turn by turn (old new, new old, ...), each on one thread; what is timed is the
whole way of `rop screen`: read, judge, standardise, grade. Plain torch is the loop that a user would write: PIL, the same
standard pixels, the same network in torch; it judges no quality. The ratio (other time / this time, over 1 is faster) is taken pair
by pair, so that whatever else the machine does falls on both: of processor time, which a busy machine disturbs least, with
quartiles, and by the clock. They are written to docs/results/screening_speed.csv, with milliseconds a stage, the start-up of the command line, and the peak memory of
`rop screen` on a thousand photographs.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "screening_speed.csv"
SETS = {
    "640x480 PNG": ((640, 480), ".png"),
    "640x480 JPEG": ((640, 480), ".jpg"),
    "2000x1500 JPEG": ((2000, 1500), ".jpg"),
}

# Runs in a process of its own, of either checkout; it reads paths from standard input and answers in seconds.
WORKER = """
import sys, time, warnings
warnings.simplefilter("ignore")
import cv2
cv2.setNumThreads(1)
from fundoscope.bundles import open_bundle
bundle = open_bundle(sys.argv[1])
try:
    from fundoscope.rop.screening.screener import screen_photograph
    screen = lambda file: screen_photograph(file, file, bundle)
except ImportError:  # before rooms told their story
    try:
        from fundoscope.rop.screening.screener import Screener
    except ImportError:
        from fundoscope.rop.screening import Screener
    screener = Screener(bundle, workers=1)
    screen = lambda file: screener.screen_one(file, file)
"""

# The same in plain torch with PIL.
PLAIN_WORKER = """
import sys, time
import cv2, numpy, torch
from PIL import Image
from fundoscope.bundles import open_bundle
from fundoscope.imaging import read
from fundoscope.networks import build
cv2.setNumThreads(1)
torch.set_num_threads(1)
standard, network = open_bundle(sys.argv[1]).card.standard, build("tf_efficientnet_lite0", pretrained=False).eval()
def screen(file):
    with Image.open(file) as picture:
        photograph = read(numpy.asarray(picture.convert("RGB")))
    with torch.inference_mode():
        network(torch.from_numpy(standard.apply(photograph))[None]).softmax(dim=1)
"""

TURNS = """
print("ready", flush=True)
for line in sys.stdin:
    begin, used = time.perf_counter(), time.process_time()
    screen(line.strip())
    print(time.perf_counter() - begin, time.process_time() - used, flush=True)
"""


class Worker:
    """A process that screens files by `script` with the code in `source`, one after the other, and tells how long each took."""

    def __init__(self, source: Path, bundle: str, script: str = WORKER) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment = {**os.environ, "PYTHONPATH": str(source), **threads}
        command = [sys.executable, "-c", script + TURNS, bundle]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1, env=environment)
        if self._answer() != "ready":
            raise SystemExit(f"the code in {source} does not start: give the folder that holds `fundoscope`")

    def seconds(self, file: Path) -> tuple[float, float]:
        """By the clock, and of the processor."""
        assert self.process.stdin is not None
        print(file, file=self.process.stdin, flush=True)
        clock, processor = self._answer().split()
        return float(clock), float(processor)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def photographs(folder: Path, count: int, size: tuple[int, int], suffix: str) -> list[Path]:
    """Distinct files: a few simulated eyes, each shifted in brightness by its number."""
    from fundoscope.simulate import infant

    eyes = [cv2.cvtColor(infant(seed, camera="retcam", level="good").pixels, cv2.COLOR_RGB2BGR) for seed in range(4)]
    files = []
    for number in range(count):
        picture = cv2.resize(eyes[number % 4], size, interpolation=cv2.INTER_CUBIC)
        picture = cv2.add(picture, np.full_like(picture, number % 23), mask=(picture.max(axis=2) > 12).astype(np.uint8))
        noise = np.random.default_rng(number).integers(0, 3, picture.shape, dtype=np.uint8)
        files.append(folder / f"{size[0]}-{number}{suffix}")
        cv2.imwrite(str(files[-1]), cv2.add(picture, noise))
    return files


def compare(here: Worker, other: Worker, files: list[Path], pairs: int) -> dict[str, float]:
    """Milliseconds of processor time of both, and the ratio of each pair: median and quartiles; its median by the clock."""
    ours, theirs = [], []
    for number in range(-3, pairs):
        file = files[number % len(files)]
        if number % 2:
            mine, old = here.seconds(file), other.seconds(file)
        else:
            old, mine = other.seconds(file), here.seconds(file)
        if number >= 0:  # the first ones warm up
            ours.append(mine)
            theirs.append(old)
    by_clock, by_processor = ([old[k] / mine[k] for mine, old in zip(ours, theirs, strict=True)] for k in (0, 1))
    low, middle, high = statistics.quantiles(by_processor, n=4)
    return {
        "here": round(1000 * statistics.median(mine[1] for mine in ours), 2),
        "other": round(1000 * statistics.median(old[1] for old in theirs), 2),
        "ratio": round(middle, 2),
        "ratio_quartile_1": round(low, 2),
        "ratio_quartile_3": round(high, 2),
        "ratio_by_clock": round(statistics.median(by_clock), 2),
        "n": pairs,
    }


def stages(bundle_name: str, files: list[Path]) -> dict[str, float]:
    """Median milliseconds of processor time of each stage on one thread."""
    from fundoscope.bundles import open_bundle
    from fundoscope.imaging.quality import judge_quality

    cv2.setNumThreads(1)
    bundle = open_bundle(bundle_name)
    standard = bundle.card.standard
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], object]) -> object:
        begin = time.thread_time()
        found = work()
        times.setdefault(name, []).append(1000 * (time.thread_time() - begin))
        return found

    for file in files:
        photograph = timed("read and field", lambda file=file: standard.prepare(file))
        square = timed("square", lambda photograph=photograph: standard.square(photograph))
        timed("quality", lambda photograph=photograph: judge_quality(photograph, "infant"))
        inputs = timed("CLAHE and tensor", lambda square=square: standard.tensor(standard.enhance(square))[None])
        timed("network", lambda inputs=inputs: bundle.run(inputs))
    return {name: round(statistics.median(values), 2) for name, values in times.items()}


def start_up() -> float:
    """Median seconds of `fundoscope --help`."""
    command = [sys.executable, "-m", "fundoscope.cli.main", "--help"]
    seconds = []
    for _ in range(7):
        begin = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def peak_megabytes(bundle: str, files: list[Path], folder: Path, count: int) -> float:
    """Peak resident memory of a whole `rop screen` on `count` photographs, report included."""
    listed = "\n".join(str(files[number % len(files)]) for number in range(count))
    out = ["--out", str(folder / "out")]
    command = [sys.executable, "-m", "fundoscope.cli.main", "rop", "screen", "-", "-q", "--bundle", bundle, *out]
    script = (
        f"import resource, subprocess, sys; subprocess.run({command!r}, check=True, stdin=sys.stdin);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", script], input=listed, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="folder that holds the other checkout's `fundoscope`")
    parser.add_argument("--bundle", default="rop")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument(
        "--memory", type=int, default=1000, help="photographs of the run whose memory is measured; 0: none"
    )
    given = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {what: photographs(folder, 12, size, suffix) for what, (size, suffix) in SETS.items()}
        here = Worker(ROOT / "src", given.bundle)
        others = {"plain torch with PIL": Worker(ROOT / "src", given.bundle, PLAIN_WORKER)}
        if given.against:
            others["the other checkout"] = Worker(given.against, given.bundle)
        for name, other in others.items():
            for what, some in files.items():
                rows.append(
                    {"what": f"{what}, file to decision, ms, against {name}", **compare(here, other, some, given.pairs)}
                )
                print(rows[-1], flush=True)
            other.close()
        here.close()
        for what, some in files.items():
            for stage, value in stages(given.bundle, some).items():
                rows.append({"what": f"{what}, {stage}, ms of one thread", "here": value, "n": len(some)})
        rows.append({"what": "fundoscope --help, s", "here": round(start_up(), 3), "n": 7})
        if given.memory:
            peak = peak_megabytes(given.bundle, files["640x480 PNG"], folder, given.memory)
            rows.append({"what": "peak MB of rop screen", "here": round(peak, 1), "n": given.memory})
    for row in rows:
        print("  ".join(f"{key}: {value}" for key, value in row.items()))
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(
            file, ["what", "here", "other", "ratio", "ratio_quartile_1", "ratio_quartile_3", "ratio_by_clock", "n"]
        )
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
