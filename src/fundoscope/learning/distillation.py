"""Distillation: a student learns a teacher's answers (Hinton et al. 2015), which are computed once and kept.

Each photograph has a fixed number of augmented views, every one named by (seed, view, row). The teacher answers each
view once; an epoch of the student takes the next view of each photograph, draws it anew from its name, and reads the
teacher's answer to that very view. So an epoch costs what an epoch of the student alone costs.

With a hint (Romero et al. 2015) the student also imitates the teacher's last maps, through a 1x1 convolution of its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from fundoscope.learning.augment import Augment
from fundoscope.learning.fit import FitOptions, TrainingData, fit_batches, multiplies_bfloat16
from fundoscope.learning.squares import UNLABELLED, Index, Order, Squares, plain_batches
from fundoscope.networks import Classifier

_CLASSES = 2


@dataclass(frozen=True)
class HintonLoss:
    """alpha T^2 KL(teacher softened || student softened) + (1 - alpha) CE(student, label); paper 000, equations 5 and 9.

    The target of a photograph is its label (or `UNLABELLED`) and the teacher's logits, (N, 3).
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
    """(1 - share) CE(student, label) + share x half the mean squared difference of the logits' margins (Ba and Caruana
    2014). With two classes a margin is all that the logits say. The target is as for `HintonLoss`.
    """

    share: float = 0.7

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar, of logits (N, 2)."""
        margin = (logits[:, 1] - logits[:, 0]) - (target[:, 2] - target[:, 1])
        return self.share * 0.5 * margin.square().mean() + (1 - self.share) * _labelled(logits, target)


def _labelled(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy over the photographs that have a label; 0 where none has."""
    known = target[:, 0] != UNLABELLED
    if not known.any():
        return logits.sum() * 0.0
    return functional.cross_entropy(logits[known], target[known, 0].long())


@dataclass(frozen=True)
class Distillation:
    """How a student is taught: the `loss` on logits, `views` of each photograph, and the weight of the `hint`."""

    loss: HintonLoss | LogitRegressionLoss = LogitRegressionLoss()
    views: int = 10
    hint: float = 0.0

    def distillation_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss, a scalar; with a hint both `output` (N, 2 + M) and `target` (N, 3 + M) go on with maps."""
        loss = self.loss(output[:, :_CLASSES], target[:, : 1 + _CLASSES])
        if not self.hint:
            return loss
        wanted = target[:, 1 + _CLASSES :]
        strayed = (output[:, _CLASSES:] - wanted).square().mean() / wanted.square().mean().clamp_min(1e-6)
        return loss + self.hint * strayed


@dataclass(frozen=True)
class TeacherViews:
    """The augmented views of photographs: `number` of each, drawn by `augment` from `seed`."""

    squares: Squares
    augment: Augment
    number: int
    seed: int

    def input(self, view: int, row: int) -> NDArray[np.float32]:
        """Network input (3, S, S) of one view of one photograph: the same whenever it is asked for."""
        return self.squares.input(row, np.random.default_rng((self.seed, view, row)), self.augment)


class HintedStudent(nn.Module):
    """A student that in training also answers with its maps, (N, 2 + maps h w), brought to the teacher's number."""

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
    """Twelve digits that change with any weight."""
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    return hashlib.sha256(save(state)).hexdigest()[:12]


def teacher_answers(
    teacher: nn.Module, views: TeacherViews, rows: NDArray[np.int64], folder: Path, maps: bool = False
) -> NDArray[np.float32]:
    """The teacher's answers (views, len(rows), 2 or 2 + M) on every view of these rows, kept in `folder`.

    A file a view, named by teacher, rows and augmentation, so that no other teacher's or fold's answers can be read by
    mistake; what is there is not computed again. With `maps` the last maps follow the logits.
    """
    named = f"{fingerprint(teacher)}-{_named(views, rows)}{'-maps' if maps else ''}"
    answers = []
    for view in range(views.number):
        path = folder / f"{named}-view-{view:03d}.npy"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with path.with_suffix(".part").open("wb") as file:
                np.save(file, _answered(teacher, views, view, rows, maps))
            path.with_suffix(".part").replace(path)
        answers.append(np.load(path))
    return np.stack(answers).astype(np.float32)


@torch.no_grad()
def _answered(
    teacher: nn.Module, views: TeacherViews, view: int, rows: NDArray[np.int64], maps: bool, batch: int = 16
) -> NDArray[np.floating]:
    """A batch at a time: a thousand photographs take no more memory than sixteen.

    In bfloat16 where the processor multiplies it, twice as fast: a soft target needs no more digits.
    """
    teacher.eval().to(memory_format=torch.channels_last)
    answers = []
    for at in range(0, len(rows), batch):
        x = torch.from_numpy(np.stack([views.input(view, int(row)) for row in rows[at : at + batch]]))
        with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bfloat16()):
            answers.append(_answer(teacher, x.to(memory_format=torch.channels_last), maps).float().numpy())
    return np.concatenate(answers).astype(np.float16 if maps else np.float32)


def _answer(teacher: nn.Module, x: Tensor, maps: bool) -> Tensor:
    if not maps:
        return teacher(x)
    assert isinstance(teacher, Classifier)
    features = teacher.features(x)
    return torch.cat([teacher.classify(features), features.flatten(1)], dim=1)


def _named(views: TeacherViews, rows: NDArray[np.int64]) -> str:
    text = repr((views.augment, views.seed, views.squares.standard, np.asarray(rows).tolist()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class _Taught(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, views: TeacherViews, targets: dict[int, NDArray[np.float32]]) -> None:
        self.views, self.targets = views, targets

    def __getitem__(self, index: Index) -> tuple[Tensor, Tensor]:
        epoch, row, copy = index
        view = (epoch + copy) % self.views.number
        return torch.from_numpy(self.views.input(view, row)), torch.from_numpy(self.targets[row][view])


def distillation_batches(
    views: TeacherViews, rows: NDArray[np.int64], answers: NDArray[np.float32], batch: int, labelled: bool = True
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches (input, target) of the rows in a new order each epoch, with the teacher's `answers` as targets.

    Without `labelled` no label is looked at: the photographs are learnt from the teacher alone.
    """
    labels = views.squares.labels if labelled else np.full(len(views.squares.labels), UNLABELLED)
    targets = {
        int(row): np.column_stack([np.full(views.number, labels[row]), answers[:, k]]).astype(np.float32)
        for k, row in enumerate(rows)
    }
    order = Order(rows, labels, views.seed)
    return DataLoader(_Taught(views, targets), batch, sampler=order, drop_last=len(order) > batch)


@dataclass(frozen=True)
class DistillationPlan:
    """Whom a student learns from and on what: the rows `train` (labelled or not) of `squares`, stopping on `inner`.

    `cache` is the folder that keeps the teacher's answers.
    """

    teacher: nn.Module
    squares: Squares
    train: NDArray[np.int64]
    inner: NDArray[np.int64]
    cache: Path


def distil(
    student: Classifier, lesson: DistillationPlan, how: Distillation, options: FitOptions, folder: Path, seed: int
) -> Classifier:
    """Teach the student; it stops on the labels of the inner rows, and resumes as `fit` does."""
    views = TeacherViews(lesson.squares, options.augment, how.views, seed)
    answers = teacher_answers(lesson.teacher, views, lesson.train, lesson.cache, maps=how.hint > 0)
    batches = distillation_batches(views, lesson.train, answers, options.batch)
    inner = plain_batches(lesson.squares, lesson.inner, options.batch) if len(lesson.inner) else None
    material = TrainingData(batches, how.distillation_loss, inner)
    if not how.hint:
        return fit_batches(student, material, options, folder, seed)
    assert isinstance(lesson.teacher, Classifier)
    torch.manual_seed(seed)
    hinted = HintedStudent(student, lesson.teacher.head.in_features)
    return fit_batches(hinted, material, options, folder, seed).student
