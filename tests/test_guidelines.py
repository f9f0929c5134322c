"""Who is due: the made-up infants of `due_infants.csv`, whose days were worked out by hand from the cited sentences."""

import csv
import dataclasses
import json
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cli_screen import run

from fundoscope.errors import UsageError
from fundoscope.guidelines import (
    DUE_COLUMNS,
    EyeExam,
    Urgency,
    decide_eye,
    decide_infant,
    format_age,
    guidelines_page,
    make_worklist,
    parse_date,
    parse_gestational_age,
    read_guideline,
    read_infants,
    risk_rules,
    shipped_guidelines,
)
from fundoscope.guidelines.risk import apply_g_rop
from fundoscope.guidelines.rules import PLUS, REGRESSIONS, STAGES, ZONES

TABLE = Path(__file__).parent / "due_infants.csv"
ROOT = TABLE.parent.parent
CASES = {row["case"]: row for row in reversed(list(csv.DictReader(TABLE.open(encoding="utf-8"))))}
HEADER = "infant,birth_date,gestational_age,birth_weight_g"
EXAM = f"{HEADER},exam_date,eye,zone,stage,plus"
ON = date(2024, 3, 5)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def infants_of(path, on=ON):
    return {infant.name: infant for infant in read_infants(path, on)}


@pytest.fixture(scope="module")
def made_up():
    """The made-up infants by name; their exams lie before every day on which they are asked about."""
    return infants_of(TABLE)


def test_there_are_forty_infants_and_every_rule_that_is_held_is_among_them(made_up):
    assert len(made_up) >= 40 and set(made_up) == set(CASES)
    followed = {row["sentence"] for row in CASES.values()}
    held = [
        rule.sentence
        for guideline in shipped_guidelines()
        for rule in (
            guideline.screening,
            guideline.first_exam,
            guideline.treatment,
            *guideline.next_exam,
            *guideline.stop,
        )
        if rule is not None
    ]
    assert len(held) > 14 and set(held) - followed == set()


@pytest.mark.parametrize("case", CASES)
def test_the_answer_is_the_one_worked_out_by_hand(made_up, case):
    want = CASES[case]
    answer = decide_infant(made_up[case], read_guideline(want["guideline"]), date.fromisoformat(want["on"]))
    found = answer.as_row()
    for column in ("decision", "due_from", "due_by", "urgency", "sentence"):
        assert (found[column] or "") == want[column], (column, found)
    assert " ".join(found["missing"]) == want["missing"]
    assert tuple(found) == DUE_COLUMNS and json.loads(json.dumps(found)) == found
    assert (found["decision"] == "cannot say") <= bool(found["reason"]), "what cannot be said is explained"


def test_the_worklist_has_everyone_and_the_most_urgent_first(made_up):
    answers = make_worklist(made_up.values(), read_guideline("china-2014"), date(2024, 3, 5))
    assert sorted(answer.infant for answer in answers) == sorted(made_up)
    places = [list(Urgency).index(answer.urgency) for answer in answers]
    assert places == sorted(places) and len(set(places)) == len(Urgency)
    treated = [answer.due_by for answer in answers if answer.urgency is Urgency.TREAT]
    assert treated == sorted(treated)
    unsure = [answer.infant for answer in answers if answer.urgency is Urgency.CANNOT_SAY]
    assert unsure[0] == "E14", "who may be of type 1 stands before others of whom nothing can be said"
    with pytest.raises(dataclasses.FrozenInstanceError):
        answers[0].due_by = None


# --- ages and dates


@pytest.mark.parametrize(
    ("text", "age"),
    [("28+3", "28+3"), ("28w3d", "28+3"), ("28 weeks 3 days", "28+3"), ("28 3/7", "28+3"), ("28 + 3/7", "28+3"),
     ("28周3天", "28+3"), ("２８＋３", "28+3"), ("28 wk 3 d", "28+3"), ("28 weeks and 3 days", "28+3"), ("28+0", "28+0"), ("28", "28+0"),
     ("28 weeks", "28+0"), ("28.0", "28+0"), ("28.43", "28+3"), ("28,43", "28+3"), ("28.14", "28+1"), ("28.86", "28+6"),
     ("27.50", "27+3"), ("28.7", "28+5"), ("28.428571", "28+3"), ("27.99", "28+0"), ("18+0", "18+0"), ("46+0", "46+0")],
)  # fmt: skip
def test_ways_to_write_a_gestational_age(text, age):
    assert str(parse_gestational_age(text, "row 2")) == age


def test_whole_weeks_are_known_as_such_and_a_blank_is_no_age():
    assert parse_gestational_age("28", "").whole_weeks and parse_gestational_age("28.0", "").whole_weeks
    assert not parse_gestational_age("28+0", "").whole_weeks and not parse_gestational_age("28.43", "").whole_weeks
    assert parse_gestational_age("", "") is None and parse_gestational_age("n/a", "") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [("27.5", "27 weeks and 5 days (27+5), or 27.5 weeks (27+3)"), ("28,4", "(28+4), or 28.4 weeks (28+3)"), ("28+7", "has 7 days"),
     ("60", "is not 18 to 46 weeks"), ("17+6", "is not 18 to 46"), ("46+1", "is not 18 to 46"), ("196", "is not 18 to 46"), ("early", "is no age"),
     ("28-3", "is no age"), ("-28", "is no age"), ("28+3+1", "is no age")],
)  # fmt: skip
def test_what_is_no_gestational_age_or_two_of_them_is_refused(text, told):
    with pytest.raises(UsageError, match="row 2: gestational_age") as error:
        parse_gestational_age(text, "row 2")
    assert told in str(error.value) and ("28+3" in str(error.value) or "weeks+days" in str(error.value))


@given(st.integers(18 * 7, 46 * 7))
def test_every_age_is_read_as_it_is_written(days):
    weeks, rest = divmod(days, 7)
    for text in (format_age(days), f"{weeks} weeks {rest} days", f"{days / 7:.2f}", f"{days / 7:.4f}"):
        assert parse_gestational_age(text, "").days == days, text


@pytest.mark.parametrize(
    ("text", "told"),
    [("03/04/2024", "day 03 of month 04, or day 04 of month 03"), ("13/04/2024", "is not written as YYYY-MM-DD"), ("45385", "a spreadsheet's number"),
     ("2024-02-30", "no day of the calendar"), ("20240305", "is not written"), ("2024-3-5", "is not written"), ("5 Mar 2024", "is not written"),
     ("2024-03-05 00:00:00", "is not written")],
)  # fmt: skip
def test_only_iso_dates_are_read(text, told):
    with pytest.raises(UsageError, match="2024-03-05") as error:
        parse_date(text, "birth_date", "row 2")
    assert told in str(error.value)
    assert parse_date("2024-02-29", "birth_date", "") == date(2024, 2, 29)


# --- the table


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["A,2024-01-01,28+0,30"], "row 2: birth_weight_g '30' is not 200 to 7000 g"),
        (["A,2024-01-01,28+0,1.25"], "birth_weight_g '1.25' is not"),
        (['A,2024-01-01,28+0,"1,250"'], "can be 1.250 or 1250"),
        (["A,2024-01-01,60,1000"], "row 2: gestational_age '60' is not"),
        (["A,2024-01-01,28+0,1000,2023-12-31,left"], "row 2: exam_date 2023-12-31 is before the birth_date 2024-01-01"),
        (["A,2024-01-01,28+0,1000,2024-03-06,left"], "row 2: exam_date 2024-03-06 is after 2024-03-05"),
        (["A,2024-03-06,28+0,1000"], "row 2: birth_date 2024-03-06 is after 2024-03-05"),
        (["A,2024-01-01,28+0,1000,,left,II,1,no"], "row 2: exam_date is blank, but eye, zone, stage, plus is filled"),
        (["A,2024-01-01,28+0,1000,2024-03-01,middle"], "row 2: the eye 'middle' is unknown"),
        (["A,2024-01-01,28+0,1000,2024-03-01,left,IV"], "zone 'IV' is unknown. Write I, II or III"),
        (["A,2024-01-01,28+0,1000,2024-03-01,left,II,6"], "stage '6' is unknown"),
        (["A,2024-01-01,28+0,1000,2024-03-01,left,II,none"], "stage 'none' can mean that there is none, or"),
        (["A,2024-01-01,28+0,1000,2024-03-01,left,II,1,maybe"], "plus 'maybe' is unknown"),
        (["A,2024-01-01,28+0,1000,2024-03-01,left,II,1,no", "A,,,,2024-03-01,OS,II,2,no"], "row 3: the left eye has another row for 2024-03-01, row 2"),
        (["A,2024-01-01,28+0,1000", "A,2024-01-02,28+0,1000"], "row 3: birth_date is '2024-01-02', but row 2 of the same infant says '2024-01-01'"),
        (["A,2024-01-01,28+0,1000", "A,2024-01-01,28+1,1000"], "row 3: gestational_age is '28+1', but row 2"),
        ([",2024-01-01,28+0,1000"], "row 2: the infant is blank"),
        (["007,2024-01-01,28+0,1000", "7,2024-01-01,28+0,1000"], "the infant is written '007' (row 2) and '7' (row 3)"),
        ([], "the table has no rows"),
        (["A,2024-01-01,27.5,30", "B,03/04/2024,28,1000"], "03/04/2024"),
    ],
)  # fmt: skip
def test_a_fault_names_row_and_remedy(tmp_path, rows, told):
    table = write(tmp_path / "i.csv", "\n".join([EXAM, *rows]))
    with pytest.raises(UsageError) as error:
        read_infants(table, ON)
    assert told in str(error.value) and "i.csv" in str(error.value)


def test_all_faults_are_told_at_once_and_many_are_counted(tmp_path):
    rows = [f"I-{n},2024-01-01,27.5,30" for n in range(7)]
    with pytest.raises(UsageError) as error:
        read_infants(write(tmp_path / "i.csv", "\n".join([HEADER, *rows])), ON)
    assert str(error.value).count("27.5' can mean") == 5 and "And 2 more infants" in str(error.value)
    assert "birth_weight_g '30'" in str(error.value)


def test_ways_to_write_an_exam(tmp_path):
    rows = [
        "A,2024-01-01,28+0,1000,2024-03-01,OD,zone 2,Stage 2,Pre-Plus", "A,,,,2024-03-01,L,Ⅱ区,2期,no",
        "B;2024-01-01;28,43;1250 g;2024-03-01;OU;3;0;no".replace(";28,43;", ';"28,43";').replace(";", ","),
    ]  # fmt: skip
    found = infants_of(write(tmp_path / "i.csv", "\n".join([EXAM, *rows])))
    right, left = found["A"].latest_exams()
    assert (right.eye, right.zone, right.stage, right.plus) == ("right", "II", "2", "pre-plus")
    assert (left.eye, left.zone, left.stage, left.plus) == ("left", "II", "2", "no")
    assert {exam.eye for exam in found["B"].exams} == {"left", "right"} and str(found["B"].gestational_age) == "28+3"


# --- rules


def test_a_finding_that_is_not_known_never_makes_an_answer_that_one_of_its_values_would_contradict():
    """A blank gives an answer only where every value that it could have gives the same, and no day after all of theirs."""
    guideline, day = read_guideline("china-2014"), date(2024, 3, 1)
    far = day + timedelta(days=999)
    checked = 0
    for zone in (None, *ZONES):
        for stage in (None, *STAGES):
            for plus in (None, *PLUS):
                for regression in REGRESSIONS[:2]:
                    exam = EyeExam(2, day, "left", zone, stage, plus, regression=regression)
                    answer = decide_eye(exam, 36 * 7, guideline)
                    possible = [
                        decide_eye(EyeExam(2, day, "left", z, s, p, regression=regression), 36 * 7, guideline)
                        for z in ([zone] if zone else ZONES) for s in ([stage] if stage else STAGES) for p in ([plus] if plus else PLUS)
                    ]  # fmt: skip
                    assert (answer.due_by or far) <= max(each.due_by or far for each in possible)
                    if answer.decision != "cannot say":
                        assert {each.decision for each in possible} == {answer.decision}
                        assert {each.due_by for each in possible} == {answer.due_by}
                    checked += 1
    assert checked == 4 * 8 * 4 * 2


@pytest.mark.parametrize(
    ("row", "verdict", "told"),
    [("27+6,1051,120,180,170,no", "examine", "gestational age below 28 weeks"), ("28+0,1050,120,180,170,no", "examine", "birth weight below 1051 g"),
     ("28+0,1051,119,180,170,no", "examine", "below 120 g on days 10 to 19"), ("28+0,1051,120,179,170,no", "examine", "below 180 g on days 20 to 29"),
     ("28+0,1051,120,180,169,no", "examine", "below 170 g on days 30 to 39"), ("28+0,1051,120,180,170,yes", "examine", "hydrocephalus"),
     ("28+0,1051,120,180,170,no", "no criterion met", "none"), ("28+0,1051,120,,170,no", "cannot say", "weight_gain_20_29_g"),
     ("28+0,1051,-20,,,", "examine", "below 120 g")],
)  # fmt: skip
def test_g_rop_at_its_borders(tmp_path, row, verdict, told):
    header = "infant,birth_date,gestational_age,birth_weight_g,weight_gain_10_19_g,weight_gain_20_29_g,weight_gain_30_39_g,hydrocephalus"
    infant = infants_of(write(tmp_path / "i.csv", f"{header}\nA,2024-01-01,{row}\n"))["A"]
    answer = apply_g_rop(infant)
    assert answer.verdict == verdict and told in answer.text


def test_the_literature_s_risk_rules_are_listed_each_with_its_state():
    states = {rule.name: rule.state for rule in risk_rules()}
    assert [name for name, state in states.items() if state == "implemented"] == ["G-ROP"]
    assert {"Owen 2017", "e-ROP", "DIGIROP", "CHOP ROP", "Eckert 2012 (ROPScore)", "WINROP"} <= set(states)


def test_a_guideline_of_one_s_own_is_read_and_its_faults_are_named(tmp_path):
    china = Path(read_guideline.__globals__["DATA"] / "china-2014.toml").read_text(encoding="utf-8")
    ours = write(
        tmp_path / "ours.toml", china.replace('"china-2014"', '"ours"').replace("weeks = [2, 3]", "weeks = [1, 1]")
    )
    exam = EyeExam(2, date(2024, 3, 1), "left", "II", "0", "no")
    assert decide_eye(exam, 36 * 7, read_guideline(str(ours))).due_by == date(2024, 3, 8)
    for wrong, told in (("zoness = 1\n" + china, "zoness"), (china.replace('"32+0"', '"32.0"'), "is no age"), ("x = [", "is not TOML"),
                        (china.replace("birth_weight_below_g = 2000", ""), "needs one of birth_weight_below_g")):  # fmt: skip
        with pytest.raises(UsageError, match=r"wrong\.toml") as error:
            read_guideline(str(write(tmp_path / "wrong.toml", wrong)))
        assert told in str(error.value)
    with pytest.raises(UsageError, match="did you mean 'china-2014'"):
        read_guideline("china2014")


def test_every_file_is_dated_and_cited():
    for guideline in shipped_guidelines():
        assert 2000 < guideline.year < 2100 and guideline.citation and guideline.read_in, guideline.name
    names = [guideline.name for guideline in shipped_guidelines()]
    assert len(names) == 4
    for page in ("src/fundoscope/cli/rop.py", "docs/reference/command-line.md"):
        assert [name for name in names if name not in (ROOT / page).read_text(encoding="utf-8")] == [], page


def test_the_reference_page_says_what_the_files_hold():
    page = (ROOT / "docs/reference/guidelines.md").read_text(encoding="utf-8")
    assert page == guidelines_page(), (
        "write it anew: python -c 'from fundoscope.guidelines import guidelines_page; print(guidelines_page(), end=\"\")'"
        " > docs/reference/guidelines.md"
    )


# --- the command


def test_the_command_prints_a_worklist_and_json_says_the_same(tmp_path):
    rows = [
        "A,2024-01-01,28,1000,2024-03-01,OU,II,2,plus",
        "B,2024-01-01,28+0,2600,,,,,",
        "C,2024-01-01,33+0,2600,,,,,",
    ]
    table = write(tmp_path / "infants.csv", "\n".join([EXAM, *rows]))
    shown = run("rop", "due", table, "--on", "2024-03-05")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert (
        lines[0].split()[:2] == ["TREAT", "A"] and "treat by 2024-03-04, 1 day late" in lines[0] and "37+1" in lines[0]
    )
    assert "research use only" in shown.stderr and "3 infants" in shown.stderr
    assert 'china-2014, treatment: "Treat threshold' in shown.stdout
    done = run("rop", "due", table, "--on", "2024-03-05", "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.stderr == "" and [each["infant"] for each in found] == ["A", "B", "C"]
    assert found[0]["codes"] == ["type-1", "referral-warranted", "whole-weeks"] and found[0]["pma"] == "37+1"
    assert found[2]["decision"] == "not screened" and found[2]["due_by"] is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--guideline", "us2018"], "did you mean 'us-2018'"), (["--on", "5.3.2024"], "can mean day"), (["--on", "2023-01-01"], "give a later day with --on"),
     (["--guideline", "none.toml"], "cannot be read"), (["--on", ""], "--on: is empty")],
)  # fmt: skip
def test_a_wrong_call_is_exit_2_with_a_remedy(tmp_path, arguments, told):
    table = write(tmp_path / "infants.csv", f"{HEADER}\nA,2024-01-01,28+0,1000\n")
    done = run("rop", "due", table, *arguments)
    assert done.returncode == 2 and told in done.stderr and done.stdout == ""


def test_a_table_of_photographs_is_told_what_is_missing(tmp_path):
    done = run("rop", "due", write(tmp_path / "cohort.csv", "image,label,infant\na.jpg,rop,1\n"))
    assert done.returncode == 2 and "there is no column 'birth_date'" in done.stderr
