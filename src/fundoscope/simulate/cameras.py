"""Cameras: field, light, haze, focus, glare, noise, colour cast and JPEG, from a perfect photograph to an ungradable one.

Nothing here depends on the disease, so that normal and diseased eyes share cameras, colours and sharpness. Lengths are
stated for the camera's native size and scale with the photograph.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import UsageError, nearest
from fundoscope.imaging import read
from fundoscope.simulate import noise
from fundoscope.simulate.truth import Mask

Image = NDArray[np.float32]
Pixels = NDArray[np.uint8]

#: Levels of quality, best first, and the share of each among photographs of infants and of adults.
LEVELS = ("perfect", "good", "fair", "poor", "ungradable")
LEVEL_SHARES = (0.08, 0.34, 0.34, 0.19, 0.05)
ADULT_LEVEL_SHARES = (0.3, 0.4, 0.22, 0.07, 0.01)  # adults look where they are asked to


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera's geometry.

    `shape` (rows, columns); `centre` (row, column) and `radius` of the lit circle in pixels, and `jitter`, the standard
    deviation by which they differ from one photograph to the next; `columns` the first and the last lit column;
    `field_radius` the range of the circle's radius on the retina, eye units; `laser` a scanning laser ophthalmoscope;
    `rows` the first and the last lit row, None where the circle is not cut above and below; `notch` (row, column, side)
    the middle and the side of a small square at the rim that is lit too, by which photographers tell which way is up.
    """

    name: str
    shape: tuple[int, int]
    centre: tuple[float, float]
    radius: float
    jitter: float
    columns: tuple[int, int]
    field_radius: tuple[float, float]
    infant: bool
    laser: bool = False
    rows: tuple[int, int] | None = None
    notch: tuple[float, float, float] | None = None

    def resized(self, size: int | None) -> Camera:
        """The same camera with `size` pixels along its longer side; raises `UsageError` under 32."""
        if size is None:
            return self
        if size < 32:
            raise UsageError(f"a photograph of {size} pixels is too small to draw. Ask for 32 or more.")
        s = size / max(self.shape)
        rows, notch = self.rows, self.notch
        return replace(
            self,
            shape=(round(self.shape[0] * s), round(self.shape[1] * s)),
            centre=(self.centre[0] * s, self.centre[1] * s),
            radius=self.radius * s,
            jitter=self.jitter * s,
            columns=(round(self.columns[0] * s), round(self.columns[1] * s)),
            rows=None if rows is None else (round(rows[0] * s), round(rows[1] * s)),
            notch=None if notch is None else (notch[0] * s, notch[1] * s, notch[2] * s),
        )


#: Circle and lit columns of the RetCam as measured on public photographs (HVDROPDB), the others by their makers' data.
CAMERAS = {
    camera.name: camera
    for camera in (
        Camera("retcam", (480, 640), (250, 335), 316, 4, (0, 634), (1.36, 1.56), infant=True),
        Camera("full-circle", (2040, 2040), (1019.5, 1019.5), 1000, 5, (0, 2039), (1.36, 1.6), infant=True),
        Camera("drive", (584, 565), (289, 282), 269, 3, (0, 564), (1.3, 1.5), infant=False),
        Camera("hrf", (2336, 3504), (1168, 1752), 1640, 8, (0, 3503), (1.4, 1.55), infant=False),
        Camera("iostar", (1024, 1024), (511.5, 511.5), 512, 4, (0, 1023), (1.2, 1.45), infant=False, laser=True),
        Camera("clipped", (1000, 1504), (499.5, 751.5), 560, 4, (0, 1503), (1.3, 1.5), infant=False, rows=(70, 929),
               notch=(60, 1110, 34)),
    )
}  # fmt: skip


def camera_named(name: str, infant: bool) -> Camera:
    """The camera of this name among those for infants or for adults; else `UsageError` that names the nearest one."""
    fitting = {key: camera for key, camera in CAMERAS.items() if camera.infant == infant}
    if name not in fitting:
        whom = "infants" if infant else "adults"
        raise UsageError(f"no camera for {whom} is called '{name}': {nearest(name, fitting)}")
    return fitting[name]


def level_named(name: str) -> int:
    """Index of a level in `LEVELS`; `UsageError` that names the nearest one for an unknown name."""
    if name not in LEVELS:
        raise UsageError(f"no quality level is called '{name}': {nearest(name, LEVELS)}")
    return LEVELS.index(name)


@dataclass(frozen=True, slots=True)
class Exposure:
    """The conditions of one photograph: `centre` (row, column) and `radius` of the lit circle in pixels, index of the
    quality `level`, colour `cast` (factors on red, green, blue), and the `seed` of haze, light, glare and noise.
    """

    camera: Camera
    centre: tuple[float, float]
    radius: float
    level: int
    cast: tuple[float, float, float]
    seed: int

    @property
    def unit(self) -> float:
        """Pixels of this photograph for one pixel of a RetCam photograph at its native size."""
        return self.radius / CAMERAS["retcam"].radius

    def field(self) -> Mask:
        """Where the retina is lit, (rows, columns): inside the circle and inside the camera's cuts; without the notch."""
        rows, columns = self.camera.shape
        r = np.arange(rows)[:, None] - self.centre[0]
        c = np.arange(columns)[None, :] - self.centre[1]
        inside = r * r + c * c <= self.radius**2
        inside[:, : self.camera.columns[0]] = False
        inside[:, self.camera.columns[1] + 1 :] = False
        if self.camera.rows is not None:
            inside[: self.camera.rows[0]] = False
            inside[self.camera.rows[1] + 1 :] = False
        return inside

    def notch(self) -> Mask | None:
        """Where the camera's notch is lit, (rows, columns); None for a camera without one."""
        if self.camera.notch is None:
            return None
        row, column, side = self.camera.notch
        rows, columns = self.camera.shape
        r, c = np.abs(np.arange(rows) - row) <= side / 2, np.abs(np.arange(columns) - column) <= side / 2
        return r[:, None] & c[None, :] & ~self.field()


def draw_exposure(camera: Camera, level: int, cast: tuple[float, float, float], rng: np.random.Generator) -> Exposure:
    """The conditions of one photograph at a given quality level."""
    jitter = camera.jitter
    centre = (camera.centre[0] + rng.normal(0, jitter), camera.centre[1] + rng.normal(0, 1.2 * jitter))
    radius = camera.radius + rng.normal(0, 0.5 * jitter)
    return Exposure(camera, (float(centre[0]), float(centre[1])), float(radius), level, cast, int(rng.integers(2**31)))


def draw_cast(rng: np.random.Generator, spread: float = 1.0) -> tuple[float, float, float]:
    """Gain and white balance of a camera as factors on red, green and blue; `spread` scales their variation."""
    gain = np.exp(spread * rng.normal(-0.04, 0.12))
    red, green, blue = gain * np.exp(spread * rng.normal(0, [0.05, 0.08, 0.2]))
    return float(red), float(green), float(blue)


# By level: haze at its densest, light lost at the rim, defocus (RetCam pixels), chance of each glare
_HAZE = ((0.0, 0.2), (0.3, 0.75), (0.6, 1.0), (0.85, 1.1), (1.0, 1.2))
_VIGNETTE = ((0.15, 0.35), (0.2, 0.5), (0.25, 0.6), (0.25, 0.65), (0.3, 0.7))
_DEFOCUS = ((0.45, 0.6), (0.55, 0.9), (0.75, 1.3), (1.2, 2.4), (3.0, 6.0))
_GLARE = (0.1, 0.35, 0.5, 0.6, 0.7)
_HAZE_COLOURS = np.array(
    [[0.74, 0.64, 0.40], [0.62, 0.44, 0.42], [0.56, 0.56, 0.36], [0.84, 0.66, 0.42], [0.42, 0.34, 0.22]]
)
_HAZE_OF_RETINA = 0.2  # share of the retina's mean colour in the haze in front of it, which is lit from behind
_WIDE_FIELD, _NARROW_FIELD = 1.35, 0.8  # a wide field loses more light towards its rim
_ADULT_HAZE, _ADULT_GLARE = 0.35, 0.4  # of an infant's: adults' media are clear and their eyes still
_GLARE_SIDE, _HAZE_SIDE = 640, 320  # pixels along the longer side at which glare, and haze and light, are drawn
_SENSOR_NOISE = (3.2, 5.2)  # grey levels, before the camera's own smoothing


def draw_haze(exposure: Exposure) -> Image:
    """Share of the retina that haze veils at each pixel (rows, columns), 0 to 1, at a lower resolution."""
    rng = np.random.default_rng([exposure.seed, 1])
    dense = rng.uniform(*_HAZE[exposure.level]) * (1.0 if exposure.camera.infant else _ADULT_HAZE)
    u, v = _field_coordinates(exposure, _HAZE_SIDE)
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


def _field_coordinates(exposure: Exposure, side: int) -> tuple[Image, Image]:
    """Column and row, in field radii from the field's centre, of each pixel of a picture at most `side` pixels long."""
    rows, columns = exposure.camera.shape
    step = max(1.0, max(rows, columns) / side)
    v = ((np.arange(round(rows / step)) + 0.5) * step - 0.5 - exposure.centre[0]) / exposure.radius
    u = ((np.arange(round(columns / step)) + 0.5) * step - 0.5 - exposure.centre[1]) / exposure.radius
    grid = np.meshgrid(u.astype(np.float32), v.astype(np.float32))
    return grid[0], grid[1]


def take_photograph(retina: Image, veil: Image, exposure: Exposure) -> bytes:
    """The JPEG that the camera stores of `retina` (3, rows, columns; 0 to 1), seen through `veil` (from `draw_haze`).

    `retina` is overwritten.
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
    return _jpeg(retina, exposure, rng)


def _light(
    exposure: Exposure, veil: Image, behind: NDArray[np.floating], rng: np.random.Generator
) -> tuple[Image, Image]:
    """The factor on the retina's light and the light added to it, both (3, rows, columns) at the veil's resolution.

    `behind` (3,) is the retina's mean colour.
    """
    u, v = _field_coordinates(exposure, _HAZE_SIDE)
    lost = rng.uniform(*_VIGNETTE[exposure.level]) * (_WIDE_FIELD if exposure.camera.infant else _NARROW_FIELD)
    aim = rng.normal(0, 0.3, 2)  # the lamp seldom points where the lens does
    level = 1.1 - lost * ((u - aim[0]) ** 2 + (v - aim[1]) ** 2)
    level = np.clip(level + 0.03 * noise.plane(veil.shape, max(veil.shape) / 3, rng), 0.1, 1.3)
    cast = np.array(exposure.cast, np.float32)[:, None, None]
    # light that has crossed more blood is redder: where it is dim, green and blue are lost first
    factor = level ** np.array([0.9, 1.1, 1.0], np.float32)[:, None, None] * cast * (1 - veil)
    murk = rng.dirichlet(np.full(len(_HAZE_COLOURS), 0.4)) @ _HAZE_COLOURS * rng.uniform(0.75, 1.2)
    murk = _HAZE_OF_RETINA * behind + (1 - _HAZE_OF_RETINA) * murk
    added = veil * (0.55 + 0.45 * level) * cast * murk.astype(np.float32)[:, None, None]
    return factor.astype(np.float32), added.astype(np.float32)


Glare = tuple[Image, tuple[float, float, float]]  # strength (rows, columns) and colour


def _glares(exposure: Exposure, rng: np.random.Generator) -> list[Glare]:
    """Up to three glares, each by chance: a crescent at the rim, a thin bright rim, a reflex of the lens."""
    chance = _GLARE[exposure.level] * (1.0 if exposure.camera.infant else _ADULT_GLARE)
    strong, where, width = rng.uniform(0.15, 0.5), rng.uniform(0, 2 * np.pi), rng.uniform(0.03, 0.12)
    crescent = rng.random() < chance
    bright, place = rng.uniform(0.05, 0.4), rng.uniform(0, 2 * np.pi)
    rim = rng.random() < chance
    at, size, pale = rng.uniform(-0.6, 0.6, 2), rng.uniform(0.04, 0.3), rng.uniform(0.02, 0.08)
    reflex = rng.random() < 0.3 * chance
    if not (crescent or rim or reflex):
        return []
    u, v = _field_coordinates(exposure, _GLARE_SIDE)
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


def _jpeg(picture: Image, exposure: Exposure, rng: np.random.Generator) -> bytes:
    """The picture (3, rows, columns; 0 to 1) with sensor noise and a black surround, as JPEG."""
    shape = picture.shape[1:]
    sigma, surround = rng.uniform(*_SENSOR_NOISE), round(rng.uniform(0, 3))
    lit, notch = exposure.field(), exposure.notch()
    if notch is not None:
        lit |= notch
    common = noise.grain(shape, rng)
    planes = []
    for plane in picture:
        grain = cv2.GaussianBlur(common + np.float32(0.6) * noise.grain(shape, rng), (0, 0), 0.5)
        stored = cv2.addWeighted(plane, 255, grain, sigma, 0, dtype=cv2.CV_8U)
        planes.append(np.where(lit, stored, np.uint8(surround)))
    _, data = cv2.imencode(".jpg", cv2.merge(planes[::-1]), [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(86, 98))])
    return data.tobytes()  # OpenCV writes blue first


def decode(file: bytes) -> Pixels:
    """The pixels (rows, columns, 3), RGB, of a stored photograph."""
    return read(file, "a simulated photograph").pixels
