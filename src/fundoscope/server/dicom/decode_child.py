"""A process that decodes photographs to see whether they are whole: one path a line on standard input, one JSON text a line back.

The text is blank for a photograph that decodes, else why it does not. A crash of a decoder happens here, as in `judge_child`.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fundoscope.errors import PhotographError
from fundoscope.imaging import read
from fundoscope.server.child_limits import limit
from fundoscope.server.settings import UploadLimits


def find_broken(paths: Sequence[Path], limits: UploadLimits) -> dict[Path, str]:
    """The photographs that do not decode, with the reason; each file is tried in a process of its own where one brought it down."""
    told = _ask(paths, limits)
    if len(told) < len(paths) and len(paths) > 1:
        return {path: reason for one in paths for path, reason in find_broken([one], limits).items()}
    crashed = "it brings the program down that reads it. Export it anew."
    reasons = [*told, *([crashed] * (len(paths) - len(told)))]
    return {path: reason for path, reason in zip(paths, reasons, strict=True) if reason}


def _ask(paths: Sequence[Path], limits: UploadLimits) -> list[str]:
    if not paths:
        return []
    command = [
        sys.executable,
        "-m",
        "fundoscope.server.dicom.decode_child",
        str(limits.grading_bytes),
        str(limits.pixels),
    ]
    lines = "".join(f"{json.dumps(str(path))}\n" for path in paths)
    try:
        done = subprocess.run(
            command, input=lines, stdout=subprocess.PIPE, text=True, timeout=limits.grading_seconds * len(paths)
        )
    except subprocess.TimeoutExpired:
        return []
    return [json.loads(line) for line in done.stdout.splitlines()]


def main(limit_bytes: int, max_pixels: int) -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a decoder prints is no answer
    limit(resource.RLIMIT_AS, limit_bytes)
    limit(resource.RLIMIT_CORE, 0)
    for line in sys.stdin:
        answers.write(json.dumps(describe_fault(Path(json.loads(line)), max_pixels)) + "\n")


def describe_fault(path: Path, max_pixels: int) -> str:
    """Why a photograph does not decode; blank where it does."""
    try:
        read(path, path.name, max_pixels)
    except PhotographError as error:
        return f"{error.cause}. {error.remedy}"
    except MemoryError:
        return "needs too much memory. Export it smaller."
    return ""


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
