"""Screening against its bare network, stage by stage, on one and two processors; cold start; overhead of a run of thousands.

    python benchmarks/screening_stages.py [--turns 15] [--photographs 24] [--bundle rop] [--threads 1,2] [--links 10000]

Contenders are processes that are held to as many processors as stated, and answer the same files in turns, some at a time, in an order that
changes; ratios are taken turn by turn, so that whatever else the machine does falls on all of them. "bare network" is the bundle's INT8 network
on inputs that lie ready, one at a time, a thread a processor; "pipeline" is the whole way of `rop screen`, its threads as by default; "plain
torch with PIL" and "timm's inference loop" compute the same network in fp32 and judge no quality. Milliseconds are of processor time a photograph, and by the clock.
"stage" rows are of one thread: medians of processor time, and what share of the bare network they are. "batch" is the bare network on
several photographs at once. "cold start" is a process of `rop screen ONE.jpg --json` from its beginning to its first line. "overhead" is a run whose
grader has its answer ready, on hard links of one file: what walking, rows, journal, report and pictures cost a photograph.
Written to docs/results/screening_stages.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from screening_speed import SETS, photographs

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "screening_stages.csv"
COLUMNS = ("what", "photographs", "processors", "ms", "ms_by_clock", "ratio", "ratio_quartile_1", "ratio_quartile_3", "ratio_by_clock", "n")  # fmt: skip

#: Beginning of every contender: the processors that it may use, the bundle, the files; `answer(files)` is timed.
_HEAD = """
import os, sys, time
threads = int(sys.argv[1])
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
from fundoscope.bundles import open_bundle
from fundoscope.runs.engines import map_in_order
bundle = open_bundle(sys.argv[2])
standard = bundle.card.standard
"""
_TURNS = """
files = sys.argv[3:]
answer(files)
print("ready", flush=True)
for line in sys.stdin:
    clock, processor = time.perf_counter(), time.process_time()
    answer(files)
    print(time.perf_counter() - clock, time.process_time() - processor, flush=True)
"""
CONTENDERS = {
    "bare network": _HEAD + """
ready = {file: standard.apply(standard.prepare(file))[None] for file in sys.argv[3:]}
def answer(files):
    for _ in map_in_order(lambda file: bundle.run(ready[file]), files, threads):
        pass
""" + _TURNS,
    "pipeline": _HEAD + """
from fundoscope.rop.screening.grader import RopGrader
grader = RopGrader(bundle)
def answer(files):
    for _ in grader.screen_with_evidence(files):
        pass
""" + _TURNS,
    "plain torch with PIL": _HEAD + """
import cv2, numpy, torch
from PIL import Image
from fundoscope.imaging import read
from fundoscope.networks import build
cv2.setNumThreads(threads)
torch.set_num_threads(threads)
network = build("tf_efficientnet_lite0", pretrained=False).eval()
def answer(files):
    for file in files:
        with Image.open(file) as picture:
            photograph = read(numpy.asarray(picture.convert("RGB")))
        with torch.inference_mode():
            network(torch.from_numpy(standard.apply(photograph))[None]).softmax(dim=1)
""" + _TURNS,
    "timm's inference loop": _HEAD + """
import timm, torch
from PIL import Image
from timm.data import create_loader
torch.set_num_threads(threads)
network = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=2).eval()
class Files(torch.utils.data.Dataset):
    transform = None
    def __init__(self, files): self.files = files
    def __len__(self): return len(self.files)
    def __getitem__(self, k):
        with Image.open(self.files[k]) as picture:
            return self.transform(picture.convert("RGB")), 0
def answer(files):
    loader = create_loader(Files(files), (3, standard.size, standard.size), 8, num_workers=0, use_prefetcher=False)
    with torch.inference_mode():
        for batch, _ in loader:
            network(batch).softmax(dim=1)
""" + _TURNS,
}  # fmt: skip

Row = dict[str, object]


class Contender:
    """A process that answers all its files at a word; `turns` are its seconds by the clock and of the processor."""

    def __init__(self, name: str, processors: int, bundle: str, files: list[Path]) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(processors))
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **threads}
        command = [sys.executable, "-W", "ignore", "-c", CONTENDERS[name], str(processors), bundle, *map(str, files)]
        self.name, self.turns = name, list[tuple[float, float]]()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        if self._line() != "ready":
            raise SystemExit(f"{name} does not start")

    def take_turn(self) -> None:
        """Answer all files once more."""
        assert self.process.stdin is not None
        print("turn", file=self.process.stdin, flush=True)
        clock, processor = map(float, self._line().split())
        self.turns.append((clock, processor))

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def race(what: str, files: list[Path], processors: int, bundle: str, turns: int) -> list[Row]:
    """Rows of all contenders on one set of files; ratios are to the bare network's time of the same turn."""
    contenders = [Contender(name, processors, bundle, files) for name in CONTENDERS]
    order = list(contenders)
    for _ in range(turns):
        random.shuffle(order)
        for each in order:
            each.take_turn()
    bare, rows = contenders[0].turns, []
    for each in contenders:
        by_clock, ratios = ([own[k] / one[k] for own, one in zip(each.turns, bare, strict=True)] for k in (0, 1))
        low, middle, high = statistics.quantiles(ratios, n=4)
        clock, processor = (1000 * statistics.median(turn[k] for turn in each.turns) / len(files) for k in (0, 1))
        rows.append({
            "what": each.name, "photographs": what, "processors": processors, "ms": round(processor, 2), "ms_by_clock": round(clock, 2),
            "ratio": round(middle, 2), "ratio_quartile_1": round(low, 2), "ratio_quartile_3": round(high, 2),
            "ratio_by_clock": round(statistics.median(by_clock), 2), "n": turns,
        })  # fmt: skip
        each.process.kill()
        each.process.wait()
    return rows


def measure_stages(what: str, files: list[Path], bundle_name: str, rounds: int) -> list[Row]:
    """Median milliseconds of processor time of every stage in one thread, and their share of the network's."""
    import cv2

    from fundoscope.bundles import open_bundle
    from fundoscope.rop.screening.grader import RopGrader
    from fundoscope.stopwatch import NETWORK, PHOTOGRAPH, measured_stages, stage

    cv2.setNumThreads(1)
    grader, seen = RopGrader(open_bundle(bundle_name), threads=1), dict[str, list[float]]()
    for number in range(rounds * len(files)):
        file = files[number % len(files)]
        with measured_stages() as times, stage(PHOTOGRAPH):
            grader.grade_one(file, file.name)
        for name, total in times.seconds.items():
            seen.setdefault(name, []).append(1000 * total.processor)
    typical = {name: statistics.median(values) for name, values in seen.items()}
    rows: list[Row] = []
    for name, ms in typical.items():
        share = round(ms / typical[NETWORK], 2)
        rows.append({"what": f"stage: {name}", "photographs": what, "processors": 1, "ms": round(ms, 2), "ratio": share, "n": len(seen[name])})  # fmt: skip
    return rows


def measure_batches(bundle_name: str, rounds: int = 25) -> list[Row]:
    """The bare network on 1, 2, 4 and 8 photographs at once, milliseconds a photograph, in turns."""
    from fundoscope.bundles import locate, open_bundle
    from fundoscope.bundles.golden import golden_inputs

    bundle, tensor = open_bundle(bundle_name), golden_inputs(locate(bundle_name))[0][None]
    inputs = {size: np.repeat(tensor, size, axis=0) for size in (1, 2, 4, 8)}
    seen: dict[int, list[float]] = {size: [] for size in inputs}
    for _ in range(rounds):
        for size, batch in inputs.items():
            begun = time.process_time()
            bundle.run(batch)
            seen[size].append(1000 * (time.process_time() - begun) / size)
    rows: list[Row] = []
    for size, own in seen.items():
        low, middle, high = statistics.quantiles([a / b for a, b in zip(own, seen[1], strict=True)], n=4)
        rows.append({
            "what": f"batch of {size}", "processors": 1, "ms": round(statistics.median(own), 2), "ratio": round(middle, 2),
            "ratio_quartile_1": round(low, 2), "ratio_quartile_3": round(high, 2), "n": rounds,
        })  # fmt: skip
    return rows


def measure_cold_start(file: Path, bundle: str, runs: int = 10) -> Row:
    """Milliseconds from a process's beginning to its first decision on standard output: median by the clock, and of the processor."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "fundoscope.cli.main", "rop", "screen", str(file), "--json", "--bundle", bundle]
    clock, processor = [], []
    for _ in range(runs):
        begun, before = time.perf_counter(), os.times()
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None and process.stdout.readline().startswith(b'{"file"')
            clock.append(1000 * (time.perf_counter() - begun))
        after = os.times()
        processor.append(
            1000 * (after.children_user + after.children_system - before.children_user - before.children_system)
        )
    return {
        "what": "cold start to the first decision", "photographs": "640x480 JPEG", "ms": round(statistics.median(processor)),
        "ms_by_clock": round(statistics.median(clock)), "n": runs,
    }  # fmt: skip


def measure_overhead(file: Path, bundle_name: str, count: int, folder: Path) -> list[Row]:
    """What a run costs a photograph beside the grading: rows as JSON lines, and all answer files with report and pictures."""
    from fundoscope.bundles import open_bundle
    from fundoscope.findings import GradedPhotograph, PhotographSource, RopFinding
    from fundoscope.rop.screening.grader import RopGrader
    from fundoscope.runs import run, walk

    known = RopGrader(open_bundle(bundle_name)).grade_one(file, file.name)
    (finding,) = known.findings
    assert isinstance(finding, RopFinding)

    class ReadyGrader(RopGrader):
        """Answers at once."""

        def grade_one(self, source: PhotographSource, name: str) -> GradedPhotograph:
            return replace(known, findings=(replace(finding, file=name),))

    links = folder / "links"
    links.mkdir()
    for number in range(count):
        os.link(file, links / f"{number}{file.suffix}")
    rows: list[Row] = []
    for what, out in (("JSON lines", None), ("report and all files", folder / "answers")):
        begun, used = time.perf_counter(), time.process_time()
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            summary = run(ReadyGrader(open_bundle(bundle_name)), walk([str(links)]), out, print_json=out is None)
        assert summary.photographs == count
        clock, processor = (1000 * each / count for each in (time.perf_counter() - begun, time.process_time() - used))
        rows.append({"what": f"overhead: {what}", "photographs": "640x480 JPEG", "ms": round(processor, 2), "ms_by_clock": round(clock, 2), "n": count})  # fmt: skip
    return rows


class _PrintedRows(list[Row]):
    """Rows that are printed as they come."""

    def __iadd__(self, rows: Iterable[Row]) -> Self:
        for row in rows:
            print("  ".join(f"{key}: {value}" for key, value in row.items()), flush=True)
            self.append(row)
        return self


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--photographs", type=int, default=24, help="a turn")
    parser.add_argument("--bundle", default="rop")
    parser.add_argument("--threads", default="1,2", help="numbers of processors")
    parser.add_argument("--links", type=int, default=10_000, help="photographs of the run whose overhead is measured")
    given = parser.parse_args()
    random.seed(0)
    rows = _PrintedRows()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {what: photographs(folder, 12, size, suffix) for what, (size, suffix) in SETS.items()}
        jpeg = files["640x480 JPEG"][0]
        rows += [measure_cold_start(jpeg, given.bundle)]
        for what, some in files.items():
            rows += measure_stages(what, some, given.bundle, 3)
        rows += measure_batches(given.bundle)
        for processors in map(int, given.threads.split(",")):
            for what, some in files.items():
                chosen = [some[number % len(some)] for number in range(given.photographs)]
                rows += race(what, chosen, processors, given.bundle, given.turns)
        rows += measure_overhead(jpeg, given.bundle, given.links, folder)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
