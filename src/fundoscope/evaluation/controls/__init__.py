"""What a network must beat, and what it must withstand: is it disease that it reads?

`baselines` fits the logistic model of every baseline out of fold, and the commonest class, and says why one could not be made; `nuisance` measures file, field,
colour and sharpness, which are no disease; `vessel_baseline` measures what vessels alone tell; `matched_photographs` makes
photographs alike in all that is no disease; `shuffled_labels` judges runs whose labels were shuffled.
"""

from fundoscope.evaluation.controls.baselines import (
    BaselinePredictions,
    FoldRows,
    NotMade,
    majority_baseline,
    make_or_say_why,
    predict_out_of_fold,
)
from fundoscope.evaluation.controls.nuisance import (
    NUISANCE_FAMILIES,
    NUISANCE_FEATURES,
    mean_colour_baseline,
    mean_colour_table,
    nuisance_baseline,
    nuisance_features,
    nuisance_table,
)
from fundoscope.evaluation.controls.shuffled_labels import ShuffleControl, chance_sd, shuffle_verdict
from fundoscope.evaluation.controls.vessel_baseline import (
    VESSEL_FEATURES,
    vessel_baseline,
    vessel_features,
    vessel_table,
)

__all__ = [
    "NUISANCE_FAMILIES",
    "NUISANCE_FEATURES",
    "VESSEL_FEATURES",
    "BaselinePredictions",
    "FoldRows",
    "NotMade",
    "ShuffleControl",
    "chance_sd",
    "majority_baseline",
    "make_or_say_why",
    "mean_colour_baseline",
    "mean_colour_table",
    "nuisance_baseline",
    "nuisance_features",
    "nuisance_table",
    "predict_out_of_fold",
    "shuffle_verdict",
    "vessel_baseline",
    "vessel_features",
    "vessel_table",
]
