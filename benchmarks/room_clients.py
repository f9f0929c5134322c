"""A reading room with accounts, tokens and exams for `room_load.py` and `room_kills.py`, and the clients that send photographs to it.

As a program it is the clients: it reads a plan (JSON) from standard input, works through it with a thread a client in a process of
its own, and prints what each request came to, a JSON object a line.
"""

from __future__ import annotations

import csv
import http.client
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, Any

PHOTOGRAPHS_AN_EXAM = 12
_BOUNDARY = "photographs-of-a-benchmark"


# --- the room


def write_figures(figures: Mapping[str, float], out: Path | None) -> None:
    """Print the figures as CSV, and write them to `out` where it is given."""
    rows = [("what", "value"), *((name, f"{value:.4g}") for name, value in figures.items())]
    csv.writer(sys.stdout).writerows(rows)
    if out:
        with out.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)


def make_photographs(folder: Path, count: int) -> list[Path]:
    """Simulated infants' photographs, 640x480 JPEG; those that are there are not made again."""
    import cv2

    from fundoscope.simulate import infant

    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number}.jpg" for number in range(count)]
    for number, file in enumerate(files):
        if not file.exists():
            pixels = infant(number, camera="retcam", level="good").pixels
            assert pixels.shape == (480, 640, 3)
            cv2.imwrite(str(file), pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    return files


def marked(data: bytes, mark: int) -> bytes:
    """A JPEG file with a comment, so that its bytes are unlike any other's and its pixels are the same."""
    comment = b"%016d" % mark
    return data[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(comment)) + comment + data[2:]


def make_room(folder: Path, clients: int, exams: int, limits: Mapping[str, int], database: str = "") -> dict[str, Any]:
    """A room with an account and a token for each client, a reader, and open exams; gives what the clients need."""
    from fundoscope.server.database import Database
    from fundoscope.server.models import Exam, Membership, Patient, Site, User
    from fundoscope.server.permissions import Role
    from fundoscope.server.services.sessions import as_caller
    from fundoscope.server.services.tokens import NewToken, make_token
    from fundoscope.server.settings import read_settings

    folder.mkdir(mode=0o700, parents=True)
    lines = "".join(f"{name} = {value}\n" for name, value in limits.items())
    named = f"database = {json.dumps(database)}\n" if database else ""
    (folder / "settings.toml").write_text(
        f"{named}[limits]\n{lines}\n[rates]\naddress = 1000000\naccount = 1000000\n", encoding="utf-8"
    )
    settings = read_settings(folder, {})
    room = Database(settings.database_url)
    room.upgrade()
    plan: dict[str, Any] = {"tokens": [], "exams": []}
    with room.transaction() as session:
        site = Site(name="A", guideline="china-2014", required_views=["disc", "macula"])
        session.add(site)
        session.flush()
        for number in range(clients + 1):
            role = Role.TECHNICIAN if number < clients else Role.READER
            user = User(name=f"client{number}", full_name=f"Client {number}", role=role)
            session.add(user)
            session.flush()
            session.add(Membership(user_id=user.id, site_id=site.id))
            session.flush()
            session.refresh(user)
            token = make_token(session, as_caller(user, "pages", ""), NewToken(name="load", days=1))[1]
            plan["tokens"].append(token)
        patients = [Patient(site_id=site.id, code=f"N{number:05}", created_via="command") for number in range(exams)]
        session.add_all(patients)
        session.flush()
        rows = [
            Exam(site_id=site.id, patient_id=patient.id, day=date.today(), missing_views=[], created_via="command")
            for patient in patients
        ]
        session.add_all(rows)
        session.flush()
        plan["exams"] = [row.id for row in rows]
    room.dispose()
    return plan


class ServedRoom:
    """`fundoscope serve` on a folder, in a group of processes of its own."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        self.log = folder.with_suffix(".log")
        self._more = ["--workers", str(workers)]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        call = [
            sys.executable,
            "-m",
            "fundoscope",
            "serve",
            "--data",
            str(self.folder),
            "--port",
            str(self.port),
            *self._more,
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(call, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            with suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/healthz")
                if connection.getresponse().status == 200:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise SystemExit(f"The room did not open; see {self.log}.")

    def kill(self, whole_group: bool) -> None:
        """kill -9 of the server, or of all its processes at once."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL) if not whole_group else os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(60)

    def look(self) -> dict[str, tuple[float, float]]:
        """MiB in use and processor seconds, by what the process is: server, station, worker, child.

        Shared pages are divided among the processes that share them; children that have ended do not count.
        """
        assert self.process is not None
        found: dict[str, tuple[float, float]] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError, StopIteration):
                if os.getpgid(int(entry.name)) != self.process.pid:
                    continue
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                modules = {
                    "fundoscope.server.judge_child": "child", "fundoscope.server.worker": "worker",
                    "fundoscope.server.dicom.station": "station",
                }  # fmt: skip
                kind = next((modules[word] for word in words if word in modules), "server")
                rollup = (entry / "smaps_rollup").read_text()
                mib = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024
                times = (entry / "stat").read_text().rpartition(")")[2].split()[11:13]
                before = found.get(kind, (0.0, 0.0))
                found[kind] = before[0] + mib, before[1] + sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
        return found


# --- the clients


@dataclass(frozen=True)
class SentPhotograph:
    """What one request came to: the HTTP status (0: no answer), the photograph's number where it was accepted, seconds."""

    status: int
    photograph: int | None
    seconds: float
    wait: int = 0  # of Retry-After


@dataclass(frozen=True)
class Clients:
    """The process of the clients, and the file that it writes a line into for each request."""

    process: subprocess.Popen[str]
    results: IO[str]


def start_clients(
    port: int, plan: Mapping[str, Any], photographs: list[Path], seconds: float, first_mark: int = 0
) -> Clients:
    """The clients as a process; they stop after so many seconds."""
    order = {
        "port": port, "photographs": [str(file) for file in photographs], "seconds": seconds, "mark": first_mark, **plan,
    }  # fmt: skip
    results = tempfile.TemporaryFile("w+")  # noqa: SIM115 - a pipe that nobody reads meanwhile is full after some 800 lines
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=results, text=True, start_new_session=True
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(order))
    process.stdin.close()
    return Clients(process, results)


def read_results(clients: Clients) -> list[SentPhotograph]:
    """What the clients came to, after they have ended; a line that was cut off when they were ended is no result."""
    clients.process.wait()
    clients.results.seek(0)
    with clients.results as lines:
        return [SentPhotograph(**json.loads(line)) for line in lines if line.endswith("}\n")]


def _work(order: Mapping[str, Any]) -> None:
    end = time.monotonic() + order["seconds"]
    pictures = [Path(file).read_bytes() for file in order["photographs"]]
    lock = threading.Lock()
    clients = len(order["tokens"]) - 1  # the last is the reader's

    def send_all(number: int) -> None:
        exams: Iterator[int] = iter(order["exams"][number::clients])
        exam, left = next(exams), PHOTOGRAPHS_AN_EXAM
        connection = None
        count = 0
        while time.monotonic() < end:
            mark = order["mark"] + number * 1_000_000 + count
            body = _form(
                marked(pictures[count % len(pictures)], mark), f"OD_{('disc', 'macula')[count % 2]}_{mark}.jpg"
            )
            headers = {
                "Authorization": f"Bearer {order['tokens'][number]}",
                "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
            }
            start = time.monotonic()
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", order["port"], timeout=60)
                connection.request("POST", f"/v1/exams/{exam}/photographs", body, headers)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException):
                connection = None
                result = SentPhotograph(0, None, time.monotonic() - start)
                time.sleep(0.2)  # the server is away; the same photograph is sent again
            else:
                items = json.loads(text).get("items", [{}]) if answer.status in (200, 201) else [{}]
                result = SentPhotograph(
                    answer.status,
                    items[0].get("photograph_id"),
                    time.monotonic() - start,
                    int(answer.headers.get("Retry-After", 0)),
                )
                if answer.status in (200, 201):
                    count, left = count + 1, left - 1
                    if not left:
                        exam, left = next(exams), PHOTOGRAPHS_AN_EXAM
                elif answer.status in (429, 503):
                    time.sleep(min(result.wait, max(0.0, end - time.monotonic())))
            with lock:
                print(json.dumps(result.__dict__), flush=True)

    threads = [threading.Thread(target=send_all, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _form(data: bytes, name: str) -> bytes:
    body = io.BytesIO()
    body.write(
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="photographs"; filename="{name}"\r\n\r\n'.encode()
    )
    body.write(data)
    body.write(f"\r\n--{_BOUNDARY}--\r\n".encode())
    return body.getvalue()


if __name__ == "__main__":
    _work(json.load(sys.stdin))
