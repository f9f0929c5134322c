"""Many photographs de-identified into one folder that can be given away, and the table that leads back, which must not be.

photographs/P0123456789AB/0001.dcm   by pseudonym, numbered in the order given
deidentified.csv                     a row a file: status, reason, pseudonym; no name of the original
"""

from __future__ import annotations

import csv
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fundoscope.dicom.deidentify import Deidentification, DeidentifiedPhotograph, HeldBack, deidentify
from fundoscope.errors import OutputError, PhotographError, UsageError, counted
from fundoscope.imaging.dicom_header import read_dicom_header
from fundoscope.outputs import answer_folder, new_file, written_whole
from fundoscope.studies import Progress

COLUMNS = ("file", "status", "reason", "patient", "frames", "blacked_out")
TABLE_COLUMNS = ("original", "file", "status", "reason", "patient_id", "issuer", "pseudonym")
PHOTOGRAPHS, ANSWER = "photographs", "deidentified.csv"
WRITTEN, HELD, FAILED = "written", "held back", "failed"
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class DeidentifiedFile:
    """What became of one file; `place` is where it lies below the folder, blank where it was not written."""

    original: Path
    place: str
    status: str
    reason: str
    patient_id: str = ""
    issuer: str = ""
    pseudonym: str = ""
    frames: int = 0
    blacked_out: str = ""


def read_key(path: Path | None) -> bytes:
    """The key in a file, made there where there is none; without a file one that nobody will know, so that nothing leads back.

    Raises `UsageError` for a file that is too short to be a key, `OutputError` where it cannot be made.
    """
    if path is None:
        return secrets.token_bytes(_KEY_BYTES)
    if not path.exists():
        new_file(path, [])
        try:
            path.touch(0o600)
            path.write_bytes(secrets.token_bytes(_KEY_BYTES))
        except OSError as error:
            raise OutputError(path, error) from error
    try:
        key = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--key {path}: cannot be read ({error.strerror}). Check its permissions.") from error
    if len(key) < _KEY_BYTES:
        raise UsageError(
            f"--key {path}: holds fewer than {_KEY_BYTES} bytes, too few for a key. Name a file that is not there: it is made."
        )
    return key


def deidentify_files(
    files: Sequence[Path], out: Path, how: Deidentification, table: Path | None, progress: Progress
) -> list[DeidentifiedFile]:
    """De-identify files into `out`, and write beside it, where `table` says, which of them became which.

    Raises `UsageError`, before anything is written, where `table` or an input lies in `out`, and where `out` holds something
    else; `OutputError` where something cannot be written.
    """
    if inside := [path for path in files if out.resolve() in path.resolve().parents]:
        raise UsageError(f"{inside[0]}: lies in the folder that is to be given away. Give another --out.")
    if table is not None:
        if out.resolve() in (table.resolve(), *table.resolve().parents):
            raise UsageError(f"--table {table}: lies in the folder that is to be given away. Name a file elsewhere.")
        new_file(table, files)
    done: list[DeidentifiedFile] = []
    settings = {"keep": sorted(how.keep), "hold": how.hold}
    with answer_folder(out, "dicom deidentify", [ANSWER], files, settings, [PHOTOGRAPHS]) as part:
        numbers: Counter[str] = Counter()
        for path in progress.follow(files, len(files), "photographs"):
            one, made = _one(path, how, numbers)
            if made is not None:
                place = part / PHOTOGRAPHS / one.place
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(made.data)
            done.append(one)
        rows = [
            {"file": f"{PHOTOGRAPHS}/{one.place}" if one.place else "", "status": one.status, "reason": one.reason,
             "patient": one.pseudonym, "frames": one.frames or "", "blacked_out": one.blacked_out}
            for one in done
        ]  # fmt: skip
        _write(part / ANSWER, COLUMNS, rows)
    if table is not None:
        with written_whole(table) as beside:
            rows = [
                {"original": one.original, "file": one.place, "status": one.status, "reason": one.reason,
                 "patient_id": one.patient_id, "issuer": one.issuer, "pseudonym": one.pseudonym}
                for one in done
            ]  # fmt: skip
            _write(beside, TABLE_COLUMNS, rows)
    return done


def _one(
    path: Path, how: Deidentification, numbers: Counter[str]
) -> tuple[DeidentifiedFile, DeidentifiedPhotograph | None]:
    """What became of a file, whatever goes wrong with it. Reasons name neither the file nor the patient."""
    try:
        header = read_dicom_header(path, str(path))
    except PhotographError as error:
        return DeidentifiedFile(path, "", FAILED, f"{error.cause}. {error.remedy}"), None
    known = DeidentifiedFile(path, "", FAILED, "", header.patient_id, header.issuer, how.pseudonym(header))
    try:
        made = deidentify(path, how)
    except HeldBack as held:
        return replace(known, status=HELD, reason=held.reason), None
    except PhotographError as error:
        return replace(known, reason=f"{error.cause}. {error.remedy}"), None
    except Exception as error:  # noqa: BLE001 - a header may hold anything, and one file must not end the others
        return replace(known, reason=f"the program failed on it ({type(error).__name__})"), None
    numbers[made.pseudonym] += 1
    place = f"{made.pseudonym}/{numbers[made.pseudonym]:04d}.dcm"
    blacked = "; ".join(
        [
            *([counted(made.blacked, "line") + " of text"] if made.blacked else []),
            *(["outside the field"] if made.outside else []),
        ]
    )
    return replace(known, place=place, status=WRITTEN, frames=made.frames, blacked_out=blacked), made


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
