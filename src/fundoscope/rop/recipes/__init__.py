"""The recipes: every number of a training in one place, and the arms that a study compares."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from fundoscope.errors import UsageError, nearest
from fundoscope.imaging import Standard
from fundoscope.learning import Augment, Distillation, FitOptions, HintonLoss, LogitRegressionLoss
from fundoscope.networks import BODY_NAMES, Scaling

_LITE_MEAN, _LITE_DEVIATION = 127 / 255, 128 / 255  # EfficientNet-Lite's own scaling of its input (Google, 2020)

TEACHER, STUDENT, UNDISTILLED = "teacher", "student", "undistilled"
RANDOM, RANDOM_DISTILLED = "random", "random-distilled"

#: What a study trains unless it is told otherwise: paper 000, and the student alone beside it.
USUAL = (TEACHER, STUDENT, UNDISTILLED)
ARMS = (*USUAL, RANDOM, RANDOM_DISTILLED)


@dataclass(frozen=True)
class Arm:
    """One network trained in one way.

    `teacher` is the arm whose answers it learns; `prepared` starts from ImageNet and the rehearsal, where the recipe
    has these, else from random weights; in an `extended` arm simulated photographs join, without their labels.
    """

    name: str
    network: str
    fit: FitOptions
    teacher: str = ""
    prepared: bool = True
    extended: bool = False


@dataclass(frozen=True)
class Rehearsal:
    """Training on `photographs` simulated infants' photographs, drawn from `seed`, before any real one."""

    photographs: int
    seed: int
    fit: FitOptions


@dataclass(frozen=True)
class Recipe:
    """A teacher, its student, the standard of their input, how each is fitted, and how the one teaches the other.

    `teacher` is a list of streams joined by `+`. `target_sensitivity` sets the operating points: the highest threshold
    that reaches it on inner data. With `shared_trunk` the student's second question keeps the first one's early stages,
    which then run once. `pretrained` starts from ImageNet weights.
    """

    name: str
    standard: Standard
    teacher: str
    student: str
    teacher_fit: FitOptions
    student_fit: FitOptions
    distillation: Distillation
    rehearsal: Rehearsal | None = None
    pretrained: bool = True
    shared_trunk: bool = False
    target_sensitivity: float = 0.9

    def arm(self, name: str) -> Arm:
        """The arm of that name: one of `ARMS`, or a network to compare with, fitted as the undistilled student is."""
        student = Arm(name, self.student, self.student_fit)
        arms = {
            TEACHER: Arm(name, self.teacher, self.teacher_fit),
            STUDENT: replace(student, teacher=TEACHER),
            UNDISTILLED: student,
            RANDOM: replace(student, prepared=False),
            RANDOM_DISTILLED: replace(student, teacher=TEACHER, prepared=False, extended=True),
        }
        if name in arms:
            return arms[name]
        if name not in BODY_NAMES:
            raise UsageError(f"There is no network '{name}' to train: {nearest(name, (*ARMS, *BODY_NAMES))}")
        return replace(student, network=name)

    @property
    def scaling(self) -> Scaling:
        """How the standard scales what the networks are given."""
        return Scaling(self.standard.mean, self.standard.deviation)

    def changed(
        self, *, size: int | None = None, epochs: int | None = None, random_weights: bool = False,
        rehearsed: bool = True, tracker: str = "csv",
    ) -> Recipe:  # fmt: skip
        """The recipe at another size of input, for another number of epochs, from random weights, or not rehearsed."""
        fits = (self.teacher_fit, self.student_fit)
        distillation = self.distillation
        if epochs is not None:
            fits = tuple(replace(fit, epochs=epochs, patience=epochs) for fit in fits)
            distillation = replace(distillation, views=min(distillation.views, epochs))  # none is drawn in vain
        teacher_fit, student_fit = (replace(fit, tracker=tracker) for fit in fits)
        standard = self.standard if size is None else self.standard.model_copy(update={"size": size})
        rehearsal = self.rehearsal if rehearsed and not random_weights else None
        return replace(
            self, standard=standard, teacher_fit=teacher_fit, student_fit=student_fit, rehearsal=rehearsal,
            distillation=distillation, pretrained=self.pretrained and not random_weights,
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values, for the manifest of a study."""
        values = asdict(self) | {"standard": self.standard.model_dump(mode="json")}
        values["distillation"]["loss"] |= {"kind": type(self.distillation.loss).__name__}
        for fit in (values["teacher_fit"], values["student_fit"], (values["rehearsal"] or {}).get("fit", {})):
            fit.pop("tracker", None)  # where a log goes changes nothing of what is learnt
        return values


# Flips, turns and an affine change, as paper 000 names them; how far it does not say, and colours it leaves alone.
_PAPERS_AUGMENT = Augment(field=0, colour=0, light=0, sharpness=0, noise=0, encoding=0)
# Table 2 and section 3: Adam (.9, .999), 1e-4, weight decay 1e-4, at most 200 epochs, stopped on a validation loss.
_PAPERS_FIT = FitOptions(
    epochs=200, patience=20, batch=8, learning_rate=1e-4, weight_decay=1e-4, optimiser="adam", schedule="constant",
    average=0.0, smoothing=0.0, augment=_PAPERS_AUGMENT,
)  # fmt: skip
_LITE_FIT = FitOptions(epochs=16, patience=10, batch=8, learning_rate=7e-4, warm_up=0.05, average=0.9)
_TINY_FIT = FitOptions(
    epochs=6, patience=6, batch=16, learning_rate=5e-3, average=0.8,
    augment=Augment(light=0, sharpness=0, noise=0, encoding=0),
)  # fmt: skip

RECIPES = {
    "paper": Recipe(
        "paper",
        Standard(size=256, mean=(0.0,) * 3, deviation=(1.0,) * 3),
        teacher="resnet18+densenet121+efficientnet_b2",
        student="mobilenetv2",
        teacher_fit=_PAPERS_FIT,
        student_fit=replace(_PAPERS_FIT, batch=16),
        distillation=Distillation(HintonLoss(temperature=5.0, alpha=0.95), views=200),  # equations 5 and 9, repaired
    ),
    "lite": Recipe(
        "lite",
        Standard(size=256, mean=(_LITE_MEAN,) * 3, deviation=(_LITE_DEVIATION,) * 3),
        teacher="tf_efficientnet_lite0+tf_efficientnet_lite1+tf_efficientnet_lite2",
        student="tf_efficientnet_lite0",
        teacher_fit=replace(_LITE_FIT, epochs=8, patience=5, learning_rate=5e-4),
        student_fit=_LITE_FIT,
        distillation=Distillation(LogitRegressionLoss(0.7), views=6),
        rehearsal=Rehearsal(
            1200, 2026, FitOptions(epochs=6, patience=6, batch=16, learning_rate=1.5e-3, average=0.98)
        ),
        shared_trunk=True,
    ),
    "tiny": Recipe(
        "tiny",
        Standard(size=64),
        teacher="tiny+tiny+tiny",
        student="tiny",
        teacher_fit=_TINY_FIT,
        student_fit=_TINY_FIT,
        distillation=Distillation(LogitRegressionLoss(0.7), views=6),
        pretrained=False,
    ),
}  # fmt: skip


def recipe_of(name: str) -> Recipe:
    """The recipe of that name; `UsageError` names the nearest when there is none."""
    if name not in RECIPES:
        raise UsageError(f"There is no recipe '{name}': {nearest(name, RECIPES)}")
    return RECIPES[name]
