"""Step 4, `report.html`: what the bundle is worth here, drawn from `results.json`, the curves and the pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fundoscope.errors import counted
from fundoscope.reports import EstimateCell, ReportFigure, Section, StudyPage, Table, write_study_report
from fundoscope.reports.clinic_plots import draw_histograms
from fundoscope.rop.study.pages import accuracy, clinic, gallery
from fundoscope.rop.study.pages.files import EvaluationFiles, FigureWords, cells
from fundoscope.rop.study.pages.page import INDEPENDENT, describe_verdict
from fundoscope.studies import command

SIMULATED = "SIMULATED: the answers on treatment were learnt from simulated eyes only"

_WORDS = FigureWords("by the bundle as it ships", "at the bundle's operating point", "probabilities")
_GATE = (
    "In use, a photograph that is not fit to be graded is refused. The bundle answered these too, here only, so that its "
    "figures can be given with and without them."
)
_CHOSEN = "The bundle's threshold, as its card has it; nothing was chosen on these photographs."
_EYES = "How the views of an eye become one probability, and the threshold, are those of the bundle's card."
_DOUBT = (
    "The bundle answers every photograph that screening grades. If it abstained from those nearest its threshold, so many "
    "errors would be left; the share is read off these very photographs, so it is a little too good."
)


def write_page(folder: Path) -> Path:
    """Draw the figures into `folder`/figures and write `folder`/report.html; returns its path."""
    files = EvaluationFiles.read(folder)
    results, bundle = files.results, files.results["bundle"]
    stamps = [] if results["sample"]["infants"] else [INDEPENDENT]
    if bundle["stage2"] == "simulated" and len(results["questions"]) > 1:
        stamps.append(SIMULATED)
    page = StudyPage(
        title=f"External validation of the bundle {bundle['name']}",
        lead="Every photograph went the way of screening, by a bundle of which nothing was changed for them.",
        stamps=stamps,
        warnings=results["doubts"],
        verdicts=[describe_verdict(found) for found in results["questions"]],
        facts={
            "bundle": f"{bundle['name']}, made {bundle['made']} by fundoscope {bundle['fundoscope']}, recipe {bundle['recipe']}",
            "it learnt from": bundle["trained_on"], "never tested on": bundle["never_tested_on"],
            "photographs": results["sample"]["photographs"], "data (SHA-256)": results["sample"]["cohort_sha256"],
            **{f"{name} (SHA-256)": digest for name, digest in bundle["files"].items()},
        },
        commands=[command()],
        sections=[
            _promises(results), _what_became(results), _overlap(results), *_questions(files), *gallery.sections(files),
            clinic.units_section(results, _EYES), *clinic.cascade_sections(results),
            clinic.operating_section(results, _CHOSEN), clinic.abstention_section(files, "Of all answers", _DOUBT),
            *clinic.subgroup_sections(results), *_predictive(results), _photographs(files),
            *(accuracy.more_figures(found) for found in results["questions"]),
        ],
    )  # fmt: skip
    report = folder / "report.html"
    write_study_report(report, page)
    return report


def _questions(files: EvaluationFiles) -> list[Section]:
    found = files.results["questions"]
    more = "Baselines are fitted and tested on these photographs in folds by group, which is more than the bundle was given."
    made = [
        accuracy.question_section(files, each, f"{accuracy.describe_basis(each)}. {more}", _WORDS) for each in found
    ]
    return [*made, accuracy.quality_gate(found, _GATE)]


def _promises(results: Mapping[str, Any]) -> Section:
    """The card's figures beside those found here."""
    if not results["promised"]:
        return Section("Promised, and found here", ("The bundle's card promises no figure.",))
    rows = [
        {
            **cells([row], ("figure", "here"))[0],
            "promised": EstimateCell(row["promised"], row["promised_low"], row["promised_high"], row["promised_n"]),
            "verdict": row["verdict"],
        }
        for row in results["promised"]
    ]
    text = (
        "A figure is worse than promised where its interval here lies wholly on the bad side of the promised value. Promised "
        f"figures are of {results['promised'][0]['promised on']}."
    )
    return Section("Promised, and found here", tables=(Table(rows),), explained=(text,))


def _what_became(results: Mapping[str, Any]) -> Section:
    text = (
        "A refusal is no answer: it is neither a call nor an all-clear. Who takes refused eyes for normal misses those with "
        "ROP among them; who has them examined misses none of these."
    )
    tables = [Table(results["refusals"]), Table(cells(results["refusal_figures"]), "What refusals do to the figures")]
    return Section("What became of every photograph", tables=tables, explained=(text,))


def _overlap(results: Mapping[str, Any]) -> Section:
    found, title = results["overlap"], "Photographs that the bundle learnt from"
    if found["known_photographs"] is None:
        return Section(
            title, ("The bundle carries no hashes of its training photographs: nothing could be looked up.",)
        )
    known = counted(found["known_photographs"], "photograph")
    if not found["photographs"]:
        return Section(title, (f"None of these is a copy of one of the {known} that the bundle learnt from.",))
    told = f"{len(found['photographs'])} of these are copies of some of the {known} that the bundle learnt from."
    columns = ("photographs", "auc", "sensitivity", "specificity")
    tables = [
        Table(cells(found["figures"], columns), "Graded photographs, with and without them"),
        Table(cells(found["photographs"]), "Found again, in all turns and mirrorings"),
    ]
    return Section(title, (told,), tables=tables)


def _predictive(results: Mapping[str, Any]) -> list[Section]:
    if results["prevalences"]:
        return clinic.predictive_sections(dict(results))
    text = "What an answer is worth depends on how many eyes are ill where it is used, and no share was stated: --prevalence 0.06"
    return [Section("Predictive values", (text,))]


def _photographs(files: EvaluationFiles) -> Section:
    """Whose photographs these are, and what the audit found."""
    sample = files.results["sample"]
    infants = counted(sample["infants"], "infant") if sample["infants"] else "infants unknown"
    told = (
        f"{counted(sample['photographs'], 'photograph')}, {sample['rop']} with ROP; {infants}; "
        f"{counted(sample['groups'], 'group')} by {sample['groups_rule']}."
    )
    audit = [{"found": kind, "times": n} for kind, n in sample["audit"].items()]
    figures = []
    if sample["histograms"]:
        figures = [ReportFigure(draw_histograms(files.drawn / "infants.png", sample["histograms"]), "Infants by class")]
    told_audit = "The audit found nothing." if not audit else "The audit found (audit.html shows each):"
    return Section("Photographs and audit", (told, told_audit), tables=(Table(audit),), figures=figures)
