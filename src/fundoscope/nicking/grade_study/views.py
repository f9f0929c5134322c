"""Step 2: everything that networks and rules are shown of the patches, made once and kept on disk.

    patches/training_views.npy      augmented views of the patches that train
    patches/TABLE_VARIANT.npy       a tested table's patches, unperturbed and perturbed
    patches/TABLE_widths.npz        narrowing and features of widths, for the rules

Views and tested patches are kept as networks are given them, as bytes (`pack_input`): training draws nothing but mirrorings and
half turns. All networks of a study see the same ones. Each patch is shown by the maps of an upstream that has not seen its
photograph, so that views do not depend on the fold.

A tested patch is shown as the tool would show it: by maps of all that its file holds, and laid level by the crossing that they
show. The true pose of a training patch is known to its table; it is made a little wrong on purpose, as poses that are measured
are.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fundoscope.imaging import Pixels
from fundoscope.imaging.local_contrast import LIMIT
from fundoscope.learning.augment import Augment
from fundoscope.nicking.grade_study.folds import GradeFoldData
from fundoscope.nicking.grade_study.patch_pixels import crop_middle, read_whole
from fundoscope.nicking.grade_study.patch_table import PatchRow
from fundoscope.nicking.grade_study.perturbed import perturb
from fundoscope.nicking.grade_study.plan import GradePlan
from fundoscope.nicking.grade_study.prediction_table import OWN, PATCH_FILE, UNPERTURBED, VARIANTS
from fundoscope.nicking.grade_study.rivals import roy
from fundoscope.nicking.grade_study.transfer import Upstream
from fundoscope.nicking.grading.crossing_patches import (
    INPUT_ZOOM,
    PATCH_SIDE,
    VEIN_WIDTH,
    CrossingPatch,
    PatchPose,
    Plane,
    map_patch,
    map_patch_of_span,
    measured_pose,
)
from fundoscope.nicking.grading.widths import OFF_MIDDLE, find_patch_crossing, measure_patch
from fundoscope.nicking.recipes.grades import AugmentedViews, PerturbationNumbers
from fundoscope.studies import Progress
from fundoscope.vessels.grade_rule import SPAN

PackedInputs = NDArray[np.uint8]  # (..., 6, PATCH_SIDE, PATCH_SIDE): local contrast and vessel maps as bytes

ZERO, STEPS = 127, 127 / LIMIT  # the byte of no contrast, and bytes to one deviation
_OFF_MIDDLE = 2.0  # vein widths: a crossing of a wide patch further from its middle is another one
_FADE_EDGE = 0.3  # of the radius of a faded middle, over which it ends
_AT_ONCE = 4  # patches that a process is given at once


@dataclass(frozen=True, eq=False)
class MeasuredWidths:
    """What rules see of n patches: `narrowing` (n, 2) of the upper and the lower side, nan where it was not measured, and
    `features` (n, k), those of `rivals.roy`.
    """

    narrowing: NDArray[np.float64]
    features: NDArray[np.float64]


def keep_patches(plan: GradePlan, progress: Progress, workers: int = 1) -> None:
    """Write what the arms of a study will be shown, by so many processes, where it is not there yet."""
    fold = plan.folds[0][0]  # any: views do not depend on it
    steps: list[Callable[..., Any]] = []
    if any(arm.network is not None for arm in plan.arms):
        steps.append(partial(training_views, fold))
        for table in fold.tables.tested_names:
            steps += [
                partial(table_patches, fold, table, variant)
                for variant in (VARIANTS if table == OWN else (UNPERTURBED,))
            ]
    if any(arm.network is None for arm in plan.arms):
        steps += [partial(measured_widths, fold, table) for table in fold.tables.tested_names]
    with Workers.start(workers) as pool:
        for step in progress.follow(steps, len(steps), "drawing patches, file by file"):
            step(pool=pool)


class Workers:
    """Processes that share work; one alone is this process itself."""

    def __init__(self, pool: ProcessPoolExecutor | None = None) -> None:
        self.pool = pool

    @classmethod
    def start(cls, number: int) -> Workers:
        """So many processes, of one thread each."""
        if number < 2:
            return cls()
        return cls(ProcessPoolExecutor(number, get_context("spawn"), initializer=use_one_thread))

    def map(self, work: Callable[..., Any], *items: Iterable[Any]) -> Iterator[Any]:
        """What `work` makes of the items, in their order."""
        return map(work, *items) if self.pool is None else self.pool.map(work, *items, chunksize=_AT_ONCE)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)


def use_one_thread() -> None:
    """Keep this process to one thread, since others run beside it."""
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def training_views(fold: GradeFoldData, pool: Workers | None = None) -> PackedInputs:
    """The augmented views of the study's own and extra patches, (n, views, 6, PATCH_SIDE, PATCH_SIDE)."""
    rows = [*fold.tables.rows, *fold.tables.extra]

    def write(path: Path) -> None:
        shape = (len(rows), fold.recipe.views.number, 6, PATCH_SIDE, PATCH_SIDE)
        kept = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        upstreams = [fold.maps_of(row) for row in rows]
        drawn = (pool or Workers()).map(draw_views, rows, upstreams, repeat(fold.recipe.views, len(rows)))
        for k, views in enumerate(drawn):
            kept[k] = views
        kept.flush()

    return np.load(_written_once(training_views_path(fold), write), mmap_mode="r")


def training_views_path(fold: GradeFoldData) -> Path:
    """Where the augmented views are kept."""
    return fold.folder / "training_views.npy"


def table_patches(fold: GradeFoldData, table: str, variant: str, pool: Workers | None = None) -> PackedInputs:
    """A tested table's patches in a variant, (n, 6, PATCH_SIDE, PATCH_SIDE)."""
    rows = fold.tables.tested(table)

    def write(path: Path) -> None:
        show = partial(show_tested, variant=variant, numbers=fold.recipe.perturbed)
        shown = (pool or Workers()).map(show, range(len(rows)), rows, [fold.maps_of(row) for row in rows])
        np.save(path, np.array(list(shown), np.uint8).reshape(-1, 6, PATCH_SIDE, PATCH_SIDE))

    path = fold.folder / f"{table}_{variant.replace(' ', '_')}.npy"
    return np.load(_written_once(path, write), mmap_mode="r")


def measured_widths(fold: GradeFoldData, table: str, pool: Workers | None = None) -> MeasuredWidths:
    """The widths of a tested table's unperturbed patches."""
    rows = fold.tables.tested(table)

    def write(path: Path) -> None:
        found = list((pool or Workers()).map(measure_widths, rows, [fold.maps_of(row) for row in rows]))
        np.savez(path, narrowing=[sides for sides, _ in found], features=[features for _, features in found])

    with np.load(_written_once(fold.folder / f"{table}_widths.npz", write)) as kept:
        return MeasuredWidths(kept["narrowing"], kept["features"])


def _written_once(path: Path, write: Callable[[Path], None]) -> Path:
    """The path of a file that is written beside and moved into place, unless it is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"unfinished_{path.name}")
        write(unfinished)
        unfinished.replace(path)
    return path


# --- one patch


def show_patch(pixels: Pixels, row: PatchRow, upstream: Upstream, alone: bool = False) -> tuple[Plane, CrossingPatch]:
    """The maps (4, h, w) and the patch of a row's pixels (s, s, 3), as the tool shows it: as one of a photograph, and posed by the
    crossing that the maps show; but as a patch file where it holds nothing besides, or is shown `alone`.
    """
    predict_maps = upstream.bundle.map_vessels
    if alone:
        return map_patch(
            crop_middle(pixels, round(PATCH_SIDE * pixels.shape[0] / (row.span * VEIN_WIDTH))), predict_maps
        )
    maps, patch = map_patch_of_span(pixels, predict_maps, row.span, _known(row.vein_px))
    if patch.measured is not None:
        return maps, patch
    found = find_patch_crossing(maps, upstream.map_settings, _OFF_MIDDLE / row.span)
    scale = patch.side / maps.shape[1]
    pose = None if found.own is None else measured_pose(found.own, found.vein_width, scale)
    return maps, replace(patch, measured=pose)


def show_tested(
    number: int, row: PatchRow, upstream: Upstream, variant: str, numbers: PerturbationNumbers
) -> PackedInputs:
    """A tested patch in a variant of `VARIANTS`; its `number` in its table names what is drawn at random."""
    pixels = perturb(read_whole(row), variant, np.random.default_rng((0xA5, number)), numbers)
    _, patch = show_patch(pixels, row, upstream, alone=variant == PATCH_FILE)
    return pack_input(*patch.inputs)


def measure_widths(row: PatchRow, upstream: Upstream) -> tuple[tuple[float, float], NDArray[np.float64]]:
    """Narrowing of the upper and the lower side of a patch, nan where it was not measured, and the features of `rivals.roy`."""
    pixels = read_whole(row)
    maps, _ = show_patch(pixels, row, upstream)
    off_middle = OFF_MIDDLE if row.span == SPAN else _OFF_MIDDLE / row.span
    found = measure_patch(pixels, maps, upstream.map_settings, pixels.shape[0] / maps.shape[1], off_middle)
    return (np.nan, np.nan) if found is None else (found.side_1, found.side_2), roy.features(found)


def draw_views(row: PatchRow, upstream: Upstream, options: AugmentedViews) -> PackedInputs:
    """Augmented views of a patch, (views, 6, PATCH_SIDE, PATCH_SIDE): as another camera would show it, off its middle, its pose a
    little wrong, by maps of all that is known around it or of a file of any scale alone, and now and then with the vein faded from
    the maps where a nick would be.

    The numbers of a view depend on the seed, on its own number and on the patch's name alone.
    """
    whole, name = read_whole(row), zlib.crc32(f"{row.photograph}/{row.path.name}".encode())
    camera = Augment(rotation=0, scale=0, shift=0, field=0, **options.camera.model_dump())
    views = []
    for view in range(options.number):
        rng = np.random.default_rng((options.seed, view, name))
        views.append(_draw_view(camera(whole, rng), row, upstream, options, rng))
    return np.array(views, np.uint8)


def _draw_view(
    pixels: Pixels, row: PatchRow, upstream: Upstream, options: AugmentedViews, rng: Generator
) -> PackedInputs:
    right, down = rng.uniform(-options.shift, options.shift, 2)
    turn, zoom = rng.normal(0, options.slope_jitter), float(np.exp(rng.normal(0, options.width_jitter)))
    scale = np.exp(
        np.clip(rng.normal(0, options.zoom_deviation), *np.log([options.smallest_zoom, options.largest_zoom]))
    )
    alone, faded, left = rng.random() < options.maps_from_patch_alone, rng.random() < options.faded_maps, rng.random()
    shift = (float(right) * INPUT_ZOOM * VEIN_WIDTH, float(down) * INPUT_ZOOM * VEIN_WIDTH)
    true_width = VEIN_WIDTH
    if row.span > SPAN and alone:
        square = crop_middle(pixels, round(PATCH_SIDE / scale), (-down * VEIN_WIDTH, -right * VEIN_WIDTH))
        shift = (0.0, 0.0)
        _, seen = map_patch(square, upstream.bundle.map_vessels)
        # the file was brought to the scale of the vein that its maps show, right or wrong
        true_width = VEIN_WIDTH * seen.side / square.shape[0]
    elif np.isnan(row.slope):
        _, seen = show_patch(pixels, row, upstream)
    else:
        _, seen = map_patch_of_span(pixels, upstream.bundle.map_vessels, row.span, _known(row.vein_px))
    patch = seen if np.isnan(row.slope) else replace(seen, measured=PatchPose(row.slope, true_width))
    slope, enlarged = patch.pose
    laid = patch.cut(slope + turn, enlarged * zoom, shift)
    maps = laid.maps
    if faded:
        maps = fade_middle(maps, options.faded_radius * INPUT_ZOOM * VEIN_WIDTH, left)
    return pack_input(*replace(laid, maps=maps).planes)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def fade_middle(maps: NDArray[np.uint8], radius: float, left: float) -> NDArray[np.uint8]:
    """Maps (s, s, 3) in which a share `left` of the vein is there within `radius` pixels of the middle, as in maps of a nick; the artery
    stays.
    """
    rows, columns = np.indices(maps.shape[:2]) - (np.array(maps.shape[:2]) - 1)[:, None, None] / 2
    away = np.hypot(rows, columns) / radius
    kept = left + (1 - left) * np.clip((away - 1) / _FADE_EDGE + 1, 0, 1)
    vessel, artery, vein = maps.astype(np.float32).transpose(2, 0, 1)
    faded = np.stack([np.maximum(vessel * kept, np.minimum(vessel, artery)), artery, vein * kept], axis=-1)
    return np.round(faded).astype(np.uint8)


def pack_input(contrast: Plane, maps: Plane) -> PackedInputs:
    """The inputs of both streams as bytes, (6, s, s): local contrast in steps of a 25th of a deviation, 0 exactly, and maps."""
    return np.concatenate([np.round(contrast * STEPS + ZERO), np.round((maps + 1) * 127.5)]).astype(np.uint8)
