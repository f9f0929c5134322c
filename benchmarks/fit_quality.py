"""Fit the quality verdict: python benchmarks/fit_quality.py FOLDER_OF_FOREIGN_PICTURES... [--out TABLE]

Retinas: every second RetCam photograph (sorted by name, both folders) and DRIVE's training half, each also as
other cameras might have taken it (field shape, colour cast, gamma, sharpness, haze, noise, compression).
Foreign pictures: the folders named, pictures that installed packages ship, and drawings. Half of the
copies are shown as through a camera's round field, half of these in a retina's colours, so that neither tells.
The shipped table was made from the pictures in these Debian packages, each unpacked into a folder of its name
with `dpkg-deb -x`: gnome-backgrounds, lomiri-wallpapers-16.04, mate-backgrounds, opencv-doc, stellarium-data,
openclipart-png, sway-backgrounds. Thresholds are set on photographs and sources held out of the fit.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging import Prepared, find_field
from fundoscope.imaging.measures import measure
from fundoscope.imaging.quality import SupportVectorMachine

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("FUNDOSCOPE_DATA", ROOT / "../shared/data"))
SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"}
SIDE = 384  # pixels of the longest side at which pictures are changed

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """One picture shown to the verdict: what it is (`kind`), where it came from, and its measurements."""

    kind: str  # infant, adult, blurred-infant, blurred-adult, foreign
    group: str
    values: dict[str, float]


def load(path: Path, side: int = SIDE) -> Picture | None:
    """A picture as RGB, at most `side` pixels long; None when OpenCV cannot read it."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None or min(picture.shape[:2]) < 48:
        return None
    scale = side / max(picture.shape[:2])
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def retcam(half: int) -> list[Path]:
    """Every second RetCam photograph by name in each folder: half 0 for building, half 1 for reporting."""
    return [f for kind in ("normal", "rop") for f in sorted((DATA / "hvdropdb_retcam" / kind).iterdir())[half::2]]


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
    return cv2.add(shown, (float(rng.integers(0, 6)),) * 3)


def another_colour(picture: Picture, rng: np.random.Generator) -> Picture:
    """Gains, gamma, saturation, haze: the lens, the lamp and the pigment."""
    x = cv2.pow(picture / np.float32(255), rng.uniform(0.7, 1.5)) * rng.uniform(0.75, 1.3, 3).astype(np.float32)
    if rng.random() < 0.5:
        grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
        x = grey + (x - grey) * np.float32(rng.uniform(0.4, 1.3))
    if rng.random() < 0.3:
        x = x + (rng.uniform(0.2, 0.7, 3).astype(np.float32) - x) * np.float32(rng.uniform(0, 0.35))
    return cv2.convertScaleAbs(cv2.max(x, 0.0), alpha=255 * rng.uniform(0.65, 1.15))


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
        picture = cv2.imdecode(
            cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(55, 96))])[1], 1
        )
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
    cv2.randn(noise, (0, 0, 0), (16 * deviation,) * 3)
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


# ---- samples


def infants() -> Iterator[Sample]:
    for f in retcam(0):
        yield from retina("infant", f, [("infant", (0.95, 1.35))] * 6)


def adults() -> Iterator[Sample]:
    """DRIVE as 40 to 75 degree cameras might show it; and as thin vessels in a wide field, which adults never have.

    These `thin` ones stand for sharp infant cameras: RetCam alone would teach that infants' vessels are faint.
    """
    for f in sorted((DATA / "drive_av/training/images").iterdir()):
        looks = [("adult", (0.72, 1.15))] * 8 + [("adult", (0.58, 0.75))] * 3 + [("thin", (0.36, 0.46))] * 4
        yield from retina("adult", f, looks)


def retina(kind: str, file: Path, looks: list[tuple[str, tuple[float, float]]]) -> Iterator[Sample]:
    """One photograph as it is, in several looks (kind, range of zoom), and blurred."""
    rng = np.random.default_rng(hash_of(file.stem))
    picture = load(file)
    assert picture is not None, file
    square = square_of(picture)
    yield Sample(kind, file.stem, measured(picture))
    yield Sample(f"blurred-{kind}", file.stem, measured(strongly_blurred(picture, rng)))
    for i, (look, zoom) in enumerate(looks):
        other = as_other_camera(square, zoom, rng)
        yield Sample(look, file.stem, measured(other))
        if look == kind and i % 4 == 0:
            yield Sample(f"blurred-{kind}", file.stem, measured(strongly_blurred(other, rng)))


def simulated() -> Iterator[Sample]:
    """Simulated eyes: what a sharp infant camera and a hazy adult one would show, which no data here has."""
    from fundoscope.simulate import adult, infant

    for i in range(16):
        level = ("perfect", "good", "fair")[i % 3]
        baby = infant(1000 + i, camera=("full-circle", "retcam")[i % 2], level=level, size=400)
        grown = adult(1000 + i, camera=("drive", "hrf", "iostar")[i // 3 % 3], level=level, size=400)
        yield Sample("simulated-infant", f"simulated-{i}", measured(baby.pixels))
        yield Sample("simulated-adult", f"simulated-{i}", measured(grown.pixels))


def foreign(source: str, files: list[Path]) -> Iterator[Sample]:
    for f in files:
        if (picture := load(f)) is not None:
            yield from foreign_copies(source, picture, np.random.default_rng(hash_of(f.name)), 2)


def drawn() -> Iterator[Sample]:
    rng = np.random.default_rng(7)
    for name, picture in drawings(rng, 16):
        yield from foreign_copies("drawn-" + name.split("-")[0], picture, rng, 2)


def foreign_copies(source: str, picture: Picture, rng: np.random.Generator, copies: int) -> Iterator[Sample]:
    yield Sample("foreign", source, measured(picture))
    for _ in range(copies):
        yield Sample("foreign", source, measured(as_seen_through(picture, rng)))


def measured(picture: Picture) -> dict[str, float]:
    picture = np.ascontiguousarray(picture)
    return measure(Prepared.read(picture))


def hash_of(text: str) -> int:
    import zlib

    return zlib.crc32(text.encode())


# ---- the fit

_STRUCTURE = (
    *(f"{name}{i}_{share}" for i in range(3) for name in ("dark", "bright") for share in (95, 99)),
    *(f"dark{i}_70" for i in range(3)),
    *(f"asymmetry{i}" for i in range(3)),
    *(f"steep_{share}" for share in (50, 90, 99, 999)),
    *(f"{name}{i}" for i in range(4) for name in ("band", "tails")),
    *("slope01", "slope12", "slope23", "coherence"),
)  # fmt: skip
_SPOTS = ("spot1", "spot2", "spot3", "pit1", "pit2", "pit3")
_CALIBRE = ("calibre01_95", "calibre12_95", "calibre01_99", "calibre12_99")
_COLOUR = ("red_green", "green_blue", "ordered", "hue_long", "hue_short", "grey")
_CHANNELS = ("red_follows", "red_agrees", "blue_follows", "blue_agrees")


@dataclass(frozen=True)
class Question:
    """A yes-or-no question: kinds that are a yes, kinds that are a no, and what it may look at."""

    yes: tuple[str, ...]
    no: tuple[str, ...]
    names: tuple[str, ...]
    limits: Callable[[dict[str, NDArray[np.float64]]], tuple[float, float]]
    gamma: float
    cost: float


def generous(scores: dict[str, NDArray[Any]]) -> tuple[float, float]:
    """One limit that refuses at most 0.5 % of held-out infants and 1 % of adults, and fewer where there is room.

    Room: halfway from those to the top 1 % of what is to be refused.
    """
    retinas = min(float(np.quantile(scores["infant"], 0.005)), float(np.quantile(scores["adult"], 0.01)))
    others = max(float(np.quantile(v, 0.99)) for kind, v in scores.items() if kind not in ("infant", "adult"))
    low = min(retinas, (retinas + others) / 2)
    return low, low


def either(scores: dict[str, NDArray[Any]]) -> tuple[float, float]:
    """Below the first an adult (0.5 % of held-out infants are), from the second on an infant (2.5 % of adults)."""
    low = float(np.quantile(scores["infant"], 0.005))
    high = float(np.quantile(scores["adult"], 0.975))
    return min(low, high), max(low, high)


QUESTIONS = {
    "retina": Question(
        ("infant", "adult"),
        ("foreign",),
        (*_STRUCTURE, *_COLOUR, *_CHANNELS, "entropy", "flat", "lit", "dark"),
        generous,
        gamma=0.01,
        cost=20,
    ),
    "sharp": Question(
        ("infant", "adult"),
        ("blurred-infant", "blurred-adult"),
        _STRUCTURE,
        generous,
        gamma=0.01,
        cost=20,
    ),
    "infant": Question(
        ("infant", "thin", "simulated-infant"),
        ("adult", "simulated-adult"),
        (*_STRUCTURE, *_CALIBRE, *_SPOTS),
        either,
        gamma=0.003,
        cost=100,
    ),
}
LIMIT = 3.0  # deviations at which measurements are cut


@dataclass(frozen=True)
class Machine:
    """A support vector machine on standardised measurements; `imaging.quality.SupportVectorMachine` is the same without sklearn."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    model: Any

    @classmethod
    def of(cls, x: NDArray[np.float64], yes: NDArray[np.bool_], question: Question) -> Machine:
        from sklearn.svm import SVC

        mean, deviation = np.round(x.mean(axis=0), 5), np.round(x.std(axis=0) + 1e-4, 5)
        model = SVC(C=question.cost, gamma=question.gamma, class_weight="balanced")
        return cls(mean, deviation, model.fit(np.clip((x - mean) / deviation, -LIMIT, LIMIT), yes))

    def scores(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.model.decision_function(np.clip((x - self.mean) / self.deviation, -LIMIT, LIMIT))

    def table(self) -> dict[str, Any]:
        return {
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
            "limit": LIMIT,
            "points": np.round(self.model.support_vectors_, 4).tolist(),
            "weights": np.round(self.model.dual_coef_[0], 5).tolist(),
            "gamma": self.model.gamma,
            "offset": round(float(self.model.intercept_[0]), 5),
        }


def held_out_scores(
    x: NDArray[Any], yes: NDArray[Any], groups: NDArray[Any], question: Question
) -> NDArray[np.float64]:
    """Scores by machines that saw neither a sample's photograph nor its source (eight folds of groups)."""
    names = np.unique(groups)
    part = dict(zip(names, np.random.default_rng(0).permutation(len(names)) % 8, strict=True))
    fold = np.array([part[g] for g in groups])
    scores = np.zeros(len(x))
    for i in np.unique(fold):
        scores[fold == i] = Machine.of(x[fold != i], yes[fold != i], question).scores(x[fold == i])
    return scores


def platt(scores: NDArray[np.float64], yes: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and shift of the logistic that turns held-out scores into probabilities."""
    from sklearn.linear_model import LogisticRegression

    line = LogisticRegression(C=1.0, class_weight="balanced").fit(scores[:, None], yes)
    return round(float(line.coef_[0, 0]), 4), round(float(line.intercept_[0]), 4)


def answer(question: Question, samples: list[Sample]) -> dict[str, Any]:
    """The table's entry for one question, its thresholds set on photographs and sources held out."""
    from sklearn.metrics import roc_auc_score

    used = [s for s in samples if s.kind in question.yes + question.no]
    x = np.array([[s.values[name] for name in question.names] for s in used])
    yes, kinds = np.array([s.kind in question.yes for s in used]), np.array([s.kind for s in used])
    scores = held_out_scores(x, yes, np.array([s.group for s in used]), question)
    by_kind = {kind: scores[kinds == kind] for kind in question.yes + question.no}
    low, high = question.limits(by_kind)
    slope, shift = platt(scores, yes)
    machine = Machine.of(x, yes, question)
    entry = {
        "names": list(question.names),
        "slope": slope,
        "shift": shift,
        "threshold": probability(slope * low + shift),
        "upper": probability(slope * high + shift),
        "held_out_auc": round(float(roc_auc_score(yes, scores)), 4),
        "samples": {kind: len(values) for kind, values in by_kind.items()},
        "held_out_below_threshold": {k: round(float(np.mean(v < low)), 4) for k, v in by_kind.items()},
        "held_out_below_upper": {k: round(float(np.mean(v < high)), 4) for k, v in by_kind.items()},
        **machine.table(),
    }
    check(entry, slope * machine.scores(x) + shift, used)
    return entry


def check(entry: dict[str, Any], logits: NDArray[Any], used: list[Sample]) -> None:
    """What is written says the same as scikit-learn's machine, within a hundredth."""
    ours = np.array([SupportVectorMachine.from_json(entry).probability(s.values) for s in used])
    worst = float(np.abs(ours - 1 / (1 + np.exp(-logits))).max())
    if worst > 0.01:
        raise SystemExit(f"the table's answers differ from scikit-learn's by {worst:.2g}. Write more digits.")


def probability(logit: float) -> float:
    return round(float(1 / (1 + np.exp(-logit))), 5)


def all_samples(folders: list[Path], kept: Path) -> list[Sample]:
    """Everything the fit looks at, about two thousand pictures; parts that `kept` holds are not measured again."""
    parts: dict[str, Callable[[], Iterator[Sample]]] = {
        "infants": infants,
        "adults": adults,
        "simulated": simulated,
        "drawn": drawn,
        "shipped": lambda: foreign("shipped", shipped_pictures()),
    }
    for folder in folders:
        parts[folder.name] = lambda folder=folder: foreign(folder.name, pictures_of(folder, 30))
    samples = []
    kept.mkdir(parents=True, exist_ok=True)
    for name, make in parts.items():
        file = kept / f"{name}.jsonl"
        if not file.exists():
            lines = [json.dumps(asdict(sample)) for sample in make()]
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        samples += [Sample(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
        print(f"{name}: {len(samples)} samples so far", flush=True)
    return samples


def pictures_of(folder: Path, most: int) -> list[Path]:
    """At most `most` pictures of a folder and those below, evenly over their sorted names."""
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES and f.stat().st_size > 8192)
    return files[:: max(1, -(-len(files) // most))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "src/fundoscope/imaging/quality_table.json")
    parser.add_argument("--keep", type=Path, default=ROOT / "build/quality", help="folder of measurements made")
    args = parser.parse_args()
    write(all_samples(args.folders, args.keep), args.out)


def write(samples: list[Sample], out: Path) -> None:
    """Fit every question and write the table; prints what each does to samples it did not see."""
    models = {}
    for name, question in QUESTIONS.items():
        models[name] = answer(question, samples)
        shown = {k: v for k, v in models[name].items() if k not in ("names", "points", "weights", "mean", "deviation")}
        print(name, json.dumps(shown))
    sources = sorted({s.group for s in samples if s.kind == "foreign"})
    table = {"made_by": "benchmarks/fit_quality.py", "foreign_sources": sources, "models": models}
    out.write_text(json.dumps(table) + "\n", encoding="utf-8")
    print(f"{out}: {out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
