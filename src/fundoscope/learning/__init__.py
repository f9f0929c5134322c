"""Learning: augmentation, batches that do not depend on history, and one fit that survives being killed."""

from fundoscope.learning.augment import Augment
from fundoscope.learning.data import SQUARE, Squares
from fundoscope.learning.fit import FitOptions, fit, logits_of

__all__ = ["SQUARE", "Augment", "FitOptions", "Squares", "fit", "logits_of"]
