"""A class activation map laid over its photograph, in colours that the colour-blind can tell apart.

Activation is in units of the logit difference between the two classes, which is its mean (Zhou et al. 2016,
"Learning deep features for discriminative localization", equation 2). Only positive evidence is drawn, and
every photograph has the same scale unless it goes beyond, so that a strong colour means the same everywhere.
"""

from __future__ import annotations

import base64
import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import UsageError
from fundoscope.imaging import Pixels
from fundoscope.languages import gettext_noop

Activation = NDArray[np.floating]

#: Logit difference that is drawn in full colour; beyond it, a photograph's own maximum is.
FULL_SCALE = 4.0

_COLOURS = (
    cv2.COLORMAP_VIRIDIS
)  # perceptually uniform (van der Walt and Smith 2015); green and blue stand off the retina
_WEAKEST_COLOUR = 85  # of 255: the purple below it would darken the retina, as a haemorrhage does
_STRONGEST = 0.78  # share of the colour at full evidence, so that vessels still show through
_RISE = 0.6  # power of that share's growth: below 1, so that middling evidence is seen on a bright retina
_DARK = 10  # of 255: the surround that a camera leaves black, JPEG noise included
_CONTOUR_FROM = 0.25  # of the scale: below this a contour would frame noise
_PLACES = (
    (gettext_noop("upper left"), gettext_noop("top"), gettext_noop("upper right")),
    (gettext_noop("left"), gettext_noop("centre"), gettext_noop("right")),
    (gettext_noop("lower left"), gettext_noop("bottom"), gettext_noop("lower right")),
)


def overlay(picture: Pixels, activation: Activation, scale: float | None = None) -> Pixels:
    """The photograph with positive evidence tinted, and a contour at half of the map's maximum.

    `picture` is (rows, columns, 3), uint8, RGB; `activation` (h, w) of any resolution over the same frame,
    in logit differences; `scale` the difference drawn in full colour (default: 4, or the map's maximum
    inside the field of view where that is more). The black surround is untouched, and a map without
    positive evidence gives the photograph alone. Raises `UsageError` for shapes that are no photograph or
    no map, a map that is not finite, and a scale that is not above 0.
    """
    strength, level = _strength(picture, activation, scale)
    if not strength.any():
        return picture.copy()
    tinted = _tint(picture, strength)
    return tinted if level is None else _contour(tinted, strength, level)


def shrink(pixels: Pixels, side: int) -> Pixels:
    """A picture with its longer side at most `side` pixels."""
    share = side / max(pixels.shape[:2])
    if share >= 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * share)), max(1, round(pixels.shape[0] * share)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def overlay_layer(picture: Pixels, activation: Activation, scale: float | None = None) -> NDArray[np.uint8]:
    """What `overlay` lays over the photograph, alone: (rows, columns, 4), RGB and opacity; a page fades it in and out."""
    strength, level = _strength(picture, activation, scale)
    colour, opacity = _layer_tables()
    steps = cv2.convertScaleAbs(strength, alpha=255)
    colours = np.asarray(cv2.LUT(cv2.merge([steps] * 3), colour), np.uint8)
    opacity = np.asarray(cv2.LUT(steps, opacity), np.uint8)
    if level is not None:
        drawn = _contour(colours, strength, level)
        opacity[(drawn != colours).any(2)] = 255
        colours = drawn
    return np.dstack([colours, opacity])


def _strength(picture: Pixels, activation: Activation, scale: float | None) -> tuple[NDArray[np.float32], float | None]:
    """Evidence as a share of the full colour, (rows, columns), and the share at which the contour runs; None: there is none."""
    _check(picture, activation)
    if scale is not None and scale <= 0:
        raise UsageError(f"scale: {scale:g} is no logit difference. Give a number above 0, or none.")
    evidence = upsampled(activation, (picture.shape[0], picture.shape[1])) * ~surround(picture)
    top = float(evidence.max())
    full = scale or max(FULL_SCALE, top)
    strength = np.clip(evidence / full, 0, 1).astype(np.float32)
    return strength, 0.5 * top / full if top > 0 and top >= _CONTOUR_FROM * full else None


def upsampled(activation: Activation, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Positive evidence at (rows, columns) of `shape`: bicubic, between 0 and the map's maximum."""
    positive = np.maximum(activation, 0).astype(np.float32)
    # one axis at a time, or the product of two negative lobes of the kernel would colour the diagonals
    for size in ((positive.shape[1], shape[0]), (shape[1], shape[0])):
        positive = np.maximum(cv2.resize(positive, size, interpolation=cv2.INTER_CUBIC), 0)
    return np.minimum(positive, activation.max().clip(0)).astype(np.float32)


def surround(picture: Pixels) -> NDArray[np.bool_]:
    """The black around the field of view, (rows, columns): dark, and joined to the photograph's edge."""
    dark = cv2.inRange(picture, (0, 0, 0), (_DARK, _DARK, _DARK))
    framed = cv2.copyMakeBorder(dark, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=255)
    cv2.floodFill(framed, None, (0, 0), 1)
    return framed[1:-1, 1:-1] == 1


def strongest(activation: Activation) -> str:
    """Where the map is highest, in words ("upper left", "centre", ...); blank where nothing is positive."""
    if activation.max() <= 0:
        return ""
    row, column = np.unravel_index(int(activation.argmax()), activation.shape)
    thirds = int(3 * (row + 0.5) / activation.shape[0]), int(3 * (column + 0.5) / activation.shape[1])
    return _PLACES[thirds[0]][thirds[1]]


def legend(width: int = 240, height: int = 16) -> Pixels:
    """The colours from no evidence (left) to full scale (right), over the orange of a retina; uint8 RGB."""
    retina = np.full((height, width, 3), (190, 112, 62), np.uint8)
    return _tint(retina, np.tile(np.linspace(0, 1, width, dtype=np.float32), (height, 1)))


def jpeg(picture: Pixels, quality: int = 90) -> bytes:
    """The picture as the bytes of a JPEG file; `quality` is 1 to 100."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def jpeg_uri(picture: Pixels, side: int = 224, quality: int = 80) -> str:
    """The picture as a `data:` address of a JPEG, its longer side shrunk to `side` pixels, never enlarged."""
    longest = max(picture.shape[:2])
    if longest > side:
        size = (
            max(1, round(picture.shape[1] * side / longest)),
            max(1, round(picture.shape[0] * side / longest)),
        )
        # shrunk by a little, the area average costs ten times as much and looks the same
        method = cv2.INTER_AREA if longest > 1.5 * side else cv2.INTER_LINEAR
        picture = cv2.resize(picture, size, interpolation=method).astype(np.uint8, copy=False)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(picture, quality)).decode("ascii")


def _check(picture: Pixels, activation: Activation) -> None:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise UsageError(f"picture: shape {picture.shape}, {picture.dtype}. Give (rows, columns, 3), uint8, RGB.")
    if activation.ndim != 2 or not activation.size:
        raise UsageError(f"activation: shape {activation.shape}. Give a map of (rows, columns), one number a place.")
    if not np.isfinite(activation).all():
        raise UsageError("activation: holds values that are not finite. Verify the bundle: fundoscope bundle verify.")


@functools.cache
def _tables() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For 256 levels of strength: share of the colour, and colour times share (red, green, blue)."""
    strength = np.linspace(0, 1, 256, dtype=np.float32)
    share = _STRONGEST * strength**_RISE
    levels = np.round(_WEAKEST_COLOUR + (255 - _WEAKEST_COLOUR) * strength).astype(np.uint8)
    colours = cv2.applyColorMap(levels, _COLOURS)[..., ::-1].reshape(1, 256, 3)
    return np.repeat(share[None, :, None], 3, axis=2), (colours * share[None, :, None]).astype(np.float32)


@functools.cache
def _layer_tables() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """For 256 levels of strength: the colour (red, green, blue), and how opaque it is."""
    share, shared_colour = _tables()
    colour = np.round(shared_colour / np.maximum(share, 1e-6)).astype(np.uint8)
    return colour, np.round(255 * share[..., 0]).astype(np.uint8)


def _tint(picture: Pixels, strength: NDArray[np.float32]) -> Pixels:
    """Blend with the colour of each strength (0 to 1); nought leaves a pixel as it was."""
    share, shared_colour = _tables()
    levels = cv2.merge([cv2.convertScaleAbs(strength, alpha=255)] * 3)
    kept = cv2.multiply(picture, 1 - cv2.LUT(levels, share), dtype=cv2.CV_32F)
    return cv2.convertScaleAbs(cv2.add(kept, cv2.LUT(levels, shared_colour))).astype(np.uint8, copy=False)


def _contour(picture: Pixels, strength: NDArray[np.float32], level: float) -> Pixels:
    """A white line with a dark edge where `strength` passes `level`, kept inside what is tinted."""
    outlines, _ = cv2.findContours((strength >= level).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    # half a pixel is not seen, and a line of few long pieces is drawn six times as fast
    outlines = [cv2.approxPolyDP(outline, 0.5, closed=True) for outline in outlines]
    drawn = picture.copy()
    wide = max(1, round(max(picture.shape[:2]) / 128))
    for colour, width in (((0, 0, 0), wide + 2), ((255, 255, 255), wide)):
        cv2.drawContours(drawn, outlines, -1, colour, width, cv2.LINE_AA)
    cv2.copyTo(picture, (strength <= 0).astype(np.uint8), drawn)
    return drawn
