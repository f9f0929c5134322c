"""TRIPOD+AI and CLAIM 2024, filled with what a study knows; the rest is for its authors."""

from __future__ import annotations

from fundoscope.reports import Section
from fundoscope.reports.checklist import TITLES, checklist_section, fill, write_checklist
from fundoscope.rop.study.pages.files import StudyFiles


def checklists(files: StudyFiles) -> Section:
    """Both lists, written as CSV beside the tables too."""
    facts = study_facts(files)
    filled = {name: fill(name, facts) for name in TITLES}
    for name, answers in filled.items():
        write_checklist(files.folder / "tables" / f"checklist_{name}.csv", answers)
    return checklist_section(filled)


def study_facts(files: StudyFiles) -> dict[str, str]:
    """What the study can say of itself, by the checklist's keys; nothing that it does not know."""
    results, manifest, recipe = files.results, files.manifest, files.manifest["recipe"]
    sample, fit, standard = results["sample"], recipe["student_fit"], recipe["standard"]
    infants = f"{sample['infants']} infants" if sample["infants"] else "infants unknown"
    refused = results["questions"][0]["refused"] or "none"
    return {
        "photographs_and_infants": f"{sample['photographs']} photographs, {sample['rop']} with ROP; {infants}",
        "preprocessing": f"field cut to {standard['size']} px, CLAHE on lightness ({standard['clahe_when']}), "
        "one definition for training and use (the standard in study.json)",
        "labels": "as the cohort's table gives them; the study does not know who graded",
        "folds_and_groups": f"{manifest['folds']} outer folds, each with an inner part; never parted: {sample['groups_rule']}",
        "overlap_proof": f"{sample['partition']}; copies in all turns and mirrorings and second views "
        "were sought and kept together",
        "subgroups": "by birth weight, gestational age, camera and site, as far as the table has them",
        "quality_refusals": f"in use, photographs that cannot be graded are refused with the reason: {refused} of "
        f"{sample['photographs']} here; figures with and without them in quality_gate_*.csv",
        "code": "fundoscope, Apache-2.0; commands and data hash in study.json",
        "architecture": "; ".join(f"{row['network']}: {row['made of']}" for row in results["networks"]),
        "initial_weights": "ImageNet" if recipe["networks"]["pretrained"] else "random",
        "training": f"{fit['optimiser']}, rate {fit['learning_rate']:g}, batch {fit['batch']}, at most {fit['epochs']} epochs; "
        "augmented in the loader only",
        "early_stopping": "lowest loss on the inner part of each fold, never on the outer one",
        "imbalance": "the rarer class is repeated, turned, until both are even; in the loader, inside the fold",
        "software": ", ".join(f"{name} {version}" for name, version in manifest["versions"].items()),
        "threshold_rule": f"highest threshold with sensitivity {recipe['decision']['target_sensitivity']:g} on inner photographs, "
        "by fold",
        "calibration": "temperature by inner photographs; slope, intercept, ECE and Brier in the tables",
        "metrics_and_intervals": "AUC, sensitivity, specificity and others with 95 % group-bootstrap intervals (2000)",
        "robustness_controls": "one field mask, one colour distribution, one encoding; nuisance baseline",
        "explanations": "class activation maps of right and wrong photographs",
        "failure_gallery": "the most wrongly graded photographs are shown first",
        "internal_not_external": "internal cross-validation only; no other site was tested",
    }
