"""Screening: photographs in, findings out, in their order, without torch.

Photographs are worked on by a few threads at once (decoding, enhancement and the network all leave Python's lock),
and at most a handful are held at any time: a thousand photographs take no more memory than ten.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles import Bundle
from fundoscope.errors import PhotographError
from fundoscope.findings import RopFinding, Status
from fundoscope.imaging import Pixels, Prepared
from fundoscope.imaging.quality import judge_quality

#: The reason in every row that tells what was learnt from simulated eyes.
SIMULATED = "SIMULATED: what is said of treatment was learnt from simulated eyes only"

Source = str | Path | bytes | NDArray[Any]


@dataclass(frozen=True, slots=True)
class Screened:
    """A finding and what it was concluded from.

    `picture` is the standard square before contrast enhancement, uint8 RGB (None: not read); `activation` (rows,
    columns) is the class activation map in logits (None: not graded); `size` is the photograph's (rows, columns).
    """

    finding: RopFinding
    picture: Pixels | None = None
    activation: NDArray[np.float32] | None = None
    size: tuple[int, int] | None = None


class Screener:
    """Grades photographs with one bundle, `workers` at once.

    Whether treatment is required is told where ROP is suspected and the bundle knows; what it learnt from simulated
    eyes only if `allow_simulated`. By default one worker more than there are processors, at most five: while one waits for Python's lock, another decodes.
    """

    def __init__(self, bundle: Bundle, workers: int | None = None, allow_simulated: bool = False) -> None:
        self.bundle = bundle
        told = bundle.card.stage2 == "real" or (bundle.card.stage2 == "simulated" and allow_simulated)
        self.second = bundle.second if told else None
        self.workers = workers or min(4, os.cpu_count() or 1) + 1

    def screen(self, sources: Iterable[Source]) -> Iterator[Screened]:
        """One `Screened` a source, in their order; whatever cannot be read is a finding that says why."""
        window: deque[Future[Screened]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                for number, source in enumerate(sources, 1):
                    window.append(pool.submit(self.screen_one, source, _name_of(source, number)))
                    if len(window) > 2 * self.workers:
                        yield window.popleft().result()
                while window:
                    yield window.popleft().result()
            finally:
                for future in window:
                    future.cancel()

    def screen_one(self, source: Source, name: str) -> Screened:
        """Read, judge and grade one photograph."""
        start = time.perf_counter()
        try:
            photograph = Prepared.read(source, name)
        except PhotographError as error:
            return Screened(RopFinding(name, Status.FAILED, f"{error.cause}. {error.remedy}", seconds=_since(start)))
        return self._grade(photograph, start)

    def _grade(self, photograph: Prepared, start: float) -> Screened:
        standard, size = self.bundle.card.standard, photograph.shape
        verdict = judge_quality(photograph, "infant")
        picture = standard.square(photograph)
        score = round(verdict.score, 4)
        if not verdict.gradable:
            reason = " ".join(verdict.reasons)
            finding = RopFinding(photograph.name, Status.REJECTED, reason, quality=score, seconds=_since(start))
            return Screened(finding, picture, None, size)
        answers = self.bundle.run_stages(standard.tensor(standard.enhance(picture))[None], 2 if self.second else 1)
        (logits, activation), *second = answers
        p_rop = float(self.bundle.probabilities(logits)[0])
        rop = self.bundle.decide(p_rop)
        p_tr, requiring = self._treatment(second[0][0]) if second and rop else (None, None)
        reason = SIMULATED if p_tr is not None and self.bundle.card.stage2 == "simulated" else ""
        finding = RopFinding(photograph.name, Status.OK, reason, p_rop, rop, p_tr, requiring, score, _since(start))
        return Screened(finding, picture, activation[0], size)

    def _treatment(self, logits: NDArray[np.float32]) -> tuple[float, bool]:
        assert self.second is not None
        p = self.second.probabilities(logits)
        return float(p[0]), bool(self.second.decisions(p)[0])


def _name_of(source: Source, number: int) -> str:
    return (
        str(source)
        if isinstance(source, str | Path)
        else f"array {number}"
        if isinstance(source, np.ndarray)
        else f"bytes {number}"
    )


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 4)
