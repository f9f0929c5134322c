"""How the vein of a patch lies and how wide it is, by its arms outside any nick. No torch.

A nick thins or erases the vein up to two of its widths from the crossing, so nothing is read there. At several assumed
widths the maps are sampled on rings of 2 to 5 of that width: an arm of a vessel is a spot on each ring, bright between its
edges and dark beside them, on a straight line that passes near the patch's middle. Two arms of the vein that continue each
other make a hypothesis, and two arms of an artery that crosses it support it. The best hypotheses are measured on the map along
their own arms. The best supported one is the pose; how far it is ahead of any other says whether it is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice

import cv2
import numpy as np
from numpy.typing import NDArray

# Lengths in assumed vein widths, unless said otherwise
_WIDTHS = np.geomspace(1 / 29, 1 / 5.4, 11)  # shares of the patch's side: the assumed widths
_RINGS = np.array([2.0, 2.35, 2.7, 3.1, 3.6, 4.2, 5.0])
_OFFSETS = np.array([-0.8, -0.4, 0.0, 0.4, 0.8])  # of an arm's line from the patch's middle
_INSIDE, _BESIDE = np.array([-0.33, 0.0, 0.33]), np.array([-0.85, 0.85])  # from an arm's line
_DIRECTIONS = 72
_HALF = _DIRECTIONS // 2
_TURNS = np.arange(-8, 9, 2)  # directions between an arm's continuation and the arm on the other side
_CONTINUED = (np.arange(_HALF)[:, None] + _HALF + _TURNS) % _DIRECTIONS  # (directions, turns): those arms
_BEND_COST, _OFFSET_COST = 0.3, 0.15  # of the greatest bend, and of two lines that pass a width apart
_ARTERY_SHARE = 0.3  # of the artery's support in that of a hypothesis
_LEAST_TURN = 4  # directions between vein and artery
_ARTERY_STEPS = (-3, -2, -1, 1)  # assumed widths by which an artery may be thinner or wider than its vein
_MEASURED, _APART = 8, 2  # hypotheses that are looked at; directions between two of one width

_ACROSS, _ALONG, _STRIP = 1.5, 4.5, (49, 73)  # a strip along the vein: its reach to each side, and its samples
_NICK = 1.8  # from the middle, within which no width and no direction is read
_FITTED = 3.6  # from the middle, up to which the vein's direction is read
_CORE = 0.5  # from the axis, within which the map's height is taken; an edge lies at half of it
_FAINT = 30  # of 255: no vessel is fainter
_LIKE = (0.6, 1.6)  # widths of a run of vessel that may be the vein
_OFF_AXIS = 0.9  # of the middle of such a run, at the most
_COLUMNS, _LEAST_COLUMNS = 5, 3  # of a strip, on each side: that lie in the patch, and that show the vein
_EDGE_BEYOND = 0.97  # a map's half height lies a little outside a drawn edge; as does what the networks are trained on

_OTHER_SLOPE, _OTHER_WIDTH = 12.0, 1.25  # degrees, and times: farther apart two poses are not the same
_KNOWN_MARGIN, _KNOWN_SUPPORT = 0.15, 0.3  # from which on a pose is known

Plane = NDArray[np.float32]
Maps = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class VeinPose:
    """A line of a vein: `slope`, degrees by which it is turned clockwise from level; `offset` from the patch's middle and
    `width`, shares of the patch's side; its `support`, 0 to about 1.3, and the `margin` of that over any other pose.
    """

    slope: float
    offset: float
    width: float
    support: float
    margin: float = 0.0

    @property
    def known(self) -> bool:
        """Whether the maps support this pose, and no other one nearly as well."""
        return self.margin >= _KNOWN_MARGIN and self.support >= _KNOWN_SUPPORT

    def differs(self, other: VeinPose) -> bool:
        """Whether the two lay the vein otherwise, or say another scale."""
        turned = abs((self.slope - other.slope + 90) % 180 - 90)
        return turned > _OTHER_SLOPE or abs(np.log(self.width / other.width)) > np.log(_OTHER_WIDTH)


def find_vein_pose(maps: Maps) -> VeinPose | None:
    """The best supported pose of the vein that crosses an artery near the middle of a patch, known or not; None where no
    two arms of a vein are seen. `maps` (s, s, 3) are vessel, artery and vein, 0 to 255.
    """
    measured: list[VeinPose] = []
    for guess in islice(_find_hypotheses(maps), _MEASURED):
        if all(guess.differs(pose) for pose in measured):
            pose = _measure_pose(maps, guess)
            measured += [] if pose is None else [pose]
    if not measured:
        return None
    best = max(measured, key=lambda pose: pose.support)
    rival = max((pose.support for pose in measured if pose.differs(best)), default=0.0)
    slope = (best.slope + 90) % 180 - 90
    return VeinPose(slope, best.offset, best.width * _EDGE_BEYOND, best.support, best.support - rival)


# --- hypotheses


def _find_hypotheses(maps: Maps) -> Iterator[VeinPose]:
    """Two arms of a vein each, the best supported first; of one assumed width no two that lie alike."""
    artery, vein = maps[..., 1], maps[..., 2]
    venous, arms = _pair_arms(_support_arms(_clear_of(vein, artery)))
    crossed = _support_crossing_artery(_support_arms(_clear_of(artery, vein)).max(axis=2))
    total = venous + _ARTERY_SHARE * crossed[..., None]  # (widths, directions, offsets)
    kept: dict[int, list[int]] = {}
    for at in np.argsort(-total.max(axis=2), axis=None):
        k, direction = divmod(int(at), _HALF)
        others = kept.setdefault(k, [])
        if any(abs((direction - each + _HALF // 2) % _HALF - _HALF // 2) <= _APART for each in others):
            continue
        others.append(direction)
        own = int(total[k, direction].argmax())
        turn, other = divmod(int(arms[k, direction, own]), len(_OFFSETS))
        slope = (direction + _TURNS[turn] / 2) * 360 / _DIRECTIONS
        offset = (_OFFSETS[own] - _OFFSETS[other]) / 2 * _WIDTHS[k]
        yield VeinPose(float(slope), float(offset), float(_WIDTHS[k]), float(total[k, direction, own]))


def _clear_of(plane: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One kind of vessel, less half of the other: a vessel that may be either is half of each."""
    return np.asarray(cv2.subtract(plane, other // 2), np.uint8)


@cache
def _ring_samples(side: int) -> tuple[NDArray[np.intp], Plane]:
    """Where arms are sampled in a flattened plane, (inside and beside, rings, widths, directions, offsets), and how much
    each ring counts; those beyond the patch count nothing.
    """
    across = np.concatenate([_INSIDE, _BESIDE]).reshape(-1, 1, 1, 1, 1)
    width = _WIDTHS.reshape(1, 1, -1, 1, 1) * side
    angle = (np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS).reshape(1, 1, 1, -1, 1)
    aside, ahead = (_OFFSETS + across) * width, _RINGS.reshape(1, -1, 1, 1, 1) * width
    column = (side - 1) / 2 + ahead * np.cos(angle) - aside * np.sin(angle)
    row = (side - 1) / 2 + ahead * np.sin(angle) + aside * np.cos(angle)
    within = ((np.minimum(row, column) >= 0) & (np.maximum(row, column) <= side - 1)).all(axis=0)
    index = np.clip(np.rint(row), 0, side - 1) * side + np.clip(np.rint(column), 0, side - 1)
    weight = within / np.maximum(within.sum(axis=0, keepdims=True), 2)
    return index.astype(np.intp), weight.astype(np.float32)


def _support_arms(plane: NDArray[np.uint8]) -> Plane:
    """How clearly an arm leaves the middle, (widths, directions, offsets), -1 to 1: its height over what lies beside it."""
    index, weight = _ring_samples(plane.shape[0])
    seen = plane.ravel().take(index).astype(np.int16)
    inside, beside = seen[: len(_INSIDE)].sum(axis=0), seen[len(_INSIDE) :].sum(axis=0)
    spot = inside.astype(np.float32) / len(_INSIDE) - beside.astype(np.float32) / len(_BESIDE)
    return (spot * weight).sum(axis=0) / np.float32(255)


def _pair_arms(arms: Plane) -> tuple[Plane, NDArray[np.intp]]:
    """The best continuation of each arm of the first half of the directions: the pair's support (widths, directions,
    offsets), and which it is, counted through turns and offsets.
    """
    bend = _BEND_COST * (_TURNS / _TURNS.max()) ** 2
    apart = _OFFSET_COST * (_OFFSETS[:, None] + _OFFSETS) ** 2
    cost = (bend[None, :, None] + apart[:, None, :]).astype(np.float32)  # (own offset, turns, other offset)
    own, other = arms[:, :_HALF, :, None, None], arms[:, _CONTINUED][:, :, None]
    support = _join(own, other) - cost
    flat = support.reshape(*support.shape[:3], -1)
    best = flat.argmax(axis=3)
    return np.take_along_axis(flat, best[..., None], 3)[..., 0], best


def _join(own: Plane, other: Plane) -> Plane:
    """The support of two arms together: mostly the weaker one's."""
    return 0.5 * np.minimum(own, other) + 0.25 * own + 0.25 * other


def _support_crossing_artery(arms: Plane) -> Plane:
    """Support (widths, directions), 0 to 1, for an artery that crosses each direction, from its arms (widths, directions)."""
    pairs = _join(arms[:, :_HALF, None], arms[:, _CONTINUED]).max(axis=2)
    rows = np.arange(len(_WIDTHS))
    pairs = np.maximum.reduce([pairs, *(pairs[np.clip(rows - step, 0, len(rows) - 1)] for step in _ARTERY_STEPS)])
    across = (np.arange(_HALF)[:, None] + np.arange(_LEAST_TURN, _HALF - _LEAST_TURN + 1)) % _HALF
    return np.clip(pairs[:, across].max(axis=2), 0, 1)


# --- measuring


def _measure_pose(maps: Maps, guess: VeinPose) -> VeinPose | None:
    """The guess with line and width as its two arms show them on the map of vessels. Its support is multiplied by the share
    of the weaker arm that shows the vein, and is less where the width varies. None where an arm is not seen.
    """
    pose, seen, varies = guess, 0.0, 0.0
    along = np.linspace(-_ALONG, _ALONG, _STRIP[1])
    for _ in range(2):
        strip, within = _sample_strip(maps[..., 0], pose)
        centre, run = _find_runs(strip)
        is_vein = (run > _LIKE[0]) & (run < _LIKE[1]) & (np.abs(centre) < _OFF_AXIS)
        arms = [(sign * along > _NICK) & within for sign in (-1, 1)]
        shown = [arm & is_vein for arm in arms]
        if min(arm.sum() for arm in arms) < _COLUMNS or min(arm.sum() for arm in shown) <= _LEAST_COLUMNS:
            return None
        seen = min(float(is_vein[arm].mean()) for arm in arms)
        runs = run[shown[0] | shown[1]]
        low, width, high = np.percentile(runs, (25, 50, 75))
        varies = float(np.log(high / low))
        pose = _fit_line(pose, shown, along, centre, float(width))
    return VeinPose(pose.slope, pose.offset, pose.width, guess.support * seen * float(np.exp(-varies)))


def _fit_line(
    pose: VeinPose,
    shown: list[NDArray[np.bool_]],
    along: NDArray[np.float64],
    centre: NDArray[np.float64],
    width: float,
) -> VeinPose:
    """The pose whose line fits the middles of the vein on both arms, each arm counting alike; `width` in the pose's own."""
    near = [arm & (np.abs(along) < _FITTED) for arm in shown]
    if min(arm.sum() for arm in near) < _LEAST_COLUMNS:
        near = shown
    weight = sum(arm / (2 * arm.sum()) for arm in near)
    at, beside = weight @ along, weight @ centre
    steep = float(weight @ ((along - at) * (centre - beside)) / (weight @ (along - at) ** 2))
    cosine = float(np.cos(np.arctan(steep)))
    offset = pose.offset + float(beside - steep * at) * pose.width * cosine
    return VeinPose(pose.slope + float(np.degrees(np.arctan(steep))), offset, pose.width * width * cosine, pose.support)


def _sample_strip(plane: NDArray[np.uint8], pose: VeinPose) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The plane along a pose's line, (across, along), and which columns' middles lie in it."""
    side, angle = plane.shape[0], np.radians(pose.slope)
    aside = (pose.offset + np.linspace(-_ACROSS, _ACROSS, _STRIP[0]) * pose.width)[:, None] * side
    ahead = np.linspace(-_ALONG, _ALONG, _STRIP[1]) * pose.width * side
    column = ((side - 1) / 2 + ahead * np.cos(angle) - aside * np.sin(angle)).astype(np.float32)
    row = ((side - 1) / 2 + ahead * np.sin(angle) + aside * np.cos(angle)).astype(np.float32)
    middle = _STRIP[0] // 2
    within = (np.minimum(row, column)[middle] >= 0) & (np.maximum(row, column)[middle] <= side - 1)
    return np.asarray(cv2.remap(plane, column, row, cv2.INTER_LINEAR), np.uint8), within


def _find_runs(strip: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middle (widths from the axis) and length (widths) of the run of vessel nearest the axis in each column; length 0
    where there is none.
    """
    step, middle = 2 * _ACROSS / (_STRIP[0] - 1), _STRIP[0] // 2
    core = round(_CORE / step)
    height = strip[middle - core : middle + core + 1].max(axis=0)
    on = np.pad(strip > np.maximum(height // 2, _FAINT), ((1, 1), (0, 0))).T.astype(np.int8)
    steps = np.diff(on, axis=1)
    (column, first), (_, end) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    off = (first + end - 1) / 2 - middle
    order = np.argsort(np.abs(off), kind="stable")
    chosen = order[np.unique(column[order], return_index=True)[1]]
    centre, length = np.zeros(strip.shape[1]), np.zeros(strip.shape[1])
    centre[column[chosen]], length[column[chosen]] = off[chosen] * step, (end - first)[chosen] * step
    return centre, length
