"""Archives: photographs a second against workers, peak memory against photographs, and what a kill costs.

    python benchmarks/archive.py rates [--photographs FOLDER] [--n 600]     two engines, one and two workers
    python benchmarks/archive.py memory [--n 100000]                        begun, killed by kill -9 in the middle, gone on with
    python benchmarks/archive.py kill [--n 5000]                            killed twice, against one that was not

Every call is `fundoscope rop archive` in a process of its own, and writes its own rows of docs/results/archive.csv.

rates: hard links of the photographs of a folder (simulated infants of 640x480 where none is given), parts of 20. The rate is
that between the ends of the first part and the last one, so that starting an engine does not count; `start` is the time to the
first part. The four archives are made in turns, and the better rate of each counts; their rows are compared.

memory and kill: cheap photographs, since what is measured is whether anything grows: hard links of 40 small files, of which 3 are
graded (simulated eyes, 320x320), 12 are refused by the verdict (eyes darkened to nothing, flat grey) and 25 cannot be read. One worker. Peaks are
what the system tells (VmHWM), of the program and of its worker, at 1,000 photographs and at all. In the middle the program is
killed by kill -9 and the same command given again; each row must be that of its file, each photograph there once. Goes on where it
was cut off.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fundoscope.runs.workers import WorkEngine, WorkItem
from fundoscope.simulate import write_infants

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "archive.csv"
COLUMNS = ("part", "what", "value", "unit", "n")
SIDE = 320
GRADED, REFUSED, BROKEN = 3, 12, 25
ITEMS = 1000
PAUSE = 0.2  # seconds between looks at a running program


def keep(part: str, rows: list[tuple[str, float, str, int]]) -> None:
    """Put the rows of one part of this benchmark into the file, instead of its earlier ones."""
    old = []
    if RESULTS.exists():
        with RESULTS.open(newline="", encoding="utf-8") as file:
            old = [row for row in csv.DictReader(file) if row["part"] != part]
    new = [dict(zip(COLUMNS, (part, *row), strict=True)) for row in rows]
    for row in new:
        print(*row.values(), flush=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows([*old, *new])


def link_photographs(sources: list[Path], n: int, folder: Path) -> Path:
    """A manifest of n hard links to the sources, one after the other and over again."""
    if not (folder / "manifest.csv").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        names = []
        for number, source in enumerate(islice(cycle(sources), n)):
            place = folder / f"{number // 1000:04d}" / f"{number:07d}{source.suffix}"
            place.parent.mkdir(exist_ok=True)
            os.link(source, place)
            names.append(place.relative_to(folder).as_posix())
        (folder / "manifest.csv").write_text("path\n" + "\n".join(names) + "\n")
    return folder / "manifest.csv"


def draw_cheap_photographs(folder: Path) -> list[Path]:
    """40 small files: eyes that are graded, eyes in the dark and flat grey that are refused, and files that are no photographs."""
    if not folder.exists():
        eyes = folder.with_name("eyes")
        shutil.rmtree(eyes, ignore_errors=True)
        write_infants(24, eyes, seed=3, size=SIDE)
        graded = gradable(sorted((eyes / "images").iterdir()))[:GRADED]
        part = folder.with_name("part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        for number, path in enumerate(graded):
            shutil.copy(path, part / f"{number:02d}{path.suffix}")
        picture = cv2.imread(str(graded[0]))
        assert picture is not None
        for number in range(GRADED, GRADED + REFUSED):
            dark = picture // 20 if number % 2 else np.full((160, 160, 3), number * 5, np.uint8)
            cv2.imwrite(str(part / f"{number:02d}.png"), dark)
        for number in range(GRADED + REFUSED, GRADED + REFUSED + BROKEN):
            (part / f"{number:02d}.jpg").write_bytes(b"no photograph" * number)
        part.replace(folder)
    return sorted(folder.iterdir())


def gradable(photographs: list[Path]) -> list[Path]:
    """Those that screening does not refuse."""
    from fundoscope import load

    found = load("rop").screen(photographs)
    return [path for path, finding in zip(photographs, found, strict=True) if finding.status == "ok"]


@dataclass
class Running:
    """An archive that is being made, and the peak memory in MB of the program and of its largest worker."""

    out: Path
    process: subprocess.Popen[bytes]
    peak: dict[str, float] = field(default_factory=lambda: {"program": 0.0, "worker": 0.0})

    @classmethod
    def begin(cls, manifest: Path, out: Path, *options: str) -> Running:
        """Give the command."""
        words = [sys.executable, "-m", "fundoscope", "rop", "archive", str(manifest), "--out", str(out), "-q", *options]
        return cls(out, subprocess.Popen(words))

    def parts(self) -> list[Path]:
        """The parts that lie there."""
        return sorted(self.out.glob("part-*.parquet"))

    def wait(self, enough: Callable[[], bool] = lambda: False) -> None:
        """Look on until it ends, or until it is `enough`."""
        while self.process.poll() is None and not enough():
            self._look()
            time.sleep(PAUSE)

    def kill(self) -> None:
        """kill -9, and wait until its workers have seen it."""
        workers = self._workers()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        while any(Path(f"/proc/{worker}").exists() for worker in workers):
            time.sleep(PAUSE)

    def _workers(self) -> list[int]:
        listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
        pairs = [tuple(map(int, line.split())) for line in listed.splitlines()[1:]]
        return [pid for pid, parent in pairs if parent == self.process.pid]

    def _look(self) -> None:
        for kind, pids in (("program", [self.process.pid]), ("worker", self._workers())):
            for pid in pids:
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                told = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
                self.peak[kind] = max(self.peak[kind], *(int(kilobytes) / 1024 for kilobytes in told), 0.0)


def read_rows(out: Path) -> list[dict[str, Any]]:
    """Rows of an archive in their order, without the time that each took."""
    table = pa.concat_tables([pq.read_table(part) for part in sorted(out.glob("part-*.parquet"))])
    return table.drop_columns(["seconds"]).to_pylist()


def count_faults(rows: list[dict[str, Any]], n: int) -> dict[str, int]:
    """How many photographs are missing, there twice, or have another row than the first link of their file."""
    numbers = [row["number"] for row in rows]
    own = ("file", "number")
    first = [{k: v for k, v in row.items() if k not in own} for row in rows[: GRADED + REFUSED + BROKEN]]
    other = [
        row for row in rows
        if {k: v for k, v in row.items() if k not in own} != first[(row["number"] - 1) % len(first)]
    ]  # fmt: skip
    return {
        "lost": n - len(set(numbers)),
        "twice": len(numbers) - len(set(numbers)),
        "with another row than their file": len(other),
    }


def measure_rates(given: argparse.Namespace) -> None:
    sources = sorted(path for path in given.photographs.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")) \
        if given.photographs else simulated_photographs(given.folder)  # fmt: skip
    manifest = link_photographs(sources, given.n, given.folder / f"rates-{given.n}")
    ways = {(engine, workers): given.folder / f"out-{engine}-{workers}" for engine in ("local", "ray") for workers in (1, 2)}  # fmt: skip
    rates, starts = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, float("inf"))
    for _ in range(given.turns):
        for (engine, workers), out in ways.items():
            shutil.rmtree(out, ignore_errors=True)
            begun = time.time()
            running = Running.begin(manifest, out, "--engine", engine, "--workers", str(workers), "--part-size", "20")
            running.process.wait()
            ends = sorted(part.stat().st_mtime for part in running.parts())
            rates[engine, workers] = max(rates[engine, workers], 20 * (len(ends) - 1) / (ends[-1] - ends[0]))
            starts[engine, workers] = min(starts[engine, workers], ends[0] - begun)
    expected = read_rows(ways["local", 1])
    rows: list[tuple[str, float, str, int]] = []
    for (engine, workers), out in ways.items():
        name = f"{engine}, {workers} worker{'s' * (workers > 1)}"
        differing = sum(a != b for a, b in zip(read_rows(out), expected, strict=True))
        rows += [
            (name, round(rates[engine, workers], 1), "photographs a second", given.n),
            (f"{name}: start", round(starts[engine, workers], 1), "seconds to the first part of 20", given.n),
            (f"{name}: rows other than by one process", differing, "rows", given.n),
        ]
    size = sum(source.stat().st_size for source in sources) / len(sources)
    parts = sum(part.stat().st_size for part in ways["local", 1].glob("part-*.parquet"))
    rows.append(("a photograph's file", round(size / 1000), "kB", len(sources)))
    rows.append(("its row in the parts", round(parts / given.n), "bytes", given.n))
    for name in ("local", "ray"):
        rows.append((f"{name}: items that are handed out and come back", hand_out(name), "a second", ITEMS))
    for engine in ("local", "ray"):
        ratio = round(rates[engine, 2] / rates[engine, 1], 2)
        rows.append((f"{engine}, 2 workers to 1", ratio, "times as fast", given.n))
    keep("rates", rows)


def hand_out(engine: str) -> float:
    """How many items with nothing to do an engine with one worker gets back in a second; a hundred before do not count."""
    done = WorkEngine(engine, 1).carry_out(abs, (WorkItem(str(number), number) for number in range(ITEMS + 100)))
    for _ in range(100):
        next(done)
    start = time.perf_counter()
    for _ in done:
        pass
    return round(ITEMS / (time.perf_counter() - start), 1)


def simulated_photographs(folder: Path) -> list[Path]:
    """Thirty simulated infants' photographs of 640x480, drawn once."""
    eyes = folder / "rate-eyes"
    if not eyes.exists():
        write_infants(30, eyes, seed=5, size=640)
    return sorted((eyes / "images").iterdir())


def measure_memory(given: argparse.Namespace) -> None:
    """Peaks at 1,000 and at all; the large one is killed in the middle, once."""
    sources, peaks = draw_cheap_photographs(given.folder / "cheap"), dict[int, dict[str, float]]()
    start = time.time()
    for n in (1000, given.n):
        manifest, out = link_photographs(sources, n, given.folder / f"cheap-{n}"), given.folder / f"out-cheap-{n}"
        if n == 1000:
            shutil.rmtree(out, ignore_errors=True)
        running = Running.begin(manifest, out, "--workers", "1")
        half = n // 2 // 256
        if n > 1000 and len(running.parts()) < half:
            running.wait(lambda: len(running.parts()) >= half)  # noqa: B023 - asked at once
            running.kill()
            before = running.peak
            running = Running.begin(manifest, out, "--workers", "1")
            running.peak = before
        running.wait()
        assert running.process.returncode == 1, "25 of 40 files cannot be read"
        peaks[n] = running.peak
    faults = count_faults(read_rows(given.folder / f"out-cheap-{given.n}"), given.n)
    rows: list[tuple[str, float, str, int]] = [
        (f"peak of the {kind}", round(peaks[n][kind], 1), "MB", n) for n in peaks for kind in ("program", "worker")
    ]
    rows += [
        (f"peak of the {kind}, {given.n} photographs to 1000", round(peaks[given.n][kind] / peaks[1000][kind], 3), "times", given.n)
        for kind in ("program", "worker")
    ]  # fmt: skip
    rows += [(f"killed in the middle and gone on with: {what}", count, "photographs", given.n) for what, count in faults.items()]  # fmt: skip
    rows.append(("all of it, beside other work", round((time.time() - start) / 60, 1), "minutes", given.n))
    keep("memory", rows)


def measure_kill(given: argparse.Namespace) -> None:
    """An archive that is killed twice, once its worker and once the program, against one that is left alone."""
    sources = draw_cheap_photographs(given.folder / "cheap")
    manifest = link_photographs(sources, given.n, given.folder / f"cheap-{given.n}")
    outs = [given.folder / f"out-kill-{kind}" for kind in ("whole", "killed")]
    for out in outs:
        shutil.rmtree(out, ignore_errors=True)
    options = ("--workers", "2", "--part-size", "64")
    Running.begin(manifest, outs[0], *options).wait()
    running = Running.begin(manifest, outs[1], *options)
    all_parts = -(-given.n // 64)
    running.wait(lambda: len(running.parts()) > all_parts // 4)
    os.kill(running._workers()[-1], signal.SIGKILL)
    running.wait(lambda: len(running.parts()) > all_parts // 2)
    running.kill()
    there = len(running.parts())
    stamps = {part: part.stat().st_mtime_ns for part in running.parts()}
    Running.begin(manifest, outs[1], *options).wait()
    whole, killed = (read_rows(out) for out in outs)
    faults = count_faults(killed, given.n)
    rows: list[tuple[str, float, str, int]] = [
        ("parts there at the kill", there, "parts", given.n),
        ("of these written again", sum(part.stat().st_mtime_ns != stamp for part, stamp in stamps.items()), "parts", given.n),
        ("rows other than in the archive that was left alone", sum(a != b for a, b in zip(whole, killed, strict=True)), "rows", given.n),
        *((what, count, "photographs", given.n) for what, count in faults.items()),
    ]  # fmt: skip
    keep("kill", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rates", "memory", "kill"))
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--n", type=int)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "archive")
    given = parser.parse_args()
    usual = {"rates": (600, measure_rates), "memory": (100_000, measure_memory), "kill": (5000, measure_kill)}
    n, measure = usual[given.what]
    given.n = given.n or n
    given.folder.mkdir(parents=True, exist_ok=True)
    measure(given)


if __name__ == "__main__":
    main()
