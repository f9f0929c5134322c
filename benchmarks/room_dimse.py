"""C-STORE into the reading room, all photographs by one association: the rate against `rop screen --out`, and kill -9 in the middle.

    python benchmarks/room_dimse.py --out docs/results/room_dimse.csv [--photographs 500] [--workers 2]

Simulated 640x480 photographs as DICOM files (JPEG baseline), twenty of each infant, are sent to `fundoscope serve` by a process of its
own, while a reader asks for the worklist four times a second. Photographs a second are those that were judged, from the first C-STORE
until the last answer; of `rop screen --out` on the same photographs as JPEG files those of its run without the start of Python. Processor seconds stand
beside them, of all processes of the room: a machine that does other things stretches only the clock. Then the same with kill -9 of all
processes of the room in the middle, twice: it is started again, and what was not acknowledged is sent again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from room_clients import ServedRoom, make_photographs, make_room, write_figures
from room_load import ask_for_worklist, count_judged, screen_alone, wait_for_the_queue

_AN_INFANT = 20
_CLASS, _JPEG = "1.2.840.10008.5.1.4.1.1.77.1.5.1", "1.2.840.10008.1.2.4.50"


def make_dicom_files(photographs: Sequence[Path], folder: Path, count: int) -> list[Path]:
    """DICOM files of JPEG photographs, each with a UID of its own."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate

    folder.mkdir(parents=True)
    files = []
    for number in range(count):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = _JPEG
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = _CLASS, f"2.25.{1000 + number}"
        made = FileDataset(None, {}, file_meta=meta, preamble=bytes(128), is_implicit_VR=False, is_little_endian=True)
        infant, today = number // _AN_INFANT, f"{date.today():%Y%m%d}"
        values: dict[str, Any] = {
            "SpecificCharacterSet": "ISO_IR 192", "SOPClassUID": _CLASS, "SOPInstanceUID": f"2.25.{1000 + number}",
            "StudyInstanceUID": f"2.25.2{infant}", "SeriesInstanceUID": f"2.25.3{infant}", "Modality": "OP",
            "PatientID": f"D{infant}", "PatientName": f"Infant^{infant}", "AcquisitionDateTime": f"{today}1200", "StudyDate": today,
            "ImageLaterality": "RL"[number % 2], "BurnedInAnnotation": "NO", "Rows": 480, "Columns": 640, "SamplesPerPixel": 3,
            "PhotometricInterpretation": "YBR_FULL_422", "PlanarConfiguration": 0, "BitsAllocated": 8, "BitsStored": 8,
            "HighBit": 7, "PixelRepresentation": 0,
        }  # fmt: skip
        for keyword, value in values.items():
            setattr(made, keyword, value)
        made.PixelData = encapsulate([photographs[number % len(photographs)].read_bytes()])
        made["PixelData"].VR = "OB"
        files.append(folder / f"{number}.dcm")
        made.save_as(files[-1], enforce_file_format=True)
    return files


class StationRoom(ServedRoom):
    """A room with a receiver."""

    def __init__(self, folder: Path, workers: int, port: int) -> None:
        super().__init__(folder, workers)
        self.dicom_port = port
        with (folder / "settings.toml").open("a") as file:
            file.write(f"\n[receiver]\nport = {port}\nfree_bytes = 0\n")

    def start(self) -> None:
        """Start it and wait until server and receiver answer."""
        from fundoscope.server.dicom.peers import PeerError, send_echo

        super().start()
        deadline = time.monotonic() + 300  # a busy machine takes its time to start Python
        while time.monotonic() < deadline:
            try:
                send_echo(peer_of(self.dicom_port))
                return
            except PeerError:
                time.sleep(0.1)
        raise SystemExit(f"The receiver did not answer:\n{self.log.read_text()[-3000:]}")


def peer_of(port: int) -> Any:
    """The room as an application entity."""
    from fundoscope.server.dicom.settings import DimsePeer

    return DimsePeer(title="FUNDOSCOPE", host="127.0.0.1", port=port, seconds=120)


def start_sender(port: int, files: Sequence[Path]) -> subprocess.Popen[str]:
    """The process that sends the files by one association."""
    sender = subprocess.Popen(
        [sys.executable, __file__, "--send"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert sender.stdin is not None
    json.dump({"port": port, "files": [str(file) for file in files]}, sender.stdin)
    sender.stdin.close()
    return sender


def read_unsent(sender: subprocess.Popen[str]) -> list[Path]:
    """The files that were not acknowledged, after the sender has ended."""
    assert sender.stdout is not None
    with sender.stdout as lines:
        outcomes = json.load(lines)
    assert sender.wait() == 0
    for said, count in Counter(said for _, result, said in outcomes if result != "stored").items():
        print(f"{count} not stored: {said}", file=sys.stderr, flush=True)
    return [Path(file) for file, result, _ in outcomes if result != "stored"]


def _send() -> None:
    from fundoscope.server.dicom.sender import send_by_dimse

    order = json.load(sys.stdin)
    done = send_by_dimse(peer_of(order["port"]), [Path(file) for file in order["files"]])
    json.dump([(str(one.path), one.result, one.said) for one in done], sys.stdout)


def measure_rate(room: StationRoom, token: str, files: Sequence[Path]) -> dict[str, float]:
    """All files by one association; figures by name."""
    start_sender(room.dicom_port, files[:8]).wait()  # children started, caches filled
    wait_until_judged(room.folder)
    before, start = room.look(), time.monotonic()
    sender = start_sender(room.dicom_port, files[8:])
    latencies = []
    while sender.poll() is None:
        latencies.append(ask_for_worklist(room.port, token))
        time.sleep(0.25)
    sent = time.monotonic() - start
    left = unsent = read_unsent(sender)
    while left:  # a busy machine: they are sent again
        left = read_unsent(start_sender(room.dicom_port, left))
    wait_until_judged(room.folder)
    took, count = time.monotonic() - start, len(files) - 8
    work = {kind: 1000 * (seconds - before[kind][1]) / count for kind, (_, seconds) in room.look().items()}
    return {
        "judged a second, from the first C-STORE until the last answer": count / took, "acknowledged a second": count / sent, "told to send it again": len(unsent),
        **{f"processor ms of the {kind}, a photograph": each for kind, each in work.items()},
        "processor ms of the room, a photograph": sum(work.values()),
        "worklist, median ms": 1000 * statistics.median(latencies), "worklist, asked": len(latencies),
    }  # fmt: skip


def kill_in_the_middle(room: StationRoom, files: Sequence[Path]) -> dict[str, float]:
    """All files, with kill -9 after a third and after two thirds; figures by name."""
    waiting, rounds = list(files), 0
    for share in (1 / 3, 2 / 3, 2):
        room.start()
        sender = start_sender(room.dicom_port, waiting)
        while sender.poll() is None and count_held(room.folder) < share * len(files):
            time.sleep(0.05)
        if share < 1:
            room.kill(whole_group=True)
        waiting, rounds = read_unsent(sender), rounds + 1
    held = wait_until_judged(room.folder)
    instances = find_instances(room.folder)
    return {
        "kill -9 of all processes": 2, "associations until all were acknowledged": rounds,
        "photographs sent": len(files), "never acknowledged": len(waiting), "photographs in the room": len(instances),
        "acknowledged, not there": len({f"2.25.{1000 + int(file.stem)}" for file in files} - set(instances)),
        "there twice": len(instances) - len(set(instances)),
        "not judged exactly once": sum(number != 1 for number in held["photographs"].values()),
    }  # fmt: skip


def wait_until_judged(folder: Path, seconds: float = 3000) -> dict[str, Any]:
    """Wait until all that was acknowledged is in the room and judged; what the room holds then."""
    deadline = time.monotonic() + seconds
    while any((folder / "received").glob("*.dcm")) and time.monotonic() < deadline:
        time.sleep(0.1)
    return wait_for_the_queue(folder, deadline - time.monotonic())


def count_held(folder: Path) -> int:
    """How many photographs a room holds."""
    return len(find_instances(folder))


def find_instances(folder: Path) -> list[str]:
    """The UIDs of all photographs of a room, read beside the server."""
    from sqlalchemy import select

    from fundoscope.server.database import Database
    from fundoscope.server.models import ExamPhotograph
    from fundoscope.server.settings import read_settings

    database = Database(read_settings(folder, {}).database_url)
    with database.reading() as session:
        found = list(session.scalars(select(ExamPhotograph.sop_instance)))
    database.dispose()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--photographs", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--port", type=int, default=11912)
    parser.add_argument("--send", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.send:
        _send()
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        photographs = make_photographs(folder / "photographs", 24)
        files = make_dicom_files(photographs, folder / "dicom", given.photographs)
        alone, work = screen_alone(photographs, folder / "screen", min(given.photographs, 200))
        plan = make_room(folder / "room", 1, 1, {})
        room = StationRoom(folder / "room", given.workers, given.port)
        try:
            room.start()
            figures = measure_rate(room, plan["tokens"][-1], files)
            assert count_judged(room.folder) == len(files)
        finally:
            room.stop()
        figures = {
            "judged a second, against rop screen --out alone": figures["judged a second, from the first C-STORE until the last answer"] / alone,
            "by processor seconds, against rop screen --out alone": 1000 * work / figures["processor ms of the room, a photograph"],
            "rop screen --out alone, a second": alone, "rop screen --out alone, processor ms a photograph": 1000 * work, **figures,
        }  # fmt: skip
        make_room(folder / "killed", 1, 1, {})
        killed = StationRoom(folder / "killed", given.workers, given.port + 1)
        try:
            figures |= kill_in_the_middle(killed, files)
        finally:
            killed.stop()
    write_figures(figures, given.out)


if __name__ == "__main__":
    main()
