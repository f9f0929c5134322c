"""Cameras: field, light, haze, focus, glare, noise, colour cast and JPEG, from a perfect photograph to an ungradable one.

Everything here is drawn without a look at the disease, so that normal and diseased eyes share cameras, colours and
sharpness. Lengths are stated for the camera's native size and scale with the photograph.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import UsageError, nearest
from fundoscope.imaging import read
from fundoscope.simulate import noise
from fundoscope.simulate.truth import Mask

Image = NDArray[np.float32]
Pixels = NDArray[np.uint8]

#: Quality, best first: its share among photographs follows in `LEVEL_SHARES`.
LEVELS = ("perfect", "good", "fair", "poor", "ungradable")
LEVEL_SHARES = (0.08, 0.34, 0.34, 0.19, 0.05)
ADULT_LEVEL_SHARES = (0.3, 0.4, 0.22, 0.07, 0.01)  # adults look where they are asked to


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera's geometry: `shape` (rows, columns); circle `centre` (row, column) and `radius` in pixels, each with
    the `play` in pixels from one photograph to the next; `columns` the first and last lit column; `reach` the
    field's radius in eye units.
    """

    name: str
    shape: tuple[int, int]
    centre: tuple[float, float]
    radius: float
    play: float
    columns: tuple[int, int]
    reach: tuple[float, float]
    infant: bool
    laser: bool = False

    def resized(self, size: int | None) -> Camera:
        """The same camera with `size` pixels along its longer side."""
        if size is None:
            return self
        if size < 32:
            raise UsageError(f"a photograph of {size} pixels is too small to draw. Ask for 32 or more.")
        s = size / max(self.shape)
        return Camera(
            self.name,
            (round(self.shape[0] * s), round(self.shape[1] * s)),
            (self.centre[0] * s, self.centre[1] * s),
            self.radius * s,
            self.play * s,
            (round(self.columns[0] * s), round(self.columns[1] * s)),
            self.reach,
            self.infant,
            self.laser,
        )


#: Circle and lit columns of the RetCam as measured on public photographs (HVDROPDB); the others by their makers' data.
CAMERAS = {
    camera.name: camera
    for camera in (
        Camera("retcam", (480, 640), (250, 335), 316, 4, (0, 634), (1.36, 1.56), infant=True),
        Camera("full-circle", (2040, 2040), (1019.5, 1019.5), 1000, 5, (0, 2039), (1.36, 1.6), infant=True),
        Camera("drive", (584, 565), (289, 282), 269, 3, (0, 564), (1.3, 1.5), infant=False),
        Camera("hrf", (2336, 3504), (1168, 1752), 1640, 8, (0, 3503), (1.4, 1.55), infant=False),
        Camera("iostar", (1024, 1024), (511.5, 511.5), 512, 4, (0, 1023), (1.2, 1.45), infant=False, laser=True),
    )
}


def camera_named(name: str, infant: bool) -> Camera:
    """The camera called `name` among those for infants or for adults; raises `UsageError` with the nearest one."""
    fitting = {key: camera for key, camera in CAMERAS.items() if camera.infant == infant}
    if name not in fitting:
        whom = "infants" if infant else "adults"
        raise UsageError(f"no camera for {whom} is called '{name}': {nearest(name, fitting)}")
    return fitting[name]


def level_named(name: str) -> int:
    """Place of a level in `LEVELS`; raises `UsageError` with the nearest known one."""
    if name not in LEVELS:
        raise UsageError(f"no quality level is called '{name}': {nearest(name, LEVELS)}")
    return LEVELS.index(name)


@dataclass(frozen=True, slots=True)
class Exposure:
    """One photograph's conditions: where the circle fell, how far its light, haze and focus were from ideal."""

    camera: Camera
    centre: tuple[float, float]
    radius: float
    level: int
    cast: tuple[float, float, float]
    seed: int

    @property
    def unit(self) -> float:
        """Pixels of this photograph for one pixel of a RetCam photograph."""
        return self.radius / 316

    def field(self) -> Mask:
        """(rows, columns): True where the retina is lit."""
        rows, columns = self.camera.shape
        r = np.arange(rows)[:, None] - self.centre[0]
        c = np.arange(columns)[None, :] - self.centre[1]
        inside = r * r + c * c <= self.radius**2
        inside[:, : self.camera.columns[0]] = False
        inside[:, self.camera.columns[1] + 1 :] = False
        return inside


def expose(camera: Camera, level: int, cast: tuple[float, float, float], rng: np.random.Generator) -> Exposure:
    """Draw the conditions of one photograph."""
    play = camera.play
    centre = (camera.centre[0] + rng.normal(0, play), camera.centre[1] + rng.normal(0, 1.2 * play))
    radius = camera.radius + rng.normal(0, 0.5 * play)
    return Exposure(camera, (float(centre[0]), float(centre[1])), float(radius), level, cast, int(rng.integers(2**31)))


def draw_cast(rng: np.random.Generator, spread: float = 1.0) -> tuple[float, float, float]:
    """A camera's white balance and gain, as channel factors; `spread` scales how far they stray."""
    gain = np.exp(spread * rng.normal(-0.04, 0.12))
    red, green, blue = gain * np.exp(spread * rng.normal(0, [0.05, 0.08, 0.2]))
    return float(red), float(green), float(blue)


# By level: haze at its densest, light lost at the rim, defocus (RetCam pixels), chance of each glare
_HAZE = ((0.0, 0.2), (0.3, 0.75), (0.6, 1.0), (0.85, 1.1), (1.0, 1.2))
_VIGNETTE = ((0.15, 0.35), (0.2, 0.5), (0.25, 0.6), (0.25, 0.65), (0.3, 0.7))
_DEFOCUS = ((0.45, 0.6), (0.55, 0.9), (0.75, 1.3), (1.2, 2.4), (3.0, 6.0))
_GLARE = (0.1, 0.35, 0.5, 0.6, 0.7)
_HAZES = np.array([[0.74, 0.64, 0.40], [0.62, 0.44, 0.42], [0.56, 0.56, 0.36], [0.84, 0.66, 0.42], [0.42, 0.34, 0.22]])
_HAZE_OF_RETINA = 0.2  # share of the retina's own mean colour in the haze before it: it is lit from behind
_WIDE_FIELD, _NARROW_FIELD = 1.35, 0.8  # a wide field loses more light towards its rim
_ADULT_CLARITY = 0.35  # adults' media are clear and still: their haze is this share of an infant's


_FINE, _COARSE = 640, 320  # pixels along the longer side at which glare and, smoother yet, haze and light are drawn


def haze(exposure: Exposure) -> Image:
    """(rows, columns) in 0..1, of the whole field at a lower resolution: how much of the retina is veiled."""
    rng = np.random.default_rng([exposure.seed, 1])
    dense = rng.uniform(*_HAZE[exposure.level]) * (1.0 if exposure.camera.infant else _ADULT_CLARITY)
    u, v = _disc_coordinates(exposure, _COARSE)
    angle, edge = rng.uniform(0, 2 * np.pi), rng.uniform(-0.35, 0.6)
    side = noise.smoothstep(edge - 0.75, edge + 0.75, u * np.cos(angle) + v * np.sin(angle))
    centre, size = rng.normal(0, 0.35, 2), rng.uniform(0.35, 0.8)
    blob = np.exp(-((u - centre[0]) ** 2 + (v - centre[1]) ** 2) / size**2)
    cloud = noise.plane(u.shape, max(u.shape) / 2.5, rng)
    base = rng.uniform(0.06, 0.3) + 0.15 * (exposure.level == 4)
    veil = dense * (base + rng.uniform(0.6, 1.0) * side + rng.uniform(0, 0.5) * blob + 0.1 * cloud)
    if exposure.level == 4:
        veil = np.maximum(veil, 0.7 * dense + 0.08 * cloud)
    return np.clip(veil, 0, 0.97).astype(np.float32)


def _disc_coordinates(exposure: Exposure, side: int) -> tuple[Image, Image]:
    """Column and row, in radii from the centre of the field, of each pixel of a picture at most `side` pixels long."""
    rows, columns = exposure.camera.shape
    step = max(1.0, max(rows, columns) / side)
    v = ((np.arange(round(rows / step)) + 0.5) * step - 0.5 - exposure.centre[0]) / exposure.radius
    u = ((np.arange(round(columns / step)) + 0.5) * step - 0.5 - exposure.centre[1]) / exposure.radius
    grid = np.meshgrid(u.astype(np.float32), v.astype(np.float32))
    return grid[0], grid[1]


def photograph(retina: Image, veil: Image, exposure: Exposure) -> bytes:
    """The JPEG that the camera stores of `retina` (3, rows, columns) in 0..1, which is used up; `veil` comes from
    `haze`.
    """
    rng = np.random.default_rng([exposure.seed, 2])
    size = exposure.camera.shape[::-1]
    light, added = _light(exposure, veil, retina.mean(axis=(1, 2)), rng)
    glares = _glares(exposure, rng)
    sigma = rng.uniform(*_DEFOCUS[exposure.level]) * max(exposure.unit, 0.35)
    for channel, plane in enumerate(retina):
        plane *= cv2.resize(light[channel], size)
        plane += cv2.resize(added[channel], size)
        for shape, colour in glares:
            plane += cv2.resize(shape, size) * colour[channel]
        cv2.GaussianBlur(plane, (0, 0), sigma, dst=plane)
    return _record(retina, exposure, rng)


def _light(
    exposure: Exposure, veil: Image, behind: NDArray[np.floating], rng: np.random.Generator
) -> tuple[Image, Image]:
    """Factor on, and light added to, the retina's own; both (3, rows, columns) at the veil's resolution."""
    u, v = _disc_coordinates(exposure, _COARSE)
    lost = rng.uniform(*_VIGNETTE[exposure.level]) * (_WIDE_FIELD if exposure.camera.infant else _NARROW_FIELD)
    aim = rng.normal(0, 0.3, 2)  # the lamp seldom points where the lens does
    level = 1.1 - lost * ((u - aim[0]) ** 2 + (v - aim[1]) ** 2)
    level = np.clip(level + 0.03 * noise.plane(veil.shape, max(veil.shape) / 3, rng), 0.1, 1.3)
    cast = np.array(exposure.cast, np.float32)[:, None, None]
    # light that has crossed more blood is redder: where it is dim, green and blue are lost first
    factor = level ** np.array([0.9, 1.1, 1.0], np.float32)[:, None, None] * cast * (1 - veil)
    murk = rng.dirichlet(np.full(len(_HAZES), 0.4)) @ _HAZES * rng.uniform(0.75, 1.2)
    murk = _HAZE_OF_RETINA * behind + (1 - _HAZE_OF_RETINA) * murk
    added = veil * (0.55 + 0.45 * level) * cast * murk.astype(np.float32)[:, None, None]
    return factor.astype(np.float32), added.astype(np.float32)


Glare = tuple[Image, tuple[float, float, float]]  # its strength (rows, columns), and its colour


def _glares(exposure: Exposure, rng: np.random.Generator) -> list[Glare]:
    """A crescent at the rim, a thin bright rim, and a lens reflex, as far as chance brings them."""
    chance = _GLARE[exposure.level] * (1.0 if exposure.camera.infant else 0.4)
    strong, where, width = rng.uniform(0.15, 0.5), rng.uniform(0, 2 * np.pi), rng.uniform(0.03, 0.12)
    crescent = rng.random() < chance
    bright, place = rng.uniform(0.05, 0.4), rng.uniform(0, 2 * np.pi)
    rim = rng.random() < chance
    at, size, pale = rng.uniform(-0.6, 0.6, 2), rng.uniform(0.04, 0.3), rng.uniform(0.02, 0.08)
    reflex = rng.random() < 0.3 * chance
    if not (crescent or rim or reflex):
        return []
    u, v = _disc_coordinates(exposure, _FINE)
    radius = np.maximum(np.sqrt(u * u + v * v), 1e-6)
    glares: list[Glare] = []
    if crescent:
        facing = np.clip((u * np.cos(where) + v * np.sin(where)) / radius, 0, 1) ** 2
        glares.append((strong * facing * np.exp(-(((1 - radius) / (width * facing + 1e-3)) ** 2)), (1.0, 0.62, 0.36)))
    if rim:
        lit = np.clip((u * np.cos(place) + v * np.sin(place)) / radius + 0.3, 0, 1)
        glares.append((bright * lit * np.exp(-(((radius - 0.992) / 0.006) ** 2)), (1.0, 0.85, 0.55)))
    if reflex:
        away = ((u - at[0]) ** 2 + (v - at[1]) ** 2) / size**2
        glares.append((pale * np.exp(-(away**2)), (1.0, 1.0, 1.0)))
    return glares


_NOISE = (3.2, 5.2)  # grey levels, before the camera's own smoothing


def _record(picture: Image, exposure: Exposure, rng: np.random.Generator) -> bytes:
    """Sensor noise, the black surround and JPEG."""
    shape = picture.shape[1:]
    sigma, surround = rng.uniform(*_NOISE), round(rng.uniform(0, 3))
    field = exposure.field()
    common = noise.grain(shape, rng)
    planes = []
    for plane in picture:
        grain = cv2.GaussianBlur(common + np.float32(0.6) * noise.grain(shape, rng), (0, 0), 0.5)
        stored = cv2.addWeighted(plane, 255, grain, sigma, 0, dtype=cv2.CV_8U)
        planes.append(np.where(field, stored, np.uint8(surround)))
    _, data = cv2.imencode(".jpg", cv2.merge(planes[::-1]), [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(86, 98))])
    return data.tobytes()  # OpenCV writes blue first


def decoded(file: bytes) -> Pixels:
    """The pixels (rows, columns, 3), RGB, of a JPEG."""
    return read(file, "a simulated photograph").pixels
