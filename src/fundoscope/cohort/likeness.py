"""Pairs of photographs that show the same: copies of one photograph, and views of one eye.

A copy lies where the original lies, up to the eight turns and mirrorings: one matrix product of coarse
fingerprints finds it. A second view is shifted and a little turned, never mirrored: the peak of the
cross-correlation finds it, as a product of spectra. Both are then registered and measured again in the fine
fingerprint, where two eyes that look alike part ways, because their vessels do not lie on each other.
docs/results/audit.csv has the measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort.fingerprints import COARSE, FINE, WORKERS, Fingerprint, Grey, turned
from fundoscope.cohort.registration import Fit, about_centre, fit, moved, peak, start_of

Progress = Callable[[int, int], None]

#: Correlation of the coarse fingerprints, in place, from which a pair is a copy: copies of RetCam photographs
#: reach .76 and more, two views of one eye .58, two eyes .45.
COPY = 0.66
#: Correlation of the fine fingerprints, registered, from which a pair is one eye.
SAME_EYE = 0.52

_SCALES = (0.9, 1.1)  # tried too where the rim of the field was not found, so that a crop changes the scale
_BLOCK = 256  # photographs compared at once: bounds the memory
_VIEW = 48  # pixels of the side at which views are sought: the size that ranked all 14 pairs of RetCam first
_PAD = 72  # pixels of the spectra: shifts up to half the field do not wrap around
_ANGLES = (
    -8.0,
    0.0,
    8.0,
)  # degrees by which a second view may be turned; registration does the rest, to about 15
_PARTNERS = 3  # a photograph's best partners that are registered
_SEEN = 0.45  # share of the field that two views must have in common
_SCALE, _SQUEEZE = 1.1, 1.06  # one camera, one eye: the map between two views is nearly a rigid motion


@dataclass(frozen=True, slots=True)
class Match:
    """Two photographs by index; `TURNS[turn]` brings the second to the first; `similarity` is 0 to 1."""

    kind: Literal["near-duplicate", "same eye"]
    first: int
    second: int
    turn: int
    similarity: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    first: int
    second: int
    turn: int
    scale: float
    coarse: float


def near_duplicates(prints: Sequence[Fingerprint]) -> list[Match]:
    """Copies of one photograph, re-encoded, brightened, cropped, turned or mirrored; ordered by index."""
    best: dict[tuple[int, int], _Candidate] = {}
    for candidate in _in_place(prints):
        pair = (candidate.first, candidate.second)
        if pair not in best or best[pair].coarse < candidate.coarse:
            best[pair] = candidate
    matches = (_copy(prints, best[pair]) for pair in sorted(best))
    return [match for match in matches if match.similarity >= SAME_EYE]


def _copy(prints: Sequence[Fingerprint], found: _Candidate) -> Match:
    first, second = prints[found.first], prints[found.second]
    warp = about_centre(found.scale, 0, COARSE)
    shift = peak(first.coarse, moved(turned(second.coarse, found.turn), warp))
    score = fit(first.fine, turned(second.fine, found.turn), start_of(warp, shift, COARSE, FINE))
    return Match("near-duplicate", found.first, found.second, found.turn, score.similarity)


def _in_place(prints: Sequence[Fingerprint]) -> Iterator[_Candidate]:
    plain = _unit([p.coarse for p in prints])
    every = np.arange(len(prints))
    free = np.array([index for index, p in enumerate(prints) if not p.field], np.int64)
    for turn in range(8):
        squares = [turned(p.coarse, turn) for p in prints]
        yield from _above(plain, _unit(squares), every, turn, 1.0)
        for scale in _SCALES if len(free) else ():
            warp = about_centre(scale, 0, COARSE)
            yield from _above(
                plain, _unit([moved(squares[index], warp) for index in free]), free, turn, scale
            )


def _above(
    first: Grey, second: Grey, names: NDArray[np.int64], turn: int, scale: float
) -> Iterator[_Candidate]:
    """Candidates between all of `first` and all of `second`, whose rows are the photographs `names`."""
    for start in range(0, len(first), _BLOCK):
        values = first[start : start + _BLOCK] @ second.T
        for row, column in zip(*np.nonzero(values >= COPY), strict=True):
            a, b = start + int(row), int(names[column])
            if a < b or (scale != 1 and a != b):
                yield _Candidate(a, b, turn, scale, float(values[row, column]))


def _unit(squares: Sequence[NDArray[np.float32]]) -> Grey:
    """A row a square, of length 1, or 0 where there is nothing to see."""
    flat = np.stack(squares).reshape(len(squares), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def second_views(prints: Sequence[Fingerprint], progress: Progress | None = None) -> list[Match]:
    """Photographs of one eye that moved in between, ordered by index; `progress(done, all)` is called.

    The work grows with the square of their number: about 0.1 ms a pair.
    """
    if len(prints) < 2:
        return []
    search = _ViewSearch(prints)
    scores = np.zeros((len(prints), len(prints)), np.float32)
    for first in range(len(prints)):
        scores[first, first + 1 :] = search.surfaces(first, slice(first + 1, None)).max(axis=(0, 2, 3))
        if progress:
            progress(first + 1, len(prints))
    matches = [_view(prints, search, *pair) for pair in _best_partners(scores + scores.T)]
    return [match for match in matches if match is not None]


def _best_partners(scores: Grey) -> list[tuple[int, int]]:
    best = np.argsort(-scores, axis=1, kind="stable")[:, :_PARTNERS]
    pairs = {tuple(sorted((row, int(other)))) for row, others in enumerate(best) for other in others}
    return sorted((a, b) for a, b in pairs if a != b and scores[a, b] > 0)


def _view(prints: Sequence[Fingerprint], search: _ViewSearch, first: int, second: int) -> Match | None:
    surface = search.surfaces(first, slice(second, second + 1))[:, 0]
    angle, row, column = np.unravel_index(int(surface.argmax()), surface.shape)
    shift = tuple((int(at) + _PAD // 2) % _PAD - _PAD // 2 for at in (row, column))
    start = start_of(about_centre(1, _ANGLES[angle], _VIEW), (shift[0], shift[1]), _VIEW, FINE)
    score: Fit = fit(prints[first].fine, prints[second].fine, start)
    if score.similarity < SAME_EYE or not score.keeps_scale(_SCALE, _SQUEEZE):
        return None
    return Match("same eye", first, second, 0, score.similarity)


class _ViewSearch:
    """The spectra of all photographs, also turned a little; products give correlations at every shift."""

    def __init__(self, prints: Sequence[Fingerprint]) -> None:
        squares = [_view_of(p.fine) for p in prints]
        turns = [about_centre(1, degrees, _VIEW) for degrees in _ANGLES]
        self._first = np.conj(_spectra(squares))
        self._second = np.stack([_spectra([moved(square, warp) for square in squares]) for warp in turns])
        self._weight = _weight(np.stack([square != 0 for square in squares]).mean(axis=0).astype(np.float32))

    def surfaces(self, first: int, others: slice) -> Grey:
        """Correlation by angle, photograph and shift; 0 where too few pixels overlap."""
        from scipy.fft import irfft2

        product = self._second[:, others] * self._first[first]
        return irfft2(product, s=(_PAD, _PAD), workers=WORKERS) * self._weight


def _view_of(fine: Grey) -> Grey:
    small = cv2.resize(fine, (_VIEW, _VIEW), interpolation=cv2.INTER_AREA)
    return (small / max(float(np.linalg.norm(small)), 1e-6)).astype(np.float32)


def _spectra(squares: Sequence[Grey]) -> NDArray[np.complex64]:
    from scipy.fft import rfft2

    return np.stack([rfft2(square, s=(_PAD, _PAD)) for square in squares]).astype(np.complex64)


def _weight(inside: Grey) -> Grey:
    """One over the root of the share of the field in common at each shift: what norms a sum of products."""
    spectrum = _spectra([inside])[0]
    common = np.fft.irfft2(spectrum * np.conj(spectrum), s=(_PAD, _PAD))
    common = common / max(float(common.max()), 1e-6)
    return np.where(common > _SEEN, 1 / np.sqrt(np.maximum(common, _SEEN)), 0).astype(np.float32)
