"""The page that the sections stand on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fundoscope.findings import counted
from fundoscope.reports import StudyPage, StudyVerdict, write_study_report
from fundoscope.reports.study import Tone
from fundoscope.rop.study.pages import accuracy, cameras, clinic, gallery, sample
from fundoscope.rop.study.pages.accuracy import TITLES
from fundoscope.rop.study.pages.checklists import checklists
from fundoscope.rop.study.pages.files import StudyFiles, exact_bound, in_words
from fundoscope.rop.study.results import RESULTS

#: Stands on every page of a study whose table does not tell the infants apart.
INDEPENDENT = "Images assumed independent: the infants are unknown"


_TONES: dict[str, Tone] = {"above": "good", "below": "poor"}


def write_report(folder: Path) -> Path:
    """Draw the figures into `folder`/figures and write `folder`/report.html, unless it is there; returns its path."""
    report = folder / "report.html"
    if report.exists() and report.stat().st_mtime_ns >= (folder / RESULTS).stat().st_mtime_ns:
        return report
    files = StudyFiles.read(folder)
    results, manifest = files.results, files.manifest
    page = StudyPage(
        title="Retinopathy of prematurity: is it there, and does it need treatment?",
        lead="Out-of-fold figures: every photograph was graded by networks that never saw it, nor any of its group.",
        stamps=() if results["sample"]["infants"] else (INDEPENDENT,),
        warnings=results["doubts"],
        verdicts=[describe_verdict(found) for found in results["questions"]],
        facts={
            "recipe": manifest["recipe"]["name"],
            "networks": ", ".join(f"{row['network']} ({row['made of']})" for row in results["networks"]),
            "folds": manifest["folds"], "seeds": manifest["seeds"], "photographs": manifest["photographs"],
            "data (SHA-256)": manifest["cohort_sha256"],
            "versions": ", ".join(f"{name} {version}" for name, version in manifest["versions"].items()),
        },
        commands=manifest["commands"],
        sections=[
            *accuracy.sections(files), *cameras.sections(files), *clinic.sections(files), *gallery.sections(files), *sample.sections(files),
            *accuracy.network_sections(files), gallery.learning(files), checklists(files),
        ],
    )  # fmt: skip
    write_study_report(report, page)
    return report


def _in_words_or_bound(estimate: Mapping[str, Any]) -> str:
    """An estimate with its interval, or with the exact bound where its interval means nothing."""
    bound = exact_bound(estimate)
    return f"{estimate['value']:.2f} ({bound})" if bound else in_words(estimate)


def _in_two_digits(value: float | None) -> str:
    """A figure in two digits, in three where these would make a 1 of it that it is not."""
    if value is None:  # no camera took both classes of these photographs
        return "undefined"
    return f"{value:.3f}" if 0.995 <= value < 1 else f"{value:.2f}"


def describe_verdict(found: Mapping[str, Any]) -> StudyVerdict:
    """What stands at the head of the page for one question of `results.json`."""
    first, baseline = found["headline"], found["headline"]["baseline_auc"]
    against = f"The {first['baseline']}: {first['verdict']}."
    tone: Tone = "unsure"
    if baseline is not None:
        words = {
            "above": f"Above the {first['baseline']}",
            "below": f"BELOW THE {first['baseline'].upper()}",
        }.get(first["verdict"], f"Not shown to be above the {first['baseline']}")
        against = f"{words}, which alone reaches AUC {_in_two_digits(baseline['value'])} (difference {in_words(first['difference'])})."
        tone = _TONES.get(first["verdict"], "unsure")
    auc = first["auc"]
    spread = (
        f"95 % interval {auc['low']:.2f} to {auc['high']:.2f}"
        if auc["low"] is not None
        else "too few groups for an interval"
    )
    decisions = "; ".join(f"{name} {_in_words_or_bound(first[name])}" for name in ("sensitivity", "specificity"))
    refused = f" Screening refuses {found['refused']} of the {found['n']}." if found["refused"] else ""
    return StudyVerdict(
        question=TITLES[found["name"]], figure=f"AUC {_in_two_digits(auc['value'])}", spread=spread, against=against, tone=tone,
        basis=f"{first['network']}, on {first['basis']} ({counted(auc['groups'], 'group')}): {decisions}.{refused}",
    )  # fmt: skip
