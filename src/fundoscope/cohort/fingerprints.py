"""Fingerprints of photographs: small squares that re-encoding, brightening and cropping change little.

The field of view is cut out as a square, so that a crop at the edge moves nothing. The grey values are reduced to the
frequencies of vessels, disc and ridge: a difference of Gaussians, divided by the local contrast. Haze, vignetting and exposure
have lower frequencies and are similar in many photographs; JPEG's losses have higher ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import PhotographError
from fundoscope.imaging import Photograph, Standard, find_field, read
from fundoscope.processors import count_processors

Grey = NDArray[np.float32]
Progress = Callable[[int, int], None]
_T = TypeVar("_T")
_Number = TypeVar("_Number", bound=np.generic)

FINE = 128  # pixels: vessels of 1 to 3 pixels, for the comparison that decides
COARSE = 64  # pixels: for the search among all pairs
_GREY = np.array([0.3, 0.6, 0.1], np.float32)  # vessels show best in green, and blue holds little but noise
_BAND = {FINE: (1.0, 4.0), COARSE: (0.8, 2.5)}  # standard deviations of the two Gaussians, in pixels
_RIM = 0.06  # of the side: left out, because every photograph of a camera is dark there
_FLAT = 0.5  # grey levels: contrast below which there is nothing to see
WORKERS = min(4, count_processors())

TURNS = (
    "as it is",
    "turned a quarter to the left",
    "turned upside down",
    "turned a quarter to the right",
    "mirrored left to right",
    "turned a quarter to the left, then mirrored",
    "mirrored top to bottom",
    "turned a quarter to the right, then mirrored",
)


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """The fingerprint of one photograph.

    `fine` (128, 128) and `coarse` (64, 64) are about -2 to 2, and 0 outside the field. `field` says whether the rim of the
    field was found. `pixels` is the SHA-256 of the decoded pixels.
    """

    fine: Grey
    coarse: Grey
    field: bool
    pixels: str


def fingerprint(photograph: Photograph) -> Fingerprint:
    """The fingerprint of a photograph that was read."""
    field = find_field(photograph.pixels)
    standard = Standard(size=FINE, clahe_when="never")
    grey = standard.square(photograph, field).astype(np.float32) @ _GREY
    white = Photograph(np.full_like(photograph.pixels, 255), photograph.name, 0, "array")
    inside = standard.square(white, field)[..., 0] > 250  # the square's pixels that lie wholly on the photograph
    half = (COARSE, COARSE)
    weight = cv2.resize(inside.astype(np.float32), half, interpolation=cv2.INTER_AREA)
    small = cv2.resize(grey * inside, half, interpolation=cv2.INTER_AREA) / np.maximum(weight, 1e-3)
    digest = hashlib.sha256(repr(photograph.pixels.shape).encode() + photograph.pixels.tobytes()).hexdigest()
    return Fingerprint(_detail(grey, inside), _detail(small, weight > 0.99), field.found, digest)


def fingerprints(paths: Sequence[Path], progress: Progress | None = None) -> list[Fingerprint | PhotographError]:
    """For each path its fingerprint, or the error of reading it, in order; `progress(done, all)` is called."""

    def work(path: Path) -> Fingerprint | PhotographError:
        try:
            return fingerprint(read(path))
        except PhotographError as error:
            return error

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(count_progress(pool.map(work, paths), len(paths), progress))


def apply_turn(square: NDArray[_Number], turn: int) -> NDArray[_Number]:
    """The picture turned and mirrored as `TURNS[turn]` says; 0 to 7 are the eight symmetries of the square."""
    rotated = np.rot90(square, turn % 4)
    return np.ascontiguousarray(rotated[:, ::-1] if turn >= 4 else rotated)


def count_progress(items: Iterator[_T], n: int, progress: Progress | None) -> Iterator[_T]:
    """The items themselves; `progress(done, all)` is called after each."""
    for done, item in enumerate(items, 1):
        yield item
        if progress:
            progress(done, n)


def _detail(grey: Grey, inside: NDArray[np.bool_]) -> Grey:
    """The frequencies of the vessels, about -2 to 2: each neighbourhood has mean 0 and the same contrast."""
    narrow, wide = _BAND[grey.shape[0]]
    weight = inside.astype(np.float32)
    core = _erode_rim(inside)
    band = _blur(grey, weight, narrow) - _blur(grey, weight, wide)
    band = band / (np.sqrt(_blur(band * band, core, 2 * wide)) + _FLAT)
    return ((band - _blur(band, core, 2 * wide)) * core).astype(np.float32)


def _blur(values: Grey, weight: Grey, sigma: float) -> Grey:
    """Gaussian mean of the weighted pixels only (normalised convolution; Knutsson and Westin 1993)."""
    return cv2.GaussianBlur(values * weight, (0, 0), sigma) / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3)


def _erode_rim(inside: NDArray[np.bool_]) -> Grey:
    reach = round(_RIM * inside.shape[0])
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.erode(np.pad(inside.astype(np.uint8), reach), disc)[reach:-reach, reach:-reach].astype(np.float32)
