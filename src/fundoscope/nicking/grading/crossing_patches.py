"""Step 4: the patch of a crossing that the networks grade: its pixels and its vessel maps, at one scale. No torch.

A patch is a square at one scale: `VEIN_WIDTH` pixels are a width of its vein. In a photograph pixels and maps are sampled at
that scale around the crossing; of a patch file only its own pixels are known, so its maps are made anew, and it is brought to the
scale of the vein that they show. From this square one affine warp, and no other, leads to the inputs of the networks
(`CrossingPatch.cut`), in use, in training and in the study of grades alike: each further resampling would blur.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import PhotographError
from fundoscope.imaging import Photograph, Pixels
from fundoscope.imaging.field import shrunk
from fundoscope.imaging.local_contrast import local_contrast
from fundoscope.imaging.places import sample_square
from fundoscope.nicking.grading.vein_pose import VeinPose, find_vein_pose
from fundoscope.nicking.grading.vessel_maps import MappedPhotograph
from fundoscope.nicking.grading.widths import SLOPE_REACH, WIDE_VEIN, CrossingWidths
from fundoscope.vessels import MeasuredCrossing
from fundoscope.vessels.grade_rule import SPAN

PATCH_SIDE = 128  # pixels of the usual patch, which spans 12 widths of its vein, and of the inputs of the networks
VEIN_WIDTH = PATCH_SIDE / SPAN  # pixels of the vein's width in a patch
PHOTOGRAPH_SIDE = 192  # pixels of a patch of a photograph: however it is turned, the inputs lie within
INPUT_ZOOM = 1.5  # times wider the vein is in the inputs of the networks: a nick ends two widths from the crossing
PATCH_MAPS = ("vessel", "artery", "vein")  # the maps that a patch keeps, in this order

_BLACK = 12  # of 255 in every channel: pixels at or below lie outside the field
_SMALLEST_FILE = 48  # pixels a side of a patch file that can be graded
_MOST_UNEQUAL = 1.25  # of one side of a patch file to the other
_SMALLEST_MAPPED = 16  # pixels a side for which maps are made
_SCALE_TOLERANCE = 1.3  # times wider or thinner than expected: the maps are made anew at the vein's own scale
_WIDER_VEIN = 0.5  # scale of maps at which a vein that is twice as wide as expected is `WIDE_VEIN` pixels wide
_WELL_SHOWN = 0.6  # support of a pose from which on maps at one scale do
_AS_WELL, _KEPT_SUPPORT = 0.9, 0.85  # of the support: the expected scale is preferred, and the vein's own one
_SMALLEST_ZOOM, _LARGEST_ZOOM = 0.5, 2.0  # that bring the vein to its usual width

Plane = NDArray[np.float32]
PredictMaps = Callable[[Plane], Plane]  # local contrast (3, h, w) -> the four probabilities (4, h, w)


@dataclass(frozen=True, slots=True)
class PatchPose:
    """How a vein lies in a patch: `slope`, degrees by which it is turned clockwise from level, and `width`, pixels of the patch.
    `known` says that this is not in doubt.
    """

    slope: float
    width: float = VEIN_WIDTH
    known: bool = True


@dataclass(frozen=True, eq=False)
class CrossingPatch:
    """A square around a crossing, in which `VEIN_WIDTH` pixels are a width of its vein, as far as that is known.

    `pixels` (s, s, 3), uint8, RGB; `maps` (s, s, 3), uint8, the probabilities of `PATCH_MAPS` times 255; `inside`
    (s, s), the pixels of the field. `known_scale` says that the vein's width was taken from a whole photograph. `measured` is
    the vein's pose where it is known already; else it is read from the maps.
    """

    pixels: Pixels
    maps: NDArray[np.uint8]
    inside: NDArray[np.bool_]
    known_scale: bool = False
    measured: PatchPose | None = None

    @property
    def side(self) -> int:
        """Pixels of its side."""
        return self.pixels.shape[0]

    def cut(self, turn: float = 0.0, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> CrossingPatch:
        """The patch of `PATCH_SIDE` pixels, turned about its middle by `turn` degrees, enlarged by `zoom`, and shifted by
        pixels (x, y).
        """
        matrix = _about_middle(self.side, turn, zoom, shift)
        size, mode = (PATCH_SIDE, PATCH_SIDE), cv2.INTER_LINEAR
        pixels = cv2.warpAffine(self.pixels, matrix, size, flags=mode, borderMode=cv2.BORDER_REPLICATE)
        maps = cv2.warpAffine(self.maps, matrix, size, flags=mode)
        inside = cv2.warpAffine(self.inside.astype(np.uint8) * 255, matrix, size, flags=mode)
        return CrossingPatch(np.asarray(pixels, np.uint8), np.asarray(maps, np.uint8), inside > 127)

    @cached_property
    def middle(self) -> CrossingPatch:
        """The usual patch of `PATCH_SIDE` pixels, as it is shown to a reader: black beyond a smaller square."""
        if self.side == PATCH_SIDE:
            return self
        usual = self.cut()
        return usual if self.side > PATCH_SIDE else replace(usual, pixels=usual.pixels * usual.inside[..., None])

    @cached_property
    def vein_pose(self) -> PatchPose | None:
        """How the vein lies, as it was measured, or as the maps of the middle show it by rings; None where they show none."""
        if self.measured is not None:
            return self.measured
        found = find_vein_pose(self.middle.maps)
        if found is None:
            return None
        width = found.width * PATCH_SIDE
        usual = self.known_scale and 1 / _SCALE_TOLERANCE < width / VEIN_WIDTH < _SCALE_TOLERANCE
        return PatchPose(found.slope, width, found.known or usual)

    @property
    def knows_pose(self) -> bool:
        """Whether it is known how the vein lies and how wide it is: measured, or shown by the maps without doubt, or in a
        patch of known scale with a width that goes with it.
        """
        return self.vein_pose is not None and self.vein_pose.known

    @property
    def pose(self) -> tuple[float, float]:
        """Rotation (degrees) and zoom that lay the vein level at `INPUT_ZOOM` x `VEIN_WIDTH` pixels; of two that are
        possible the likelier one, and as the patch lies where no vein is seen.
        """
        found = self.vein_pose
        if found is None:
            return 0.0, INPUT_ZOOM
        return found.slope, INPUT_ZOOM * float(np.clip(VEIN_WIDTH / found.width, _SMALLEST_ZOOM, _LARGEST_ZOOM))

    @property
    def inputs(self) -> tuple[Plane, Plane]:
        """Inputs of the two streams of a grader, (3, PATCH_SIDE, PATCH_SIDE) each, with the vein laid level: local contrast,
        and the maps from -1 to 1.
        """
        return self.cut(*self.pose).planes

    @property
    def planes(self) -> tuple[Plane, Plane]:
        """Local contrast (3, s, s), and the maps (3, s, s) from -1 to 1, of the patch as it lies."""
        maps = self.maps.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
        return local_contrast(self.pixels, self.inside), np.ascontiguousarray(maps)

    def unposed(self, plane: Plane) -> Plane:
        """A plane (h, w) over the inputs, such as attention, laid over the `middle` of the patch, (PATCH_SIDE, PATCH_SIDE)."""
        matrix = cv2.invertAffineTransform(_about_middle(PATCH_SIDE, *self.pose))
        size = (PATCH_SIDE, PATCH_SIDE)
        enlarged = cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR)
        return np.asarray(cv2.warpAffine(enlarged, matrix, size, flags=cv2.INTER_LINEAR), np.float32)


def measured_pose(crossing: MeasuredCrossing, width: float, scale: float) -> PatchPose | None:
    """The pose by the centreline of a crossing's vein; None where the vein is not followed to both sides of it.

    `width` is the vein's, in the crossing's pixels; `scale` says how many of the patch's make one of these. The slope is read
    2 to 5 widths from the crossing, outside any nick.
    """
    slope = crossing.second.slope(*np.multiply(SLOPE_REACH, width))
    return PatchPose(slope, width * scale) if np.isfinite(slope) else None


def cut_crossing(photograph: MappedPhotograph, crossing: CrossingWidths) -> CrossingPatch:
    """The patch of a measured crossing of a photograph, with the pose that was measured there."""
    patch, width = cut_patch(photograph, crossing.place, crossing.map_vein_width), crossing.map_vein_width
    pose = None if crossing.vessels is None else measured_pose(crossing.vessels, width, VEIN_WIDTH / width)
    return replace(patch, measured=pose)


def cut_patch(photograph: MappedPhotograph, place: NDArray[np.float64], vein_width: float) -> CrossingPatch:
    """The patch around a place (row, column) whose vein is `vein_width` wide, both in pixels of the file."""
    scale, step = photograph.scale, vein_width / VEIN_WIDTH  # pixels of the file for a pixel of the patch
    pixels = sample_square(photograph.pixels, place, step, PHOTOGRAPH_SIDE)
    at = (place + 0.5) / scale - 0.5
    # only what the patch needs of the maps is turned to bytes
    shape, reach = np.array(photograph.inside.shape), PHOTOGRAPH_SIDE * step / scale / 2
    low = np.clip(np.floor(at - reach - 2).astype(int), 0, shape - 1)
    high = np.clip(np.ceil(at + reach + 3).astype(int), low + 1, shape)
    maps = maps_as_bytes(photograph.maps[:, low[0] : high[0], low[1] : high[1]])
    inside = photograph.inside[low[0] : high[0], low[1] : high[1]].astype(np.uint8) * 255
    maps, inside = (sample_square(plane, at - low, step / scale, PHOTOGRAPH_SIDE) for plane in (maps, inside))
    return CrossingPatch(pixels, maps, np.asarray(inside > 127, bool), known_scale=True)


def map_patch(pixels: Pixels, predict_maps: PredictMaps) -> tuple[Plane, CrossingPatch]:
    """The four maps (4, h, w) of a square (s, s, 3) of any scale, and its patch, brought to the scale of its vein.

    The maps are made as if the square spanned the usual 12 vein widths; where they do not show a vein well, also as if its
    vein were twice as wide. Where the vein has quite another width in the better ones, they are made anew at the scale at
    which it is `WIDE_VEIN` pixels wide, and kept if they show it as well.
    """
    best = _map_at(pixels, predict_maps, 1.0)
    if _support(best) < _WELL_SHOWN:
        closer = _map_at(pixels, predict_maps, _WIDER_VEIN)
        best = closer if _support(best) < _AS_WELL * _support(closer) else best
    zoom = _zoom_of(best[1])
    mapped = best[0].shape[1] / (SPAN * WIDE_VEIN)
    if not 1 / _SCALE_TOLERANCE < zoom / mapped < _SCALE_TOLERANCE:
        own = _map_at(pixels, predict_maps, zoom)
        best = own if _support(own) >= _KEPT_SUPPORT * _support(best) else best
    maps, pose = best
    patch = _with_maps(pixels, maps, SPAN * _zoom_of(pose))
    if pose is None:
        return maps, patch
    return maps, replace(patch, measured=PatchPose(pose.slope, pose.width * patch.side, pose.known))


def _map_at(pixels: Pixels, predict_maps: PredictMaps, zoom: float) -> tuple[Plane, VeinPose | None]:
    """Maps and the vein's pose of a square, mapped at `zoom` times the scale at which it spans `SPAN` wide veins."""
    maps = _predict_at(pixels, predict_maps, SPAN * WIDE_VEIN * zoom)
    return maps, find_vein_pose(resize_square(maps_as_bytes(maps), PATCH_SIDE))


def _support(mapped: tuple[Plane, VeinPose | None]) -> float:
    return 0.0 if mapped[1] is None else mapped[1].support


def _zoom_of(pose: VeinPose | None) -> float:
    """How many times the usual patch a square must be enlarged for its vein to get the usual width."""
    return 1.0 if pose is None else float(np.clip(1 / (SPAN * pose.width), _SMALLEST_ZOOM, _LARGEST_ZOOM))


def map_patch_of_span(
    pixels: Pixels, predict_maps: PredictMaps, span: float, vein_width: float | None
) -> tuple[Plane, CrossingPatch]:
    """The four maps of a square (s, s, 3) that is known to span so many widths of its vein, and its patch, as wide.

    `vein_width` is the vein's at the maps' scale, in pixels; where it is not known that of a wide vein is taken, and for a
    square of the usual span the scale is found as by `map_patch`.
    """
    if span == SPAN and vein_width is None:
        return map_patch(pixels, predict_maps)
    maps = _predict_at(pixels, predict_maps, span * (vein_width or WIDE_VEIN))
    return maps, replace(_with_maps(pixels, maps, span), known_scale=vein_width is not None)


@dataclass(frozen=True, slots=True)
class KnownScale:
    """What is known of a patch file: it spans `span` widths of its vein; `vein_px` is that width in pixels at the scale of the
    vessel maps, `slope` the degrees by which the vein is turned clockwise from level; None where not known.
    """

    span: float = SPAN
    vein_px: float | None = None
    slope: float | None = None


def map_known_patch(pixels: Pixels, predict_maps: PredictMaps, known: KnownScale) -> tuple[Plane, CrossingPatch]:
    """The four maps of a square (s, s, 3) of which so much is known, and its patch, with the pose that is known."""
    maps, patch = map_patch_of_span(pixels, predict_maps, known.span, known.vein_px)
    return maps, patch if known.slope is None else replace(patch, measured=PatchPose(known.slope))


def _predict_at(pixels: Pixels, predict_maps: PredictMaps, side: float) -> Plane:
    """The maps of a square brought to `side` pixels."""
    small = resize_square(pixels, max(_SMALLEST_MAPPED, round(side)))
    return predict_maps(local_contrast(small, lit_pixels(small)))


def _with_maps(pixels: Pixels, maps: Plane, span: float) -> CrossingPatch:
    """The patch of a square (s, s, 3) that spans so many vein widths, and its maps (4, h, w)."""
    square = resize_square(pixels, round(span * VEIN_WIDTH))
    return CrossingPatch(square, resize_square(maps_as_bytes(maps), square.shape[0]), lit_pixels(square))


def lit_pixels(pixels: Pixels) -> NDArray[np.bool_]:
    """Which pixels of a patch are retina and not the black beyond the field, (rows, columns)."""
    return pixels.max(axis=2) > _BLACK


def maps_as_bytes(maps: Plane) -> NDArray[np.uint8]:
    """The probabilities of `PATCH_MAPS` of maps (4, h, w) as (h, w, 3), 0 to 255."""
    return np.ascontiguousarray(np.round(maps[: len(PATCH_MAPS)] * 255).astype(np.uint8).transpose(1, 2, 0))


def resize_square(pixels: Pixels, side: int) -> Pixels:
    """A square (s, s, 3) resized to so many pixels a side."""
    if pixels.shape[0] == side:
        return pixels
    if pixels.shape[0] > side:
        return shrunk(pixels, (side, side))
    return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_CUBIC), np.uint8)


def crop_square(photograph: Photograph) -> Pixels:
    """The middle square of a patch file; `PhotographError` where it is far from square, or too small to be graded."""
    rows, columns = photograph.pixels.shape[:2]
    if max(rows, columns) > _MOST_UNEQUAL * min(rows, columns):
        raise PhotographError(
            photograph.name, f"is {columns} x {rows} pixels, and no square around a crossing",
            "Give a patch, or the whole photograph to: fundoscope nicking grade",
        )  # fmt: skip
    if min(rows, columns) < _SMALLEST_FILE:
        raise PhotographError(
            photograph.name, f"is {columns} x {rows} pixels", f"Give a patch of {_SMALLEST_FILE} pixels a side or more."
        )
    side = min(rows, columns)
    row, column = (rows - side) // 2, (columns - side) // 2
    return np.ascontiguousarray(photograph.pixels[row : row + side, column : column + side])


def _about_middle(side: int, turn: float, zoom: float, shift: tuple[float, float] = (0.0, 0.0)) -> NDArray[np.float64]:
    """The affine map, (2, 3), from pixels (x, y) of a square to those of its `cut`."""
    middle = side / 2 - 0.5
    matrix = cv2.getRotationMatrix2D((middle, middle), turn, zoom)
    matrix[:, 2] += PATCH_SIDE / 2 - 0.5 - middle + np.array(shift)
    return np.asarray(matrix, float)
