"""The files of a simulated cohort: `images/ truth/ cohort.csv eyes.csv crossings.csv crossings.json sheet.png`.

The same seed gives the same bytes whatever the number of workers: each infant or photograph has its own seed, and rows
are written in order as they arrive, so that memory does not grow with the number of photographs.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from fundoscope.errors import UsageError, counted
from fundoscope.imaging import Pixels, read
from fundoscope.outputs import answer_folder, save_picture
from fundoscope.simulate.truth import MASKS, Mask, SimulatedPhotograph

Row = dict[str, Any]
Progress = Callable[[int, int], None]

CROSSING_COLUMNS = (
    "image", "crossing", "row", "col", "artery_width_px", "vein_width_px", "angle_degrees",
    "narrowing_1", "narrowing_2", "grade", "artery_above", "side_1_up", "calibre_1", "calibre_2", "fade_1", "fade_2",
)  # fmt: skip

#: All that a cohort may hold beside its photographs.
_ENTRIES = ("truth", "patches", "cohort.csv", "eyes.csv", "crossings.csv", "crossings.json", "patches.csv", "sheet.png")

_SHEET_COLUMNS, _SHEET_ROWS = 6, 4
_TILE = (240, 240)  # rows, columns
_CAPTION = 22  # pixels


@dataclass(frozen=True, slots=True)
class WrittenPhotograph:
    """The rows that a photograph adds to the tables after it has been written.

    `row` for cohort.csv, `eye` for eyes.csv (empty: no such table), `crossings` and `patches` for theirs; `shape` (rows,
    columns) of the photograph.
    """

    row: Row
    eye: Row
    crossings: list[Row]
    shape: tuple[int, int]
    patches: tuple[Row, ...] = ()


@contextmanager
def cohort_folder(out: Path, command: str, n: int, workers: int) -> Generator[Path]:
    """A place with its folders to make a cohort of `n` photographs in, which moves to `out` when the block ends.

    Raises `UsageError` for a count below one, and for a folder that already holds a cohort or files of these names.
    """
    if n < 1 or workers < 1:
        raise UsageError(
            f"{counted(n, 'photograph')} by {counted(workers, 'worker')} cannot be made. Give 1 or more of each."
        )
    if (out / "cohort.csv").exists():
        raise UsageError(f"{out} already holds a cohort. Give another folder with --out, or remove it.")
    with answer_folder(out, command, _ENTRIES, photographs=["images"]) as part:
        (part / "images").mkdir()
        (part / "truth").mkdir()
        yield part


def write_photograph(out: Path, name: str, photograph: SimulatedPhotograph, row: Row, eye: Row) -> WrittenPhotograph:
    """Write one photograph and its truth as `name` and return its rows."""
    truth = photograph.truth
    (out / "images" / f"{name}.jpg").write_bytes(photograph.file)
    masks = Image.fromarray(truth.bits(), mode="P")  # the index is the bit mask, the palette is for people
    masks.putpalette(_palette())
    masks.save(out / "truth" / f"{name}.png", compress_level=3)
    crossings = [asdict(crossing) for crossing in truth.crossings]
    record = row | {"shape": truth.artery.shape, "masks": MASKS, "crossings": crossings}
    (out / "truth" / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    rows = [{"image": row["image"], "crossing": k} | crossing for k, crossing in enumerate(crossings, 1)]
    return WrittenPhotograph(row, eye, rows, (truth.artery.shape[0], truth.artery.shape[1]))


def _palette() -> list[int]:
    """Red, green and blue of each bit mask: the colour of the topmost mask that is set."""
    shades = {1: (214, 60, 40), 2: (50, 90, 220), 4: (250, 220, 120), 8: (140, 200, 140), 16: (245, 245, 245)}
    colours = []
    for index in range(64):
        top = [shades[bit] for bit in (16, 1, 2, 4, 8) if index & bit]
        colours += top[0] if top else (60, 60, 60) if index & 32 else (0, 0, 0)
    return colours


def read_masks(path: str | Path) -> dict[str, Mask]:
    """The masks of one photograph by their names in `MASKS`, each (rows, columns), from its `truth/*.png`."""
    bits = np.asarray(Image.open(path))
    return {name: (bits >> bit & 1).astype(bool) for bit, name in enumerate(MASKS)}


def run_jobs(
    jobs: Iterable[Any], make: Callable[[Any], list[WrittenPhotograph]], workers: int
) -> Iterator[WrittenPhotograph]:
    """What `make` returns for each job, in order, from `workers` processes; only a few jobs are under way at once."""
    if workers == 1:
        cv2.setNumThreads(1)
        for job in jobs:
            yield from make(job)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_begin_worker, initargs=(os.getpid(),))
    try:
        waiting = []
        for job in jobs:
            with _ctrl_c_held():  # a submission may start a worker, which inherits this
                waiting.append(pool.submit(make, job))
            if len(waiting) >= 4 * workers:
                yield from waiting.pop(0).result()
        for future in waiting:
            yield from future.result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _ctrl_c_held() -> Generator[None]:
    """Hold Ctrl-C back from this thread until the block ends, and for good from the processes that it starts: one that is
    still loading its modules would tell of it with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker(parent: int) -> None:
    """Make a worker quiet: one thread, no word on Ctrl-C, which the program answers, and an end when the program has ended."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def write_tables(
    out: Path, written: Iterable[WrittenPhotograph], columns: tuple[str, ...], n: int, progress: Progress | None
) -> None:
    """Write the tables row by row; `progress` is called with the photographs done and `n`, the photographs wanted."""
    eyes_written: set[tuple[Any, ...]] = set()
    boxes = _CocoFile()
    with ExitStack() as stack:
        cohort = _table(stack, out / "cohort.csv.part", columns)
        crossings = _table(stack, out / "crossings.csv", CROSSING_COLUMNS)
        eyes: csv.DictWriter[str] | None = None
        patches: csv.DictWriter[str] | None = None
        for done, one in enumerate(written, 1):
            cohort.writerow(one.row)
            crossings.writerows(one.crossings)
            boxes.add(one)
            if one.patches:
                patches = patches or _table(stack, out / "patches.csv", tuple(one.patches[0]))
                patches.writerows(one.patches)
            if one.eye:
                eyes = eyes or _table(stack, out / "eyes.csv", tuple(one.eye))
                key = (one.eye["infant"], one.eye["eye"])
                if key not in eyes_written:
                    eyes_written.add(key)
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


class _CocoFile:
    """Crossings in the format of COCO detection (Lin et al. 2014): a box of 12 vein widths, the grade as category."""

    def __init__(self) -> None:
        self._images: list[Row] = []
        self._boxes: list[Row] = []

    def add(self, one: WrittenPhotograph) -> None:
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


def write_sheet(out: Path) -> Path:
    """Write `sheet.png`, a contact sheet with one photograph of up to 24 eyes of the cohort in `out`, and their truth."""
    with (out / "cohort.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    eyes: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        eyes.setdefault((row.get("infant", row["image"]), row["eye"]), row)
    tiles = [
        _tile(read(out / row["image"]).pixels, _caption(row))
        for row in list(eyes.values())[: _SHEET_COLUMNS * _SHEET_ROWS]
    ]
    path = out / "sheet.png"
    columns = min(_SHEET_COLUMNS, len(tiles))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows_of_tiles = [np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)]
    save_picture(path, np.vstack(rows_of_tiles)[..., ::-1])
    return path


def _caption(row: dict[str, str]) -> str:
    """The disease that a photograph shows, from its row of cohort.csv; of an adult, the camera."""
    if "stage" not in row:
        return f"{row['camera']} {row['eye']} {row['level']}"
    if row["label"] == "normal":
        return f"no ROP seen, {row['aim']}, {row['level']}"
    treat = " TR" if row["treatment_requiring"] == "yes" else ""
    zone = f" zone {row['zone']}" if row["zone"] else ""
    return f"stage {row['stage']}{zone} {row['plus'] if row['plus'] != 'none' else ''}{treat}"


def _tile(pixels: Pixels, caption: str) -> Pixels:
    """The photograph on a black tile of the sheet, with its caption below."""
    scale = min(_TILE[0] / pixels.shape[0], _TILE[1] / pixels.shape[1])
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    tile = np.zeros((_TILE[0] + _CAPTION, _TILE[1], 3), np.uint8)
    top, left = (_TILE[0] - size[1]) // 2, (_TILE[1] - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = small
    at = (4, _TILE[0] + 15)
    cv2.putText(tile, caption, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (235, 235, 235), 1, cv2.LINE_AA)
    return tile
