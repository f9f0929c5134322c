"""One arm on one fold: trained on its training part, chosen and calibrated on the inner part, asked about the test part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional

from fundoscope.learning.fit import Batches, FitOptions, Loss, TrainingData, fit_batches
from fundoscope.networks.mdtnet import LIGHT, MDTNet, MDTNetLogits, MDTNetOptions, mdtnet_loss
from fundoscope.networks.nick_grader import NickGrader, ordinal_loss, rotate_half_turn
from fundoscope.nicking.grade_study.folds import GradeFold
from fundoscope.nicking.grade_study.patch_table import PatchRow
from fundoscope.nicking.grade_study.perturbed import Asked, Widths
from fundoscope.nicking.grade_study.rivals import nguyen, roy, trivial
from fundoscope.nicking.grade_study.study_arms import GradeArm, GradeRecipe
from fundoscope.nicking.grade_study.training_views import (
    Examples,
    Views,
    drawn,
    masked,
    plain_batches,
    training_batches,
)
from fundoscope.nicking.grade_study.transfer import Upstream

_SURE = 0.8  # probability from which on what a network says of an unlabelled patch is taken for its grade
_BATCH = 32
_COOL, _HOT = -1.5, 1.5  # log of a temperature, at most


@dataclass(frozen=True, eq=False)
class PatchTables:
    """The patches of a study: `rows` are folded and tested, `extra` only train, `others` are only tested, by name."""

    rows: Sequence[PatchRow]
    extra: Sequence[PatchRow]
    others: dict[str, Sequence[PatchRow]]

    @cached_property
    def labelled(self) -> NDArray[np.int64]:
        """Grades of rows and of extra ones, -1 where not known."""
        return np.array([-1 if row.grade is None else row.grade for row in (*self.rows, *self.extra)], np.int64)


@dataclass(frozen=True, eq=False)
class GradeFoldData:
    """A fold with all that is shown in it: everything is kept in `folder`, by upstream, for all arms and seeds."""

    tables: PatchTables
    fold: GradeFold
    upstream: Upstream
    folder: Path
    recipe: GradeRecipe

    @cached_property
    def views(self) -> NDArray[np.uint8]:
        """Views of all rows and extra patches."""
        every = [*self.tables.rows, *self.tables.extra]
        return drawn(every, self.upstream.bundle.map_vessels, Views(self.recipe.views), self._path("views.npy"))

    def asked(self, table: str, variant: str) -> Asked:
        """The patches of a table ("" is the study's own) in a variant."""
        rows = self.tables.others[table] if table else self.tables.rows
        return Asked.of(rows, variant, self.upstream, self._path(f"{table or 'own'} {variant}.npy"))

    def widths(self, table: str) -> Widths:
        """Measured widths of a table's patches."""
        rows = self.tables.others[table] if table else self.tables.rows
        return Widths.of(rows, self.upstream, self._path(f"{table or 'own'} widths.npz"))

    def tested(self, table: str) -> NDArray[np.int64]:
        """Which patches of a table this fold is asked about: those of its test photographs, and of photographs that the
        study does not train on and the upstream has not seen.
        """
        if not table:
            return self.fold.rows(self.tables.rows, "test")
        known = self.upstream.seen_photographs | {row.photograph for row in (*self.tables.rows, *self.tables.extra)}
        rows = self.tables.others[table]
        return np.array(
            [k for k, r in enumerate(rows) if r.photograph in self.fold.test or r.photograph not in known], np.int64
        )

    @property
    def train(self) -> NDArray[np.int64]:
        """Ranks of the labelled patches that train, extra ones of photographs that are not tested and do not choose included."""
        extra = self.fold.rows(self.tables.extra, "train") + len(self.tables.rows)
        return np.concatenate([self.fold.rows(self.tables.rows, "train"), extra])

    @property
    def unlabelled(self) -> NDArray[np.int64]:
        """Ranks of the unlabelled patches of photographs that train."""
        rows = self.tables.rows
        return np.array(
            [k for k, row in enumerate(rows) if row.grade is None and self.fold.part(row) == "train"], np.int64
        )

    @property
    def inner(self) -> NDArray[np.int64]:
        """Ranks of the patches that choose."""
        return self.fold.rows(self.tables.rows, "inner")

    def _path(self, name: str) -> Path:
        return self.folder / self.upstream.name / name


class Team(nn.Module):
    """MDTNet in a fit: it looks at the patch alone, and while it learns everyone's logits come out, (N, 1 + bodies, 4)."""

    def __init__(self, options: MDTNetOptions) -> None:
        super().__init__()
        self.options, self.team = options, MDTNet(options)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 6, s, s) to the joined logits (N, 4), or to everyone's."""
        patch = x[:, :3]
        if not self.training:
            return self.team(patch)
        said = self.team.all_logits(patch)
        return torch.cat([said.joined[None], said.plain, said.focal]).transpose(0, 1)

    def loss(self, logits: Tensor, grades: Tensor) -> Tensor:
        """Of everyone's logits."""
        first = 1 + len(self.options.plain)
        joined, plain, focal = logits[:, 0], logits[:, 1:first].transpose(0, 1), logits[:, first:].transpose(0, 1)
        return mdtnet_loss(MDTNetLogits(joined, plain, focal, self.options.gammas, self.options.alpha), grades)


class Network:
    """A network of an arm: how it is made, taught, and asked for probabilities."""

    def __init__(self, arm: GradeArm, fold: GradeFoldData, seed: int) -> None:
        assert arm.network is not None
        self.arm, self.fold, self.seed = arm, fold, seed
        torch.manual_seed(seed)
        light = replace(LIGHT, pretrained=arm.network.pretrained)
        team = MDTNetOptions() if fold.recipe.name == "paper" else light
        self.model: nn.Module = Team(team) if arm.name == "mdtnet" else NickGrader(arm.network)
        if arm.transferred and isinstance(self.model, NickGrader) and fold.upstream.detector is not None:
            fold.upstream.transfer_weights(self.model)
        self.temperature = 1.0

    @property
    def loss(self) -> Loss:
        """What it is taught by."""
        if isinstance(self.model, Team):
            return self.model.loss
        return ordinal_loss if self._options_head == "ordinal" else functional.cross_entropy

    @property
    def inner_loss(self) -> Loss:
        """What chooses its epoch."""
        return functional.cross_entropy if isinstance(self.model, Team) else self.loss

    @property
    def _options_head(self) -> str:
        assert self.arm.network is not None
        return self.arm.network.head

    def fit(self, grades: NDArray[np.int64], ranks: NDArray[np.int64], options: FitOptions, folder: Path) -> None:
        """Teach it the patches of these ranks, `grades` (n,) by rank, and set its temperature on the inner part."""
        fold = self.fold
        examples = Examples(fold.views, ranks, grades[ranks], self.seed, self.arm.masked)
        inner = self._inputs(fold.asked("", "usual"), fold.inner)
        told = fold.tables.labelled[fold.inner]
        batches: Batches = plain_batches(inner, told, _BATCH)
        material = TrainingData(training_batches(examples, options.batch), self.loss, batches, self.inner_loss)
        self.model = fit_batches(self.model, material, options, folder, self.seed)
        self.temperature = _temperature(lambda t: self._loss_at(inner, told, t))

    def _loss_at(self, inputs: NDArray[np.float32], told: NDArray[np.int64], temperature: float) -> float:
        return log_loss(self._probabilities(self.logits(inputs) / temperature), told)

    def _inputs(self, asked: Asked, ranks: NDArray[np.int64]) -> NDArray[np.float32]:
        inputs = asked.inputs(ranks)
        return np.array([masked(x) for x in inputs]) if self.arm.masked else inputs

    @torch.no_grad()
    def logits(self, inputs: NDArray[np.float32]) -> Tensor:
        """Logits of inputs (n, 6, s, s), as they are and turned round, (2, n, k)."""
        self.model.eval()
        parts = [torch.from_numpy(inputs[k : k + _BATCH]) for k in range(0, len(inputs), _BATCH)]
        return torch.cat([torch.stack([self.model(x), self.model(rotate_half_turn(x))]).float() for x in parts], dim=1)

    def _probabilities(self, logits: Tensor) -> NDArray[np.float64]:
        """The mean of both ways, (n, 4)."""
        each = self.model.probabilities if isinstance(self.model, NickGrader) else _softmax
        return torch.stack([each(way) for way in logits]).mean(dim=0).double().numpy()

    def answers(self, asked: Asked, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probabilities of grades 0 to 3, (n, 4), of patches by rank."""
        if not len(ranks):
            return np.zeros((0, 4))
        return self._probabilities(self.logits(self._inputs(asked, ranks)) / self.temperature)


def log_loss(p: NDArray[np.float64], grades: NDArray[np.int64]) -> float:
    """Mean log loss of probabilities (n, 4) where these grades (n,) are true."""
    return float(-np.log(np.maximum(p[np.arange(len(grades)), grades], 1e-6)).mean())


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=1)


def _temperature(loss_at: Callable[[float], float]) -> float:
    found = minimize_scalar(lambda log: loss_at(float(np.exp(log))), bounds=(_COOL, _HOT), method="bounded")
    return float(np.exp(found.x))


def run_arm(arm: GradeArm, fold: GradeFoldData, seed: int, variants: Sequence[str], folder: Path) -> None:
    """Fit and ask; `folder` then holds answers.npz, an entry a table and variant, and fit/ with its curves and weights."""
    answers = _rule(arm.name, fold) if arm.network is None else _network(arm, fold, seed, variants, folder)
    np.savez(folder / "answers.npz", allow_pickle=False, **answers)


def _network(
    arm: GradeArm, fold: GradeFoldData, seed: int, variants: Sequence[str], folder: Path
) -> dict[str, NDArray[np.float64]]:
    network = Network(arm, fold, seed)
    grades, ranks = fold.tables.labelled.copy(), fold.train
    if arm.shuffled:
        grades[ranks] = np.random.default_rng(seed).permutation(grades[ranks])
    network.fit(grades, ranks, fold.recipe.fit, folder / "fit")
    if arm.pseudo and len(fold.unlabelled):
        p = network.answers(fold.asked("", "usual"), fold.unlabelled)
        sure = p.max(axis=1) >= _SURE
        grades[fold.unlabelled[sure]] = p[sure].argmax(axis=1)
        ranks = np.concatenate([ranks, fold.unlabelled[sure]])
        network.fit(grades, ranks, replace(fold.recipe.fit, warm_up=0.1), folder / "fit_pseudo")
    torch.save({"model": network.model.state_dict(), "temperature": network.temperature}, folder / "network.pt")
    asked = [("", variant) for variant in variants] + [(table, "usual") for table in fold.tables.others]
    answers = {
        f"{table}|{variant}": network.answers(fold.asked(table, variant), fold.tested(table))
        for table, variant in asked
    }
    answers["inner"] = network.answers(fold.asked("", "usual"), fold.inner)
    return answers


def _rule(name: str, fold: GradeFoldData) -> dict[str, NDArray[np.float64]]:
    train = np.concatenate([fold.fold.rows(fold.tables.rows, "train"), fold.inner])  # a rule chooses nothing
    grades, own = fold.tables.labelled[train], fold.widths("")
    ask = _fitted(name, own.narrowing[train], own.features[train], grades)
    answers = {f"{table}|usual": ask(fold.widths(table), fold.tested(table)) for table in ("", *fold.tables.others)}
    return {**answers, "inner": ask(own, fold.inner)}


def _fitted(
    name: str, narrowing: NDArray[np.float64], features: NDArray[np.float64], grades: NDArray[np.int64]
) -> Callable[[Widths, NDArray[np.int64]], NDArray[np.float64]]:
    """The rule of that name, ready to be asked about patches by rank."""
    if name == "nguyen":
        rule = nguyen.fit(narrowing, grades)
        return lambda widths, ranks: rule.probabilities(widths.narrowing[ranks])
    if name == "roy":
        forest = roy.fit(features, grades)
        return lambda widths, ranks: forest.probabilities(widths.features[ranks])
    shares = trivial.fit(grades)
    return lambda _, ranks: shares.probabilities(len(ranks))
