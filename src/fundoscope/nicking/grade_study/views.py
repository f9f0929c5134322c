"""Step 2: everything that networks and rules are shown of the patches, made once by upstream and kept on disk.

    patches/UPSTREAM/training_views.npy      augmented views of the patches that train
    patches/UPSTREAM/TABLE_VARIANT.npy       a tested table's patches, unperturbed and perturbed
    patches/UPSTREAM/TABLE_widths.npz        narrowing and features of widths, for the rules

All networks of a study see the same views, and the vessel maps, which cost more than a training step, are made once.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fundoscope.learning.augment import Augment
from fundoscope.nicking.grade_study.folds import GradeFoldData
from fundoscope.nicking.grade_study.patch_pixels import crop_patch, read_whole
from fundoscope.nicking.grade_study.patch_table import PatchRow
from fundoscope.nicking.grade_study.perturbed import perturb
from fundoscope.nicking.grade_study.plan import GradePlan
from fundoscope.nicking.grade_study.prediction_table import OWN, UNPERTURBED, VARIANTS
from fundoscope.nicking.grade_study.rivals import roy
from fundoscope.nicking.grading.crossing_patches import (
    PATCH_SIDE,
    VEIN_WIDTH,
    CrossingPatch,
    PredictMaps,
    map_patch,
    map_patch_of_span,
)
from fundoscope.nicking.grading.widths import measure_patch
from fundoscope.nicking.recipes.grades import AugmentedViews
from fundoscope.studies import Progress
from fundoscope.vessels.grade_rule import SPAN

PackedPatches = NDArray[np.uint8]  # (..., PATCH_SIDE, PATCH_SIDE, 7): pixels, vessel maps, and what is field


@dataclass(frozen=True, eq=False)
class MeasuredWidths:
    """What rules see of n patches: `narrowing` (n, 2) of the upper and the lower side, nan where it was not measured, and
    `features` (n, k), those of `rivals.roy`.
    """

    narrowing: NDArray[np.float64]
    features: NDArray[np.float64]


def keep_patches(plan: GradePlan, progress: Progress) -> None:
    """Write what the arms of a study will be shown, by upstream, where it is not there yet."""
    by_upstream = {fold.upstream.name: fold for folds in plan.folds.values() for fold in folds}
    for fold in progress.follow(list(by_upstream.values()), len(by_upstream), "drawing patches, upstream by upstream"):
        if any(arm.network is not None for arm in plan.arms):
            training_views(fold)
            for table in fold.tables.tested_names:
                for variant in VARIANTS if table == OWN else (UNPERTURBED,):
                    table_patches(fold, table, variant)
        if any(arm.network is None for arm in plan.arms):
            for table in fold.tables.tested_names:
                measured_widths(fold, table)


def training_views(fold: GradeFoldData) -> PackedPatches:
    """The augmented views of the study's own and extra patches, (n, views, PATCH_SIDE, PATCH_SIDE, 7)."""
    rows, options = [*fold.tables.rows, *fold.tables.extra], fold.recipe.views
    predict_maps = fold.upstream.bundle.map_vessels

    def write(path: Path) -> None:
        shape = (len(rows), options.number, PATCH_SIDE, PATCH_SIDE, 7)
        kept = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        for k, row in enumerate(rows):
            for view, patch in enumerate(draw_views(row, predict_maps, options)):
                kept[k, view] = pack_patch(patch)
        kept.flush()

    return np.load(_written_once(fold, "training_views.npy", write), mmap_mode="r")


def table_patches(fold: GradeFoldData, table: str, variant: str) -> PackedPatches:
    """A tested table's patches in a variant, as the network of maps sees them, (n, PATCH_SIDE, PATCH_SIDE, 7)."""
    rows, numbers = fold.tables.tested(table), fold.recipe.perturbed

    def write(path: Path) -> None:
        packed = []
        for k, row in enumerate(rows):
            pixels = perturb(read_whole(row), variant, np.random.default_rng((0xA5, k)), numbers)
            packed.append(pack_patch(map_patch(pixels, fold.upstream.bundle.map_vessels)[1].middle))
        np.save(path, np.array(packed, np.uint8).reshape(-1, PATCH_SIDE, PATCH_SIDE, 7))

    return np.load(_written_once(fold, f"{table}_{variant.replace(' ', '_')}.npy", write), mmap_mode="r")


def measured_widths(fold: GradeFoldData, table: str) -> MeasuredWidths:
    """The widths of a tested table's unperturbed patches."""

    def write(path: Path) -> None:
        narrowing, features = [], []
        for row in fold.tables.tested(table):
            pixels = crop_patch(read_whole(row))
            maps, _ = map_patch(pixels, fold.upstream.bundle.map_vessels)
            found = measure_patch(pixels, maps, fold.upstream.map_settings, pixels.shape[0] / maps.shape[1])
            narrowing.append((np.nan, np.nan) if found is None else (found.side_1, found.side_2))
            features.append(roy.features(found))
        np.savez(path, narrowing=narrowing, features=features)

    with np.load(_written_once(fold, f"{table}_widths.npz", write)) as kept:
        return MeasuredWidths(kept["narrowing"], kept["features"])


def _written_once(fold: GradeFoldData, name: str, write: Callable[[Path], None]) -> Path:
    """The path of a fold's file. It is written beside and moved into place, unless it is there."""
    path = fold.folder / fold.upstream.name / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"unfinished_{path.name}")
        write(unfinished)
        unfinished.replace(path)
    return path


def draw_views(row: PatchRow, predict_maps: PredictMaps, options: AugmentedViews) -> Iterator[CrossingPatch]:
    """Augmented views of a patch: turned, zoomed, off its middle, as another camera would show it.

    The numbers of a view depend on the seed, on its own number and on the patch's name alone.
    """
    whole = read_whole(row)
    camera = Augment(rotation=0, scale=0, shift=0, field=0, **options.camera.model_dump())
    limits = np.log([options.smallest_zoom, options.largest_zoom])
    for view in range(options.number):
        name = zlib.crc32(f"{row.photograph}/{row.path.name}".encode())
        rng = np.random.default_rng((options.seed, view, name))
        turn, shift = rng.uniform(0, 360), rng.uniform(-options.shift, options.shift, 2) * VEIN_WIDTH
        zoom = float(np.exp(np.clip(rng.normal(0, options.zoom_deviation), *limits)))
        if row.span > SPAN and rng.random() < options.maps_from_patch_alone:
            yield map_patch(camera(crop_patch(whole, turn, zoom, shift), rng), predict_maps)[1].middle
        else:
            width = None if np.isnan(row.vein_px) else row.vein_px
            _, patch = map_patch_of_span(camera(whole, rng), predict_maps, row.span, width)
            yield patch.cut(turn, zoom, (shift[0], shift[1]))


def pack_patch(patch: CrossingPatch) -> PackedPatches:
    """A patch as one array (PATCH_SIDE, PATCH_SIDE, 7)."""
    return np.dstack([patch.pixels, patch.maps, patch.inside.astype(np.uint8)])


def unpack_patch(packed: PackedPatches) -> CrossingPatch:
    """The patch of one packed array."""
    pixels, maps = (np.ascontiguousarray(part) for part in (packed[..., :3], packed[..., 3:6]))
    return CrossingPatch(pixels, maps, packed[..., 6] > 0)
