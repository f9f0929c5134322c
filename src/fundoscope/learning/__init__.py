"""Learning: augmentation, batches that do not depend on history, and one fit that survives being killed."""

from fundoscope.learning.augment import Augment
from fundoscope.learning.distillation import Distillation, Lesson, LogitRegression, SoftTargets, distil
from fundoscope.learning.fit import FitOptions, Material, fit, fit_batches, logits_of
from fundoscope.learning.squares import SQUARE, UNLABELLED, Squares
from fundoscope.learning.vessel_crops import Crops, Drawn
from fundoscope.learning.vessel_fit import fit_vessels, maps_of, vessel_probabilities

__all__ = [
    "SQUARE",
    "UNLABELLED",
    "Augment",
    "Crops",
    "Distillation",
    "Drawn",
    "FitOptions",
    "Lesson",
    "LogitRegression",
    "Material",
    "SoftTargets",
    "Squares",
    "distil",
    "fit",
    "fit_batches",
    "fit_vessels",
    "logits_of",
    "maps_of",
    "vessel_probabilities",
]
