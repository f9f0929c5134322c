"""Twelve ways in which one photograph may have been rendered before it reaches a grader: by a camera's setting, a viewer, a
clinic's archive, or somebody who wanted to see vessels better.

Each works on a square as `Standard.square` gives it (uint8 RGB, black outside the field), leaves the surround black and moves
nothing, so that the answer to the photograph must stay. Strengths are ours: they are common settings, at which an eye doctor
still reads the photograph. Lengths are shares of the side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging.enhance import clahe
from fundoscope.imaging.read import Pixels

Rendering = Callable[[Pixels], Pixels]

#: What hazy media add to a photograph: light of this colour (RGB), as this share of what is seen.
_HAZE, _HAZE_SHARE = np.array([196.0, 178.0, 150.0]), 0.45
_BLUR = 0.0045  # standard deviation, as a share of the side: 1.2 px of 256
_JPEG_QUALITY = 30


def render(square: Pixels, name: str) -> Pixels:
    """The square (side, side, 3) as the rendering of that name shows it; the surround of the field stays black."""
    inside = square.max(axis=2) > 0
    rendered = np.asarray(RENDERINGS[name](square), np.uint8).copy()
    rendered[~inside] = 0
    return rendered


def equalise(square: Pixels) -> Pixels:
    """Lightness of the field equalised over its whole histogram (Gonzalez and Woods 2018, section 3.3)."""
    lab = cv2.cvtColor(square, cv2.COLOR_RGB2LAB)
    light = lab[..., 0]
    counts = np.bincount(light[square.max(axis=2) > 0], minlength=256)
    share = counts.cumsum() / max(1, counts.sum())
    lab[..., 0] = np.round(255 * share).astype(np.uint8)[light]
    return _pixels(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))


def even_channels(square: Pixels) -> Pixels:
    """CLAHE of red, green and blue, each by itself, clip 3: colours change too."""
    evened = cv2.createCLAHE(3.0, (8, 8))
    return _pixels(cv2.merge([evened.apply(channel) for channel in cv2.split(square)]))


def balance_to_grey(square: Pixels) -> Pixels:
    """Gains that make the mean of the field grey (the grey-world rule of Buchsbaum 1980)."""
    inside = square[square.max(axis=2) > 0]
    if not len(inside):
        return square
    means = inside.mean(axis=0)
    return _clipped(square * (means.mean() / np.maximum(means, 1.0)))


def bend(square: Pixels, gamma: float) -> Pixels:
    """Every grey level v of 0 to 1 becomes v to the power of `gamma`."""
    return _pixels(cv2.LUT(square, np.round(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)))


def cloud(square: Pixels) -> Pixels:
    """A veil of even light, as hazy media or a dirty lens lay over a photograph."""
    return _clipped((1 - _HAZE_SHARE) * square + _HAZE_SHARE * _HAZE)


def blur(square: Pixels) -> Pixels:
    """Slightly out of focus."""
    return _pixels(cv2.GaussianBlur(square, (0, 0), _BLUR * square.shape[0]))


def compress(square: Pixels) -> Pixels:
    """Saved once as a strongly compressed JPEG."""
    coded = cv2.imencode(".jpg", square, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    return _pixels(cv2.imdecode(coded, cv2.IMREAD_COLOR))


def without_red(square: Pixels) -> Pixels:
    """The green channel alone, as grey: the red-free photograph in which vessels stand out."""
    return np.repeat(square[..., 1:2], 3, axis=2)


def _clipped(values: NDArray[np.float64]) -> Pixels:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _pixels(picture: Any) -> Pixels:
    return np.asarray(picture, np.uint8)


#: By name; tables show them in this order.
RENDERINGS: dict[str, Rendering] = {
    "equalised": equalise,
    "CLAHE 2": lambda square: clahe(square, 2.0, 8),
    "CLAHE 4": lambda square: clahe(square, 4.0, 8),
    "CLAHE 8": lambda square: clahe(square, 8.0, 8),
    "CLAHE of each channel": even_channels,
    "grey world": balance_to_grey,
    "brighter": lambda square: bend(square, 0.6),
    "darker": lambda square: bend(square, 1.6),
    "hazy": cloud,
    "blurred": blur,
    "compressed": compress,
    "red-free": without_red,
}
