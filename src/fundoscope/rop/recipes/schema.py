"""The fields of a recipe file, with their units and ranges. No torch: whoever only reads a study can read its recipe."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field as Key
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from fundoscope.bundles.card import Attribution
from fundoscope.imaging import Standard
from fundoscope.recipe_files import FitSection, RecipeSection

#: Arms that every recipe has: paper 000's teacher and student, and the student alone beside it.
TEACHER, STUDENT, UNDISTILLED = "teacher", "student", "undistilled"
#: The student from random weights, alone and taught.
RANDOM, RANDOM_DISTILLED = "random", "random-distilled"

#: What a study trains where `--networks` names nothing else.
USUAL_ARMS = (TEACHER, STUDENT, UNDISTILLED)
ARM_NAMES = (*USUAL_ARMS, RANDOM, RANDOM_DISTILLED)


class AugmentNumbers(RecipeSection):
    """How strongly each part of the augmentation acts, as `learning.Augment` has it; 0 switches a part off."""

    rotation: NonNegativeFloat  # degrees
    scale: NonNegativeFloat  # natural logarithm of the zoom
    shift: NonNegativeFloat  # share of the side
    field: float = Key(ge=0, le=1)  # probability of another field shape
    colour: NonNegativeFloat  # 1: gains within a factor 1.35, hue within 12 degrees
    light: float = Key(ge=0, le=1)  # probability of another slope of light over the field
    sharpness: float = Key(ge=0, le=1)  # probability of blur, of sharpening
    noise: float = Key(ge=0, le=1)  # probability of sensor noise
    encoding: float = Key(ge=0, le=1)  # probability of a lower resolution, of JPEG


class FitNumbers(FitSection):
    """The numbers of one fit, with the smoothing of its labels and its augmentation."""

    smoothing: float = Key(ge=0, lt=1)  # of the labels
    augment: AugmentNumbers


class NetworkNumbers(RecipeSection):
    """Which networks are trained, and what they begin with.

    `teacher` is a list of streams joined by `+`. `pretrained` starts from ImageNet weights; of a body of
    EfficientNet-Lite that does, the first `frozen_stages` of its seven stages stay as they were, in both questions. With
    `shared_trunk` the student's second question keeps the first question's early stages, which then run once. What was frozen
    of each network stands in `networks.csv`, in each fit's `fit.json` and on the page. `fusion_relu` sets a ReLU behind the
    1x1 fusion of the teacher's streams, as paper 000 has it. The teacher looks at `teacher_size` pixels, at the student's where
    this is None.
    """

    teacher: str
    student: str
    pretrained: bool
    frozen_stages: int = Key(ge=0, le=7)
    shared_trunk: bool
    fusion_relu: bool = False  # studies from before this key had none
    teacher_size: int | None = Key(default=None, ge=32, le=1024)


class SquareNumbers(RecipeSection):
    """`side` in pixels of the squares that lie on disk and on which augmentation works."""

    side: int = Key(ge=32, le=1024)


class FoldNumbers(RecipeSection):
    """How photographs are dealt into folds: the share of the others that becomes a fold's inner part, and the seed."""

    inner_share: float = Key(gt=0, lt=1)
    seed: int


class DecisionNumbers(RecipeSection):
    """Where a probability becomes a decision.

    Thresholds are chosen by `unit`. `target_sensitivity` sets the operating points: the highest threshold that reaches it on
    inner data. `maximum_errors` is the share of wrong answers that a band of abstention may leave on inner data.
    """

    unit: Literal["photograph"]
    target_sensitivity: float = Key(gt=0, le=1)
    maximum_errors: float = Key(ge=0, lt=1)


class DistillationNumbers(RecipeSection):
    """How a student learns from its teacher.

    `loss` is `logit regression` (Ba and Caruana 2014; `share` of the loss is the teacher's) or `hinton` (2015;
    `temperature`, and `alpha` is the teacher's share). The teacher answers `views` augmented views of each photograph.
    `hint` is the weight of imitating the teacher's last maps, 0 for none. With `turned_copies` the copies that make the classes
    equal are turned by 90 and 180 degrees, as where labels alone are learnt; without, each is one more view. In an arm that is extended, `simulated` more
    photographs join without their labels.
    """

    loss: Literal["logit regression", "hinton"]
    share: float = Key(ge=0, le=1)
    temperature: PositiveFloat
    alpha: float = Key(ge=0, le=1)
    views: PositiveInt
    hint: NonNegativeFloat
    turned_copies: bool = False  # studies from before this key had none
    simulated: int = Key(ge=0)


class PretrainingNumbers(RecipeSection):
    """Training on simulated infants before the first real photograph.

    `photographs` are drawn from `seed`, `side` pixels on the longer side. Every `held_out_every`-th infant is kept for
    stopping.
    """

    photographs: PositiveInt
    seed: int
    side: int = Key(ge=32)
    held_out_every: int = Key(ge=2)
    fit: FitNumbers


class SimulatedTreatmentNumbers(RecipeSection):
    """The second stage learnt from simulated eyes, where a cohort does not say what was treated.

    Every `held_out_every`-th infant with ROP chooses the network, its temperature and its threshold. `fresh_seed` is added
    to the seed of the pretraining for the eyes on which it is measured. The fit is the student's at this `batch`.
    """

    held_out_every: int = Key(ge=2)
    batch: PositiveInt
    fresh_seed: PositiveInt


class ShuffledLabelNumbers(RecipeSection):
    """The control with shuffled labels: a network on squares of `side` pixels, fitted without stopping."""

    network: str
    side: int = Key(ge=32)
    fit: FitNumbers


class RefitNumbers(RecipeSection):
    """The network that ships is trained for the median over the folds of their best epoch, but for at least
    `minimum_epochs_share` of the epochs of the recipe. It learns from the teachers of all folds together, or from the bundle
    `teacher`: a shipped one's name or a folder.
    """

    minimum_epochs_share: float = Key(ge=0, le=1)
    teacher: str = ""


class RenderingNumbers(RecipeSection):
    """How a study makes its grader hold where somebody rendered photographs anew (`imaging.renderings`), and measures it.

    `augmentation` is the probability that a view in training is rendered; `consistency` the weight of the divergence between a
    network's answers to two renderings of one view, where labels or a teacher are learnt by a student; 0 switches each off. With
    `worst_operating_point` thresholds keep the target sensitivity on the worst rendering of inner photographs.
    """

    augmentation: float = Key(ge=0, le=1)
    consistency: NonNegativeFloat
    worst_operating_point: bool


class RopRecipe(RecipeSection):
    """Every number of a study of ROP: one section of the recipe file each.

    `pretraining` is None where nothing is learnt from simulated eyes first, `renderings` where photographs are taken as they are.
    """

    name: str = Key(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=40)
    standard: Standard
    squares: SquareNumbers
    networks: NetworkNumbers
    folds: FoldNumbers
    decision: DecisionNumbers
    teacher_fit: FitNumbers
    student_fit: FitNumbers
    distillation: DistillationNumbers
    pretraining: PretrainingNumbers | None = None
    simulated_treatment: SimulatedTreatmentNumbers
    shuffled_labels: ShuffledLabelNumbers
    refit: RefitNumbers
    renderings: RenderingNumbers | None = None

    def arm(self, name: str) -> StudyArm:
        """The arm of that name: one of `ARM_NAMES`, or any network, fitted as the undistilled student is."""
        alone = StudyArm(name=name, network=self.networks.student, fit=self.student_fit)
        arms = {
            TEACHER: StudyArm(name=name, network=self.networks.teacher, fit=self.teacher_fit),
            STUDENT: alone.model_copy(update={"teacher": TEACHER}),
            UNDISTILLED: alone,
            RANDOM: alone.model_copy(update={"pretrained": False}),
            RANDOM_DISTILLED: alone.model_copy(update={"teacher": TEACHER, "pretrained": False, "extended": True}),
        }
        return arms.get(name) or alone.model_copy(update={"network": name})

    def standard_of(self, arm: StudyArm) -> Standard:
        """What an arm's network looks at: the recipe's standard, for its teacher perhaps at another size."""
        size = self.networks.teacher_size if arm.name == TEACHER else None
        return self.standard if size is None else self.standard.model_copy(update={"size": size})

    @property
    def sizes(self) -> list[int]:
        """Pixels of the sides of all networks' inputs."""
        return sorted({self.standard.size, self.networks.teacher_size or self.standard.size})

    def starts_from_simulated_eyes(self, arm: StudyArm) -> bool:
        """Whether an arm begins with weights pretrained on simulated eyes: only the recipe's own networks do."""
        own = arm.network in (self.networks.teacher, self.networks.student)
        return self.pretraining is not None and arm.pretrained and own

    def changed(
        self,
        *,
        size: int | None = None,
        epochs: int | None = None,
        random_weights: bool = False,
        pretraining: bool = True,
    ) -> RopRecipe:
        """The recipe at another size of input, for another number of epochs, from random weights, or without pretraining."""
        changes: dict[str, Any] = {}
        if epochs is not None:
            shorter = {"epochs": epochs, "patience": epochs}
            changes = {name: getattr(self, name).model_copy(update=shorter) for name in ("teacher_fit", "student_fit")}
            views = min(self.distillation.views, epochs)  # no view is answered that no epoch would use
            changes["distillation"] = self.distillation.model_copy(update={"views": views})
        if size is not None:
            changes["standard"] = self.standard.model_copy(update={"size": size})
        if random_weights:
            changes["networks"] = self.networks.model_copy(update={"pretrained": False})
        if random_weights or not pretraining:
            changes["pretraining"] = None
        return self.model_copy(update=changes)

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values, as `study.json` keeps it, without what the recipe leaves out and older ones had no key for."""
        left_out: dict[str, Any] = {}
        if self.renderings is None:
            left_out["renderings"] = True
        if self.networks.teacher_size is None:
            left_out["networks"] = {"teacher_size"}
        if not self.refit.teacher:
            left_out["refit"] = {"teacher"}
        return self.model_dump(mode="json", exclude=left_out)


class StudyArm(RecipeSection):
    """A model configuration that a study compares: one network, trained in one way.

    `teacher` is the name of the arm whose answers it learns, "" for none. A `pretrained` arm starts from ImageNet and from
    simulated eyes, where the recipe has these, else from random weights. In an `extended` arm simulated photographs join,
    without their labels.
    """

    name: str
    network: str
    fit: FitNumbers
    teacher: str = ""
    pretrained: bool = True
    extended: bool = False


class BundleOrigin(RecipeSection):
    """What the card of a bundle says of where it comes from; `name` is its name, too."""

    name: str
    trained_on: tuple[str, ...]
    never_tested_on: tuple[str, ...]
    attributions: tuple[Attribution, ...] = ()
    commands: tuple[str, ...]


class ShippedPhotographs(RecipeSection):
    """A `folder` of photographs within the data, holding normal/ and rop/, all taken by one `camera`."""

    folder: str
    camera: str


class ShippedStudy(RecipeSection):
    """The study behind a shipped bundle, as `shipped.toml` has it.

    `photographs` are the folders of the photographs, one a camera; `results` is that of the tables within docs/results. Without
    `simulated_stage` the bundle has no second stage that learnt from simulated eyes.
    """

    recipe: str
    arms: tuple[str, ...]
    folds: int = Key(ge=2)
    seeds: PositiveInt
    shuffles: int = Key(ge=0)
    photographs: tuple[ShippedPhotographs, ...] = Key(min_length=1)
    images_are_independent: bool
    results: str
    origin: BundleOrigin
    simulated_stage: bool = True


def teachers_first(arms: list[StudyArm]) -> list[StudyArm]:
    """The arms, teachers before their students."""
    return sorted(arms, key=lambda arm: bool(arm.teacher))
