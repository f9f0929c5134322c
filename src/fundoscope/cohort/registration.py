"""Registration of two fingerprints, and how well they agree when one is laid on the other.

All maps are affine, (2, 3), from pixels (column, row) of the first square to pixels of the second.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.cohort.fingerprints import Grey

Warp = NDArray[np.float32]

_OVERLAP = 0.4  # share of the smaller field that must lie on the other one
_BLUR = 5  # pixels: the Gaussian that widens the range from which registration finds its way
_FLAGS = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


@dataclass(frozen=True, slots=True)
class Alignment:
    """How well two aligned squares agree: `similarity` is a correlation, 0 to 1, `stretch` the singular values of the map."""

    similarity: float
    stretch: tuple[float, float]

    def keeps_scale(self, limit: float, anisotropy: float) -> bool:
        """Whether the map scales by at most `limit` and shears or squeezes by at most `anisotropy`."""
        large, small = self.stretch
        return large <= limit and small >= 1 / limit and large <= anisotropy * small


def rotation_about_centre(scale: float, degrees: float, side: int) -> Warp:
    """The map that scales a square of `side` pixels and turns it (anticlockwise) about its centre."""
    middle = (side - 1) / 2
    return cv2.getRotationMatrix2D((middle, middle), degrees, scale).astype(np.float32)


def warp_square(square: NDArray[np.float32], warp: Warp) -> Grey:
    """The square resampled so that each pixel moves to where `warp` maps it; 0 where nothing maps to."""
    side = square.shape[0]
    return cv2.warpAffine(square, warp, (side, side)).astype(np.float32)


def starting_map(warp: Warp, shift: tuple[int, int], side: int, fine: int) -> Warp:
    """The map between fine squares, given that the second coarse square, moved by `warp`, lies `shift` off the first.

    `warp` and `shift` (rows, columns) are in pixels of squares of `side`; the returned map is in pixels of squares of `fine`.
    """
    ratio = fine / side
    back = cv2.invertAffineTransform(warp).astype(np.float64)
    back[:, 2] += back[:, :2] @ np.array(shift[::-1], float)
    middle = np.full(2, (ratio - 1) / 2)  # pixel centres lie half a pixel in, at either size
    back[:, 2] = ratio * back[:, 2] + middle - back[:, :2] @ middle
    return back.astype(np.float32)


def correlation_peak(first: Grey, second: Grey) -> tuple[int, int]:
    """The shift (rows, columns) of the second against the first at which they correlate best."""
    side = first.shape[0]
    shape = (2 * side, 2 * side)
    surface = np.fft.irfft2(np.fft.rfft2(second, s=shape) * np.conj(np.fft.rfft2(first, s=shape)))
    row, column = np.unravel_index(int(surface.argmax()), shape)
    return (int(row) + side) % (2 * side) - side, (int(column) + side) % (2 * side) - side


def align_squares(first: Grey, second: Grey, start: Warp) -> Alignment:
    """How well two squares agree under the better of the map `start` and its registered version.

    Registration maximises the enhanced correlation coefficient (Evangelidis and Psarakis 2008).
    """
    warps = [start]
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)
    everywhere = np.ones(first.shape, np.uint8)
    with suppress(cv2.error):  # it did not converge: the start is the better map
        _, warp = cv2.findTransformECC(first, second, start.copy(), cv2.MOTION_AFFINE, criteria, everywhere, _BLUR)
        warps.append(warp.astype(np.float32))
    best = max(warps, key=lambda warp: _agreement(first, second, warp))
    large, small = np.linalg.svd(best[:, :2], compute_uv=False)
    return Alignment(float(np.clip(_agreement(first, second, best), 0, 1)), (float(large), float(small)))


def _agreement(first: Grey, second: Grey, warp: Warp) -> float:
    """Correlation over the pixels that lie in both fields when the second is laid on the first; 0 where they are too few."""
    size = first.shape[::-1]
    laid = cv2.warpAffine(second, warp, size, flags=_FLAGS)
    both = cv2.warpAffine((second != 0).astype(np.float32), warp, size, flags=_FLAGS) > 0.99
    both &= first != 0
    if both.sum() < max(2, _OVERLAP * min((first != 0).sum(), (second != 0).sum())):
        return 0.0
    a, b = first[both] - first[both].mean(), laid[both] - laid[both].mean()
    return float(a @ b / max(float(np.sqrt((a @ a) * (b @ b))), 1e-6))
