"""Training of the network of vessel maps: vessels, arteries, veins and crossings, from real photographs and simulated eyes.

    python -m fundoscope.nicking.crossing_study.vessel_maps --data DATA --recipe usual --without drive --out RUN

A teacher of one or more networks learns first; then one network, which ships, goes on from it and learns from the truth and from the teacher's mean maps
(`nicking/recipes/maps_usual.toml`). Networks that have never seen a camera measure what carries over to it, and what is fitted on
maps (confidence, grades) is fitted on maps of photographs that the network has not seen.

RUN/teacher_1/ ... RUN/soft/ RUN/student_1/ ...   finished steps; a run that was cut off goes on at the last one
RUN/result/maps.pt                                the weights, in half precision
RUN/result/seen.json losses.csv counts.csv        photographs that taught; losses by epoch; what was counted on the camera left out
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fundoscope.errors import FundoscopeError, UsageError, nearest
from fundoscope.imaging.local_contrast import local_contrast
from fundoscope.learning import VesselPhotograph, fit_vessels
from fundoscope.learning.trainer import LOG, read_rows, write_rows
from fundoscope.learning.vessel_fit import predict_turned_maps
from fundoscope.networks import VesselEnsemble, VesselNet
from fundoscope.networks.vessel_net import SYMMETRIES
from fundoscope.nicking.crossing_study.map_counts import VESSEL_THRESHOLDS, choose_threshold, count_maps
from fundoscope.nicking.crossing_study.map_photographs import MapPhotograph, draw_one, read_photographs
from fundoscope.nicking.grade_study.transfer import read_seen_photographs, write_upstream
from fundoscope.nicking.recipes.crossings import MapRecipe, MapRound, SimulatedLook, read_map_recipe
from fundoscope.studies import Study, command

WEIGHTS = "maps.pt"
LOSSES, COUNTS = "losses.csv", "counts.csv"
EVERY_WAY = tuple(range(SYMMETRIES))

#: Simulated photographs whose field is cut flat, which teach nothing: what is mapped beyond their fields?
CUT_FLAT = SimulatedLook(camera="clipped", photographs=6, seed=991, size=900)

_SOFT_COST, _MEASURE_COST = 0.05, 0.07  # share of the time for the teacher's maps, and for counting at the end

T = TypeVar("T")


@dataclass(frozen=True)
class Deadline:
    """When a training must have ended, on `time.monotonic`'s clock; None for never."""

    ends: float | None = None

    @classmethod
    def after(cls, minutes: float | None) -> Deadline:
        """So many minutes from now."""
        return cls(None if minutes is None else time.monotonic() + 60 * minutes)

    def seconds_for(self, costs: Sequence[float]) -> float | None:
        """Seconds for the first of several pieces of work, of the time that is left for all; None without a deadline."""
        if self.ends is None:
            return None
        return max(1.0, (self.ends - time.monotonic()) * costs[0] / sum(costs))


@dataclass(frozen=True)
class MapTraining:
    """The training of one network of maps: `photographs` that may teach, in the steps of a `study`.

    `body` holds ImageNet weights of the network's body, where they are not to be read from their package.
    """

    recipe: MapRecipe
    photographs: Sequence[MapPhotograph]
    study: Study
    body: dict[str, Tensor] | None = None
    deadline: Deadline = Deadline()
    workers: int = 0

    def train(self) -> VesselNet:
        """The trained network, which begins as a member of the teacher; every finished step is read, a broken-off one goes on."""
        teacher = self.train_teacher()
        soft = self.give_soft_maps(teacher)
        student = teacher.members[0]
        assert isinstance(student, VesselNet)
        for number, one_round in enumerate(self.recipe.student, start=1):
            self.run_round(student, one_round, soft, f"student_{number}")
        return student

    def train_teacher(self) -> VesselEnsemble:
        """The ensemble that teaches, after its rounds."""
        torch.manual_seed(self.recipe.seed + 1)
        teacher = VesselEnsemble([self.first_network() for _ in range(self.recipe.members)])
        for number, one_round in enumerate(self.recipe.teacher, start=1):
            self.run_round(teacher, one_round, self.photographs, f"teacher_{number}")
        return teacher

    def first_network(self) -> VesselNet:
        """An untrained network; its body starts from ImageNet where the recipe says so."""
        if self.body is None or not self.recipe.network.pretrained:
            return VesselNet(self.recipe.network)
        network = VesselNet(self.recipe.network.without_pretraining())
        network.body.load_state_dict(self.body)
        return network

    def run_round(
        self, network: nn.Module, one_round: MapRound, photographs: Sequence[MapPhotograph], step: str
    ) -> None:
        """Train the network through one round, or read what the round left."""
        if not self.study.done(step):
            options = replace(one_round.fit.options, seconds=self.deadline.seconds_for(self.costs_from(step)))
            mixed = mix_photographs(photographs, one_round.simulated, self.recipe.real_per_simulated)
            LOG.info("%s: %d photographs, seconds at most: %s", step, len(mixed), options.seconds)
            with self.study.step(step) as folder:
                fit_vessels(
                    network, mixed, one_round.crops, options, folder / "fit", one_round.seed, self.workers,
                    self.recipe.soft_share,
                )  # fmt: skip
                torch.save(network.state_dict(), folder / WEIGHTS)
        network.load_state_dict(torch.load(self.study.result(step) / WEIGHTS, weights_only=True))

    def costs_from(self, step: str) -> list[float]:
        """The relative cost of a step and of all that follow, in their order."""
        recipe = self.recipe
        teacher = {f"teacher_{k}": recipe.members * each.steps for k, each in enumerate(recipe.teacher, start=1)}
        student = {f"student_{k}": each.steps for k, each in enumerate(recipe.student, start=1)}
        whole = sum(teacher.values()) + sum(student.values())
        costs = {**teacher, "soft": _SOFT_COST * whole, **student, "measure": _MEASURE_COST * whole}
        names = list(costs)
        return [float(costs[name]) for name in names[names.index(step) :]]

    def give_soft_maps(self, teacher: VesselEnsemble) -> list[MapPhotograph]:
        """The photographs, the real ones with the teacher's mean maps over its members, turns and mirrorings.

        Simulated ones have none: their truth is exact.
        """
        real = [each for each in self.photographs if not each.simulated]
        if not self.study.done("soft"):
            LOG.info("soft: maps of %d photographs", len(real))
            teacher.to(_device())
            with self.study.step("soft") as folder:
                for number, each in enumerate(real):
                    soft = map_photograph_in_ways(teacher, each.photograph, EVERY_WAY[: self.recipe.turns]) * 255
                    planes = np.ascontiguousarray(soft.round().astype(np.uint8).transpose(1, 2, 0))
                    cv2.imwrite(str(folder / f"{number}.png"), planes, [cv2.IMWRITE_PNG_COMPRESSION, 1])
            teacher.to("cpu")
        drawn = [each for each in self.photographs if each.simulated]
        return drawn + [
            replace(
                each, photograph=replace(each.photograph, soft=_read_planes(self.study.result("soft") / f"{k}.png"))
            )
            for k, each in enumerate(real)
        ]

    def losses(self) -> Iterator[dict[str, object]]:
        """The losses of all rounds by epoch."""
        rounds = [*(f"teacher_{k + 1}" for k in range(len(self.recipe.teacher)))]
        rounds += [f"student_{k + 1}" for k in range(len(self.recipe.student))]
        for step in rounds:
            for row in read_rows(self.study.result(step) / "fit" / "epochs.csv"):
                yield {"round": step, "epoch": row["epoch"], "loss": row["train_loss"], "rate": row["lr"]}

    def write_result(self, network: VesselNet, counts: Sequence[Mapping[str, object]]) -> Path:
        """Write the step `result`: weights, the photographs that taught, losses, and what was counted."""
        with self.study.step("result") as folder:
            write_vessel_map_weights(network, [e.name for e in self.photographs if not e.simulated], folder)
            write_rows(folder / LOSSES, list(self.losses()), ("round", "epoch", "loss", "rate"))
            if counts:
                write_rows(folder / COUNTS, counts, tuple(counts[0]))
        return self.study.result("result")


def leave_out(photographs: Sequence[MapPhotograph], cameras: Sequence[str]) -> list[MapPhotograph]:
    """The photographs of the other cameras; simulated ones that look like these cameras are left out, too."""
    return [each for each in photographs if each.camera not in cameras]


def mix_photographs(
    photographs: Sequence[MapPhotograph], with_simulated: bool, real_per_simulated: float
) -> list[VesselPhotograph]:
    """What crops are drawn from: those that tell arteries from veins twice, and with simulated ones so often that there are about so
    many real ones for each.
    """
    real = [each.photograph for each in photographs if not each.simulated]
    real += [each for each in real if each.known[1]]
    drawn = [each.photograph for each in photographs if each.simulated and with_simulated]
    return [*drawn, *repeat_real(real, len(drawn), real_per_simulated)]


def repeat_real(real: list[T], simulated: int, real_per_simulated: float) -> list[T]:
    """The real photographs, repeated until there are about so many for each of the simulated ones."""
    if not real or not simulated:
        return real
    return real * max(1, round(real_per_simulated * simulated / len(real)))


def map_photograph_in_ways(
    network: nn.Module, photograph: VesselPhotograph, ways: Sequence[int], inside: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """The mean maps (4, rows, columns) of a photograph in these ways; `inside` is the field, where another is wanted than the
    one that was found. What lies outside it is not blanked.
    """
    field = photograph.planes[..., 3] > 127 if inside is None else inside
    return predict_turned_maps(network, local_contrast(photograph.pixels, field), ways)


def count_left_out(
    networks: Mapping[str, nn.Module], seen: Sequence[MapPhotograph], left_out: Sequence[MapPhotograph]
) -> list[dict[str, object]]:
    """What each network gets right on photographs of cameras that it never saw, and on simulated ones that are cut flat.

    One row a photograph, a network, and one way or eight; the vessel threshold is that of the best mean Dice on the photographs
    that it saw.
    """
    cut = [draw_one(CUT_FLAT, number) for number in range(CUT_FLAT.photographs)]
    rows: list[dict[str, object]] = []
    with_vessels = [each.photograph for each in seen if not each.simulated and each.photograph.known[0]]
    for name, network in networks.items():
        network.to(_device())
        pairs = ((map_photograph_in_ways(network, own, (0,))[0], own.planes) for own in with_vessels)
        threshold = choose_threshold(pairs, VESSEL_THRESHOLDS)
        for each in [*left_out, *cut]:
            own = each.photograph
            for ways in ((0,), EVERY_WAY):
                counts = count_maps(map_photograph_in_ways(network, own, ways), own.planes, own.known, threshold)
                row = {"photograph": each.name, "camera": each.camera, "group": each.group, "simulated": each.simulated}
                rows.append({**row, "network": name, "ways": len(ways), "threshold": threshold, **counts})
        network.to("cpu")
    return rows


def write_vessel_map_weights(network: VesselNet, seen: Sequence[str], folder: Path) -> None:
    """Write the weights in half precision, and the names of the photographs that taught."""
    halves = {n: v.half() if v.is_floating_point() else v for n, v in network.state_dict().items()}
    torch.save(halves, folder / WEIGHTS)
    write_upstream(folder, seen, None)


def read_vessel_map_weights(folder: Path) -> tuple[dict[str, Tensor], frozenset[str]]:
    """The weights in the folder of a training's result, and the names of the photographs that they were trained on.

    Raises `UsageError` where the folder holds none.
    """
    seen = read_seen_photographs(folder)
    try:
        weights = torch.load(folder / WEIGHTS, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"{folder / WEIGHTS}: cannot be read ({error}). Give the folder `result` of a training of maps."
        ) from error
    return {name: v.float() if v.is_floating_point() else v for name, v in weights.items()}, seen


def _read_planes(path: Path) -> NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.uint8)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def train_one(given: argparse.Namespace) -> Path:
    """Train the network of a command line, count, and return the folder of its result."""
    recipe = read_map_recipe(given.recipe)
    for camera in given.without:
        if camera not in recipe.cameras:
            raise UsageError(f"The recipe has no camera '{camera}': {nearest(camera, recipe.cameras)}")
    deadline = Deadline.after(given.minutes)
    manifest = {"task": "vessel maps", "recipe": recipe.model_dump(mode="json"), "without": sorted(given.without)}
    study = Study.open(given.out, {**manifest, "commands": [command()]})
    photographs, body = read_photographs(given.data, recipe, max(1, given.workers))
    taught = leave_out(photographs, given.without)
    LOG.info("%d photographs, %d of them teach; %s", len(photographs), len(taught), _device())
    training = MapTraining(recipe, taught, study, body, deadline, given.workers)
    student = training.train()
    left_out = [each for each in photographs if each.camera in given.without and not each.simulated]
    networks = {
        "teacher": training.train_teacher(),
        "student": student,
    }  # read again: the student went on from a member
    training.write_result(student, [])  # the weights first: counting may be cut off
    return training.write_result(student, count_left_out(networks, taught, left_out))


def main() -> None:
    """The command `python -m fundoscope.nicking.crossing_study.vessel_maps`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, help="folder of the public sets, or packs of map_photographs"
    )
    parser.add_argument("--recipe", default="usual", help="a recipe of vessel maps: its name, or a TOML file")
    parser.add_argument("--without", nargs="*", default=[], help="cameras that teach nothing; none: all teach")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; it goes on where it was cut off")
    parser.add_argument("--minutes", type=float, help="end after about so many minutes, with shortened rounds")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw crops")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        print(train_one(given), flush=True)
    except FundoscopeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
