"""Step 2, `squares/`: every photograph read once, standardised, and kept on disk as squares that are mapped, not loaded.

    plain.npy                   the photographs as the standard cuts them, (n, side, side, 3), contrast as it was
    screened.npy                the same at the side of the network's input, (n, size, size, 3), as screening cuts them: what
                                is predicted, measured and exported; only where the squares above are larger
    screened-SIZE.npy           the same for a teacher with a larger input
    field, colour, encoding     the same made alike in what is not disease: one field mask, one distribution of colours,
                                one encoding; `all.npy` in all three
    measures.parquet            a row a photograph: nuisances, mean colours, where treatment is asked, vessels, and whether
                                screening would grade or refuse it
    not_made.json               which of these variants the photographs do not allow, and why; only where there is one

Photographs are read in one stream, a few at a time; the controls are fitted in a second stream, on squares.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from fundoscope.cohort import CohortRow
from fundoscope.evaluation.controls import (
    VESSEL_FEATURES,
    NotMade,
    make_or_say_why,
    mean_colour_table,
    nuisance_features,
    vessel_features,
)
from fundoscope.evaluation.controls.matched_photographs import (
    KINDS,
    RIM,
    ColourReference,
    FieldMask,
    blackened,
    reencode,
)
from fundoscope.imaging import Photograph, Pixels, Prepared, Standard, read
from fundoscope.imaging.enhance import clahe
from fundoscope.imaging.quality import judge_quality
from fundoscope.rop.study.plan import StudyPlan
from fundoscope.rop.study.questions import TREATMENT
from fundoscope.studies import Progress, write_json

#: The photographs as they are, and made alike in what is not disease.
VARIANTS = ("plain", *KINDS, "all")
#: The photographs as screening cuts them: a square that is made larger and then reduced is another one, and moves a
#: log-odds of the shipped network by up to 2 (benchmarks/input_paths.py).
SCREENED = "screened"
MEASURES, NOT_MADE = "measures.parquet", "not_made.json"
COLOURS = ("red", "green", "blue")

_STEP = "squares"
_CHUNK = 64  # photographs at once: a few hundred megabytes of full-size ones at most
_WORKERS = 2  # OpenCV works outside Python's lock

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class StudyData:
    """The photographs of a study on disk: squares in every variant, and a table of measures.

    `standard` is how a square becomes network input.
    """

    folder: Path
    standard: Standard

    def pixels(self, variant: str = "plain", size: int | None = None) -> Sequence[Pixels]:
        """The squares of one variant, (n, side, side, 3), RGB, mapped from disk; those that are `SCREENED` are for an input of
        `size` pixels (default: the standard's), and the plain ones where these have that side (or stem from a version that kept
        no others).
        """
        path = self.folder / f"{variant}.npy"
        if variant == SCREENED and size not in (None, self.standard.size):
            path = self.folder / f"{SCREENED}-{size}.npy"
        if variant == SCREENED and not path.exists():
            path = self.folder / "plain.npy"
        return np.load(path, mmap_mode="r")

    @property
    def not_made(self) -> dict[str, NotMade]:
        """The variants that these photographs do not allow, and why."""
        path = self.folder / NOT_MADE
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return {variant: NotMade(why) for variant, why in found.items()}

    @property
    def variants(self) -> tuple[str, ...]:
        """The variants whose squares there are."""
        return tuple(variant for variant in VARIANTS if variant not in self.not_made)

    def measures(self, prefix: str) -> NDArray[np.float64]:
        """One group of measures, (n, K): `nuisance`, `alike` (nuisances of the photographs made alike), `colour`, `vessel`."""
        table = pd.read_parquet(self.folder / MEASURES)
        return table[[name for name in table if name.startswith(f"{prefix}: ")]].to_numpy(float)

    def graded(self) -> NDArray[np.bool_]:
        """Which photographs screening grades, (n,); it refuses the others for their quality."""
        return self.measures("quality")[:, 0] > 0


def prepare_squares(plan: StudyPlan, progress: Progress) -> StudyData:
    """Read and standardise every photograph of the cohort, unless that is done."""
    if not plan.study.done(_STEP):
        with plan.study.step(_STEP) as folder:
            measures = _read_all(plan, folder, progress)
            alike = _make_controls(plan, folder, progress)
            pd.concat([measures, alike], axis=1).to_parquet(folder / MEASURES, index=False)
            for scratch in ("visible.npy", "unenhanced.npy"):
                (folder / scratch).unlink(missing_ok=True)
    return StudyData(plan.study.result(_STEP), plan.recipe.standard)


def _read_all(plan: StudyPlan, folder: Path, progress: Progress) -> pd.DataFrame:
    """Write the plain squares and where each shows retina; returns the measures of the whole photographs."""
    n, side, standard = len(plan.cohort), plan.recipe.squares.side, plan.recipe.standard
    enhanced_first = standard.clahe_when == "before resize"  # then the controls start from squares without it
    last = plan.questions[-1]
    with_vessels = set(last.known_rows.tolist()) if last.name == TREATMENT else set()

    screened_as = {
        size: f"{SCREENED}.npy" if size == standard.size else f"{SCREENED}-{size}.npy"
        for size in plan.recipe.sizes
        if size != side
    }

    def measure(row: int) -> tuple[Pixels, Pixels | None, list[Pixels], Mask, dict[str, float]]:
        record = plan.cohort[row]
        prepared = standard.prepare(record.path, record.image)  # as screening reads it: a large JPEG at a reduced scale
        whole = read_whole(prepared, record)
        measures = _named("quality", {"graded": float(judge_quality(prepared, "infant").gradable)})
        measures |= measure_photograph(whole, row in with_vessels if with_vessels else None)
        unenhanced = standard.unenhanced_square(prepared, size=side) if enhanced_first else None
        screened = [standard.square(prepared, size=size) for size in screened_as]
        visible = standard.inside(prepared, side, RIM)
        return standard.square(prepared, size=side), unenhanced, screened, visible, measures

    _create(folder / "plain.npy", (n, side, side, 3))
    _create(folder / "visible.npy", (n, side, side))
    if enhanced_first:
        _create(folder / "unenhanced.npy", (n, side, side, 3))
    for size, name in screened_as.items():
        _create(folder / name, (n, size, size, 3))
    table: list[dict[str, float]] = []
    with ThreadPoolExecutor(_WORKERS) as pool:
        for rows in progress.follow(_chunks(n), -(-n // _CHUNK), "reading photographs"):
            squares, unenhanced, screened, visible, measures = zip(*pool.map(measure, rows), strict=True)
            _write(folder / "plain.npy", rows, squares)
            for name, own in zip(screened_as.values(), zip(*screened, strict=True), strict=True):
                _write(folder / name, rows, own)
            _write(folder / "visible.npy", rows, visible)
            if enhanced_first:
                _write(folder / "unenhanced.npy", rows, unenhanced)
            table += measures
    return pd.DataFrame(table)


def read_whole(prepared: Prepared, record: CohortRow) -> Prepared:
    """The photograph at its full size: itself, or read anew where it was decoded at a reduced scale."""
    if prepared.photograph.reduction == 1:
        return prepared
    return Prepared.from_photograph(read(record.path, record.image))


def measure_photograph(whole: Prepared, with_vessels: bool | None) -> dict[str, float]:
    """What the baselines know of a photograph at full size, by names with a prefix: nuisances and mean colours.

    `with_vessels` asks for the vessels too (False: they stay unknown); None leaves them out.
    """
    colours = mean_colour_table([whole.photograph])[0].tolist()
    measures = _named("nuisance", nuisance_features(whole.photograph, whole.field))
    measures |= _named("colour", dict(zip(COLOURS, colours, strict=True)))
    if with_vessels is None:
        return measures
    unknown = dict.fromkeys(VESSEL_FEATURES, np.nan)
    return measures | _named("vessel", vessel_features(whole.photograph) if with_vessels else unknown)


def _make_controls(plan: StudyPlan, folder: Path, progress: Progress) -> pd.DataFrame:
    """Write the squares made alike, as `Controls.apply` makes them; returns the nuisances that are left in them.

    A variant that the photographs do not allow is left out, and why stands in `not_made.json`.
    """
    n, side = len(plan.cohort), plan.recipe.squares.side
    source = folder / ("unenhanced.npy" if (folder / "unenhanced.npy").exists() else "plain.npy")

    def fit_colours(common: Mask | None) -> ColourReference | NotMade:
        return make_or_say_why(lambda: ColourReference.fit(*_squares_and_masks(source, folder, n, common)))

    common = make_or_say_why(lambda: _common_field(plan, folder))
    own, pooled = fit_colours(None), common if isinstance(common, NotMade) else fit_colours(common)
    needed = {"field": common, "colour": own, "encoding": None, "all": pooled}
    missing = {variant: each.why for variant, each in needed.items() if isinstance(each, NotMade)}
    if missing:
        write_json(folder / NOT_MADE, missing)
        for variant, why in missing.items():
            progress.say(f"control '{variant}' could not be made: {why}")

    def make_alike(square: Pixels, visible: Mask) -> tuple[dict[str, Pixels], dict[str, float]]:
        inside = blackened(square, visible)
        made = {
            "encoding": blackened(reencode(_as_photograph(inside)).pixels, visible)
        }  # the JPEG rings along the edge
        if isinstance(own, ColourReference):
            made["colour"] = own.apply(_as_photograph(inside), visible).pixels
        if isinstance(common, NotMade):
            return finished(made), {}
        made["field"] = blackened(square, common)
        if isinstance(pooled, NotMade):
            return finished(made), {}
        made["all"] = blackened(reencode(pooled.apply(_as_photograph(made["field"]), common)).pixels, common)
        return finished(made), _named("alike", nuisance_features(_as_photograph(made["all"])))

    def finished(made: dict[str, Pixels]) -> dict[str, Pixels]:
        """Enhanced as the network was taught where that comes before the resize."""
        standard = plan.recipe.standard
        if standard.clahe_when != "before resize":
            return made
        return {name: clahe(square, standard.clahe_clip, standard.clahe_tiles) for name, square in made.items()}

    variants = [variant for variant in VARIANTS[1:] if variant not in missing]
    for variant in variants:
        _create(folder / f"{variant}.npy", (n, side, side, 3))
    table: list[dict[str, float]] = []
    with ThreadPoolExecutor(_WORKERS) as pool:
        for rows in progress.follow(_chunks(n), -(-n // _CHUNK), "making photographs alike"):
            squares, visible = _read(source, rows), _read(folder / "visible.npy", rows).astype(bool)
            made, measures = zip(*pool.map(make_alike, squares, visible), strict=True)
            for variant in variants:
                _write(folder / f"{variant}.npy", rows, [each[variant] for each in made])
            table += measures
    return pd.DataFrame(table)


def _common_field(plan: StudyPlan, folder: Path) -> Mask:
    """Where all photographs show retina, (side, side); `ControlError` names the narrowest field where that is too little."""
    visible = _stream(folder / "visible.npy", len(plan.cohort))
    return FieldMask.common_to(
        (record.image, mask.astype(bool)) for record, mask in zip(plan.cohort, visible, strict=True)
    ).inside


def _squares_and_masks(source: Path, folder: Path, n: int, common: Mask | None) -> tuple[Any, Any]:
    """The squares as photographs, and their masks (each its own, or the `common` one), as two streams."""
    own = (visible.astype(bool) for visible in _stream(folder / "visible.npy", n))
    return map(_as_photograph, _stream(source, n)), own if common is None else (common for _ in range(n))


def _stream(path: Path, n: int) -> Iterator[NDArray[np.uint8]]:
    """The rows of a file of squares, a few in memory at a time."""
    for rows in _chunks(n):
        yield from _read(path, rows)


def _chunks(n: int) -> list[range]:
    return [range(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK)]


def _read(path: Path, rows: range) -> NDArray[np.uint8]:
    """Some rows of a file of squares, in memory."""
    return np.array(np.load(path, mmap_mode="r")[rows.start : rows.stop])


def _create(path: Path, shape: tuple[int, ...]) -> None:
    open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def _write(path: Path, rows: range, block: object) -> None:
    """Write some rows of a file of squares; the mapping ends here, so that memory holds one block only."""
    open_memmap(path, mode="r+")[rows.start : rows.stop] = np.asarray(block)


def _named(prefix: str, measures: dict[str, float]) -> dict[str, float]:
    return {f"{prefix}: {name}": value for name, value in measures.items()}


def _as_photograph(pixels: Pixels) -> Photograph:
    return Photograph(pixels, "square", 0, "array")
