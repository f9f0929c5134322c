"""The recipe of a study of grades: its fields, with units and ranges. No torch: whoever reads a study can read its recipe.

`paper` is the published system with its SE-ResNet50 bodies, `lite` what we train and ship, `tiny` for tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field as Key
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from fundoscope.recipe_files import FitSection, RecipeSection, read_recipe_file, shipped_recipes

#: Names of the recipes that come with the program.
GRADE_RECIPE_NAMES = ("paper", "lite", "tiny")


class GraderNetwork(RecipeSection):
    """The network of arm `ours`, as `networks.nick_grader.GraderOptions` has it. Other arms change single fields of it."""

    streams: Literal[1, 2]
    body: str
    pretrained: bool  # starts from ImageNet weights
    frozen_stages: int = Key(ge=0, le=7)  # stages of EfficientNet-Lite that keep their ImageNet weights
    excited: bool  # squeeze-and-excitation
    pyramid: Literal["safpn", "fpn", "none"]
    maps: PositiveInt
    pooled: Literal["bilinear", "side by side"]
    head: Literal["plain", "ordinal"]
    dropout: float = Key(ge=0, lt=1)


class TeamNetwork(RecipeSection):
    """The bodies of MDTNet, as `networks.mdtnet.MDTNetOptions` has them; they start from ImageNet where `network` does."""

    plain: tuple[str, ...]  # bodies that learn by cross-entropy
    focal_body: str
    gammas: tuple[NonNegativeFloat, ...]  # one body a gamma of the focal loss
    hidden: tuple[PositiveInt, ...]
    frozen_stages: int = Key(ge=0, le=7)  # of its bodies of EfficientNet-Lite, kept as ImageNet left them


class GradeFoldNumbers(RecipeSection):
    """The training photographs of a fold are dealt into `inner_parts`, of which the first that has `fewest_inner_crossings` chooses
    epoch and temperature.
    """

    inner_parts: int = Key(ge=2)
    fewest_inner_crossings: PositiveInt


class CameraNumbers(RecipeSection):
    """What another camera changes, as `learning.Augment` has it; 0 switches a part off."""

    colour: NonNegativeFloat  # 1: gains within a factor 1.35, hue within 12 degrees
    light: float = Key(ge=0, le=1)  # probability of another slope of light
    sharpness: float = Key(ge=0, le=1)  # probability of blur, of sharpening
    noise: float = Key(ge=0, le=1)  # probability of sensor noise
    encoding: float = Key(ge=0, le=1)  # probability of a lower resolution, of JPEG


class AugmentedViews(RecipeSection):
    """How the augmented views of a training patch are drawn.

    Its vein is laid level and brought to its usual width by the true pose, where that is known, but for a turn and a zoom that are
    drawn from normal distributions, since measured poses are a little wrong, too. For the share `maps_from_patch_alone`
    nothing is known but a square as in a user's file, of a scale between `smallest_zoom` and `largest_zoom` of the usual one;
    else the vessel maps are made from all that is known around the patch.
    """

    number: PositiveInt  # views of each patch
    seed: int
    slope_jitter: NonNegativeFloat  # degrees: standard deviation of the turn
    width_jitter: NonNegativeFloat  # standard deviation of the zoom's logarithm
    shift: NonNegativeFloat  # vein widths off the middle, at most
    faded_maps: float = Key(ge=0, le=1)  # probability that the vein is faded from the maps around the crossing
    faded_radius: PositiveFloat  # vein widths from the crossing within which it is
    zoom_deviation: NonNegativeFloat  # of a file's scale: standard deviation of its logarithm
    smallest_zoom: PositiveFloat
    largest_zoom: PositiveFloat
    maps_from_patch_alone: float = Key(ge=0, le=1)
    camera: CameraNumbers


class MaskedMiddle(RecipeSection):
    """Arm `masked` sees nothing within `radius` vein widths of the middle of a patch."""

    radius: PositiveFloat


class PseudoLabels(RecipeSection):
    """Arm `pseudo` takes its own grade of an unlabelled patch as true from `minimum_confidence` on, and is fitted again."""

    minimum_confidence: float = Key(gt=0, lt=1)
    warm_up: float = Key(ge=0, le=1)  # share of the steps of the second fit


class FewLabels(RecipeSection):
    """Arms `few-labels` and `few-pseudo` are told the grades of the share `kept` of the training crossings."""

    kept: float = Key(gt=0, lt=1)


class GradePrediction(RecipeSection):
    """Patches that go through a network at once, when its epochs are compared and when it predicts."""

    batch: PositiveInt


class GradeCalibration(RecipeSection):
    """What is settled on the inner patches of a fold: the temperature within bounds, and from which confidence on a patch
    is graded: the one that the share `coverage` of the inner patches reach.
    """

    lowest_log_temperature: float
    highest_log_temperature: float
    coverage: float = Key(gt=0, le=1)


class PerturbationNumbers(RecipeSection):
    """How strongly tested patches are perturbed; their scale is halved and doubled besides."""

    blur: PositiveFloat  # standard deviation in vein widths
    jpeg_quality: int = Key(ge=1, le=100)
    colour: NonNegativeFloat  # as the camera's
    light: float = Key(ge=0, le=1)
    turn: float = Key(gt=0, lt=180)  # degrees
    brightness: PositiveFloat  # factors: of the value, of its distance from the patch's mean, of its distance from grey
    contrast: PositiveFloat
    saturation: NonNegativeFloat
    hue: float = Key(gt=-180, lt=180)  # degrees


class ExplanationNumbers(RecipeSection):
    """Where activation is expected: on the vein between `artery_half_width` and `reach` vein widths from the crossing.

    The networks of `graders` alone are explained, those of the first seed. The networks' inputs are turned by `turn` and moved
    by `shift` to see how much of an activation stays where it was.
    """

    graders: tuple[str, ...]
    reach: PositiveFloat
    artery_half_width: NonNegativeFloat
    turn: float = Key(gt=0, lt=180)  # degrees
    shift: PositiveFloat  # vein widths, to the right and down


class DeletionNumbers(RecipeSection):
    """The deletion test: the share `area` of an input is blanked, where the activation is strongest, and elsewhere."""

    area: float = Key(gt=0, lt=0.5)
    edge: PositiveFloat  # pixels: standard deviation of the smooth edge
    places: PositiveInt  # random places on vessels that are blanked in turn


class PatchDetection(RecipeSection):
    """The second detection step of paper 002 on the patches themselves (`--detection`)."""

    epochs: PositiveInt
    batch: PositiveInt
    learning_rate: PositiveFloat
    warm_up: int = Key(ge=0)  # steps


class GradeRecipe(RecipeSection):
    """Every number of a study of grades: one section of the recipe file each."""

    name: str
    network: GraderNetwork
    mdtnet: TeamNetwork
    fit: FitSection
    folds: GradeFoldNumbers
    views: AugmentedViews
    masked: MaskedMiddle
    pseudo: PseudoLabels
    few: FewLabels
    prediction: GradePrediction
    calibration: GradeCalibration
    perturbed: PerturbationNumbers
    explanation: ExplanationNumbers
    deletion: DeletionNumbers
    detection: PatchDetection


def read_grade_recipe(name: str | Path, epochs: int | None = None) -> GradeRecipe:
    """The recipe `paper`, `lite` or `tiny`, or the one in a TOML file of yours; `epochs` replaces those of every network.

    Raises `UsageError` that names the file, the key and what to do.
    """
    changes = {} if epochs is None else {"fit": {"epochs": epochs, "patience": epochs}}
    return read_recipe_file(name, GradeRecipe, shipped_recipes(Path(__file__).parent, "grades"), changes)
