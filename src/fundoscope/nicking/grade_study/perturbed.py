"""What graders are asked about: patches as a file gives them, and the same ones spoilt in ways that leave the grade."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fundoscope.imaging import Pixels, read
from fundoscope.learning.augment import Augment
from fundoscope.nicking.grade_study.patch_table import PatchRow
from fundoscope.nicking.grade_study.rivals import roy
from fundoscope.nicking.grade_study.training_views import around, inputs_of, packed, unpacked, usual
from fundoscope.nicking.grade_study.transfer import Upstream
from fundoscope.nicking.grading.crossing_patches import PATCH_SIDE, VEIN_WIDTH, crop_square, map_patch, resize_square
from fundoscope.nicking.grading.widths import measure_patch

_RECOLOURED = Augment(rotation=0, scale=0, shift=0, field=0, colour=1.0, light=1.0, sharpness=0, noise=0, encoding=0)
_BLUR = 0.15  # vein widths: deviation
_QUALITY = 40  # of a JPEG

Spoiler = Callable[[PatchRow, Generator], Pixels]


def _at(zoom: float) -> Spoiler:
    return lambda row, _: around(resize_square(crop_square(read(row.path)), round(row.span * VEIN_WIDTH)), zoom=zoom)


def _blurred(row: PatchRow, _: Generator) -> Pixels:
    return np.asarray(cv2.GaussianBlur(usual(row), (0, 0), _BLUR * VEIN_WIDTH), np.uint8)


def _recompressed(row: PatchRow, rng: Generator) -> Pixels:
    del rng  # it is the same each time
    picture = cv2.cvtColor(usual(row), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])


def _recoloured(row: PatchRow, rng: Generator) -> Pixels:
    return _RECOLOURED(usual(row), rng)


#: How patches are asked about: as they are, and in ways that should not change their grade.
VARIANTS: dict[str, Spoiler] = {
    "usual": lambda row, _: usual(row),
    "half the scale": _at(0.5),
    "double the scale": _at(2.0),
    "blurred": _blurred,
    "recompressed": _recompressed,
    "recoloured": _recoloured,
}


@dataclass(frozen=True, eq=False)
class Asked:
    """Patches of a table in one variant with one upstream's maps: `kept` (n, PATCH_SIDE, PATCH_SIDE, 7), packed."""

    kept: NDArray[np.uint8]

    @classmethod
    def of(cls, rows: Sequence[PatchRow], variant: str, upstream: Upstream, path: Path) -> Asked:
        """Made, or read from where they were kept."""
        if not path.exists():
            found = [
                packed(
                    map_patch(VARIANTS[variant](row, np.random.default_rng((0xA5, k))), upstream.bundle.map_vessels)[1]
                )
                for k, row in enumerate(rows)
            ]
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path.with_suffix(".part.npy"), np.array(found, np.uint8).reshape(-1, PATCH_SIDE, PATCH_SIDE, 7))
            path.with_suffix(".part.npy").replace(path)
        return cls(np.load(path, mmap_mode="r"))

    def inputs(self, ranks: NDArray[np.int64]) -> NDArray[np.float32]:
        """What a network is given, (n, 6, PATCH_SIDE, PATCH_SIDE)."""
        return np.array([inputs_of(unpacked(self.kept[k])) for k in ranks], np.float32).reshape(
            -1, 6, PATCH_SIDE, PATCH_SIDE
        )


@dataclass(frozen=True, eq=False)
class Widths:
    """What the rules see of patches: `narrowing` (n, 2) upper and lower side, nan where not measured; `features` (n, k)."""

    narrowing: NDArray[np.float64]
    features: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Sequence[PatchRow], upstream: Upstream, path: Path) -> Widths:
        """Measured, or read from where they were kept."""
        if not path.exists():
            found = [_measured(usual(row), upstream) for row in rows]
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_suffix(".part.npz")
            np.savez(beside, narrowing=[n for n, _ in found], features=[f for _, f in found])
            beside.replace(path)
        with np.load(path) as kept:
            return cls(kept["narrowing"], kept["features"])


def _measured(pixels: Pixels, upstream: Upstream) -> tuple[tuple[float, float], NDArray[np.float64]]:
    maps, _ = map_patch(pixels, upstream.bundle.map_vessels)
    found = measure_patch(pixels, maps, upstream.map_settings, pixels.shape[0] / maps.shape[1])
    sides = (float("nan"), float("nan")) if found is None else (found.side_1, found.side_2)
    return sides, roy.features(found)
