"""The photographs that teach vessel maps, real and simulated, at one scale; and the pack that carries them to another machine.

    python -m fundoscope.nicking.crossing_study.map_photographs --data DATA --recipe usual --out photographs.zip
    python -m fundoscope.nicking.crossing_study.map_photographs --simulate --recipe usual --workers 16 --out simulated.zip

A pack holds photographs as JPEG of high quality, their maps as PNG, index.json, and the ImageNet weights of the network's
body, so that the other machine needs neither the public sets nor a package of weights.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from fundoscope.datasets import open_dataset
from fundoscope.errors import UsageError
from fundoscope.learning import VesselPhotograph
from fundoscope.networks import VesselNet
from fundoscope.nicking.recipes.crossings import MapRecipe, SimulatedLook, read_map_recipe
from fundoscope.outputs import written_whole
from fundoscope.simulate import adult

_INDEX, _BODY = "index.json", "body.pt"
_QUALITY, _SIMULATED_QUALITY = 95, 90  # of JPEG; what is simulated was stored as JPEG before


@dataclass(frozen=True, slots=True, eq=False)
class MapPhotograph:
    """A photograph that teaches vessel maps, or tests them.

    `name` is `<set>/<photograph>`; `camera` that of the recipe, of a simulated one the camera whose look it has; photographs of a
    `group` show the same person.
    """

    name: str
    camera: str
    group: str
    simulated: bool
    photograph: VesselPhotograph


def read_real(data: Path, recipe: MapRecipe) -> Iterator[MapPhotograph]:
    """The photographs of the recipe's sets, one after another."""
    for each in recipe.sets:
        dataset = open_dataset(data / each.folder)
        for source in dataset.sources:
            known = VesselPhotograph.from_record(source.reader(source))
            yield MapPhotograph(source.full_name, each.camera, f"{source.dataset}/{source.group}", False, known)


def draw_simulated(recipe: MapRecipe, workers: int = 1) -> Iterator[MapPhotograph]:
    """The simulated photographs of the recipe, drawn by so many processes; the same whatever their number."""
    jobs = [(look, number) for look in recipe.simulated for number in range(look.photographs)]
    if workers <= 1:
        yield from (draw_one(*job) for job in jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(draw_one, *zip(*jobs, strict=True), chunksize=2)


def draw_one(look: SimulatedLook, number: int) -> MapPhotograph:
    """One simulated adult: of its camera, at its size, named by the seed of the look and its number."""
    cv2.setNumThreads(1)
    seed = int(np.random.SeedSequence([look.seed, number, 9]).generate_state(1)[0])  # as `write_adults` draws them
    drawn = adult(seed, camera=look.camera, size=look.size)
    truth = drawn.truth
    at = np.array([[crossing.row, crossing.col] for crossing in truth.crossings]).reshape(-1, 2)
    known = VesselPhotograph.from_masks(drawn.pixels, (truth.vessel, truth.artery, truth.vein), at, (True, True))
    name = f"simulated {look.camera} {look.seed}/{number}"
    return MapPhotograph(name, look.camera, name, True, known)


def write_pack(path: Path, photographs: Iterable[MapPhotograph], body: dict[str, Tensor] | None = None) -> int:
    """Write photographs, and the weights of a body, into one file; returns how many photographs there are."""
    index: list[dict[str, Any]] = []
    with written_whole(path) as beside, zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as file:
        for number, each in enumerate(photographs):
            own = each.photograph
            quality = [cv2.IMWRITE_JPEG_QUALITY, _SIMULATED_QUALITY if each.simulated else _QUALITY]
            quality += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
            file.writestr(f"{number}.jpg", _encode(".jpg", np.ascontiguousarray(own.pixels[..., ::-1]), quality))
            file.writestr(f"{number}.png", _encode(".png", own.planes, [cv2.IMWRITE_PNG_COMPRESSION, 9]))
            index.append({
                "name": each.name, "camera": each.camera, "group": each.group, "simulated": each.simulated,
                "known": own.known, "crossings": None if own.crossings is None else own.crossings.round(2).tolist(),
            })  # fmt: skip
        file.writestr(_INDEX, json.dumps(index))
        if body is not None:
            content = io.BytesIO()
            torch.save({name: v.half() if v.is_floating_point() else v for name, v in body.items()}, content)
            file.writestr(_BODY, content.getvalue())
    return len(index)


def read_pack(path: Path) -> tuple[list[MapPhotograph], dict[str, Tensor] | None]:
    """The photographs of a pack, and the weights of a body where it has them. Raises `UsageError` where it is none."""
    try:
        with zipfile.ZipFile(path) as file:
            index = json.loads(file.read(_INDEX))
            photographs = []
            for number, row in enumerate(index):
                pixels, planes = (_decode(file.read(f"{number}.{kind}")) for kind in ("jpg", "png"))
                crossings = None if row["crossings"] is None else np.array(row["crossings"], float).reshape(-1, 2)
                pixels = np.ascontiguousarray(pixels[..., ::-1])
                known = VesselPhotograph(pixels, planes, crossings, (row["known"][0], row["known"][1]))
                photographs.append(MapPhotograph(row["name"], row["camera"], row["group"], row["simulated"], known))
            body = torch.load(io.BytesIO(file.read(_BODY)), weights_only=True) if _BODY in file.namelist() else None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"{path}: is no pack of photographs ({error}). Write it with map_photographs --out."
        ) from error
    return photographs, body


def read_photographs(
    paths: Sequence[Path], recipe: MapRecipe, workers: int = 1
) -> tuple[list[MapPhotograph], dict[str, Tensor] | None]:
    """All photographs of packs, or of the one data folder, whose simulated photographs are drawn now."""
    if len(paths) == 1 and paths[0].is_dir():
        return [*read_real(paths[0], recipe), *draw_simulated(recipe, workers)], None
    photographs: list[MapPhotograph] = []
    body = None
    for path in paths:
        more, weights = read_pack(path)
        photographs, body = photographs + more, body if weights is None else weights
    return photographs, body


def _encode(kind: str, picture: Any, options: Sequence[int]) -> bytes:
    return cv2.imencode(kind, picture, options)[1].tobytes()


def _decode(content: bytes) -> Any:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def main() -> None:
    """The command `python -m fundoscope.nicking.crossing_study.map_photographs`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds the public sets")
    parser.add_argument("--simulate", action="store_true", help="draw the simulated photographs instead")
    parser.add_argument("--recipe", default="usual", help="a recipe of vessel maps: its name, or a TOML file")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw simulated photographs")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    given = parser.parse_args()
    if given.simulate == (given.data is not None):
        parser.error("give either --data or --simulate")
    cv2.setNumThreads(1)
    recipe = read_map_recipe(given.recipe)
    if given.simulate:
        written = write_pack(given.out, draw_simulated(recipe, given.workers))
    else:
        body = VesselNet(recipe.network).body.state_dict()
        written = write_pack(given.out, read_real(given.data, recipe), body)
    print(f"{given.out}: {written} photographs, {given.out.stat().st_size / 2**20:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
