"""Pictures from which the quality of photographs is learnt: retinas as many cameras show them, and other things.

Retinas: every second RetCam and Neo photograph, DRIVE's training half, CHASE_DB1, STARE and LES-AV, and simulated eyes; each
also as other cameras might have taken it (field shape, colour cast, gamma, sharpness, haze, noise, compression), as somebody
might have enhanced it (CLAHE, sharpening, the ring of the field removed), and spoilt (out of focus).
Other things: folders of pictures, pictures that installed packages ship, and drawings; half of the copies are shown as through
a camera's round field, half of these in a retina's colours, so that neither tells.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging import find_field

SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"}
SIDE = 384  # pixels of the longest side at which pictures are changed

Picture = NDArray[Any]  # (rows, columns, 3), uint8, RGB; OpenCV does not tell type checkers


def data_folder() -> Path:
    """Return the folder of public photographs: FUNDOSCOPE_DATA, or ../shared/data."""
    return Path(os.environ.get("FUNDOSCOPE_DATA", "../shared/data"))


@dataclass(frozen=True, slots=True, eq=False)
class QualityPicture:
    """One picture: what it shows (`kind`), the photograph or source it came from (`group`), and its pixels, uint8, RGB."""

    kind: str
    group: str
    picture: Picture


def load(path: Path, side: int = SIDE) -> Picture | None:
    """A picture as RGB, at most `side` pixels long; None when OpenCV cannot read it."""
    large = path.stat().st_size > 2_000_000
    picture = cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_4 if large else cv2.IMREAD_COLOR)
    if picture is None or min(picture.shape[:2]) < 48:
        return None
    scale = side / max(picture.shape[:2])
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def retcam(half: int) -> list[Path]:
    """Every second RetCam photograph by name in each folder: half 0 for building, half 1 for reporting."""
    return [
        f for kind in ("normal", "rop") for f in sorted((data_folder() / "hvdropdb_retcam" / kind).iterdir())[half::2]
    ]


# ---- a retina as another camera might have taken it


def square_of(picture: Picture) -> Picture:
    """The field as a square, what the camera cut off filled by reflection: ready for a full-circle mask."""
    field = find_field(picture)
    pad = int(field.radius)
    big = cv2.copyMakeBorder(picture, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
    top, left, side = int(field.row), int(field.column), 2 * pad
    square = big[top : top + side, left : left + side].copy()
    for _ in range(2):  # rows, then columns
        square = uncut(square).transpose(1, 0, 2)
    return mirrored_beyond(np.ascontiguousarray(square), 0.965)


def uncut(square: Picture) -> Picture:
    """The rows that the camera cut off, filled with the mirror image of the others."""
    side = square.shape[0]
    lit = square[:, int(0.42 * side) : int(0.58 * side)].max(axis=2) > 20
    rows = np.flatnonzero(lit.mean(axis=1) > 0.9)
    if len(rows) < side // 2:
        return square
    lo, hi = rows[0] + 2, rows[-1] - 2
    inner = np.ascontiguousarray(square[lo:hi])
    return cv2.copyMakeBorder(inner, lo, side - hi, 0, 0, cv2.BORDER_REFLECT_101)


def mirrored_beyond(square: Picture, share: float) -> Picture:
    """What lies beyond `share` of the inscribed circle's radius becomes the mirror image of the inside."""
    half = square.shape[0] / 2
    at = np.arange(square.shape[0], dtype=np.float32) + 0.5 - half
    distance = np.sqrt(at[:, None] ** 2 + at[None, :] ** 2) + 1e-3
    limit = np.float32(share * half)
    factor = np.where(distance > limit, np.maximum(2 * limit - distance, 0) / distance, 1).astype(np.float32)
    return cv2.remap(square, at[None, :] * factor + half - 0.5, at[:, None] * factor + half - 0.5, cv2.INTER_LINEAR)


def masked(picture: Picture, cut: float, shift: tuple[float, float], rng: np.random.Generator) -> Picture:
    """A disc of the picture on black; `cut` of the radius is cut off above and below (0: a full circle)."""
    side = min(picture.shape[:2])
    rows = np.arange(picture.shape[0], dtype=np.float32)[:, None] + 0.5 - picture.shape[0] / 2 - shift[0] * side
    columns = np.arange(picture.shape[1], dtype=np.float32)[None, :] + 0.5 - picture.shape[1] / 2 - shift[1] * side
    radius = side / 2 * float(rng.uniform(0.94, 0.995))
    soft = np.clip((radius - np.sqrt(rows**2 + columns**2)) / float(rng.uniform(0.7, 4)), 0, 1)
    soft *= np.abs(rows) <= radius * (1 - cut)
    shown = cv2.multiply(picture, cv2.merge([soft] * 3), dtype=cv2.CV_8U)
    return cv2.add(shown, (float(rng.integers(0, 6)),) * 3)  # ty: ignore[no-matching-overload]


def another_colour(picture: Picture, rng: np.random.Generator) -> Picture:
    """Gains, gamma, saturation, haze: the lens, the lamp and the pigment."""
    x = cv2.pow(picture / np.float32(255), rng.uniform(0.7, 1.5)) * rng.uniform(0.75, 1.3, 3).astype(np.float32)
    if rng.random() < 0.5:
        grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
        x = grey + (x - grey) * np.float32(rng.uniform(0.4, 1.3))
    if rng.random() < 0.3:
        x = x + (rng.uniform(0.2, 0.7, 3).astype(np.float32) - x) * np.float32(rng.uniform(0, 0.35))
    return cv2.convertScaleAbs(cv2.max(x, 0.0), alpha=255 * rng.uniform(0.65, 1.15))  # ty: ignore[no-matching-overload]


def another_sharpness(picture: Picture, rng: np.random.Generator) -> Picture:
    """Sharper by unsharp masking or local equalisation, or a little softer; then noise and JPEG."""
    radius = min(picture.shape[:2]) / 2
    draw = rng.random()
    if draw < 0.4:
        soft = cv2.GaussianBlur(picture, (0, 0), radius * rng.uniform(0.004, 0.02))
        amount = rng.uniform(0.3, 2.5)
        picture = cv2.addWeighted(picture, 1 + amount, soft, -amount, 0)
    elif draw < 0.5:
        picture = picture.copy()
        for c in range(3):
            picture[..., c] = cv2.createCLAHE(rng.uniform(1, 2.5), (8, 8)).apply(np.ascontiguousarray(picture[..., c]))
    elif draw < 0.7:
        picture = cv2.GaussianBlur(picture, (0, 0), radius * rng.uniform(0.001, 0.006))
    if rng.random() < 0.4:
        picture = noisy(picture, rng.uniform(0.5, 4), rng)
    if rng.random() < 0.4:
        _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(55, 96))])
        picture = np.asarray(cv2.imdecode(coded, 1))
    return picture


def as_other_camera(square: Picture, zoom: tuple[float, float], rng: np.random.Generator) -> Picture:
    """A retina's square, turned, zoomed, recoloured, in a field of another shape (sometimes none)."""
    factor = rng.uniform(*zoom)
    side = square.shape[0]
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), float(rng.uniform(0, 360)), factor)
    turn[:, 2] += rng.uniform(-0.06, 0.06, 2) * side * max(0, factor - 0.95)
    square = cv2.warpAffine(square, turn, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    square = another_sharpness(another_colour(square, rng), rng)
    draw = rng.random()
    if draw < 0.08:
        inner = int(side * 0.17)
        return square[inner:-inner, inner:-inner]
    cut = 0.0 if draw < 0.6 else float(rng.uniform(0.02, 0.3))
    return framed(masked(square, cut, (0.0, 0.0), rng), rng)


def framed(picture: Picture, rng: np.random.Generator) -> Picture:
    """Black added at the sides, as on sensors wider than the field."""
    pad = int(rng.uniform(0, 0.2) * picture.shape[0])
    return cv2.copyMakeBorder(picture, pad // 4, pad // 4, pad, pad, cv2.BORDER_CONSTANT)


def strongly_blurred(picture: Picture, rng: np.random.Generator) -> Picture:
    """Out of focus by sigma = 1/40 to 1/14 of the radius, sometimes with the rim left sharp."""
    field = find_field(picture)
    out = cv2.GaussianBlur(picture, (0, 0), field.radius * rng.uniform(1 / 42, 1 / 14))
    if rng.random() < 0.6:
        out[~field.mask()] = picture[~field.mask()]
    if rng.random() < 0.3:
        out = noisy(out, rng.uniform(0.5, 2), rng)
    return out


def noisy(picture: Picture, deviation: float, rng: np.random.Generator) -> Picture:
    """Gaussian noise of `deviation` grey levels added."""
    cv2.setRNGSeed(int(rng.integers(1 << 30)))
    noise = np.empty(picture.shape, np.int16)
    cv2.randn(noise, (0, 0, 0), (16 * deviation,) * 3)  # ty: ignore[no-matching-overload]
    return cv2.addWeighted(picture, 1.0, noise, 1 / 16, 0, dtype=cv2.CV_8U)


# ---- foreign pictures


def as_seen_through(picture: Picture, rng: np.random.Generator) -> Picture:
    """A part of a foreign picture, as it is or through a round field, in its own or in a retina's colours."""
    rows, columns = picture.shape[:2]
    part = rng.uniform(0.4, 1.0)
    r, c = int(rng.uniform(0, 1 - part) * rows), int(rng.uniform(0, 1 - part) * columns)
    picture = picture[r : r + int(part * rows), c : c + int(part * columns)]
    if rng.random() < 0.25:
        picture = cv2.GaussianBlur(picture, (0, 0), min(picture.shape[:2]) * rng.uniform(0.002, 0.05))
    if rng.random() < 0.5:
        return picture
    if rng.random() < 0.6:
        picture = in_retinal_colours(picture, rng)
    side = min(picture.shape[:2])
    picture = np.ascontiguousarray(picture[:side, :side])
    return framed(masked(picture, float(rng.choice([0.0, 0.0, 0.15, 0.25])), (0.0, 0.0), rng), rng)


def in_retinal_colours(picture: Picture, rng: np.random.Generator) -> Picture:
    """Grey levels (or the picture's own colours, tinted) in orange, with less contrast."""
    x = picture.astype(np.float32) / 255
    if rng.random() < 0.6:
        x = cv2.cvtColor(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    x = 0.5 + (x - 0.5) * np.float32(rng.uniform(0.2, 1.0))
    tint = np.array([rng.uniform(0.8, 1.2), rng.uniform(0.4, 0.8), rng.uniform(0.1, 0.5)], np.float32)
    return cv2.convertScaleAbs(cv2.pow(x, rng.uniform(0.7, 1.4)) * tint, alpha=255)


def drawings(rng: np.random.Generator, n: int) -> Iterator[tuple[str, Picture]]:
    """Noise, discs, gradients, lettering and piles of shapes, `n` of each."""
    makers: dict[str, Callable[[np.random.Generator], Picture]] = {
        "noise": draw_noise,
        "disc": draw_disc,
        "gradient": draw_gradient,
        "lettering": draw_lettering,
        "shapes": draw_shapes,
        "strokes": draw_strokes,
    }
    for name, make in makers.items():
        for i in range(n):
            yield f"{name}-{i}", make(rng)


def draw_noise(rng: np.random.Generator) -> Picture:
    """Noise with amplitude falling as a power (0 to 2.5) of frequency, grey or coloured."""
    side = 384
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    frequency[0, 0] = 1
    power = rng.uniform(0, 2.5)
    planes = []
    for _ in range(3):
        spectrum = np.fft.rfft2(rng.normal(size=(side, side))) / frequency**power
        plane = np.fft.irfft2(spectrum, (side, side))
        planes.append((plane - plane.mean()) / plane.std())
    x = np.stack(planes if rng.random() < 0.5 else planes[:1] * 3, axis=2)
    return (128 + x * rng.uniform(10, 60)).clip(0, 255).astype(np.uint8)


def draw_disc(rng: np.random.Generator) -> Picture:
    """A disc of one colour on black, grey or white, its edge hard or soft, flat or shaded like a ball."""
    side = 480
    at = np.indices((side, side)) - side / 2
    distance = np.hypot(*(at - rng.uniform(-40, 40, (2, 1, 1)))) / rng.uniform(120, 235)
    shade = np.sqrt(np.clip(1 - distance**2, 0, 1)) ** rng.uniform(0, 1.2)
    shade = shade * (1 + rng.uniform(-0.3, 0.3) * at[0] / side)
    colour = np.sort(rng.uniform(30, 255, 3))[::-1] if rng.random() < 0.6 else rng.uniform(30, 255, 3)
    inside = np.clip((1 - distance) * rng.uniform(20, 200), 0, 1)
    x = shade[..., None] * colour * inside[..., None] + (1 - inside[..., None]) * rng.choice([0, 0, 0, 128, 255])
    return (x + rng.normal(0, rng.uniform(0, 3), x.shape)).clip(0, 255).astype(np.uint8)


def draw_gradient(rng: np.random.Generator) -> Picture:
    """A few colours blended smoothly over the picture."""
    coarse = rng.uniform(0, 255, (int(rng.integers(2, 5)), int(rng.integers(2, 5)), 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (480, 400), interpolation=cv2.INTER_CUBIC)
    return (smooth + rng.normal(0, rng.uniform(0, 3), smooth.shape)).clip(0, 255).astype(np.uint8)


def draw_lettering(rng: np.random.Generator) -> Picture:
    """Lines of letters in a plain stroke font, dark on light or light on dark."""
    paper, ink = (int(rng.integers(180, 256)), int(rng.integers(0, 90)))
    if rng.random() < 0.3:
        paper, ink = ink, paper
    picture = np.full((600, 480, 3), paper, np.uint8)
    size, row = float(rng.uniform(0.3, 1.2)), 30
    while row < 590:
        line = "".join(rng.choice(list("abcdefghijklmnoprstuvw      "), 70))
        cv2.putText(picture, line, (20, row), int(rng.integers(0, 5)), size, (ink, ink, ink), 1, cv2.LINE_AA)
        row += int(30 * size) + 6
    return picture


def draw_shapes(rng: np.random.Generator) -> Picture:
    """Dead leaves: ellipses of all sizes and colours, one over another (Lee, Mumford and Huang 2001)."""
    picture = np.zeros((400, 480, 3), np.uint8)
    for _ in range(int(rng.integers(20, 600))):
        axes = tuple(int(v) for v in np.minimum(4 / rng.uniform(0.015, 1, 2), 220))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        centre = (int(rng.integers(0, 480)), int(rng.integers(0, 400)))
        cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    return picture


def draw_strokes(rng: np.random.Generator) -> Picture:
    """Straight and wavy dark or bright strokes on a plain ground, grey: wires, cracks, hair."""
    picture = np.full((420, 480, 3), int(rng.integers(80, 220)), np.uint8)
    for _ in range(int(rng.integers(3, 40))):
        points = np.cumsum(rng.normal(rng.uniform(-12, 12, 2), rng.uniform(0, 8), (40, 2)), axis=0)
        points += rng.uniform(0, 450, 2)
        tone = int(rng.integers(0, 256))
        cv2.polylines(picture, [points.astype(np.int32)], False, (tone,) * 3, int(rng.integers(1, 6)), cv2.LINE_AA)
    return cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 1.5)))


def shipped_pictures() -> list[Path]:
    """Pictures that come with scikit-image, scikit-learn and matplotlib, without the retina among them."""
    import matplotlib
    import skimage
    import sklearn

    folders = (Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets/images")
    found = [f for d in (*folders, Path(matplotlib.get_data_path()) / "sample_data") for f in sorted(d.iterdir())]
    return [f for f in found if f.suffix.lower() in SUFFIXES and f.stem not in ("retina", "microaneurysms")]


# ---- a retina as somebody may have enhanced it


def enhanced(picture: Picture, rng: np.random.Generator) -> Picture:
    """Return a photograph after CLAHE, sharpening, or removal of the ring around its field: one of them, or several."""
    done = rng.random(3) < (0.6, 0.5, 0.3)
    if not done.any():
        done[rng.integers(3)] = True
    if done[0]:
        lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
        tiles = int(rng.choice([4, 8, 8, 16]))
        equalised = cv2.createCLAHE(float(rng.uniform(1.5, 6)), (tiles, tiles)).apply(np.ascontiguousarray(lab[..., 0]))
        lab[..., 0] = equalised
        picture = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    if done[1]:
        radius = min(picture.shape[:2]) / 2
        soft = cv2.GaussianBlur(picture, (0, 0), radius * float(rng.uniform(0.004, 0.03)))
        amount = float(rng.uniform(0.8, 3.5))
        picture = cv2.addWeighted(picture, 1 + amount, soft, -amount, 0)
    if done[2]:
        picture = ring_removed(picture, float(rng.uniform(0.02, 0.15)))
    return picture


def ring_removed(picture: Picture, rim: float) -> Picture:
    """Return a photograph whose surround and `rim` (in radii) are painted over with the mean colour of the field."""
    field = find_field(picture)
    inside = field.mask(shrink=rim)
    out = picture.copy()
    out[~inside] = np.median(picture[inside][::7], axis=0) if inside.any() else 0
    soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), max(1.0, 0.01 * field.radius))[..., None]
    return (picture * soft + out * (1 - soft)).astype(np.uint8)


# ---- samples


def infants() -> Iterator[QualityPicture]:
    """Half of RetCam and half of Neo, each as it is, as other cameras show it, enhanced, and out of focus."""
    for file in retcam(0):
        yield from retina("infant", "retcam-" + file.parent.name + file.stem, file, [("infant", (0.95, 1.35))] * 10)
    for folder in ("normal", "rop"):
        for file in sorted((data_folder() / "hvdropdb_neo" / folder).iterdir())[::2]:
            yield from retina("infant", f"neo-{folder}{file.stem}", file, [("infant", (0.95, 1.25))] * 8)


def adults() -> Iterator[QualityPicture]:
    """DRIVE as 40 to 75 degree cameras might show it; and as thin vessels in a wide field, which adults never have.

    These `thin` ones stand for sharp infant cameras: RetCam alone would teach that infants' vessels are faint. Three more
    cameras as they are and as 30 to 50 degree cameras show them.
    """
    looks = [("adult", (0.72, 1.15))] * 10 + [("adult", (0.58, 0.75))] * 4 + [("thin", (0.36, 0.46))] * 5
    for file in sorted((data_folder() / "drive_av/training/images").iterdir()):
        yield from retina("adult", f"drive-{file.stem}", file, looks)
    for name, folder in (("chase", "chase_db1/images"), ("stare", "stare/images"), ("les", "les_av/images")):
        for file in sorted((data_folder() / folder).iterdir()):
            group = f"{name}-{file.stem[:-1] if name == 'chase' else file.stem}"
            yield from retina("adult", group, file, [("adult", (0.9, 1.3))] * 7)


def retina(kind: str, group: str, file: Path, looks: list[tuple[str, tuple[float, float]]]) -> Iterator[QualityPicture]:
    """One photograph as it is, in several looks (kind, range of zoom), enhanced, and blurred."""
    rng = np.random.default_rng(hash_of(group))
    picture = load(file)
    if picture is None:
        return
    square = square_of(picture)
    yield QualityPicture(kind, group, picture)
    yield QualityPicture(f"blurred-{kind}", group, strongly_blurred(picture, rng))
    for _ in range(3):
        yield QualityPicture(f"enhanced-{kind}", group, enhanced(picture, rng))
    for number, (look, zoom) in enumerate(looks):
        other = as_other_camera(square, zoom, rng)
        yield QualityPicture(look, group, other)
        if look == kind and number % 3 == 0:
            yield QualityPicture(f"blurred-{kind}", group, strongly_blurred(other, rng))
        if look == kind and number % 4 == 0:
            yield QualityPicture(f"enhanced-{kind}", group, enhanced(other, rng))


def simulated(first: int, count: int) -> Iterator[QualityPicture]:
    """Simulated eyes of many cameras: what a sharp infant camera and a hazy adult one would show, which no data here has."""
    from fundoscope.simulate import adult, infant

    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        level = ("perfect", "good", "fair")[number % 3]
        baby = infant(1000 + number, camera=("full-circle", "retcam")[number % 2], level=level, size=SIDE).pixels
        grown = adult(1000 + number, camera=("drive", "hrf", "iostar")[number // 3 % 3], level=level, size=SIDE).pixels
        for kind, picture, zoom in (("infant", baby, (0.95, 1.35)), ("adult", grown, (0.72, 1.15))):
            group = f"simulated-{number}"
            yield QualityPicture(f"simulated-{kind}", group, picture)
            yield QualityPicture(f"enhanced-{kind}", group, enhanced(picture, rng))
            yield QualityPicture(f"blurred-{kind}", group, strongly_blurred(picture, rng))
            yield QualityPicture(f"simulated-{kind}", group, as_other_camera(square_of(picture), zoom, rng))


def foreign(source: str, files: list[Path], copies: int) -> Iterator[QualityPicture]:
    """Pictures of other things, each as it is and in some `copies` as through a camera."""
    for file in files:
        if (picture := load(file)) is not None:
            yield from foreign_copies(source, picture, np.random.default_rng(hash_of(file.name)), copies)


def drawn(seed: int, count: int, copies: int) -> Iterator[QualityPicture]:
    """`count` drawings of each kind."""
    rng = np.random.default_rng(seed)
    for name, picture in drawings(rng, count):
        yield from foreign_copies("drawn-" + name.split("-")[0], picture, rng, copies)


def foreign_copies(source: str, picture: Picture, rng: np.random.Generator, copies: int) -> Iterator[QualityPicture]:
    """A picture of something else, and copies of parts of it as a camera might show them."""
    yield QualityPicture("foreign", source, picture)
    for _ in range(copies):
        yield QualityPicture("foreign", source, as_seen_through(picture, rng))


def pictures_of(folder: Path, most: int) -> list[Path]:
    """Return at most `most` pictures of a folder and those below, evenly over their sorted names."""
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.stat().st_size > 8192)
    return files[:: max(1, -(-len(files) // most))]


def hash_of(text: str) -> int:
    """Return a number that seeds what is drawn for a name."""
    return zlib.crc32(text.encode())
