"""The reading room under load: photographs judged a second against `rop screen --out` alone, the worklist's latency, memory, a full queue.

    python benchmarks/room_load.py --out docs/results/room_load.csv [--seconds 120] [--clients 16] [--workers 2]

Sixteen clients in a process of their own, on the same cores, each send one simulated 640x480 photograph after the other, twelve an
exam; a reader asks for the worklist four times a second meanwhile. Photographs a second are those that were accepted, over the time
from the first upload until the last of them was judged; of `rop screen --out` those of its run without the start of Python. Processor seconds stand beside, since a machine that does other things stretches only the clock. Memory is that of all processes of
the room (shared pages counted once): the mean of the last third of the time over that of the middle third. At last a room whose queue
holds fifty is overrun: it answers 503 with a wait, and whatever it accepted is judged once.
"""

from __future__ import annotations

import argparse
import http.client
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from room_clients import ServedRoom, make_photographs, make_room, marked, read_results, start_clients, write_figures

_SCREENED = 400  # photographs of the run alone: some ten seconds


def screen_alone(photographs: list[Path], folder: Path, count: int) -> tuple[float, float]:
    """Photographs a second of `rop screen --out`, and processor seconds each; Python's start and the bundle's opening taken out."""
    taken = []
    for part, number in (("few", 4), ("many", count)):
        here = folder / part
        here.mkdir(parents=True)
        for mark in range(number):
            (here / f"{mark}.jpg").write_bytes(marked(photographs[mark % len(photographs)].read_bytes(), mark))
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        call = [sys.executable, "-m", "fundoscope", "rop", "screen", str(here), "--out", str(folder / f"out_{part}")]
        subprocess.run(call, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        work = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        taken.append((time.perf_counter() - start, work))
    few, many = taken
    return (count - 4) / (many[0] - few[0]), (many[1] - few[1]) / (count - 4)


def count_gradings(folder: Path) -> dict[str, Any]:
    """What a room holds: photographs, gradings, those with not exactly one, and jobs that wait; read beside the server."""
    from sqlalchemy import func, select

    from fundoscope.server.database import Database
    from fundoscope.server.models import ExamPhotograph, Grading, Job
    from fundoscope.server.settings import read_settings

    database = Database(read_settings(folder, {}).database_url)
    with database.reading() as session:
        per = session.execute(
            select(ExamPhotograph.id, func.count(Grading.id)).outerjoin(Grading).group_by(ExamPhotograph.id)
        ).all()
        open_jobs = (
            select(func.count()).select_from(Job).where(Job.kind == "judge", Job.state.in_(("waiting", "running")))
        )
        waiting = session.scalar(open_jobs)
    database.dispose()
    return {"photographs": {row[0]: row[1] for row in per}, "waiting": waiting}


def count_judged(folder: Path) -> int:
    """How many photographs of a room are judged."""
    return sum(number > 0 for number in count_gradings(folder)["photographs"].values())


def wait_for_the_queue(folder: Path, seconds: float) -> dict[str, Any]:
    """Wait until nothing waits; what the room holds then."""
    deadline = time.monotonic() + seconds
    while (held := count_gradings(folder))["waiting"] and time.monotonic() < deadline:
        time.sleep(0.5)
    return held


def load(folder: Path, photographs: list[Path], seconds: float, clients: int, workers: int) -> dict[str, float]:
    """The load; figures by name."""
    plan = make_room(folder, clients, exams=clients * max(4, round(seconds)), limits={})
    room = ServedRoom(folder, workers)
    room.start()
    try:
        warm = start_clients(room.port, plan, photographs, 5, first_mark=500_000_000)  # children started, caches filled
        read_results(warm)
        wait_for_the_queue(folder, 60)
        before = count_judged(folder)
        work_before = room.look()
        start = time.monotonic()
        sending = start_clients(room.port, plan | {"exams": plan["exams"][clients * 2 :]}, photographs, seconds)
        latencies: list[float] = []
        memory: list[float] = []
        following = start
        while time.monotonic() - start < seconds:
            latencies.append(ask_for_worklist(room.port, plan["tokens"][-1]))
            if time.monotonic() >= following:
                memory.append(sum(mib for mib, _ in room.look().values()))
                following += max(1.0, seconds / 60)
            time.sleep(0.25)
        judged = count_judged(folder) - before
        elapsed = time.monotonic() - start
        results = read_results(sending)
        held = wait_for_the_queue(folder, 600)
        whole = time.monotonic() - start
        work = {kind: (mib, seconds - work_before[kind][1]) for kind, (mib, seconds) in room.look().items()}
    finally:
        room.stop()
    accepted = {each.photograph for each in results if each.photograph is not None}
    third = len(memory) // 3
    middle, last = statistics.mean(memory[third : 2 * third]), statistics.mean(memory[-third:])
    took = sorted(each.seconds for each in results if each.status == 201)
    return {
        "judged a second, from the first upload until the last answer": len(accepted) / whole,
        "judged a second, while clients were sending": judged / elapsed, "accepted a second": len(accepted) / elapsed,
        **{f"processor ms of the {kind}, a photograph": 1000 * seconds / len(accepted) for kind, (_, seconds) in work.items()},
        "upload, median ms": 1000 * took[len(took) // 2], "upload, 95th percentile ms": 1000 * took[int(0.95 * len(took))],
        "worklist, median ms": 1000 * statistics.median(latencies),
        "worklist, 95th percentile ms": 1000 * sorted(latencies)[int(0.95 * len(latencies))], "worklist, asked": len(latencies),
        "memory of all processes, MiB": last, "memory, last third over the middle third": last / middle,
        **{f"memory of the {kind}, MiB": mib for kind, (mib, _) in work.items()},
        "requests that were told to wait": sum(each.status in (429, 503) for each in results),
        "requests that failed": sum(each.status not in (200, 201, 429, 503) for each in results),
        "seconds until the queue was empty": whole - elapsed,
        "accepted, not judged exactly once": sum(held["photographs"].get(number, 0) != 1 for number in accepted),
    }  # fmt: skip


def overrun(
    folder: Path, photographs: list[Path], seconds: float, clients: int, workers: int, waiting: int = 50
) -> dict[str, float]:  # fmt: skip
    """A room whose queue holds `waiting`; figures by name."""
    plan = make_room(folder, clients, exams=clients * max(4, round(seconds)), limits={"waiting_jobs": waiting})
    room = ServedRoom(folder, workers)
    room.start()
    try:
        results = read_results(start_clients(room.port, plan, photographs, seconds))
        held = wait_for_the_queue(folder, 300)
    finally:
        room.stop()
    accepted = {each.photograph for each in results if each.photograph is not None}
    full = [each for each in results if each.status in (429, 503)]
    return {
        "overfull queue: accepted": len(accepted), "overfull queue: told to wait": len(full),
        "overfull queue: of these without Retry-After": sum(each.wait < 1 for each in full),
        "overfull queue: other failures": sum(each.status not in (200, 201, 429, 503) for each in results),
        "overfull queue: accepted, not judged exactly once": sum(held["photographs"].get(number, 0) != 1 for number in accepted),
        "overfull queue: judged, not accepted": len(held["photographs"].keys() - accepted),
    }  # fmt: skip


def ask_for_worklist(port: int, token: str) -> float:
    """Seconds until the worklist has come."""
    start = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/v1/worklist", headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    json.loads(answer.read())
    assert answer.status == 200, answer.status
    connection.close()
    return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--photographs", type=Path, help="a folder where the simulated photographs are kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        photographs = make_photographs(given.photographs or folder / "photographs", 24)
        count = max(24, min(_SCREENED, round(4 * given.seconds)))
        before = screen_alone(photographs, folder / "screen_1", count)
        figures = load(folder / "room", photographs, given.seconds, given.clients, given.workers)
        after = screen_alone(photographs, folder / "screen_2", count)
        alone, work = ((first + second) / 2 for first, second in zip(before, after, strict=True))
        reached = figures["judged a second, from the first upload until the last answer"]
        figures = {
            "judged a second, against rop screen --out alone": reached / alone,
            "rop screen --out alone, a second": alone,
            "rop screen --out alone, processor ms a photograph": 1000 * work,
            **figures,
        }
        figures |= overrun(folder / "small", photographs, max(6, given.seconds / 8), given.clients, given.workers)
    write_figures(figures, given.out)


if __name__ == "__main__":
    main()
