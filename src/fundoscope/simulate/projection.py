"""From the eye to the photograph: where each point of the retina falls on the sensor.

Eye coordinates are flat: x grows temporally and y upwards, the disc is the origin and the unit is the distance
from the disc to the fovea, which also measures the zones of ROP.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Projection:
    """One aim of the camera.

    `centre` is the retinal point (x, y) at the middle of the field, `origin` the pixel (column, row) it falls on,
    `scale` pixels a unit, `turn` radians by which the camera is rolled, `mirrored` True for a right eye, whose
    temporal side lies to the left of the photograph.
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
        """(n, 2) pixels (column, row) of `points`, (n, 2) eye coordinates; pixel centres are whole numbers."""
        return (np.asarray(points) - self.centre) @ self._matrix.T + self.origin

    def to_eye(self, pixels: NDArray[np.floating]) -> NDArray[np.float64]:
        """(n, 2) eye coordinates of `pixels`, (n, 2) as (column, row)."""
        return (np.asarray(pixels) - self.origin) @ np.linalg.inv(self._matrix).T + self.centre

    def grid(self, shape: tuple[int, int], step: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """X and y of the eye for a picture `shape` whose pixels are `step` photograph pixels apart."""
        column = (np.arange(shape[1]) + 0.5) * step - 0.5 - self.origin[0]
        row = (np.arange(shape[0]) + 0.5) * step - 0.5 - self.origin[1]
        inverse = np.linalg.inv(self._matrix)
        x, y = (
            np.add.outer((at_row * row + centre).astype(np.float32), (at_column * column).astype(np.float32))
            for (at_column, at_row), centre in zip(inverse, self.centre, strict=True)
        )
        return x, y
