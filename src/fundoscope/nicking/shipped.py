"""Making the nicking bundle that ships, from its recipe (`recipes/shipped_nicking.toml`) to a folder: `make weights-nicking`.

    python -m fundoscope.nicking.shipped --data DATA --patches PATCHES --out OUT [--into FOLDER]

In order: the networks of vessel maps (of all cameras, and without each group of cameras in turn); the settings, chosen on
cameras that a network has not seen; the figures on photographs that were never seen; the upstreams, which are the maps of the networks
without a camera, one of them with a detector's weights; natural crossings on the maps of that one; the graders, trained on PATCHES (made by `make nicked-patches`) and on natural crossings; the
bundle. It goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles.card import CardFigure, CrossingSettings, GradeSettings, NickingCard
from fundoscope.bundles.write_nicking import GraderNetworks, write_nicking_bundle
from fundoscope.datasets import Dataset, open_dataset
from fundoscope.evaluation.metrics import Estimate, results_table
from fundoscope.imaging import Pixels, read
from fundoscope.imaging.local_contrast import local_contrast, scale_to_diameter
from fundoscope.networks import VesselNet
from fundoscope.nicking.crossing_study.map_figures import measure_maps
from fundoscope.nicking.crossing_study.map_photographs import read_photographs
from fundoscope.nicking.crossing_study.map_settings import MapsAndTruth, choose_settings
from fundoscope.nicking.crossing_study.transfer_detectors import train_transfer_detector, write_transferred_weights
from fundoscope.nicking.crossing_study.vessel_maps import MapTraining, leave_out
from fundoscope.nicking.grade_study.folds import GradeFold, GradeFoldData, PatchTables, make_grade_folds
from fundoscope.nicking.grade_study.natural_crossings import write_natural_crossings
from fundoscope.nicking.grade_study.patch_table import PatchRow, read_patch_table
from fundoscope.nicking.grade_study.refit import refit_graders
from fundoscope.nicking.grade_study.study_arms import build_arm
from fundoscope.nicking.grade_study.transfer import Upstream, write_upstream
from fundoscope.nicking.grading.crossing_patches import PATCH_SIDE
from fundoscope.nicking.recipes.crossings import MapRecipe, read_crossing_recipe, read_map_recipe
from fundoscope.nicking.recipes.grades import read_grade_recipe
from fundoscope.nicking.recipes.shipped import ShippedRecipe, read_shipped_recipe
from fundoscope.simulate import adult
from fundoscope.studies import Study, command
from fundoscope.vessels.grade_rule import SPAN

FIGURES_FILE = "figures.csv"


def make_shipped_bundle(recipe: ShippedRecipe, data: Path, patches: Path, out: Path, workers: int = 2) -> Path:
    """Make the bundle of a recipe, or go on with it; returns the folder of the bundle, `out`/bundle/<name>.

    `data` holds the folders of the public sets. `patches` holds the tables real_even.csv, real_odd.csv and eyes.csv.
    """
    maps = read_map_recipe(recipe.maps)
    parts = (maps, read_crossing_recipe(recipe.graders.transfer), read_grade_recipe(recipe.graders.recipe))
    manifest = {
        "task": "shipped nicking",
        "recipe": recipe.model_dump(mode="json"),
        "recipes of its parts": [part.model_dump(mode="json") for part in parts],
        "commands": [command()],
    }
    study = Study.open(out, manifest)
    sets = [open_dataset(data / each.folder) for each in maps.sets]
    networks = train_networks(recipe, maps, data, study, workers)
    network = networks[()]
    photographs = [
        MapsAndTruth.predict(next(own for without, own in networks.items() if each.camera in without), record)
        for each, dataset in zip(maps.sets, sets, strict=True)
        if each.settings
        for record in dataset
    ]
    settings, _ = choose_settings(photographs, maps.settings, recipe.card.settings_data)

    figures = measure_tested_sets(recipe, network, settings, data, out / FIGURES_FILE)
    check = [contrast_of(record.pixels) for record in sets[0][: recipe.check_photographs]]
    card = describe_bundle(recipe, settings, figures, seed=maps.seed)
    upstreams = {
        without: write_camera_upstream(recipe, maps, without, own, card, check, sets, study)
        for without, own in networks.items()
        if without
    }
    upstream = upstreams[recipe.graders.without]
    natural = cut_natural_crossings(recipe, upstream, sets, study.folder / "natural")
    graders, grades = train_graders(recipe, upstream, patches, natural, study)
    card = card.model_copy(update={"grades": grades, "photographs": names_of(sets)})
    return write_nicking_bundle(network, card, check, out / "bundle" / recipe.card.name, graders=graders)


def train_networks(
    recipe: ShippedRecipe, maps: MapRecipe, data: Path, study: Study, workers: int
) -> dict[tuple[str, ...], VesselNet]:
    """The networks of maps by the cameras that they were trained without; that of all cameras is `()`."""
    photographs, body = read_photographs([data], maps, workers)
    networks = {}
    for without in ((), *recipe.left_out):
        place = f"maps/{name_left_out(without)}/"
        training = MapTraining(maps, leave_out(photographs, without), study, place, body)
        networks[without] = training.train()
        if not study.done(f"{place}result"):
            training.write_result(networks[without], [])
    return networks


def name_left_out(without: Sequence[str]) -> str:
    """The name of a network: `all`, or `without_` and its cameras."""
    return "_".join(["without", *without]) if without else "all"


def names_of(sets: Sequence[Dataset]) -> tuple[str, ...]:
    """The names of all photographs of the sets, as `<set>/<photograph>`."""
    return tuple(source.full_name for dataset in sets for source in dataset.sources)


def measure_tested_sets(
    recipe: ShippedRecipe, network: VesselNet, settings: CrossingSettings, data: Path, table: Path
) -> list[CardFigure]:
    """The figures of the maps on the sets that are only tested; also written as a table."""
    rows: list[dict[str, object]] = []
    figures = []
    for tested in recipe.tested:
        dataset = open_dataset(data / tested.folder)[tested.first : tested.last]
        for what, value in measure_maps(
            [MapsAndTruth.predict(network, record) for record in dataset], settings
        ).items():
            rows.append({"on": tested.name, "what": what, "value": value})
            figures.append(_card_figure(what, value, tested.name))
    results_table(rows, table)
    return figures


def _card_figure(name: str, value: Estimate, on: str) -> CardFigure:
    low, high = (
        end if np.isfinite(end) else None for end in (value.low, value.high)
    )  # few photographs give no interval
    return CardFigure(name=name, value=value.value, low=low, high=high, n=value.n, on=on)


def describe_bundle(
    recipe: ShippedRecipe, settings: CrossingSettings, figures: Sequence[CardFigure], seed: int
) -> NickingCard:
    """The card of the bundle, without its graders."""
    card = recipe.card
    return NickingCard(
        name=card.name, task="nicking", population="adult", intended_use=card.intended_use, recipe=recipe.graders.recipe,
        seeds=(seed,), commands=(card.command,), trained_on=card.trained_on, never_tested_on=card.never_tested_on,
        figures=tuple(figures), initial_weights=card.initial_weights, attributions=card.attributions, crossings=settings,
    )  # fmt: skip


def write_camera_upstream(
    recipe: ShippedRecipe,
    maps: MapRecipe,
    without: tuple[str, ...],
    network: VesselNet,
    card: NickingCard,
    check: Sequence[NDArray[np.float32]],
    sets: Sequence[Dataset],
    study: Study,
) -> Upstream:
    """The upstream without some cameras: its maps as a bundle, and the photographs that they have seen.

    The graders' own also has the weights of a detector, which learns from the sets whose crossings are all known.
    """
    step = f"upstream/{name_left_out(without)}"
    if not study.done(step):
        kept = [(each, own) for each, own in zip(maps.sets, sets, strict=True) if each.camera not in without]
        names = names_of([own for _, own in kept])
        with study.step(step) as folder:
            card = card.model_copy(update={"photographs": names})
            write_nicking_bundle(network, card, check, folder / "maps", lambda _: None)
            write_upstream(folder, names, None)
            if without == recipe.graders.without:
                transfer, seed = read_crossing_recipe(recipe.graders.transfer), recipe.graders.transfer_seed
                marked = (record for each, own in kept if each.settings for record in own)
                detector = train_transfer_detector(transfer, marked, folder / "fit", seed)
                write_transferred_weights(folder, names, detector)
    return Upstream.read(study.result(step))


def cut_natural_crossings(
    recipe: ShippedRecipe, upstream: Upstream, sets: Sequence[Dataset], folder: Path
) -> list[PatchRow]:
    """Patches of crossings that are not nicked, as the upstream's maps show them: of the training photographs where both
    sides measure so, and of simulated eyes without nicking.
    """
    tables = [
        write_natural_crossings(source.full_name, partial(_read_pixels, source.path), upstream.bundle, folder)
        for dataset in sets
        for source in dataset.sources
    ]
    for eyes in recipe.natural:
        for seed in range(eyes.first_seed, eyes.first_seed + eyes.photographs):
            draw = partial(_draw_without_nicking, seed, eyes.camera, eyes.size)
            tables.append(
                write_natural_crossings(f"simulated/{seed}", draw, upstream.bundle, folder, without_nicking=True)
            )
    has_rows = [table for table in tables if len(table.read_text(encoding="utf-8").splitlines()) > 1]
    return [row for table in has_rows for row in read_patch_table(table) if row.grade is not None]


def _read_pixels(path: Path) -> Pixels:
    return read(path).pixels


def _draw_without_nicking(seed: int, camera: str, size: int) -> Pixels:
    return adult(seed, camera=camera, size=size, grade=0).pixels


def train_graders(
    recipe: ShippedRecipe, upstream: Upstream, patches: Path, natural: Sequence[PatchRow], study: Study
) -> tuple[GraderNetworks, GradeSettings]:
    """The graders and their settings; of the patches whose photographs the upstream had not seen, one part chooses."""
    grade_recipe = read_grade_recipe(recipe.graders.recipe)
    real = [row for half in ("even", "odd") for row in read_patch_table(patches / f"real_{half}.csv")]
    rows = [row for row in real if row.photograph not in upstream.seen_photographs]
    drawn = [row for row in real if row.photograph in upstream.seen_photographs]
    drawn += read_patch_table(patches / "eyes.csv")
    path = study.folder / "folds.json"
    inner = make_grade_folds(rows, [upstream], recipe.graders.parts, 0, grade_recipe.folds, path)[0].inner
    fold = GradeFoldData(
        PatchTables(rows, [*drawn, *natural], {}), GradeFold(0, 0, frozenset(), inner), upstream,
        study.folder / "patches", grade_recipe,
    )  # fmt: skip
    graders, minimum = refit_graders(build_arm(recipe.graders.arm, grade_recipe), fold, recipe.graders.seeds, study)
    photographed = sum("simulated/" not in row.photograph for row in (*rows, *drawn))
    learnt_from = (
        f"{photographed} pinched and sham-warped crossings of DRIVE training, HRF and LES-AV, {len(rows) + len(drawn) - photographed} of simulated eyes, "
        f"{len(natural)} of ordinary photographs that measure as not nicked on both sides, and of simulated ones without nicking; no nicked vein of a patient"
    )
    settings = GradeSettings(
        side=PATCH_SIDE, span=SPAN, networks=len(recipe.graders.seeds), minimum_confidence=minimum,
        rule=recipe.card.grading_rule, learnt_from=learnt_from,
    )  # fmt: skip
    return graders, settings


def contrast_of(pixels: Pixels) -> NDArray[np.float32]:
    """Local contrast of a photograph, (3, h, w), as the network of maps takes it."""
    return local_contrast(*scale_to_diameter(pixels))


def main() -> None:
    """The command `python -m fundoscope.nicking.shipped`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="nicking", help="a shipped recipe's name, or a TOML file")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public sets")
    parser.add_argument(
        "--patches", type=Path, required=True, help="folder of patches that `make nicked-patches` wrote"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; it goes on where it was cut off")
    parser.add_argument("--into", type=Path, help="also copy the bundle to this folder, in place of what is there")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw simulated eyes")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    bundle = make_shipped_bundle(read_shipped_recipe(given.recipe), given.data, given.patches, given.out, given.workers)
    if given.into is not None:
        shutil.rmtree(given.into, ignore_errors=True)
        shutil.copytree(bundle, given.into)
    print(f"{bundle}" + ("" if given.into is None else f" -> {given.into}"))


if __name__ == "__main__":
    main()
