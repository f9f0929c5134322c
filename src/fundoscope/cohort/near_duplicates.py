"""Copies of one photograph: re-encoded, brightened, darkened, cropped, turned or mirrored.

A copy needs no shift, only one of the eight turns and mirrorings: one matrix product of coarse fingerprints finds candidates.
They are registered and compared again in the fine fingerprint, which separates two similar eyes because their vessels do not
lie on each other (measured in docs/results/audit.csv).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort.fingerprints import COARSE, FINE, Fingerprint, Grey, apply_turn
from fundoscope.cohort.problems import ProblemKind, SameEyePair
from fundoscope.cohort.registration import (
    align_squares,
    correlation_peak,
    rotation_about_centre,
    starting_map,
    warp_square,
)

#: Correlation of coarse fingerprints, without any shift, from which a pair is a candidate: copies of RetCam photographs reach
#: .76 and more, two views of one eye .58, two eyes .45.
COPY = 0.66
#: Correlation of registered fine fingerprints from which a pair shows one eye.
SAME_EYE = 0.52

_SCALES = (0.9, 1.1)  # tried too where the rim of the field was not found: there a crop changes the scale
_LOOSE = 0.45  # replaces COPY at these scales, which are only near the true one
_STRICT = 0.8  # replaces SAME_EYE for candidates found at these scales
_BLOCK = 256  # photographs compared at once: bounds the memory


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Two photographs by index; the second, turned and scaled, correlates with the first by `coarse`."""

    first: int
    second: int
    turn: int
    scale: float
    coarse: float


def find_near_duplicates(prints: Sequence[Fingerprint]) -> list[SameEyePair]:
    """All pairs of photographs, by index, of which one is a copy of the other, in order."""
    best: dict[tuple[int, int], _Candidate] = {}
    for candidate in _candidates(prints):
        pair = (candidate.first, candidate.second)
        if pair not in best or best[pair].coarse < candidate.coarse:
            best[pair] = candidate
    matches = (_confirm_copy(prints, best[pair]) for pair in sorted(best))
    return [match for match in matches if match is not None]


def _confirm_copy(prints: Sequence[Fingerprint], found: _Candidate) -> SameEyePair | None:
    """The pair of a candidate that is a copy also in the registered fine fingerprints; None where it is not."""
    first, second = prints[found.first], prints[found.second]
    warp = rotation_about_centre(found.scale, 0, COARSE)
    shift = correlation_peak(first.coarse, warp_square(apply_turn(second.coarse, found.turn), warp))
    aligned = align_squares(first.fine, apply_turn(second.fine, found.turn), starting_map(warp, shift, COARSE, FINE))
    if aligned.similarity < (SAME_EYE if found.scale == 1 else _STRICT):
        return None
    return SameEyePair(ProblemKind.NEAR_DUPLICATE, found.first, found.second, found.turn, aligned.similarity)


def _candidates(prints: Sequence[Fingerprint]) -> Iterator[_Candidate]:
    """Pairs whose coarse fingerprints correlate, in any turn, and where the rim was not found at other scales too."""
    plain = _unit([p.coarse for p in prints])
    every = np.arange(len(prints))
    free = np.array([index for index, p in enumerate(prints) if not p.field], np.int64)
    for turn in range(8):
        for names in _blocks(every):
            yield from _above(plain, _unit([apply_turn(prints[at].coarse, turn) for at in names]), names, turn, 1.0)
        for scale in _SCALES:
            warp = rotation_about_centre(scale, 0, COARSE)
            for names in _blocks(free):
                squares = [warp_square(apply_turn(prints[at].coarse, turn), warp) for at in names]
                yield from _above(plain, _unit(squares), names, turn, scale)


def _blocks(names: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The photographs in blocks, whose turned squares are in memory together."""
    return [names[start : start + _BLOCK] for start in range(0, len(names), _BLOCK)]


def _above(first: Grey, second: Grey, names: NDArray[np.int64], turn: int, scale: float) -> Iterator[_Candidate]:
    """Candidates between all of `first` and all of `second`, whose rows are the photographs `names`."""
    for start in range(0, len(first), _BLOCK):
        values = first[start : start + _BLOCK] @ second.T
        for row, column in zip(*np.nonzero(values >= (COPY if scale == 1 else _LOOSE)), strict=True):
            a, b = start + int(row), int(names[column])
            if a < b or (scale != 1 and a != b):
                yield _Candidate(a, b, turn, scale, float(values[row, column]))


def _unit(squares: Sequence[NDArray[np.float32]]) -> Grey:
    """Each square as a row (n, pixels) of length 1, or 0 where the square is empty."""
    flat = np.stack(squares).reshape(len(squares), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
