"""Training of networks: augmentation, batches, distillation, and fits that survive being killed."""

from fundoscope.learning.augment import Augment
from fundoscope.learning.device_squares import DeviceSquares
from fundoscope.learning.distillation import Distillation, DistillationPlan, HintonLoss, LogitRegressionLoss, distil
from fundoscope.learning.fit import FitOptions, TrainingData, fit, fit_batches, predict_logits
from fundoscope.learning.squares import SQUARE, UNLABELLED, Squares
from fundoscope.learning.vessel_crops import CropOptions, VesselPhotograph
from fundoscope.learning.vessel_fit import fit_vessels, predict_vessel_maps, predict_vessel_probabilities

__all__ = [
    "SQUARE",
    "UNLABELLED",
    "Augment",
    "CropOptions",
    "DeviceSquares",
    "Distillation",
    "DistillationPlan",
    "FitOptions",
    "HintonLoss",
    "LogitRegressionLoss",
    "Squares",
    "TrainingData",
    "VesselPhotograph",
    "distil",
    "fit",
    "fit_batches",
    "fit_vessels",
    "predict_logits",
    "predict_vessel_maps",
    "predict_vessel_probabilities",
]
