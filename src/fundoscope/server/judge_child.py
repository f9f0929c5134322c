"""The process that decodes and grades photographs for a worker: it holds no database, no settings and no secret.

It reads one request a line on standard input and answers one line, both JSON. Whatever a photograph does to it (a crash in a
decoder, a hang, more memory than it may have) happens here, and the worker starts another one.

    {"photograph": path, "name": as it was given, "task": "rop" | "nicking", "folder": where pictures go}
    {"status": ..., "rows": [...], "bundle": ..., "pictures": {...}, ...}          (see `JudgeAnswer`)
"""

from __future__ import annotations

import json
import os
import resource
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import cv2

from fundoscope.errors import FundoscopeError, PhotographError
from fundoscope.findings import GradedPhotograph, Grader, RopFinding, Status
from fundoscope.imaging import Pixels, read
from fundoscope.nicking.grading.evidence import PhotographGrading
from fundoscope.nicking.grading.grader import NickingGrader
from fundoscope.nicking.grading.measures import photograph_row
from fundoscope.nicking.grading.outputs import cards_of
from fundoscope.reports.nicking_pictures import draw_attention, draw_vessels
from fundoscope.reports.overlay import jpeg, overlay_layer, shrink
from fundoscope.reports.profile import draw_profile
from fundoscope.rop.screening.grader import RopGrader
from fundoscope.rop.screening.screener import RopEvidence
from fundoscope.runs.engines import grade_isolated
from fundoscope.server.child_limits import limit

THUMBNAIL_SIDE = 320  # pixels of the longer side; half of the smallest camera's, which is the quickest to make
_LAYER_SIDE = 128  # pixels of the activation map's picture: the map itself has 8 by 8
_QUALITY = 92  # of the photograph's JPEG; a smaller one shows blocks where a reader enlarges it
_GRACE = 5  # seconds beyond the limit of one photograph, on the processor, at which the system itself ends an orphan


def main(limit_bytes: int, limit_seconds: int) -> None:
    """Answer requests until standard input ends."""
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints is no answer
    os.umask(0o077)
    limit(resource.RLIMIT_AS, limit_bytes)
    limit(resource.RLIMIT_CORE, 0)
    cv2.setNumThreads(1)
    graders: dict[str, Grader] = {}
    for line in requests:
        request = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 4 * limit_seconds + _GRACE)
        try:
            task = request["task"]
            if task not in graders:
                graders[task] = RopGrader.open(task) if task == "rop" else NickingGrader.open(task)
            answer = judge(graders[task], Path(request["photograph"]), request["name"], Path(request["folder"]))
        except (FundoscopeError, OSError) as error:  # no bundle, no room to write: not the photograph's fault
            answer = {"error": f"{type(error).__name__}: {error}"}
        send(answers, answer)


def send(answers: IO[bytes], answer: dict[str, Any]) -> None:
    """Write one answer as a line."""
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def judge(grader: Grader, photograph: Path, name: str, folder: Path) -> dict[str, Any]:
    """Grade one photograph and make its pictures in `folder`; see `JudgeAnswer` for what is in the answer."""
    graded = grade_isolated(grader, photograph, name)
    pictures: dict[str, Any] = {}
    size = None
    if graded.findings[0].status is not Status.FAILED:
        try:
            size, pictures = draw_pictures(graded, photograph, folder)
        except PhotographError as error:  # damage that shows where a photograph is decoded at its full size only
            graded = grader.failed(name, f"{error.cause}. {error.remedy}")
    first = graded.findings[0]
    answer: dict[str, Any] = {
        "grader": grader.name, "bundle": grader.identity.name, "bundle_digest": grader.identity.digest,
        "version": _version(), "status": first.status.value, "reason": first.reason,
        "rows": [finding.as_row() for finding in graded.findings], "probability": None, "suspected": None,
        "size": size, "pictures": pictures,
    }  # fmt: skip
    if isinstance(graded.evidence, PhotographGrading):
        answer["photograph"] = photograph_row(graded.evidence, answer["rows"], None)
    if isinstance(first, RopFinding):
        answer.update(probability=first.p_rop, suspected=first.rop)
    return answer


@cache
def _version() -> str:
    return version("fundoscope")


def draw_pictures(graded: GradedPhotograph, photograph: Path, folder: Path) -> tuple[tuple[int, int], dict[str, Any]]:
    """Write the pictures of one photograph into `folder`; gives its (rows, columns) and the pictures' names."""
    evidence = graded.evidence
    pixels = evidence.pixels if isinstance(evidence, PhotographGrading | RopEvidence) else None
    pixels = read(photograph).pixels if pixels is None else pixels
    rows, columns = pixels.shape[:2]
    pictures: dict[str, Any] = {}

    def save(name: str, picture: Pixels, quality: int = 85) -> None:
        pictures[name] = f"{name}.jpg"
        (folder / pictures[name]).write_bytes(jpeg(picture, quality))

    save("photograph", pixels, _QUALITY)
    save("thumbnail", shrink(pixels, THUMBNAIL_SIDE))
    if isinstance(evidence, RopEvidence) and evidence.picture is not None and evidence.activation is not None:
        layer = overlay_layer(shrink(evidence.picture, _LAYER_SIDE), evidence.activation)
        _, data = cv2.imencode(".png", cv2.cvtColor(layer, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 1])
        pictures["activation"] = "activation.png"
        (folder / pictures["activation"]).write_bytes(data.tobytes())
        assert evidence.place is not None
        top, left, height, width = evidence.place
        pictures["activation_place"] = [
            round(each, 5) for each in (left / columns, top / rows, width / columns, height / rows)
        ]
    elif isinstance(evidence, PhotographGrading):
        for number, card in enumerate(cards_of(evidence), 1):
            save(f"crossing_{number}", card.pixels)
            save(f"vessels_{number}", draw_vessels(card.pixels, card.maps))
            if card.attention is not None:
                save(f"attention_{number}", draw_attention(card.pixels, card.attention))
            pictures[f"profile_{number}"] = draw_profile(card.narrowing)
    return (rows, columns), pictures


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
