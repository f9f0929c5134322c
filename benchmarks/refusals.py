"""How often the quality verdict is right: python benchmarks/refusals.py [FOLDER_OF_FOREIGN_PICTURES...]

Photographs and kinds of picture that neither `fundoscope.learning.quality_fit` nor `quality_machines` uses: the other half of
RetCam and of Neo, DRIVE's test half, HRF, IOSTAR, scikit-image's retina, each also as somebody might have enhanced it;
whatever folders are named; and drawings of other kinds than the fits have. Prints a table and writes
docs/results/refusals.csv; `before` is what the table held when the run began, and a row that got worse is marked.
FUNDOSCOPE_DATA names the data (default ../shared/data). `called_enhanced` counts the refusals whose reason is that a
retina's photograph was enhanced, and not that it shows no retina.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, fields, replace
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

from fundoscope.errors import PhotographError
from fundoscope.imaging import Prepared, clahe, find_field, read
from fundoscope.imaging.quality import EyeKind, QualityVerdict, judge_quality
from fundoscope.learning.quality_pictures import (
    Picture,
    as_other_camera,
    data_folder,
    hash_of,
    load,
    pictures_of,
    retcam,
    ring_removed,
    square_of,
)

ROOT = Path(__file__).resolve().parents[1]

OUTSIDE = "outside the intended use"


@dataclass(frozen=True)
class Row:
    """One line of the table: of `n` pictures, `refused` were; `needed` is the share that was asked for."""

    kind: str
    expects: str
    n: int
    refused: int
    needed: str
    met: str
    called_enhanced: int
    before: int | str = ""


def row(kind: str, expects: EyeKind, verdicts: Iterable[QualityVerdict], needed: str, because: str = "") -> Row:
    """Count refusals (for the reason `because`, when given) and hold them against `needed`, as '<= 0.03'."""
    verdicts = list(verdicts)
    n = len(verdicts)
    refused = sum(any(because in reason for reason in v.reasons) if because else not v.gradable for v in verdicts)
    enhanced = sum(v.codes == ("enhanced",) for v in verdicts)
    share = refused / max(1, n)
    sign, bound = needed.split()
    met = share <= float(bound) if sign == "<=" else share >= float(bound)
    return Row(kind, expects, n, refused, needed, "yes" if met else "NO", enhanced)


def verdict(picture: Picture, expects: EyeKind) -> QualityVerdict:
    """The verdict on a picture."""
    return judge_quality(Prepared.read(np.ascontiguousarray(picture)), expects)


# ---- eyes


def eye_rows() -> Iterator[Row]:
    infants = [read(f).pixels for f in retcam(1)]
    yield row("RetCam, other half", "infant", (verdict(p, "infant") for p in infants), "<= 0.03")
    for name, change in CHANGES.items():
        yield row(f"RetCam, {name}", "infant", (verdict(change(p), "infant") for p in infants), NEEDED[name])
    others = (v for p in infants for v in other_cameras(p))
    yield row("RetCam as other cameras", "infant", (verdict(p, "infant") for p in others), "<= 0.03")
    yield row("RetCam, other half", "adult", (verdict(p, "adult") for p in infants), ">= 0.9", OUTSIDE)
    for name, files in adults().items():
        pictures = [read(f).pixels for f in files]
        yield row(name, "adult", (verdict(p, "adult") for p in pictures), "<= 0.03")
        yield row(name, "infant", (verdict(p, "infant") for p in pictures), ">= 0.9", OUTSIDE)
        yield row(f"{name}, blurred", "adult", (verdict(blurred(p), "adult") for p in pictures), ">= 0.9")


def enhanced_rows() -> Iterator[Row]:
    """Photographs that somebody enhanced: still retinas."""
    infants = [read(f).pixels for f in retcam(1)]
    neo = [
        load(f, 1024)
        for folder in ("normal", "rop")
        for f in sorted((data_folder() / "hvdropdb_neo" / folder).iterdir())[1::2]
    ]
    yield row("Neo, other half", "infant", (verdict(p, "infant") for p in neo), "<= 0.03")
    sets = {"DRIVE test": adults()["DRIVE test"], "HRF": adults()["HRF"]}
    pictures = {"RetCam": infants, "Neo": neo, **{name: [load(f, 1024) for f in files] for name, files in sets.items()}}
    for name, some in pictures.items():
        expects: EyeKind = "infant" if name in ("RetCam", "Neo") else "adult"
        for how, change in ENHANCEMENTS.items():
            yield row(f"{name}, {how}", expects, (verdict(change(p), expects) for p in some), "<= 0.1")


def adults() -> dict[str, list[Path]]:
    import skimage

    sets = {
        "DRIVE test": data_folder() / "drive_av/test/images",
        "HRF": data_folder() / "hrf_av/images",
        "IOSTAR": data_folder() / "iostar/images_1024",
    }
    found = {name: sorted(folder.iterdir()) for name, folder in sets.items()}
    return {**found, "scikit-image's retina": [Path(skimage.__file__).parent / "data/retina.jpg"]}


def other_cameras(picture: Picture, copies: int = 3) -> Iterator[Picture]:
    """The photograph as unseen infant cameras might show it; the last one as 2040 x 2040 full circle."""
    rng = np.random.default_rng(int(picture[::7, ::7].sum()))
    square = square_of(picture)
    for _ in range(copies):
        yield as_other_camera(square, (1.0, 1.25), rng)
    yield full_circle(square)


def full_circle(square: Picture) -> Picture:
    """2040 x 2040, paler and yellower, a full circle."""
    big = cv2.resize(square, (2040, 2040), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros(big.shape[:2], np.uint8)
    cv2.circle(mask, (1020, 1020), 1000, 1, -1)
    return (big * np.array([0.85, 1.05, 0.7]) * mask[..., None]).clip(0, 255).astype(np.uint8)


def blurred(picture: Picture) -> Picture:
    """Gaussian blur of a fortieth of the field's radius: sigma 8 at 640 x 480 (larger photographs made smaller)."""
    scale = min(1.0, 1024 / max(picture.shape[:2]))
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(picture, (0, 0), find_field(picture).radius / 39)


def clahe_of_channels(picture: Picture, clip: float) -> Picture:
    """CLAHE of red, green and blue, each by itself: colours change too."""
    equalise = cv2.createCLAHE(clip, (8, 8))
    return cv2.merge([equalise.apply(channel) for channel in cv2.split(picture)])


def blurred_with_sharp_rim(picture: Picture) -> Picture:
    """The same, but the rim of the field stays sharp."""
    field, out = find_field(picture), blurred(picture)
    out[~field.mask()] = picture[~field.mask()]
    return out


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "blurred, sigma 8": blurred,
    "blurred, sharp rim": blurred_with_sharp_rim,
    "darkened to 12 %": lambda p: (p * 0.12).astype(np.uint8),
    "mildly blurred, sigma 1.5": lambda p: cv2.GaussianBlur(p, (0, 0), 1.5),
    "40 % darker": lambda p: (p * 0.6).astype(np.uint8),
    "at 2040 x 1530": lambda p: cv2.resize(p, (2040, 1530), interpolation=cv2.INTER_CUBIC),
    "JPEG 70": lambda p: cv2.imdecode(cv2.imencode(".jpg", p, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], 1),
}
ENHANCEMENTS: dict[str, Callable[[Picture], Picture]] = {
    "CLAHE, clip 4": lambda p: clahe(p, 4.0, 8),
    "CLAHE of each channel, clip 2": lambda p: clahe_of_channels(p, 2.0),
    "sharpened": lambda p: cv2.addWeighted(p, 2.5, cv2.GaussianBlur(p, (0, 0), min(p.shape[:2]) / 120), -1.5, 0),
    "CLAHE, then sharpened": lambda p: ENHANCEMENTS["sharpened"](ENHANCEMENTS["CLAHE, clip 4"](p)),
    "ring removed": lambda p: ring_removed(p, 0.08),
}
NEEDED = {
    "blurred, sigma 8": ">= 0.9",
    "blurred, sharp rim": ">= 0.9",
    "darkened to 12 %": ">= 0.9",
    "mildly blurred, sigma 1.5": "<= 0.1",
    "40 % darker": "<= 0.1",
    "at 2040 x 1530": "<= 0.03",
    "JPEG 70": "<= 0.03",
}


# ---- foreign pictures


def foreign_rows(folders: list[Path], most: int) -> Iterator[Row]:
    kinds: dict[str, Callable[[], Iterable[Picture]]] = {
        **{folder.name: lambda folder=folder: pictures_in(folder, most) for folder in folders},
        **{name: lambda name=name, make=make: drawn(name, make, 50) for name, make in DRAWINGS.items()},
    }
    for name, pictures in kinds.items():
        pairs = [(verdict(p, "infant"), verdict(p, "adult")) for p in pictures()]
        yield row(name, "infant", (infant for infant, _ in pairs), ">= 0.98")
        yield row(name, "adult", (adult for _, adult in pairs), ">= 0.98")


def pictures_in(folder: Path, most: int) -> Iterator[Picture]:
    """Up to `most` pictures of a folder, evenly over their sorted names, at most 2000 pixels long."""
    for f in pictures_of(folder, most):
        try:
            picture = read(f).pixels
        except PhotographError:
            picture = load(f, 2000)
        if picture is not None:
            yield picture


def drawn(name: str, make: Callable[[np.random.Generator], Picture], n: int) -> Iterator[Picture]:
    for i in range(n):
        yield make(np.random.default_rng(hash_of(f"{name} {i}")))


def shaded(picture: Picture, rng: np.random.Generator) -> Picture:
    """Light falling off to one side, and a little noise."""
    rows, columns = picture.shape[:2]
    slope = np.linspace(1, rng.uniform(0.6, 1), columns)[None, :, None]
    return (picture * slope + rng.normal(0, rng.uniform(0, 3), (rows, columns, 1))).clip(0, 255).astype(np.uint8)


def text_page(rng: np.random.Generator) -> Picture:
    """A printed page in a real typeface."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    faces = sorted((Path(matplotlib.get_data_path()) / "fonts/ttf").glob("DejaVu*.ttf"))
    font = ImageFont.truetype(str(faces[int(rng.integers(len(faces)))]), int(rng.integers(12, 40)))
    page = Image.new("RGB", (800, 1000), tuple(int(v) for v in rng.integers(215, 256, 3)))
    pen = ImageDraw.Draw(page)
    words = [
        "retina",
        "of",
        "the",
        "infant",
        "examination",
        "date",
        "12.5",
        "mm",
        "was",
        "seen",
        "in",
        "clinic",
    ]
    for top in range(40, 960, font.size + 8):
        if rng.random() < 0.9:
            pen.text((50, top), " ".join(rng.choice(words, 14)), fill=(20, 20, 40), font=font)
    return shaded(np.asarray(page), rng)


def screen(rng: np.random.Generator) -> Picture:
    """A desktop with windows, bars, buttons and labels."""
    picture = np.full((768, 1024, 3), rng.integers(20, 230, 3), np.uint8)
    for _ in range(int(rng.integers(2, 6))):
        x, y, w, h = (int(v) for v in rng.integers((0, 0, 250, 200), (600, 450, 700, 500)))
        ground = tuple(int(v) for v in rng.choice([40, 235, 250]) + rng.integers(-5, 5, 3))
        cv2.rectangle(picture, (x, y), (x + w, y + h), ground, -1)
        cv2.rectangle(picture, (x, y), (x + w, y + 26), tuple(int(v) for v in rng.integers(60, 220, 3)), -1)
        for row_at in range(y + 50, y + h, 28):
            label = "".join(rng.choice(list("Patient file edit view 0123"), int(rng.integers(5, 30))))
            tone = 20 if ground[0] > 128 else 230
            cv2.putText(picture, label, (x + 15, row_at), 0, 0.5, (tone,) * 3, 1, cv2.LINE_AA)
    return picture


def chart(rng: np.random.Generator) -> Picture:
    """Lines, bars, points or a heat map with axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), dpi=100)
    axes = figure.add_subplot()
    kind = int(rng.integers(4))
    if kind == 0:
        axes.plot(rng.normal(size=(80, 4)).cumsum(axis=0))
    elif kind == 1:
        axes.bar(range(9), rng.uniform(size=9))
    elif kind == 2:
        axes.scatter(*rng.normal(size=(2, 200)), c=rng.uniform(size=200))
    else:
        axes.imshow(rng.normal(size=(12, 12)).cumsum(axis=0), cmap=rng.choice(["hot", "viridis", "gray"]))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def cloud_noise(rng: np.random.Generator) -> Picture:
    """Value noise over several octaves in two colours, or salt and pepper."""
    if rng.random() < 0.3:
        return (rng.random((480, 640, 1)) < rng.uniform(0.05, 0.5)).repeat(3, axis=2).astype(np.uint8) * 255
    total = np.zeros((480, 640), np.float32)
    for octave in range(2, 8):
        grid = rng.normal(size=(2**octave, 2**octave)).astype(np.float32)
        total += cv2.resize(grid, (640, 480), interpolation=cv2.INTER_CUBIC) * float(rng.uniform(0.4, 0.7)) ** octave
    share = cv2.normalize(total, None, 0, 1, cv2.NORM_MINMAX)[..., None]
    a, b = rng.uniform(0, 255, (2, 3))
    return (a + (b - a) * share).astype(np.uint8)


def ball(rng: np.random.Generator, radius: float = 0.4) -> tuple[Picture, np.ndarray, np.ndarray]:
    """A lit sphere on a 640 x 640 picture: shade (0 to 1), its mask, and the distance from its centre."""
    side = 640
    y, x = (np.indices((side, side)) - side / 2) / (radius * side)
    distance = np.hypot(y, x)
    z = np.sqrt(np.clip(1 - distance**2, 0, 1))
    light = rng.normal(size=3) * [0.5, 0.5, 0] + [0, 0, 1]
    shade = np.clip((y * light[0] + x * light[1] + z * light[2]) / np.linalg.norm(light), 0, 1)
    return shade, distance < 1, distance


def shaded_disc(rng: np.random.Generator) -> Picture:
    """A coloured disc or ball on black, with a highlight, a darker rim or a gradient of hue."""
    shade, mask, distance = ball(rng, float(rng.uniform(0.25, 0.49)))
    warm = np.array([rng.uniform(140, 255), rng.uniform(40, 160), rng.uniform(0, 90)])
    other = warm if rng.random() < 0.5 else rng.uniform(0, 255, 3)
    mix = np.clip(distance, 0, 1)[..., None] ** rng.uniform(0.5, 3)
    flat = shade if rng.random() < 0.6 else np.ones_like(shade)
    picture = (warm * (1 - mix) + other * mix) * flat[..., None]
    spot = np.exp(-((distance - rng.uniform(0, 0.5)) ** 2) * 60) * rng.choice([0, 90])
    picture = (picture + spot[..., None]) * mask[..., None]
    return (picture + rng.normal(0, rng.uniform(0, 4), picture.shape)).clip(0, 255).astype(np.uint8)


def planet(rng: np.random.Generator) -> Picture:
    """A cratered moon or a banded planet on black."""
    shade, mask, _ = ball(rng, float(rng.uniform(0.3, 0.49)))
    albedo = np.ones(shade.shape, np.float32)
    if rng.random() < 0.5:
        bands = rng.normal(size=24).astype(np.float32)
        albedo += 0.25 * cv2.resize(bands[:, None], (640, 640), interpolation=cv2.INTER_CUBIC)
    else:
        for _ in range(int(rng.integers(40, 200))):
            at, size = rng.integers(0, 640, 2), int(np.clip(rng.pareto(1.2) * 3, 2, 60))
            centre = (int(at[0]), int(at[1]))
            cv2.circle(albedo, centre, size, float(rng.uniform(0.6, 1.1)), -1, cv2.LINE_AA)
            cv2.circle(albedo, centre, size, float(rng.uniform(1.0, 1.3)), 1, cv2.LINE_AA)
    colour = np.array([rng.uniform(150, 240), rng.uniform(120, 200), rng.uniform(80, 200)])
    picture = colour * (albedo * shade * mask)[..., None]
    return picture.clip(0, 255).astype(np.uint8)


def orange(rng: np.random.Generator) -> Picture:
    """An orange: a dimpled orange ball with a stalk, on black or white."""
    shade, mask, _ = ball(rng, float(rng.uniform(0.3, 0.47)))
    dimples = cv2.GaussianBlur(rng.normal(size=shade.shape).astype(np.float32), (0, 0), float(rng.uniform(1.5, 5)))
    skin = shade * (1 + rng.uniform(0.02, 0.1) * dimples / dimples.std())
    picture = np.array([250, rng.uniform(110, 160), rng.uniform(10, 50)]) * skin[..., None]
    at = tuple(int(v) for v in 320 + rng.uniform(-120, 120, 2))
    cv2.circle(picture, at, int(rng.integers(8, 20)), (70, 110, 40), -1, cv2.LINE_AA)
    ground = rng.choice([0, 0, 255])
    return np.where(mask[..., None], picture, ground).clip(0, 255).astype(np.uint8)


def outer_eye(rng: np.random.Generator) -> Picture:
    """An eye from outside: skin, lids, lashes, white, iris with its rays, pupil, reflection."""
    skin = np.array([rng.uniform(140, 240), rng.uniform(100, 180), rng.uniform(80, 150)])
    picture = np.ones((480, 640, 3)) * skin
    cv2.ellipse(picture, (320, 240), (int(rng.integers(200, 300)), int(rng.integers(90, 170))), 0, 0, 360,
                (235, 225, 220), -1, cv2.LINE_AA)  # fmt: skip
    size = int(rng.integers(80, 130))
    iris = tuple(float(v) for v in rng.uniform(30, 160, 3))
    cv2.circle(picture, (320, 240), size, iris, -1, cv2.LINE_AA)
    for angle in rng.uniform(0, 2 * np.pi, 90):
        a, b = (np.array([320, 240]) + r * size * np.array([np.cos(angle), np.sin(angle)]) for r in (0.4, 0.95))
        tone = tuple(float(v) for v in np.array(iris) * rng.uniform(0.5, 1.6))
        cv2.line(picture, tuple(a.astype(int)), tuple(b.astype(int)), tone, 2, cv2.LINE_AA)
    cv2.circle(picture, (320, 240), int(size * rng.uniform(0.3, 0.6)), (8, 8, 8), -1, cv2.LINE_AA)
    cv2.circle(picture, (350, 210), int(rng.integers(6, 16)), (255, 255, 255), -1, cv2.LINE_AA)
    for x in range(130, 520, 14):
        cv2.line(picture, (x, 140), (x + int(rng.integers(-12, 12)), 80), (20, 15, 10), 2, cv2.LINE_AA)
    return cv2.GaussianBlur(shaded(picture.clip(0, 255).astype(np.uint8), rng), (0, 0), float(rng.uniform(0.5, 2)))


def x_ray(rng: np.random.Generator) -> Picture:
    """A chest film or a slice of a head: bones, lungs, soft parts, grain."""
    picture = np.full((640, 640), float(rng.uniform(0, 40)), np.float32)
    if rng.random() < 0.5:
        cv2.ellipse(picture, (320, 340), (270, 320), 0, 0, 360, float(rng.uniform(120, 190)), -1)
        for x in (210, 430):
            cv2.ellipse(picture, (x, 320), (90, 190), 0, 0, 360, float(rng.uniform(30, 90)), -1)
            for y in range(160, 520, 45):
                cv2.ellipse(picture, (x, y + 40), (110, 50), 0, 180, 360, float(rng.uniform(120, 220)), 9)
        cv2.rectangle(picture, (300, 60), (340, 620), float(rng.uniform(180, 240)), -1)
    else:
        cv2.ellipse(picture, (320, 320), (230, 280), 0, 0, 360, 245.0, -1)
        cv2.ellipse(picture, (320, 320), (210, 258), 0, 0, 360, float(rng.uniform(90, 150)), -1)
        for _ in range(12):
            at, axes = rng.integers(180, 460, 2), rng.integers(10, 70, 2)
            centre, size, turn = tuple(map(int, at)), tuple(map(int, axes)), float(rng.uniform(0, 180))
            cv2.ellipse(picture, centre, size, turn, 0, 360, float(rng.uniform(60, 190)), -1)
    picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(1, 5)))
    grain = cv2.GaussianBlur(rng.normal(size=picture.shape), (0, 0), 0.8) * rng.uniform(2, 20)
    return cv2.cvtColor((picture + grain).clip(0, 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)


def microscope(rng: np.random.Generator) -> Picture:
    """Stained cells in a round field on black."""
    picture = np.ones((640, 640, 3)) * rng.uniform(170, 240, 3)
    for _ in range(int(rng.integers(30, 300))):
        at = tuple(map(int, rng.integers(0, 640, 2)))
        stain = tuple(float(v) for v in rng.uniform((120, 40, 80), (220, 140, 200)))
        cv2.circle(picture, at, int(rng.integers(6, 26)), stain, -1, cv2.LINE_AA)
        cv2.circle(picture, at, int(rng.integers(2, 8)), tuple(0.5 * v for v in stain), -1, cv2.LINE_AA)
    _, mask, _ = ball(rng, float(rng.uniform(0.42, 0.5)))
    blur = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.6, 3)))
    return (blur * mask[..., None]).clip(0, 255).astype(np.uint8)


def endoscope(rng: np.random.Generator) -> Picture:
    """A pink, wet tunnel with folds, as through an endoscope."""
    _, mask, distance = ball(rng, 0.48)
    angle = np.arctan2(*(np.indices(distance.shape) - 320.0))
    folds = np.sin(distance * rng.uniform(8, 25) + rng.uniform(0.2, 1) * np.sin(3 * angle + rng.uniform(0, 6)))
    tone = (0.35 + 0.65 * np.clip(distance, 0, 1)) * (0.8 + rng.uniform(0.08, 0.2) * folds)
    picture = np.array([rng.uniform(190, 250), rng.uniform(80, 140), rng.uniform(70, 120)]) * tone[..., None]
    for at in rng.integers(100, 540, (12, 2)):
        cv2.circle(picture, tuple(map(int, at)), int(rng.integers(2, 9)), (255, 250, 250), -1, cv2.LINE_AA)
    return (cv2.GaussianBlur(picture, (0, 0), 1.0) * mask[..., None]).clip(0, 255).astype(np.uint8)


DRAWINGS: dict[str, Callable[[np.random.Generator], Picture]] = {
    "drawn text pages": text_page,
    "drawn screens": screen,
    "drawn charts": chart,
    "drawn noise": cloud_noise,
    "drawn discs and balls": shaded_disc,
    "drawn planets": planet,
    "drawn oranges": orange,
    "drawn outer eyes": outer_eye,
    "drawn X-rays": x_ray,
    "drawn microscope views": microscope,
    "drawn endoscope views": endoscope,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--most", type=int, default=100, help="pictures taken of each folder")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    table = ROOT / "docs/results/refusals.csv"
    with table.open(encoding="utf-8") as file:
        before = {(line["kind"], line["expects"]): int(line["refused"]) for line in csv.DictReader(file)}
    rows, worse = [], 0
    for each in chain(eye_rows(), enhanced_rows(), foreign_rows(args.folders, args.most)):
        known = before.get((each.kind, each.expects))
        r = replace(each, before="" if known is None else known)
        got_worse = known is not None and (r.refused > known if r.needed.startswith("<") else r.refused < known)
        worse += got_worse
        mark = "WORSE" if got_worse else ""
        print(
            f"{r.kind:40s} {r.expects:7s} {r.n:4d} refused {r.refused:4d} called enhanced {r.called_enhanced:4d} before {r.before!s:4s} {r.needed:8s} {r.met} {mark}",
            flush=True,
        )
        rows.append(astuple(r))
    print(f"{worse} rows are worse than before")
    with (args.out or table).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[f.name for f in fields(Row)], *rows])


if __name__ == "__main__":
    main()
