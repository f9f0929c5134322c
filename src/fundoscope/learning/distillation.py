"""Distillation: a student learns a teacher's logits (Hinton et al. 2015), which are computed once and kept.

Each photograph has a fixed number of augmented views, each drawn from (seed, view, row) alone. The teacher's logits for
each view are computed once, when an epoch first needs them, and written to disk. An epoch of the student uses the next view of each photograph, draws it
again from the same numbers, and reads the teacher's logits for that view. So an epoch with a teacher costs as much as an
epoch without.

Copies that make the classes equal are turned by 90 and 180 degrees, as where labels alone are learnt (paper 000, section 2.1),
or each is one more view.

With a hint (Romero et al. 2015) the student also imitates the teacher's last maps, through a 1x1 convolution of its own.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from fundoscope.imaging import Standard
from fundoscope.learning.augment import Augment
from fundoscope.learning.fit import ConsistentLoss, FitOptions, TrainingData, fit_batches, multiplies_bfloat16
from fundoscope.learning.squares import UNLABELLED, Index, Order, Squares, plain_batches
from fundoscope.networks import Classifier
from fundoscope.outputs import written_whole

_CLASSES = 2


@dataclass(frozen=True)
class HintonLoss:
    """alpha T^2 KL(teacher softened || student softened) + (1 - alpha) CE(student, label); paper 000, equations 5 and 9.

    The target (N, 3) holds the label of each photograph (or `UNLABELLED`) and the teacher's two logits. "Softened" means
    the softmax of the logits divided by the `temperature` T.
    """

    temperature: float = 5.0
    alpha: float = 0.95

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar, of logits (N, classes)."""
        t = self.temperature
        student = functional.log_softmax(logits / t, dim=1)
        teacher = functional.log_softmax(target[:, 1:] / t, dim=1)
        soft = functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return self.alpha * t**2 * soft + (1 - self.alpha) * _labelled(logits, target)


@dataclass(frozen=True)
class LogitRegressionLoss:
    """(1 - share) CE(student, label) + share / 2 x the mean squared difference of the margins (Ba and Caruana 2014).

    A margin is logit 1 minus logit 0; with two classes it determines the probability. The target is as for `HintonLoss`.
    """

    share: float = 0.7

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar, of logits (N, 2)."""
        margin = (logits[:, 1] - logits[:, 0]) - (target[:, 2] - target[:, 1])
        return self.share * 0.5 * margin.square().mean() + (1 - self.share) * _labelled(logits, target)


def _labelled(logits: Tensor, target: Tensor) -> Tensor:
    """The mean cross-entropy over the photographs that have a label; 0 where none has."""
    known = target[:, 0] != UNLABELLED
    if not known.any():
        return logits.sum() * 0.0
    return functional.cross_entropy(logits[known], target[known, 0].long())


@dataclass(frozen=True)
class Distillation:
    """How a student learns from its teacher: the `loss` on logits, the number of `views` of each photograph, and the
    weight of the `hint` (0 for none). `turned_copies`: the copies of the rarer class are turned and answered each by itself.
    """

    loss: HintonLoss | LogitRegressionLoss = LogitRegressionLoss()
    views: int = 10
    hint: float = 0.0
    turned_copies: bool = False

    def distillation_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar, of `output` (N, 2) against `target` (N, 3).

        With a hint both have M values of maps behind them, and the mean squared error of these, relative to the mean
        square of the teacher's, is added with its weight.
        """
        loss = self.loss(output[:, :_CLASSES], target[:, : 1 + _CLASSES])
        if not self.hint:
            return loss
        wanted = target[:, 1 + _CLASSES :]
        error = (output[:, _CLASSES:] - wanted).square().mean() / wanted.square().mean().clamp_min(1e-6)
        return loss + self.hint * error


@dataclass(frozen=True)
class TeacherViews:
    """The augmented views for which the teacher's logits are kept: `number` of each photograph, drawn by `augment`.

    With `turned_copies` a copy of a photograph has views of its own, turned by 90 degrees as often as the copy's number.
    """

    squares: Squares
    augment: Augment
    number: int
    seed: int
    turned_copies: bool = False

    def input(self, view: int, row: int, copy: int = 0) -> NDArray[np.float32]:
        """Network input (3, S, S) of one view of one copy of a photograph, always the same for the same `seed`."""
        key = (self.seed, view, row, copy) if copy else (self.seed, view, row)
        return self.squares.input(row, np.random.default_rng(key), self.augment, turns=copy)

    def pair(self, view: int, row: int, copy: int = 0) -> NDArray[np.float32]:
        """The same view and another rendering of it, (2, 3, S, S)."""
        key = (self.seed, view, row, copy) if copy else (self.seed, view, row)
        return self.squares.pair(row, np.random.default_rng(key), self.augment, turns=copy)

    def choose(self, index: Index) -> tuple[int, int, int]:
        """The view, row and copy that stand for an index of `Order`."""
        epoch, row, copy = index
        return (epoch % self.number, row, copy) if self.turned_copies else ((epoch + copy) % self.number, row, 0)

    def copies(self, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Every (row, copy) that may be asked for, rows first in their order, then turned copies."""
        turned = Order(rows, labels, self.seed).possible_copies() if self.turned_copies else []
        return [(int(row), 0) for row in rows] + [(row, copy) for row, copy in turned if copy]


class HintedStudent(nn.Module):
    """A student that in training also outputs its last maps, mixed to the teacher's number of maps: (N, 2 + maps h w)."""

    def __init__(self, student: Classifier, maps: int) -> None:
        super().__init__()
        self.student = student
        self.adapt = nn.Conv2d(student.head.in_features, maps, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, and in training the maps after them."""
        if not self.training:
            return self.student(x)
        features = self.student.features(x)
        return torch.cat([self.student.classify(features), self.adapt(features).flatten(1)], dim=1)


def fingerprint(model: nn.Module) -> str:
    """A hash of twelve digits over all weights of a network."""
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    return hashlib.sha256(save(state)).hexdigest()[:12]


class TeacherAnswers:
    """The teacher's logits, a view at a time: computed when a view is first asked for, and kept in `folder`.

    `answers[view]` is (len(copies), 2), float32, for the (row, copy) of `copies`; with `maps` the M values of the last maps
    follow, (len(copies), 2 + M). There is one file a view. Its name holds hashes of the teacher's weights, the copies and the
    augmentation, so that the logits of another teacher or another fold cannot be read by mistake. What is there is not computed
    again, and a view that no epoch uses never is.
    """

    def __init__(
        self,
        teacher: nn.Module,
        views: TeacherViews,
        copies: Sequence[tuple[int, int]],
        folder: Path,
        maps: bool = False,
    ) -> None:
        self.teacher, self.views, self.copies, self.folder, self.maps = teacher, views, copies, folder, maps
        self._name = f"{fingerprint(teacher)}-{_named(views, copies)}{'-maps' if maps else ''}"
        self._read: dict[int, NDArray[np.float32]] = {}

    def __getitem__(self, view: int) -> NDArray[np.float32]:
        if not 0 <= view < self.views.number:
            raise IndexError(view)
        if view not in self._read:
            path = self.folder / f"{self._name}-view-{view:03d}.npy"
            if not path.exists():
                self.folder.mkdir(parents=True, exist_ok=True)
                # two students of one teacher may be taught at once, on two machines
                with written_whole(path, f"{platform.node()}-{os.getpid()}") as beside, beside.open("wb") as file:
                    np.save(file, self._compute(view))
            self._read[view] = np.load(path).astype(np.float32)
        return self._read[view]

    @torch.no_grad()
    def _compute(self, view: int, batch: int = 16) -> NDArray[np.floating]:
        """The logits for one view, a batch at a time to bound the memory, on a GPU where there is one.

        In bfloat16 where the processor multiplies it: twice as fast, and a soft target needs no more digits.
        """
        device = "cuda" if torch.cuda.is_available() else "cpu"
        teacher = self.teacher.eval().to(device, memory_format=torch.channels_last)  # ty: ignore[no-matching-overload]
        answers = []
        for at in range(0, len(self.copies), batch):
            x = np.stack([self.views.input(view, row, copy) for row, copy in self.copies[at : at + batch]])
            given = torch.from_numpy(x).to(device, memory_format=torch.channels_last)
            with torch.autocast(device, torch.bfloat16, enabled=multiplies_bfloat16()):
                answers.append(_logits_and_maps(teacher, given, self.maps).float().cpu().numpy())
        return np.concatenate(answers).astype(np.float16 if self.maps else np.float32)


def _logits_and_maps(teacher: nn.Module, x: Tensor, maps: bool) -> Tensor:
    if not maps:
        return teacher(x)
    assert isinstance(teacher, Classifier)
    features = teacher.features(x)
    return torch.cat([teacher.classify(features), features.flatten(1)], dim=1)


def _named(views: TeacherViews, copies: Sequence[tuple[int, int]]) -> str:
    text = repr((views.augment, views.seed, views.squares.standard, list(copies)))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class _DistillationExamples(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, answers: TeacherAnswers, views: TeacherViews, labels: NDArray[np.int64], pairs: bool) -> None:
        self.answers, self.views, self.labels, self.pairs = answers, views, labels, pairs
        self.place = {copy: k for k, copy in enumerate(answers.copies)}

    def __getitem__(self, index: Index) -> tuple[Tensor, Tensor]:
        views = self.views
        view, row, copy = views.choose(index)
        answer = self.answers[view][self.place[row, copy]]
        target = np.concatenate([[self.labels[row]], answer]).astype(np.float32)
        x = views.pair(view, row, copy) if self.pairs else views.input(view, row, copy)
        return torch.from_numpy(x), torch.from_numpy(target)


def distillation_batches(
    answers: TeacherAnswers,
    rows: NDArray[np.int64],
    batch: int,
    labelled: bool = True,
    pairs: bool = False,
    views: TeacherViews | None = None,
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches (input, target) of the rows in a new order each epoch; targets hold the labels and the teacher's `answers`, which
    must be to all `TeacherViews.copies` of the rows.

    Without `labelled` all photographs count as unlabelled: the student learns from the teacher alone. With `pairs` each view
    stands beside another rendering of it, for which the teacher's answer to the view holds too. `views` are the same views as the
    student sees them, if not as the teacher does.
    """
    views = views or answers.views
    labels = views.squares.labels if labelled else np.full(len(views.squares.labels), UNLABELLED)
    order = Order(rows, labels, views.seed)
    return DataLoader(
        _DistillationExamples(answers, views, labels, pairs), batch, sampler=order, drop_last=len(order) > batch
    )


@dataclass(frozen=True)
class DistillationPlan:
    """What a student learns from: a `teacher`, and the rows `train` (labelled or not) of `squares`.

    The rows `inner` choose the epoch. `cache` is the folder in which the teacher's logits are kept. The teacher sees each view
    as `teacher_standard` makes it, as the student does where this is None.
    """

    teacher: nn.Module
    squares: Squares
    train: NDArray[np.int64]
    inner: NDArray[np.int64]
    cache: Path
    teacher_standard: Standard | None = None


def distil(
    student: Classifier,
    plan: DistillationPlan,
    distillation: Distillation,
    options: FitOptions,
    folder: Path,
    seed: int,
) -> Classifier:
    """Train the student on the teacher's logits; it stops on the labels of the inner rows, and resumes as `fit` does."""
    views = TeacherViews(plan.squares, options.augment, distillation.views, seed, distillation.turned_copies)
    copies = views.copies(plan.train, plan.squares.labels)
    seen = replace(views, squares=replace(plan.squares, standard=plan.teacher_standard or plan.squares.standard))
    answers = TeacherAnswers(plan.teacher, seen, copies, plan.cache, maps=distillation.hint > 0)
    pairs = options.consistency > 0
    batches = distillation_batches(answers, plan.train, options.batch, pairs=pairs, views=views)
    inner = plain_batches(plan.squares, plan.inner, options.batch) if len(plan.inner) else None
    loss = distillation.distillation_loss
    data = TrainingData(batches, ConsistentLoss(loss, options.consistency) if pairs else loss, inner)
    if not distillation.hint:
        return fit_batches(student, data, options, folder, seed)
    assert isinstance(plan.teacher, Classifier)
    torch.manual_seed(seed)
    hinted = HintedStudent(student, plan.teacher.head.in_features)
    return fit_batches(hinted, data, options, folder, seed).student
