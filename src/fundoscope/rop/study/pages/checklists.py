"""TRIPOD+AI and CLAIM 2024, filled with what a study knows; the rest is for its authors."""

from __future__ import annotations

from pathlib import Path

from fundoscope.reports import Section
from fundoscope.reports.checklist import TITLES, checklist_section, fill, write_checklist
from fundoscope.rop.study.evaluate import Assessment


def checklists(found: Assessment, tables: Path) -> Section:
    """Both lists, written as CSV into `tables` too."""
    facts = study_facts(found)
    filled = {name: fill(name, facts) for name in TITLES}
    for name, answers in filled.items():
        write_checklist(tables / f"checklist_{name}.csv", answers)
    return checklist_section(filled)


def study_facts(found: Assessment) -> dict[str, str]:
    """What the study can say of itself, by the checklist's keys; nothing that it was not told."""
    fits, cohort, groups = found.fits, found.material.cohort, found.material.groups
    recipe, fit = fits.recipe, fits.recipe.student_fit
    ill = int(cohort.labels.sum())
    infants = len({record.infant for record in cohort}) if cohort.has_infants else None
    return {
        "photographs_and_infants": f"{len(cohort)} photographs, {ill} with ROP; "
        + (f"{infants} infants" if infants else "infants unknown"),
        "preprocessing": f"field cut to {recipe.standard.size} px, CLAHE on lightness ({recipe.standard.clahe_when}), "
        "one definition for training and use (the standard in study.json)",
        "labels": "as the cohort's table gives them; the study does not know who graded",
        "folds_and_groups": f"{len(fits.folds)} outer folds, each with an inner part; never parted: {groups.rule}",
        "overlap_proof": f"{found.material.folds.check_partition()}; copies in all turns and mirrorings and second views "
        "were sought and kept together",
        "subgroups": "by birth weight, gestational age, camera and site, as far as the table has them",
        "quality_refusals": "in use, photographs that cannot be graded are refused with the reason",
        "code": "fundoscope, Apache-2.0; commands and data hash in study.json",
        "architecture": "; ".join(f"{arm.name}: {arm.network}" for arm in found.arms),
        "initial_weights": "ImageNet" if recipe.pretrained else "random",
        "training": f"{fit.optimiser}, rate {fit.learning_rate:g}, batch {fit.batch}, at most {fit.epochs} epochs; augmented "
        "in the loader only",
        "early_stopping": "lowest loss on the inner part of each fold, never on the outer one",
        "imbalance": "the rarer class is repeated, turned, until both are even; in the loader, inside the fold",
        "software": ", ".join(f"{name} {version}" for name, version in fits.study.manifest["versions"].items()),
        "threshold_rule": f"highest threshold with sensitivity {recipe.target_sensitivity:g} on inner photographs, by fold",
        "calibration": "temperature by inner photographs; slope, intercept, ECE and Brier in the tables",
        "metrics_and_intervals": "AUC, sensitivity, specificity and others with 95 % group-bootstrap intervals (2000)",
        "robustness_controls": "one field mask, one colour distribution, one encoding; nuisance baseline",
        "explanations": "class activation maps of right and wrong photographs",
        "failure_gallery": "the most wrongly graded photographs are shown first",
        "internal_not_external": "internal cross-validation only; no other site was tested",
    }
