"""Making the nicking bundle that ships, from its recipe (`recipes/shipped_nicking.toml`) to a folder: `make weights-nicking`.

    python -m fundoscope.nicking.shipped --data DATA --maps MAPS --patches PATCHES --out OUT [--into FOLDER]

MAPS holds the networks of vessel maps (`crossing_study.vessel_maps`): MAPS/all/result, which ships, and one without each group of
cameras. In order: the settings, chosen on cameras that a network has not seen; the figures on photographs that were never seen;
OUT/upstream/without_<cameras>, the maps of the networks without a camera as `study-grades` takes them; natural crossings; the
graders, trained on PATCHES (made by `make nicked-patches`) and on natural crossings, each patch shown by maps that have not seen its
photograph; the bundle. It goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles.card import CardFigure, CrossingSettings, GradeSettings, NickingCard
from fundoscope.bundles.golden import add_golden
from fundoscope.bundles.write_nicking import GraderNetworks, write_nicking_bundle
from fundoscope.datasets import Dataset, open_dataset
from fundoscope.errors import FundoscopeError, UsageError
from fundoscope.evaluation.metrics import Estimate, results_table
from fundoscope.imaging import Pixels
from fundoscope.imaging.local_contrast import local_contrast, scale_to_diameter
from fundoscope.networks import VesselNet
from fundoscope.nicking.crossing_study.map_figures import measure_maps
from fundoscope.nicking.crossing_study.map_settings import MapsAndTruth, choose_settings
from fundoscope.nicking.crossing_study.vessel_maps import read_vessel_map_weights
from fundoscope.nicking.grade_study.folds import GradeFold, GradeFoldData, PatchTables, make_grade_folds
from fundoscope.nicking.grade_study.natural_crossings import cut_natural_crossings, read_natural_crossings
from fundoscope.nicking.grade_study.patch_table import read_patch_table
from fundoscope.nicking.grade_study.refit import refit_graders
from fundoscope.nicking.grade_study.study_arms import build_arm
from fundoscope.nicking.grade_study.transfer import Upstream, write_upstream
from fundoscope.nicking.grading.crossing_patches import PATCH_SIDE
from fundoscope.nicking.recipes.crossings import MapRecipe, read_map_recipe
from fundoscope.nicking.recipes.grades import read_grade_recipe
from fundoscope.nicking.recipes.shipped import ShippedRecipe, read_shipped_recipe
from fundoscope.studies import Study, command
from fundoscope.vessels.grade_rule import SPAN

FIGURES_FILE = "figures.csv"


def make_shipped_bundle(
    recipe: ShippedRecipe, data: Path, maps: Path, patches: Path, out: Path, workers: int = 1
) -> Path:
    """Make the bundle of a recipe, or go on with it; returns the folder of the bundle, `out`/bundle/<name>.

    `data` holds the folders of the public sets, `maps` the trainings of the networks of maps, `patches` the tables real.csv and
    eyes.csv. Raises `UsageError` where a network is missing, and says how it is made.
    """
    map_recipe = read_map_recipe(recipe.maps)
    networks = read_networks(recipe, map_recipe, maps)
    parts = (map_recipe, read_grade_recipe(recipe.graders.recipe))
    manifest = {
        "task": "shipped nicking",
        "recipe": recipe.model_dump(mode="json"),
        "recipes of its parts": [part.model_dump(mode="json") for part in parts],
        "commands": [command()],
    }
    study = Study.open(out, manifest, [data, maps, patches])
    sets = {each.folder: open_dataset(data / each.folder) for each in map_recipe.sets}
    settings, _ = choose_settings(
        map_unseen_cameras(map_recipe, networks, sets), map_recipe.settings, recipe.card.settings_data
    )
    figures = measure_tested_sets(recipe, networks[()], settings, data, out / FIGURES_FILE)
    check = [contrast_of(record.pixels) for record in next(iter(sets.values()))[: recipe.check_photographs]]
    card = describe_bundle(recipe, settings, figures, seed=map_recipe.seed)
    upstreams = [
        write_camera_upstream(without, network, card, check, names_without(map_recipe, sets, without), study)
        for without, network in networks.items()
        if without
    ]
    folders = [each.folder for each in map_recipe.sets if each.natural]
    natural = cut_natural_crossings(
        data, folders, recipe.natural, upstreams, study.folder / "natural", recipe.graders.natural_crossings, workers
    )
    graders, grades = train_graders(recipe, upstreams, patches, natural, study)
    card = card.model_copy(update={"grades": grades, "photographs": names_without(map_recipe, sets, ())})
    bundle = write_nicking_bundle(networks[()], card, check, out / "bundle" / recipe.card.name, graders=graders)
    add_golden(bundle)
    return bundle


def read_networks(recipe: ShippedRecipe, maps: MapRecipe, folder: Path) -> dict[tuple[str, ...], VesselNet]:
    """The networks of maps by the cameras that they were trained without; that of all cameras is `()`."""
    networks = {}
    for without in ((), *recipe.left_out):
        own = folder / name_left_out(without)
        if not (own / "result").is_dir():
            left_out = f" --without {' '.join(without)}" if without else ""
            raise UsageError(
                f"{own}: holds no trained network of maps. Make it: python -m fundoscope.nicking.crossing_study.vessel_maps "
                f"--data DATA --recipe {recipe.maps}{left_out} --out {own}"
            )
        weights, _ = read_vessel_map_weights(own / "result")
        network = VesselNet(maps.network.without_pretraining())
        network.load_state_dict(weights)
        networks[without] = network.eval()
    return networks


def map_unseen_cameras(
    maps: MapRecipe, networks: Mapping[tuple[str, ...], VesselNet], sets: Mapping[str, Dataset]
) -> dict[str, list[MapsAndTruth]]:
    """The photographs that settings may be chosen on, by camera, each mapped by a network that has not seen its camera."""
    return {
        each.camera: [
            MapsAndTruth.predict(next(own for without, own in networks.items() if each.camera in without), record)
            for record in sets[each.folder]
        ]
        for each in maps.sets
        if each.settings
    }


def name_left_out(without: Sequence[str]) -> str:
    """The name of a network: `all`, or `without_` and its cameras."""
    return "_".join(["without", *without]) if without else "all"


def names_without(maps: MapRecipe, sets: Mapping[str, Dataset], without: Sequence[str]) -> tuple[str, ...]:
    """The names of all photographs of the other cameras, as `<set>/<photograph>`."""
    kept = [sets[each.folder] for each in maps.sets if each.camera not in without]
    return tuple(source.full_name for dataset in kept for source in dataset.sources)


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
    without: Sequence[str], network: VesselNet, card: NickingCard, check: Sequence[NDArray[np.float32]],
    names: tuple[str, ...], study: Study,
) -> Upstream:  # fmt: skip
    """The upstream without some cameras: the maps of its network as a bundle, and the `names` of the photographs that taught it."""
    step = f"upstream/{name_left_out(without)}"
    if not study.done(step):
        with study.step(step) as folder:
            own = card.model_copy(update={"photographs": names})
            write_nicking_bundle(network, own, check, folder / "maps", lambda _: None)
            write_upstream(folder, names, None)
    return Upstream.read(study.result(step))


def train_graders(
    recipe: ShippedRecipe, upstreams: Sequence[Upstream], patches: Path, natural: Path, study: Study
) -> tuple[GraderNetworks, GradeSettings]:
    """The graders and their settings; one part of the patches chooses, by photograph."""
    grade_recipe = read_grade_recipe(recipe.graders.recipe)
    rows, eyes = (read_patch_table(patches / f"{name}.csv") for name in ("real", "eyes"))
    known = read_natural_crossings(natural)
    path = study.folder / "folds.json"
    inner = make_grade_folds(rows, upstreams, recipe.graders.parts, 0, grade_recipe.folds, path)[0].inner
    fold = GradeFoldData(
        PatchTables(rows, [*eyes, *known], {}), GradeFold(0, 0, frozenset(), inner), upstreams[0],
        study.folder / "patches", grade_recipe, tuple(upstreams),
    )  # fmt: skip
    graders, minimum = refit_graders(build_arm(recipe.graders.arm, grade_recipe), fold, recipe.graders.seeds, study)
    learnt_from = (
        f"{len(rows)} pinched and sham-warped crossings of DRIVE training, HRF and LES-AV, {len(eyes)} of simulated eyes, {len(known)} of "
        "ordinary photographs that measure as not nicked on both sides, and of simulated ones without nicking; no nicked vein of a patient"
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
    parser.add_argument("--maps", type=Path, required=True, help="folder of the trained networks of vessel maps")
    parser.add_argument(
        "--patches", type=Path, required=True, help="folder of patches that `make nicked-patches` wrote"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; it goes on where it was cut off")
    parser.add_argument("--into", type=Path, help="also copy the bundle to this folder, in place of what is there")
    parser.add_argument("--workers", type=int, default=2, help="processes that cut natural crossings")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        recipe = read_shipped_recipe(given.recipe)
        bundle = make_shipped_bundle(recipe, given.data, given.maps, given.patches, given.out, given.workers)
    except FundoscopeError as error:
        sys.exit(str(error))
    if given.into is not None:
        shutil.rmtree(given.into, ignore_errors=True)
        shutil.copytree(bundle, given.into)
    print(f"{bundle}" + ("" if given.into is None else f" -> {given.into}"))


if __name__ == "__main__":
    main()
