"""The head of a study's page: how good, how sure, against which baseline; figures first, explanation folded."""

import pytest

pytest.importorskip("matplotlib")

from fundoscope.reports import EstimateCell, Section, StudyPage, Table, write_study_report
from fundoscope.rop.study.pages.page import describe_verdict


def estimate(value, low, high):
    return {"value": value, "low": low, "high": high, "n": 90, "positives": 40, "groups": 30}


def question(auc, baseline, verdict, refused=0):
    headline = {
        "network": "student", "basis": "90 of 98 photographs, those that screening grades", "auc": auc,
        "sensitivity": estimate(0.9, 0.8, 1.0), "specificity": estimate(0.5, 0.4, 0.6), "baseline": "nuisance baseline",
        "baseline_auc": baseline, "difference": estimate(-0.1, -0.2, 0.1), "verdict": verdict,
    }  # fmt: skip
    return {"name": "rop", "headline": headline, "n": 98, "refused": refused}


@pytest.mark.parametrize(
    ("verdict", "tone", "says"),
    [
        ("below", "poor", "BELOW THE NUISANCE BASELINE, which alone reaches AUC 0.80"),
        ("above", "good", "Above the nuisance baseline"),
        ("not shown to be above", "unsure", "Not shown to be above the nuisance baseline"),
    ],
)
def test_the_verdict_is_said_aloud(verdict, tone, says):
    found = describe_verdict(question(estimate(0.7, 0.61, 0.79), estimate(0.8, 0.7, 0.9), verdict, refused=8))
    assert found.tone == tone and says in found.against
    assert found.figure == "AUC 0.70" and found.spread == "95 % interval 0.61 to 0.79"
    assert "Screening refuses 8 of the 98" in found.basis and "30 groups" in found.basis


def test_without_interval_or_baseline_it_says_so():
    asked = question(estimate(0.7, None, None), None, "not compared: one class only")
    found = describe_verdict(asked)
    assert "too few groups" in found.spread and "not compared: one class only" in found.against


def test_what_was_found_stands_before_what_was_run_and_explanations_are_folded(tmp_path):
    verdict = describe_verdict(question(estimate(0.53, 0.41, 0.65), estimate(0.8, 0.7, 0.9), "below"))
    table = Table([{"grader": "student", "auc": EstimateCell(0.53, 0.41, 0.65, 90)}], "Discrimination")
    page = StudyPage(
        title="T", warnings=["no better than chance"], verdicts=[verdict], facts={"recipe": "tiny"}, commands=["make it"],
        sections=[Section("Stage 1", ["1 of 2 answered"], tables=[table], explained=["Intervals are bootstrapped"])],
    )  # fmt: skip
    write_study_report(tmp_path / "report.html", page)
    text = (tmp_path / "report.html").read_text().split("<body")[1]
    order = [
        "No better than chance.", "AUC 0.53", "BELOW THE NUISANCE BASELINE", "1 of 2 answered", "Discrimination",
        "<details>", "Intervals are bootstrapped", "</details>", "What was run", "make it",
    ]  # fmt: skip
    places = [text.index(each) for each in order]
    assert places == sorted(places)
    write_study_report(tmp_path / "plain.html", StudyPage(title="T", facts={"recipe": "tiny"}, sections=page.sections))
    plain = (tmp_path / "plain.html").read_text().split("<body")[1]
    assert plain.index("What was run") < plain.index("Stage 1")
