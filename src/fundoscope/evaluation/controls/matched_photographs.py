"""Photographs made alike in what is not disease, to see whether a network holds without the shortcuts.

Three controls, each on standard squares of 320 pixels: one field mask for all, one colour distribution for
all, one encoding for all. What comes out are photographs again and can go wherever the originals went. They
are fitted on all photographs at once, labels unseen: a test of a network, never a step of its training
pipeline.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import ControlError, UsageError, nearest
from fundoscope.imaging import Field, Photograph, Pixels, Prepared, read

Mask = NDArray[np.bool_]

#: Side in pixels of the squares on which nuisances are judged and controls work.
SIDE = 320

#: Names of the controls, in the order in which they are applied.
KINDS = ("field", "colour", "encoding")

QUALITY = 75  # of the JPEG: the usual default, and coarse enough to cover what earlier encodings left behind
RIM = 0.03  # of the radius: resizing and JPEG smear the edge that far
_MIN_COMMON = 0.2  # share of the square below which too little retina is left to grade


@dataclass(frozen=True, slots=True, eq=False)
class FieldMask:
    """One shape of field for all photographs: `inside` is (side, side), in standard square coordinates."""

    inside: Mask

    @classmethod
    def fit(cls, photographs: Sequence[Photograph], side: int = SIDE) -> FieldMask:
        """The intersection of all fields of view, clipping by the photographs' edges included.

        Raises `ControlError` when less than a fifth of the square is left, and names the narrowest photograph.
        """
        if not photographs:
            raise UsageError("A common field needs photographs. Give at least one.")
        prepared = map(Prepared.from_photograph, photographs)
        return cls.common_to((each.name, each.inside(side, RIM)) for each in prepared)

    @classmethod
    def common_to(cls, visible: Iterable[tuple[str, Mask]]) -> FieldMask:
        """The intersection of masks (side, side) of what each photograph shows, by its name; at least one is needed.

        Raises `ControlError` as `fit` does. The masks may come as a stream: none is kept.
        """
        common, areas = np.True_, {}
        for name, mask in visible:
            areas[name] = float(mask.mean())
            common = common & mask
        if common.mean() < _MIN_COMMON:
            narrowest = min(areas, key=areas.__getitem__)
            raise ControlError(
                f"The fields of view of all photographs share only {common.mean():.0%} of the square, and "
                f"{_MIN_COMMON:.0%} are needed; the narrowest is that of {narrowest}. "
                "Leave it out, or do without one field for all."
            )
        return cls(np.asarray(common))

    @classmethod
    def inscribed(cls, share: float = 0.7, side: int = SIDE) -> FieldMask:
        """A centred disc whose radius is `share` of the field's (0 to 1), known before any photograph."""
        at = np.arange(side) + 0.5 - side / 2
        return cls(at[:, None] ** 2 + at[None, :] ** 2 <= (share * side / 2) ** 2)

    @property
    def field(self) -> Field:
        """The whole square as a field, for callers who must not seek it anew in the masked photographs."""
        side = len(self.inside)
        return Field(
            (side - 1) / 2,
            (side - 1) / 2,
            side / 2,
            (side, side),
            True,
            float(self.inside.mean() / (np.pi / 4)),
        )

    def apply(self, photograph: Photograph) -> Photograph:
        """The standard square of a photograph, black outside the mask."""
        square = Prepared.from_photograph(photograph).square(len(self.inside))
        return _array(blackened(square, self.inside), photograph)


@dataclass(frozen=True, slots=True, eq=False)
class ColourReference:
    """The pooled colour distribution of many fields: `cumulative` is (256, 3), the share up to each level."""

    cumulative: NDArray[np.float64]

    @classmethod
    def fit(cls, squares: Sequence[Photograph], masks: Sequence[Mask]) -> ColourReference:
        """Pool the colours of squares inside their masks, each square weighing the same.

        Raises `ControlError` where no mask holds a pixel.
        """
        shares = np.zeros((256, 3))
        for square, mask in zip(squares, masks, strict=True):
            inside = square.pixels[mask]
            shares += np.stack([np.bincount(inside[:, c], minlength=256) for c in range(3)], axis=1) / max(
                1, len(inside)
            )
        if not shares.any():
            raise ControlError("No photograph shows retina inside its mask. Check the photographs.")
        return cls(np.cumsum(shares, axis=0) / shares.sum(axis=0))

    def apply(self, square: Photograph, mask: Mask) -> Photograph:
        """The square with exactly this distribution in each channel inside the mask, ranks kept.

        Equal levels are told apart by the mean of their neighbours (Coltuc, Bolon and Chassery 2006), so that
        no level is missing afterwards: combs in the histogram would be a shortcut of their own.
        """
        pixels = square.pixels.copy()
        smooth = cv2.GaussianBlur(pixels, (0, 0), 1.0)
        at = (np.arange(int(mask.sum())) + 0.5) / max(1, int(mask.sum()))
        for channel in range(3):
            rank = pixels[..., channel][mask].astype(np.int64) * 256 + smooth[..., channel][mask]
            levels = np.empty(len(at), np.uint8)
            levels[np.argsort(rank, kind="stable")] = np.searchsorted(self.cumulative[:, channel], at).clip(0, 255)
            pixels[..., channel][mask] = levels
        return _array(pixels, square)


def reencode(photograph: Photograph, quality: int = QUALITY) -> Photograph:
    """The photograph as a JPEG of `quality` (1 to 100) gives it back; `n_bytes` is that JPEG's length."""
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(photograph.pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return read(data.tobytes(), photograph.name)


@dataclass(frozen=True, slots=True, eq=False)
class Controls:
    """Some of the controls, fitted; None and False leave one out. Photographs come out `side` pixels wide."""

    mask: FieldMask | None
    colours: ColourReference | None
    encoding: bool
    side: int = SIDE

    @classmethod
    def fit(
        cls,
        photographs: Sequence[Photograph],
        kinds: Sequence[str] = KINDS,
        mask: FieldMask | None = None,
        side: int = SIDE,
    ) -> Controls:
        """The controls named in `kinds`; `mask` replaces the intersection of all fields."""
        for kind in kinds:
            if kind not in KINDS:
                raise UsageError(f"There is no control '{kind}': {nearest(kind, KINDS)}")
        common = (mask or FieldMask.fit(photographs, side)) if "field" in kinds else None
        bare = cls(common, None, False, len(common.inside) if common else side)
        if "colour" not in kinds:
            return cls(common, None, "encoding" in kinds, bare.side)
        squares, masks = zip(*map(bare._masked, photographs), strict=True)
        return cls(common, ColourReference.fit(squares, masks), "encoding" in kinds, bare.side)

    def apply(self, photograph: Photograph) -> Photograph:
        """The photograph made alike."""
        square, inside = self._masked(photograph)
        if self.colours is not None:
            square = self.colours.apply(square, inside)
        if not self.encoding:
            return square
        coded = reencode(square)
        # the JPEG rings along the mask's edge; blacken it again
        return Photograph(blackened(coded.pixels, inside), coded.name, coded.n_bytes, coded.format)

    def _masked(self, photograph: Photograph) -> tuple[Photograph, Mask]:
        prepared = Prepared.from_photograph(photograph)
        inside = self.mask.inside if self.mask else prepared.inside(self.side, RIM)
        return _array(blackened(prepared.square(self.side), inside), photograph), inside


def all_controls(photographs: Sequence[Photograph], side: int = SIDE) -> list[Photograph]:
    """All photographs with one field, one colour distribution and one JPEG encoding, `side` pixels square."""
    controls = Controls.fit(photographs, side=side)
    return [controls.apply(photograph) for photograph in photographs]


def blackened(square: Pixels, inside: Mask) -> Pixels:
    """The square, black where the mask is False."""
    return np.where(inside[..., None], square, np.uint8(0))


def _array(pixels: Pixels, source: Photograph) -> Photograph:
    return Photograph(pixels, source.name, 0, "array")
