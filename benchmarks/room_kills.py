"""kill -9 of the reading room under load, again and again: is every accepted photograph judged exactly once, and nothing half-written?

    python benchmarks/room_kills.py --out docs/results/room_kills.csv [--kills 10] [--clients 16] [--database postgresql://...]

Sixteen clients send photographs all the while. At a random moment the server is killed, every second time with its worker and the
children that judge; it is started again at once. At the end the queue is worked off, and these are counted: photographs of which a
client holds a receipt and which have not exactly one grading; places where the chain of the audit log does not hold; files of
photographs that are not what their name says, pictures that cannot be decoded, and files that were left half-made.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import tempfile
import time
from pathlib import Path

from room_clients import ServedRoom, make_photographs, make_room, read_results, start_clients, write_figures
from room_load import wait_for_the_queue


def kill_again_and_again(
    folder: Path,
    photographs: list[Path],
    kills: int,
    clients: int,
    workers: int,
    seconds_between: float,
    database: str = "",
) -> dict[str, float]:
    """The figures by name."""
    rng = random.Random(1)
    most = 40 + 4 * kills * max(1, round(seconds_between))
    plan = make_room(folder, clients, exams=clients * most, limits={}, database=database)
    room = ServedRoom(folder, workers)
    room.start()
    moments = [seconds_between * rng.uniform(0.5, 1.5) for _ in range(kills)]
    sending = start_clients(room.port, plan, photographs, sum(moments) + 12 * kills)
    began = time.monotonic()
    for number, moment in enumerate(moments):
        time.sleep(moment)
        room.kill(whole_group=number % 2 == 1)
        room.start()
    sending.process.terminate()
    results = read_results(sending)
    took = time.monotonic() - began
    held = wait_for_the_queue(folder, 600)
    time.sleep(1)
    breaks, left = check_audit_chain(folder), find_half_made(folder)
    room.stop()
    accepted = {each.photograph for each in results if each.photograph is not None}
    return {
        "kills": kills, "of these, with worker and children": kills // 2, "seconds": took,
        "requests without an answer": sum(each.status == 0 for each in results),
        "requests told to wait": sum(each.status in (429, 503) for each in results),
        "requests that failed otherwise": sum(each.status not in (0, 200, 201, 429, 503) for each in results),
        "photographs accepted, receipt in hand": len(accepted), "photographs in the room": len(held["photographs"]),
        "photographs not judged exactly once": sum(number != 1 for number in held["photographs"].values()),
        "accepted photographs that are not there": len(accepted - held["photographs"].keys()),
        "places where the audit chain breaks": breaks, **left,
    }  # fmt: skip


def check_audit_chain(folder: Path) -> int:
    """Places where the chain of the audit log does not hold."""
    from fundoscope.server.database import Database
    from fundoscope.server.services import audit
    from fundoscope.server.settings import read_settings

    held = Database(read_settings(folder, {}).database_url)
    with held.reading() as session:
        breaks = len(list(audit.find_breaks(session)))
    held.dispose()
    return breaks


def find_half_made(folder: Path) -> dict[str, int]:
    """Counts of files that are not whole: photographs against their digest, pictures against their decoder, and what was left aside."""
    import cv2

    photographs = [file for file in (folder / "photographs").glob("*/*") if file.is_file()]
    pictures = [file for file in (folder / "pictures").glob("[0-9a-f][0-9a-f]/*") if file.is_file()]
    return {
        "files of photographs": len(photographs),
        "files of photographs that are not what their name says": sum(
            hashlib.sha256(file.read_bytes()).hexdigest() != file.name for file in photographs
        ),
        "pictures": len(pictures),
        "pictures that cannot be decoded": sum(cv2.imread(str(file)) is None for file in pictures),
        "files left half-made": sum(
            file.is_file() for place in ("incoming", "pictures/.aside") for file in (folder / place).glob("*/*")
        ),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds-between", type=float, default=6)
    parser.add_argument("--database", default="", help="a PostgreSQL database that may be filled; else SQLite")
    parser.add_argument("--photographs", type=Path, help="a folder where the simulated photographs are kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        photographs = make_photographs(given.photographs or Path(scratch) / "photographs", 24)
        figures = kill_again_and_again(
            Path(scratch) / "room",
            photographs,
            given.kills,
            given.clients,
            given.workers,
            given.seconds_between,
            given.database,
        )
    write_figures(figures, given.out)


if __name__ == "__main__":
    main()
