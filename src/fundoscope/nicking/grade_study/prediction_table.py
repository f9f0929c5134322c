"""Names that the steps from prediction to pages share: files of a study, columns of its predictions, variants. No torch."""

from __future__ import annotations

from fundoscope.vessels.grade_rule import GRADES

#: Files of a study, in the order in which they are written.
PREDICTIONS, CALIBRATION, CALIBRATED = "predictions.parquet", "calibration.csv", "calibrated.parquet"
EXPLANATIONS, ACTIVATIONS, DELETIONS, CHANGES = "explanations", "activations.csv", "deletions.csv", "changes.csv"
RESULTS, TABLES, REPORT = "results.json", "tables", "report.html"
#: Share of a stream's parameters that each transferred arm takes from each upstream's detector.
TRANSFERRED = "transferred.json"

#: What the study's own table is called beside the others that are tested.
OWN = "own"
#: How tested patches are shown to a network: as they are, and in ways that should not change their grade.
UNPERTURBED = "unperturbed"
COLOUR_CHANGES = ("darker", "less contrast", "less saturated", "another hue")
#: The usual square of 12 vein widths alone, as a user's file of it: how wide its vein is, and what lies around, is not known.
PATCH_FILE = "as a patch file"
VARIANTS = (
    UNPERTURBED, "half the scale", "double the scale", "turned", "blurred", "recompressed", "recoloured", *COLOUR_CHANGES,
    PATCH_FILE,
)  # fmt: skip
#: Unperturbed, but for the maps of arteries and of veins, which stand in each other's place: grades may well change.
EXCHANGED = "artery and vein exchanged"

#: Columns that say which patch a row is, how it was shown, and by whom it was graded; `row` counts in the table, `narrowed`
#: says whether a side is known to be narrowed, if only by less than a grade's worth; `crossing` is the same for the patches of one.
DESCRIPTION = (
    "arm", "seed", "fold", "part", "table", "variant", "row", "patch", "photograph", "grade", "sham", "narrowed",
    "crossing", "vein_px",
)  # fmt: skip
PROBABILITIES = [f"p{k}" for k in range(GRADES)]
LOGITS = [f"logit_{k}" for k in range(GRADES)]
TURNED_LOGITS = [f"turned_{k}" for k in range(GRADES)]
