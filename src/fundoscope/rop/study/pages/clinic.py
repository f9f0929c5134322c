"""What paper 000 lacks: the two stages in a row, whole infants, thresholds, abstention, subgroups, predictive values."""

from __future__ import annotations

from typing import Any

from fundoscope.reports import ReportFigure, Section, Table
from fundoscope.reports.clinic_plots import draw_coverage, draw_net_benefit
from fundoscope.reports.plots import PlottedCurve
from fundoscope.rop.study.clinic import NO_EYES
from fundoscope.rop.study.pages.files import EvaluationFiles, StudyFiles, cells

_EYES = (
    "How the views of an eye become one probability (the highest, the second highest, the mean), and the threshold, each fold "
    "chose on its inner eyes; the bundle's rule is chosen in the same way."
)
_CHOSEN = "Each threshold was chosen on inner photographs for a target sensitivity; beside it what it reached outside."


def sections(files: StudyFiles) -> list[Section]:
    """Units and cascade, operating points, abstention, subgroups, and the control with shuffled labels."""
    results = files.results
    maximum = files.manifest["recipe"]["decision"]["maximum_errors"]
    doubt = (
        'A grader that may say "cannot grade": each fit\'s band of doubt around its threshold was the narrowest that left '
        f"at most {maximum:.0%} errors on its inner photographs."
    )
    made = [
        units_section(results, _EYES), *cascade_sections(results), operating_section(results, _CHOSEN),
        abstention_section(files, "Outside of these", doubt), *subgroup_sections(results),
        *predictive_sections(results),
    ]  # fmt: skip
    if results["shuffled_labels"]:
        text = "A tiny network, trained on these folds with labels shuffled over the groups. Anything but chance is a leak."
        made.append(Section("Shuffled labels", (results["shuffled_labels"]["text"],), explained=(text,)))
    return made


def cascade_sections(results: dict[str, Any]) -> list[Section]:
    """Both stages as one grader, where both questions are asked."""
    if not results["cascade"]:
        return []
    text = (
        "The two stages as the one grader that they are: called is what stage 1 calls ROP and stage 2 calls "
        "treatment-requiring. The paper scores its stages apart; if its stages missed independently, .9456 x .9516 = .900 "
        "of the treatment-requiring would be found."
    )
    return [Section("The cascade, end to end", tables=(Table(cells(results["cascade"])),), explained=(text,))]


def subgroup_sections(results: dict[str, Any]) -> list[Section]:
    """Stage 1 by subgroup, where the table tells any."""
    if not results["subgroups"]:
        return []
    caption = f"Stage 1 by the {results['questions'][0]['reference']}"
    return [Section("Subgroups", tables=(Table(cells(results["subgroups"]), caption),))]


def predictive_sections(results: dict[str, Any]) -> list[Section]:
    """What an answer is worth, where a prevalence was stated."""
    if not results["predictive_values"]:
        return []
    text = "By Bayes' rule from the sensitivity and specificity found here, at shares of ill eyes that were asked for."
    return [Section("Predictive values", tables=(Table(cells(results["predictive_values"])),), explained=(text,))]


def units_section(results: dict[str, Any], rule: str) -> Section:
    """Figures by photograph, eye, exam and infant; `rule` says who chose how an eye is decided."""
    rules = results["unit_rules"]
    chosen = f"Not by eye: {rules}." if rules == NO_EYES else f"By {rules}."
    text = (
        "A unit has ROP if any of its views has. Decided as screening decides: photographs that screening refuses have no part "
        f"in it, and a unit without a graded one is not decided. {rule} An exam or an infant is suspected where one of its "
        "eyes is."
    )
    columns = ("unit", "auc", "sensitivity", "specificity", "accuracy", "not decided")
    table = Table(cells(results["units"], columns))
    return Section("By photograph, eye, exam and infant", (chosen,), tables=(table,), explained=(text,))


def operating_section(results: dict[str, Any], text: str) -> Section:
    """What thresholds that were chosen elsewhere reach; `text` says who chose them."""
    tables = [
        Table(cells(found["operating_points"]), f"{found['classes'][1]}, by the {found['reference']}")
        for found in results["questions"]
    ]
    return Section("Operating points", tables=tables, explained=(text,))


def abstention_section(files: EvaluationFiles, found_outside: str, text: str) -> Section:
    """Errors against coverage, and net benefit; `found_outside` begins the sentence on what abstaining leaves."""
    figures, left = [], []
    for found in files.results["questions"]:
        name, reference = found["name"], found["reference"]
        legend = f"{reference}: area {found['coverage_area']:.3f}, all kept {found['error_of_all']:.3f}"
        errors, sensitivities = (
            [_plotted(files, name, curve, reference, legend)] for curve in ("coverage_error", "coverage_sensitivity")
        )
        path = draw_coverage(files.drawn / f"coverage_{name}.png", errors, sensitivities, f"n={found['n']}")
        figures.append(ReportFigure(path, f"{name}: errors among those answered"))
        treating = [_plotted(files, name, "net_benefit", which, which) for which in ("treat all", "treat none")]
        path = draw_net_benefit(
            files.drawn / f"decision_{name}.png", [_plotted(files, name, "net_benefit", reference, reference)], treating,
            found["positives"] / found["n"],
        )  # fmt: skip
        figures.append(ReportFigure(path, f"{name}: net benefit of acting on it"))
        left.append(f"{name}: {found['abstention']}")
    told = f"{found_outside}: {'; '.join(left)}."
    return Section("Abstention, and what acting on the answer is worth", (told,), figures=figures, explained=(text,))


def _plotted(files: EvaluationFiles, question: str, curve: str, grader: str, legend: str) -> PlottedCurve:
    points = files.curve(question, curve, grader)
    return PlottedCurve(legend, [(points.x, points.y)])
