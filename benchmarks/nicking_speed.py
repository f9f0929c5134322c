"""From file to table and report: how long `fundoscope nicking grade` and `grade-patches` take, and what memory.

    python benchmarks/nicking_speed.py [--rounds 3] [--bundle nicking] [--patches 400] [--against PATH_TO_OTHER_SRC [--pairs 12]]

Simulated photographs of DRIVE's (565x584) and HRF's (3504x2336) size and simulated patches, each command in a process of its
own, start of Python included, on two cores; "not graded" is by the bundle without its graders: crossings, kinds and widths alone. "ratio" is the time in one running process (photograph after photograph) over
that of the bare network of maps. With `--against` only this is measured: start to report by this code and by another checkout's, in turns,
on the same simulated photograph of DRIVE's size; "ratio" is this code's time over the other's, pair by pair, of processor time with quartiles and by the clock; it goes to
docs/results/nicking_pairs.csv. Else it writes docs/results/nicking_speed.csv; machines are noisy, so the ratios are what counts.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median, quantiles

import cv2

from fundoscope.bundles.folder import write_card_files
from fundoscope.bundles.read_nicking import MAPS_FILE, open_nicking_bundle
from fundoscope.evaluation import results_table
from fundoscope.imaging import find_field, read
from fundoscope.imaging.local_contrast import local_contrast, scale_to_diameter
from fundoscope.nicking.grading.grader import NickingGrader
from fundoscope.simulate import adult, write_adults

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "nicking_speed.csv"
PAIRS = RESULTS.with_name("nicking_pairs.csv")
SIZES = (("565x584", "drive", None), ("3504x2336", "hrf", 3504))

Row = dict[str, object]


#: A process that holds next to nothing: a child's peak begins at its parent's.
_MEASURED = """
import os, resource, sys, time
start = time.perf_counter()
with open(os.devnull, "w") as nothing:
    child = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ,
                           file_actions=[(os.POSIX_SPAWN_DUP2, nothing.fileno(), 1)])
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(status, time.perf_counter() - start, used.ru_maxrss / 1024, used.ru_utime + used.ru_stime)
"""


def run(arguments: Sequence[str], source: Path = ROOT / "src") -> tuple[float, float, float]:
    """Seconds, peak memory in MiB and seconds of processor time of one call of the command line of a checkout."""
    call = [sys.executable, "-S", "-c", _MEASURED, "-m", "fundoscope.cli.main", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    found = subprocess.run(call, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout.split()
    if found[0] != "0":
        raise SystemExit(f"fundoscope {' '.join(arguments)} failed.")
    seconds, peak, processor = map(float, found[1:])
    return seconds, peak, processor


def compare(path: Path, bundle: str, other: Path, pairs: int, out: Path) -> Row:
    """Start to report by this code and by another checkout's, in turns: the ratio of each pair."""
    sources, seen = {"here": ROOT / "src", "there": other}, {"here": [], "there": []}
    call = ["nicking", "grade", str(path), "--bundle", bundle, "--quiet", "--replace", "--out", str(out)]
    for number in range(-1, pairs):
        for name in sorted(sources, reverse=bool(number % 2)):
            seen[name].append(run(call, sources[name]))
    by_clock, by_processor = (
        [a[k] / b[k] for a, b in zip(seen["here"][1:], seen["there"][1:], strict=True)] for k in (0, 2)
    )
    low, middle, high = quantiles(by_processor, n=4)
    return {
        "what": "grade, 565x584, file to report, against another checkout", "seconds": round(median(s for s, *_ in seen["here"][1:]), 2),
        "seconds_other": round(median(s for s, *_ in seen["there"][1:]), 2), "ratio": round(middle, 3), "ratio_quartile_1": round(low, 3),
        "ratio_quartile_3": round(high, 3), "ratio_by_clock": round(median(by_clock), 3), "pairs": pairs,
    }  # fmt: skip


def ungraded(bundle: str, out: Path) -> Path:
    """A copy of a bundle that holds no graders."""
    found = open_nicking_bundle(bundle)
    out.mkdir()
    shutil.copy(found.folder / MAPS_FILE, out)
    write_card_files(found.card.model_copy(update={"grades": None, "parity_grades": None}), (), out)
    return out


def commands(bundle: str | Path, path: Path, out: Path, what: str, name: str, rounds: int) -> Iterator[Row]:
    """The command on one input, to a table and to a table with report and pictures."""
    for told, extra in (("table", ["--json"]), ("report", ["--out", str(out)])):
        seen = [run(["nicking", what, str(path), "--bundle", str(bundle), "--quiet", *extra]) for _ in range(rounds)]
        yield {
            "what": f"{what}, {name}, file to {told}",
            "seconds": round(median(s for s, *_ in seen), 2),
            "least": round(min(s for s, *_ in seen), 2),
            "peak_mib": round(max(m for _, m, _ in seen)),
        }


def bare(grader: NickingGrader, path: Path, name: str, rounds: int) -> Row:
    """A photograph in a running process, over the network of maps alone."""
    pixels = read(path).pixels
    contrast = local_contrast(*scale_to_diameter(pixels, find_field(pixels)))
    whole, net = [], []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        grader.grade(path)
        between = time.perf_counter()
        grader.bundle.map_vessels(contrast)
        whole.append(between - start)
        net.append(time.perf_counter() - between)
    ratio = median(whole[1:]) / median(net[1:])
    return {"what": f"running, {name}", "seconds": round(median(whole[1:]), 2), "ratio": round(ratio, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--patches", type=int, default=400)
    parser.add_argument("--bundle", default="nicking")
    parser.add_argument("--against", type=Path, help="folder that holds the other checkout's `fundoscope`")
    parser.add_argument("--pairs", type=int, default=12)
    given = parser.parse_args()
    rows: list[Row] = []
    if given.against:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "eye.png"
            cv2.imwrite(str(path), cv2.cvtColor(adult(11, camera="drive").pixels, cv2.COLOR_RGB2BGR))
            rows.append(compare(path, given.bundle, given.against, given.pairs, Path(folder) / "out"))
        print(*results_table(rows, PAIRS), sep="\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        grader, alone = NickingGrader.open(given.bundle), ungraded(given.bundle, Path(folder) / "maps")
        for name, camera, size in SIZES:
            path = Path(folder) / f"{name}.png"
            eye = adult(11, camera=camera, size=size)
            cv2.imwrite(str(path), cv2.cvtColor(eye.pixels, cv2.COLOR_RGB2BGR))
            rows += commands(given.bundle, path, Path(folder) / "out", "grade", name, given.rounds)
            rows += commands(alone, path, Path(folder) / "out", "grade", f"{name}, not graded", given.rounds)
            rows.append(bare(grader, path, name, given.rounds))
        if grader.bundle.card.grades is not None:
            eyes = Path(folder) / "eyes"
            write_adults(max(4, given.patches // 12), eyes, seed=5, workers=2)
            patches = Path(folder) / "patches"
            patches.mkdir()
            for path in sorted((eyes / "patches").iterdir())[: given.patches]:
                path.rename(patches / path.name)
            name = f"{len(list(patches.iterdir()))} patches"
            rows += commands(given.bundle, patches, Path(folder) / "out", "grade-patches", name, 1)
    for row in results_table(rows, RESULTS):
        print("  ".join(str(value) for value in row.values()))


if __name__ == "__main__":
    main()
