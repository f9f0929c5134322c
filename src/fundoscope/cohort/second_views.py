"""Second views: photographs of one eye that moved in between.

A second view is shifted and a little turned, never mirrored. The peak of the cross-correlation of small fingerprints, computed
as a product of spectra, finds it at any shift; each photograph's best partners are then registered.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort.fingerprints import FINE, WORKERS, Fingerprint, Grey, Progress, count_progress
from fundoscope.cohort.near_duplicates import SAME_EYE
from fundoscope.cohort.problems import ProblemKind, SameEyePair
from fundoscope.cohort.registration import align_squares, rotation_about_centre, starting_map, warp_square

_SIDE = 48  # pixels: of 32, 48 and 64 the size that ranked the pairs of RetCam highest
_PAD = 72  # pixels a side of the spectra, so that shifts up to half the field do not wrap around
_ANGLES = (
    -8.0,
    0.0,
    8.0,
)  # degrees by which a second view may be turned; registration does the rest, to about 15
_PARTNERS = 3  # a photograph's best partners that are registered
_SEEN = 0.45  # share of the field that two views must have in common
_SCALE, _SQUEEZE = 1.1, 1.06  # one camera, one eye: the map between two views is nearly a rigid motion
_CHUNK = 24  # photographs whose correlations are worked out together: they fit a processor's cache


def find_second_views(
    prints: Sequence[Fingerprint], progress: Progress | None = None, minimum_similarity: float = SAME_EYE
) -> list[SameEyePair]:
    """All pairs of photographs of one eye that moved in between, ordered by index; `progress(done, all)` is called.

    `minimum_similarity` is the correlation of fine fingerprints, 0 to 1, from which a pair counts. The work grows with the
    square of the number of photographs: about 0.15 ms a pair.
    """
    if len(prints) < 2:
        return []
    search = _Search(prints, minimum_similarity)
    blocks = range(0, len(prints), _CHUNK)
    with ThreadPoolExecutor(WORKERS) as pool:
        columns = count_progress(pool.map(search.best, blocks), len(blocks), progress)
        scores = np.concatenate(list(columns), axis=1)
        scores += scores.T.copy()
        matches = list(pool.map(search.match, _best_partners(scores)))
    return [match for match in matches if match is not None]


def _best_partners(scores: Grey) -> list[tuple[int, int]]:
    best = np.argsort(-scores, axis=1, kind="stable")[:, :_PARTNERS]
    pairs = {(min(row, int(b)), max(row, int(b))) for row, partners in enumerate(best) for b in partners}
    return sorted((a, b) for a, b in pairs if a != b and scores[a, b] > 0)


class _Search:
    """Spectra of all photographs; their products with those of a block, turned by `_ANGLES`, give correlations at every shift.

    The turned ones are made block by block, since those of thousands of photographs would fill the memory.
    """

    def __init__(self, prints: Sequence[Fingerprint], minimum_similarity: float) -> None:
        squares = [_small(p.fine) for p in prints]
        self._prints, self._minimum = prints, minimum_similarity
        self._first = np.stack([np.conj(_spectra([square])[0]) for square in squares])
        self._weight = _weight(np.stack([square != 0 for square in squares]).mean(axis=0).astype(np.float32))

    def best(self, start: int) -> Grey:
        """The highest correlation of each photograph with the block from `start` on, (n, block); 0 for those after it."""
        block = self._prints[start : start + _CHUNK]
        turned = self._turned(block)
        scores = np.zeros((len(self._prints), len(block)), np.float32)
        for first in range(start + len(block) - 1):
            later = max(0, first + 1 - start)  # of the block
            scores[first, later:] = self._surfaces(first, turned[later:]).max(axis=(1, 2, 3))
        return scores

    def _turned(self, prints: Sequence[Fingerprint]) -> NDArray[np.complex64]:
        """Spectra of photographs by each angle, (m, angles, rows, columns)."""
        squares = [_small(p.fine) for p in prints]
        turns = [rotation_about_centre(1, degrees, _SIDE) for degrees in _ANGLES]
        return np.stack([_spectra([warp_square(square, warp) for square in squares]) for warp in turns], axis=1)

    def match(self, pair: tuple[int, int]) -> SameEyePair | None:
        """The match of two photographs, None when they do not show one eye."""
        first, second = pair
        surface = self._surfaces(first, self._turned([self._prints[second]]))[0]
        angle, row, column = np.unravel_index(int(surface.argmax()), surface.shape)
        shift = (_signed(int(row)), _signed(int(column)))
        start = starting_map(rotation_about_centre(1, _ANGLES[angle], _SIDE), shift, _SIDE, FINE)
        aligned = align_squares(self._prints[first].fine, self._prints[second].fine, start)
        if aligned.similarity < self._minimum or not aligned.keeps_scale(_SCALE, _SQUEEZE):
            return None
        return SameEyePair(ProblemKind.SAME_EYE, first, second, 0, aligned.similarity)

    def _surfaces(self, first: int, turned: NDArray[np.complex64]) -> Grey:
        """Correlation with each photograph of which `turned` has the spectra, by angle and shift; 0 where too few pixels overlap."""
        from scipy.fft import irfft2

        return irfft2(turned * self._first[first], s=(_PAD, _PAD)) * self._weight


def _signed(shift: int) -> int:
    return shift - _PAD if shift >= _PAD // 2 else shift


def _small(fine: Grey) -> Grey:
    small = cv2.resize(fine, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return (small / max(float(np.linalg.norm(small)), 1e-6)).astype(np.float32)


def _spectra(squares: Sequence[Grey]) -> NDArray[np.complex64]:
    from scipy.fft import rfft2

    return np.stack([rfft2(square, s=(_PAD, _PAD)) for square in squares]).astype(np.complex64)


def _weight(inside: Grey) -> Grey:
    """The factor that turns a sum of products into a correlation: 1 / sqrt(share of the field in common) at each shift."""
    spectrum = _spectra([inside])[0]
    common = np.fft.irfft2(spectrum * np.conj(spectrum), s=(_PAD, _PAD))
    common = common / max(float(common.max()), 1e-6)
    return np.where(common > _SEEN, 1 / np.sqrt(np.maximum(common, _SEEN)), 0).astype(np.float32)
