import csv

import pytest

from fundoscope.errors import UsageError
from fundoscope.reports import StudyPage, write_study_report
from fundoscope.reports.checklist import KEYS, TITLES, checklist_section, fill, write_checklist

# TRIPOD+AI items with parts, and how many (Collins et al. 2024)
PARTS = {3: 3, 5: 2, 6: 3, 8: 3, 9: 3, 12: 7, 18: 6, 20: 3, 23: 2, 27: 3}


def numbers(answers):
    return {int("".join(c for c in each.item if c.isdigit())) for each in answers}


def test_each_list_has_the_published_number_of_items():
    assert numbers(fill("tripod_ai", {})) == set(range(1, 28))
    parts = [f"{n}{part}" for n in range(1, 28) for part in ("abcdefg"[: PARTS[n]] if n in PARTS else [""])]
    assert [each.item for each in fill("tripod_ai", {})] == parts
    assert [each.item for each in fill("claim_2024", {})] == [str(n) for n in range(1, 45)]


@pytest.mark.parametrize("name", TITLES)
def test_nothing_is_answered_that_the_study_did_not_say(name):
    assert {each.by for each in fill(name, {})} == {"human"}
    some = fill(name, {"labels": "as the table says"})
    assert [each.answer for each in some if each.by == "study"] == ["as the table says"]
    assert all(each.answer == "for the authors to supply" for each in some if each.by == "human")
    assert all(3 <= len(each.asks.split()) <= 12 and each.section for each in some)


@pytest.mark.parametrize("name", TITLES)
def test_what_only_people_know_stays_theirs_and_a_blank_fact_says_nothing(name):
    theirs = {"tripod_ai": {"17", "18a", "18b", "18c", "18d", "18e", "19"}, "claim_2024": {"42", "43", "44"}}[name]
    everything = fill(name, dict.fromkeys(KEYS, "x"))
    assert theirs <= {each.item for each in everything if each.by == "human"}
    assert {each.by for each in fill(name, dict.fromkeys(KEYS, " "))} == {"human"}


def test_facts_on_one_item_are_joined():
    both = {each.item: each.answer for each in fill("claim_2024", {"parameters_and_macs": "3 M", "architecture": "B0"})}
    assert both["22"] == "B0; 3 M"


def test_every_key_is_asked_for():
    asked = {key for key in KEYS for name in TITLES if any(a.by == "study" for a in fill(name, {key: "x"}))}
    assert asked == set(KEYS)


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(UsageError, match="labels"):
        fill("tripod_ai", {"label": "x"})


def test_they_are_written_and_shown(tmp_path):
    filled = {name: fill(name, {"software": "torch 2", "labels": "as given"}) for name in TITLES}
    path = write_checklist(tmp_path / "claim.csv", filled["claim_2024"])
    rows = list(csv.DictReader(path.open()))
    assert len(rows) == 44 and [row["answer"] for row in rows if row["by"] == "study"] == ["as given", "torch 2"]
    write_study_report(tmp_path / "report.html", StudyPage("a study", sections=[checklist_section(filled)]))
    page = (tmp_path / "report.html").read_text()
    assert "CLAIM 2024: 2 of 44 items answered" in page and "torch 2" in page


def test_where_it_cannot_be_written_the_path_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="claim.csv"):
        write_checklist(tmp_path / "file" / "claim.csv", fill("claim_2024", {}))
