"""From the eye to the photograph: where each point of the retina falls on the sensor.

Eye coordinates (x, y) are flat: x grows temporally and y upwards, the disc's centre is the origin, and the unit is the
distance from disc to fovea (about 4.5 mm), in which the zones of ROP are defined too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Projection:
    """How the retina falls on the sensor for one aim of the camera.

    `centre` is the retinal point (x, y) at the middle of the field, `origin` the pixel (column, row) it falls on,
    `scale` the pixels of an eye unit, `turn` the camera's roll in radians, `mirrored` True for a right eye, whose
    temporal side lies to the left in the photograph.
    """

    centre: tuple[float, float]
    origin: tuple[float, float]
    scale: float
    turn: float
    mirrored: bool

    @property
    def _matrix(self) -> NDArray[np.float64]:
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        flip = np.diag([-1.0 if self.mirrored else 1.0, -1.0])
        return self.scale * np.array([[cos, -sin], [sin, cos]]) @ flip

    def to_pixels(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Pixels (n, 2; column, row) of points (n, 2) in eye coordinates; pixel centres are whole numbers."""
        return (np.asarray(points) - self.centre) @ self._matrix.T + self.origin

    def to_eye(self, pixels: NDArray[np.floating]) -> NDArray[np.float64]:
        """Eye coordinates (n, 2) of pixels (n, 2; column, row)."""
        return (np.asarray(pixels) - self.origin) @ np.linalg.inv(self._matrix).T + self.centre

    def grid(self, shape: tuple[int, int], step: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Eye coordinates x and y of each pixel of a picture of `shape`, one of its pixels every `step` pixels of the
        photograph; (rows, columns) each.
        """
        column = (np.arange(shape[1]) + 0.5) * step - 0.5 - self.origin[0]
        row = (np.arange(shape[0]) + 0.5) * step - 0.5 - self.origin[1]
        inverse = np.linalg.inv(self._matrix)
        x, y = (
            np.add.outer((at_row * row + centre).astype(np.float32), (at_column * column).astype(np.float32))
            for (at_column, at_row), centre in zip(inverse, self.centre, strict=True)
        )
        return x, y
