"""Writing simulated photographs as a cohort: `images/ truth/ cohort.csv eyes.csv crossings.csv crossings.json`.

The same seed gives the same bytes whatever the number of workers: each infant or photograph has its own seed, and
rows are written in order as they arrive, so that memory does not grow with the number of photographs.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from fundoscope.errors import UsageError
from fundoscope.simulate.truth import MASKS, Mask, SimulatedPhotograph

Row = dict[str, Any]
Progress = Callable[[int, int], None]

CROSSING_COLUMNS = (
    "image", "crossing", "row", "col", "artery_width_px", "vein_width_px", "angle_degrees",
    "narrowing_1", "narrowing_2", "grade", "artery_above", "side_1_up",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Taken:
    """What is left of a photograph after it has been written: rows for the tables."""

    row: Row
    eye: Row
    crossings: list[Row]
    shape: tuple[int, int]
    patches: tuple[Row, ...] = ()


def prepare(out: Path, n: int, workers: int) -> None:
    """Make the folders; raises `UsageError` for a count below one or a folder that already holds a cohort."""
    if n < 1 or workers < 1:
        raise UsageError(f"{n} photographs by {workers} workers cannot be made. Give 1 or more of each.")
    if (out / "cohort.csv").exists():
        raise UsageError(f"{out} already holds a cohort. Give another folder with --out, or remove it.")
    (out / "images").mkdir(parents=True, exist_ok=True)
    (out / "truth").mkdir(parents=True, exist_ok=True)


def store(out: Path, name: str, photograph: SimulatedPhotograph, row: Row, eye: Row) -> Taken:
    """Write one photograph and its truth as `name`; gives its rows."""
    truth = photograph.truth
    (out / "images" / f"{name}.jpg").write_bytes(photograph.file)
    _write_masks(out / "truth" / f"{name}.png", truth.bits())
    crossings = [asdict(crossing) for crossing in truth.crossings]
    record = row | {"shape": truth.artery.shape, "masks": MASKS, "crossings": crossings}
    (out / "truth" / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    rows = [{"image": row["image"], "crossing": k} | crossing for k, crossing in enumerate(crossings, 1)]
    return Taken(row, eye, rows, (truth.artery.shape[0], truth.artery.shape[1]))


def _write_masks(path: Path, bits: np.ndarray) -> None:
    """A palette image whose index is the bit mask, so that it can be looked at and read exactly."""
    picture = Image.fromarray(bits, mode="P")
    picture.putpalette(_palette())
    picture.save(path, compress_level=3)


def _palette() -> list[int]:
    shades = {1: (214, 60, 40), 2: (50, 90, 220), 4: (250, 220, 120), 8: (140, 200, 140), 16: (245, 245, 245)}
    colours = []
    for index in range(64):
        top = [shades[bit] for bit in (16, 1, 2, 4, 8) if index & bit]
        colours += top[0] if top else (60, 60, 60) if index & 32 else (0, 0, 0)
    return colours


def read_masks(path: str | Path) -> dict[str, Mask]:
    """The masks of one photograph by name, each (rows, columns), from its `truth/*.png`."""
    bits = np.asarray(Image.open(path))
    return {name: (bits >> bit & 1).astype(bool) for bit, name in enumerate(MASKS)}


def run(jobs: Iterable[Any], make: Callable[[Any], list[Taken]], workers: int) -> Iterator[Taken]:
    """`make` done to each job, in order, by so many processes; at most a few jobs are under way at once."""
    if workers == 1:
        cv2.setNumThreads(1)
        for job in jobs:
            yield from make(job)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        waiting = []
        for job in jobs:
            waiting.append(pool.submit(make, job))
            if len(waiting) >= 4 * workers:
                yield from waiting.pop(0).result()
        for future in waiting:
            yield from future.result()


def write_tables(
    out: Path, taken: Iterable[Taken], columns: tuple[str, ...], n: int, progress: Progress | None
) -> None:
    """Write the tables row by row; `progress` is called with photographs done and asked for."""
    seen: set[tuple[Any, ...]] = set()
    boxes = _Coco()
    with ExitStack() as stack:
        cohort = _table(stack, out / "cohort.csv.part", columns)
        crossings = _table(stack, out / "crossings.csv", CROSSING_COLUMNS)
        eyes: csv.DictWriter[str] | None = None
        patches: csv.DictWriter[str] | None = None
        for done, one in enumerate(taken, 1):
            cohort.writerow(one.row)
            crossings.writerows(one.crossings)
            boxes.add(one)
            if one.patches:
                patches = patches or _table(stack, out / "patches.csv", tuple(one.patches[0]))
                patches.writerows(one.patches)
            if one.eye:
                eyes = eyes or _table(stack, out / "eyes.csv", tuple(one.eye))
                key = (one.eye["infant"], one.eye["eye"])
                if key not in seen:
                    seen.add(key)
                    eyes.writerow(one.eye)
            if progress:
                progress(done, n)
    boxes.write(out / "crossings.json")
    (out / "cohort.csv.part").replace(out / "cohort.csv")  # last: its presence says that the cohort is whole


def _table(stack: ExitStack, path: Path, columns: tuple[str, ...]) -> csv.DictWriter[str]:
    file = stack.enter_context(path.open("w", newline="", encoding="utf-8"))
    table = csv.DictWriter(file, columns, lineterminator="\n")
    table.writeheader()
    return table


class _Coco:
    """Crossings in the form of COCO detection (Lin et al. 2014): a box of 12 vein widths, the category its grade."""

    def __init__(self) -> None:
        self._images: list[Row] = []
        self._boxes: list[Row] = []

    def add(self, one: Taken) -> None:
        number = len(self._images) + 1
        rows, columns = one.shape
        self._images.append({"id": number, "file_name": one.row["image"], "height": rows, "width": columns})
        for crossing in one.crossings:
            side = 12 * crossing["vein_width_px"]
            box = [crossing["col"] - side / 2, crossing["row"] - side / 2, side, side]
            annotation = {"id": len(self._boxes) + 1, "image_id": number, "category_id": crossing["grade"] + 1}
            self._boxes.append(annotation | {"bbox": box, "area": side * side, "iscrowd": 0})

    def write(self, path: Path) -> None:
        categories = [{"id": grade + 1, "name": f"crossing, nicking grade {grade}"} for grade in range(4)]
        whole = {"images": self._images, "annotations": self._boxes, "categories": categories}
        path.write_text(json.dumps(whole, separators=(",", ":")) + "\n")
