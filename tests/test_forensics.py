from __future__ import annotations

import csv
import subprocess
import sys
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import fundoscope
from fundoscope.cli.main import app
from fundoscope.errors import UsageError
from fundoscope.evaluation import forensics
from fundoscope.evaluation.forensics import (
    FIGURES,
    ReportedFolds,
    ReportedPart,
    ReportedRow,
    RowVerdict,
    parse_figure,
    read_reported_folds,
    read_reported_table,
    tables_fit,
    tables_of_any_counts,
    tables_of_counts,
)
from fundoscope.evaluation.forensics.fold_tables import exact_figures, find_fold_tables, means_fit_exactly
from fundoscope.evaluation.forensics.integer_search import Undecided, search_integer_tables
from fundoscope.evaluation.forensics.mean_tables import fold_points, mean_is_reachable, separating_plane, window_centres

PAPER = Path(fundoscope.__file__).parent / "rop" / "paper"
HEADLINE = ("0.9222", "0.9365", "0.9440", "0.9516", "0.8571")


def examine(row, splits):
    return forensics.examine_row(row, splits, steps=10)


HEADER = ",".join(("name", *FIGURES)) + "\n"


def printed(value, decimals):
    """Half up, in whole numbers: an independent way to print a fraction."""
    digits = (2 * value.numerator * 10**decimals + value.denominator) // (2 * value.denominator)
    return f"{digits // 10**decimals}.{digits % 10**decimals:0{decimals}d}"


def row_of(values, decimals=4, name="made up"):
    return ReportedRow(name, {key: parse_figure(printed(values[key], decimals)) for key in FIGURES})


def averaged(tables):
    folds = [exact_figures(*table) for table in tables]
    return {key: sum((fold[key] for fold in folds), Fraction(0)) / len(folds) for key in FIGURES}


def windows_of(row):
    return {key: one.rounded() for key, one in row.figures.items()}


def splits_of(*counts):
    return ReportedFolds(tuple(ReportedPart(str(at), "validation", p, n) for at, (p, n) in enumerate(counts, 1)))


tables = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40)).filter(
    lambda t: t[0] + t[1] > 0 and t[2] + t[3] > 0
)


@settings(max_examples=20, deadline=None)
@given(tables, st.integers(2, 5))
def test_a_table_is_among_the_solutions_of_its_own_figures(table, decimals):
    windows = windows_of(row_of(exact_figures(*table), decimals))
    positive, negative = table[0] + table[1], table[2] + table[3]
    assert list(table) in tables_of_counts(windows, positive, negative).tolist()
    found, searched = tables_of_any_counts(windows, positive + negative)
    assert searched == positive + negative
    assert list(table) in found.tolist()
    assert tables_fit(windows, found).all()


SIZE = 16
EVERY = np.indices((SIZE + 1,) * 4).reshape(4, -1).T
EVERY = EVERY[(EVERY.sum(1) <= SIZE) & (EVERY[:, :2].sum(1) > 0) & (EVERY[:, 2:].sum(1) > 0)]
few = st.integers(0, 4)


@settings(max_examples=20, deadline=None)
@given(st.tuples(few, few, few, few), st.sets(st.sampled_from(FIGURES), min_size=1), st.booleans())
def test_any_counts_agree_with_trying_every_table(table, reported, truncated):
    figures = {key: parse_figure(printed(exact_figures(*table)[key], 2)) for key in reported}
    windows = {key: one.truncated() if truncated else one.rounded() for key, one in figures.items()}
    found, searched = tables_of_any_counts(windows, SIZE)
    assert searched == SIZE
    assert {tuple(t) for t in found.tolist()} == {tuple(t) for t in EVERY[tables_fit(windows, EVERY)].tolist()}


@pytest.mark.parametrize("text", ["0.125", "0.12", "0.13"])
def test_halves_round_either_way(text):
    table = np.array([[1, 7, 1, 0]])  # sensitivity 1/8
    assert tables_fit({"sensitivity": parse_figure(text).rounded()}, table).all()


def test_windows_are_exact_at_their_ends():
    third = np.array([[1, 2, 1, 0]])
    assert not tables_fit({"sensitivity": parse_figure("0.3334").rounded()}, third).any()
    assert tables_fit({"sensitivity": parse_figure("0.6666").truncated()}, np.array([[2, 1, 1, 0]])).all()
    assert not tables_fit({"sensitivity": parse_figure("0.6666").rounded()}, np.array([[2, 1, 1, 0]])).any()
    assert not tables_fit(
        {"sensitivity": parse_figure("0.4").truncated()}, np.array([[1, 1, 1, 0]])
    ).any()  # 0.5 is not 0.4...


@pytest.mark.parametrize(
    ("text", "digits", "decimals"),
    [("0.9456", 9456, 4), ("0.9500", 9500, 4), (".95", 95, 2), ("94.56%", 9456, 4), ("95 %", 95, 2), ("0,875", 875, 3)],
)
def test_decimals_are_read_from_the_text(text, digits, decimals):
    one = parse_figure(text)
    assert (one.digits, one.decimals) == (digits, decimals)


def test_percentages_are_the_same_as_fractions(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + "x,92.22,93.65,94.40,95.16,\n" + "y,0.9222,0.9365,0.9440,0.9516,\n")
    first, second = read_reported_table(tmp_path / "a.csv")
    assert first.figures == second.figures
    assert "specificity" not in first.figures


def test_a_bare_one_is_one_whose_zeros_were_dropped(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + "x,0.9876,,,1,0\n")
    figures = read_reported_table(tmp_path / "a.csv")[0].figures
    assert (figures["sensitivity"].digits, figures["sensitivity"].decimals) == (10000, 4)
    assert not tables_fit({"sensitivity": figures["sensitivity"].rounded()}, np.array([[9, 1, 1, 0]])).any()


def test_the_headline_of_the_paper():
    splits = read_reported_folds(PAPER / "folds_stage_2.csv")
    row = next(row for row in read_reported_table(PAPER / "table_6.csv") if row.name == "MN-TR-ROP")
    assert tuple(str(row.figures[key]) for key in FIGURES) == HEADLINE
    found = examine(row, splits)
    assert found.verdict is RowVerdict.SINGLE_SPLIT
    assert found.stated == ()
    assert found.smallest.tolist() == [[59, 3, 24, 4]]  # 59/62, 24/28, 83/90
    assert found.solutions.tolist() == [[59 * k, 3 * k, 24 * k, 4 * k] for k in range(1, 6)]
    assert found.chance < 0.01


def test_the_folds_of_the_paper_are_no_partition():
    problems = read_reported_folds(PAPER / "folds_stage_2.csv").problems
    assert len(problems) == 2
    assert "148 negative" in problems[1]
    assert "113" in problems[1]
    good = ReportedFolds((ReportedPart("1", "validation", 2, 3), ReportedPart("1", "training", 4, 5), ReportedPart("2", "validation", 4, 5),
                   ReportedPart("2", "training", 2, 3)))  # fmt: skip
    assert good.problems == []
    assert good.size == 14


FOLDS = ((30, 50), (28, 52), (33, 49))
MEAN = ((27, 3, 41, 9), (22, 6, 47, 5), (31, 2, 40, 9))


def test_a_mean_of_folds_is_recognised_and_shown():
    row = row_of(averaged(MEAN))
    found = examine(row, splits_of(*FOLDS))
    assert found.verdict is RowVerdict.MEAN
    assert found.averaged.state == "found"
    shown = found.averaged.tables
    assert [(t[0] + t[1], t[2] + t[3]) for t in shown.tolist()] == list(FOLDS)
    assert all(printed(value, 4) == str(row.figures[key]) for key, value in averaged(shown.tolist()).items())


def test_the_table_of_all_folds_together_is_a_mean():
    found = examine(row_of(exact_figures(*np.sum(MEAN, 0).tolist())), splits_of(*FOLDS))
    assert np.sum(MEAN, 0).tolist() in found.pooled.tolist()
    assert found.verdict is RowVerdict.MEAN


def test_a_single_split_where_averages_are_ruled_out():
    found = examine(row_of(exact_figures(50, 10, 15, 15)), splits_of((40, 40), (40, 40), (40, 40)))
    assert found.verdict is RowVerdict.SINGLE_SPLIT  # accuracy .7222 is not midway between .8333 and .5
    assert [10, 2, 3, 3] in found.solutions.tolist()
    assert found.averaged.state == "impossible"


def test_with_one_fold_there_is_nothing_to_average():
    found = examine(row_of(exact_figures(18, 2, 27, 3)), splits_of((20, 30)))
    assert found.verdict is RowVerdict.SINGLE_SPLIT
    assert [(str(part.fold), tables.tolist()) for part, tables in found.stated] == [("1", [[18, 2, 27, 3]])]


def test_impossible_figures_fit_nothing():
    row = ReportedRow(
        "x", dict(zip(FIGURES, map(parse_figure, ("0.9990", "0.5000", "0.5000", "0.5000", "0.5000")), strict=True))
    )
    found = examine(row, splits_of((30, 50), (28, 52)))
    assert found.verdict is RowVerdict.NONE
    assert len(found.solutions) == 0


def test_one_slip_is_named():
    row = row_of(exact_figures(57, 5, 19, 9))
    row.figures["specificity"] = parse_figure("0.6865")  # for 0.6786
    found = examine(row, splits_of((40, 20), (22, 8)))
    assert len(found.solutions) == 0
    assert found.slips["specificity"].tolist() == [57, 5, 19, 9]


def test_figures_that_were_cut_off_fit_as_such():
    figures = {key: parse_figure(f"{float(value):.7f}"[:6]) for key, value in exact_figures(50, 11, 16, 15).items()}
    found = examine(ReportedRow("x", figures), splits_of((61, 31)))
    assert found.truncated
    assert [50, 11, 16, 15] in found.solutions.tolist()


def test_swapped_classes_do_not_fit():
    row = row_of(exact_figures(18, 2, 21, 9))
    assert examine(row, splits_of((20, 30))).stated
    assert not examine(row, splits_of((30, 20))).stated


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.integers(3, 60), st.integers(3, 60)), min_size=2, max_size=5), st.randoms())
def test_no_proof_speaks_against_a_true_mean(counts, random):
    truth = []
    for positive, negative in counts:
        tp, tn = random.randint(0, positive), random.randint(0, negative)
        truth.append((tp, positive - tp, tn, negative - tn))
    row = row_of(averaged(truth))
    windows, totals = windows_of(row), np.array(counts)
    assert means_fit_exactly(windows, np.array(truth))
    assert mean_is_reachable(windows["sensitivity"], totals[:, 0])
    assert mean_is_reachable(windows["specificity"], totals[:, 1])
    assert separating_plane(fold_points(FIGURES, totals), *window_centres(windows), enough=1.0)[0] <= 1e-6


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.integers(3, 12), st.integers(3, 12)), min_size=2, max_size=3), st.randoms(), st.booleans())
def test_ruling_out_never_rules_out_the_truth(counts, random, alike):
    truth = []
    for positive, negative in counts:  # alike: near the edge of what averages can be, where little is left
        tp = round(0.9 * positive) if alike else random.randint(0, positive)
        tn = round(0.95 * negative) if alike else random.randint(0, negative)
        truth.append((tp, positive - tp, tn, negative - tn))
    windows = windows_of(row_of(averaged(truth)))
    try:
        found = search_integer_tables(windows, np.array(counts), room=1.0, steps=10)
    except Undecided:
        reject()  # hypothesis complains where nearly nothing is left
    assert found is not None
    assert any(means_fit_exactly(windows, found, rounded_first=first) for first in (False, True))


@pytest.mark.parametrize("name", ["DeiT", "NesT"])
def test_averages_are_ruled_out_one_table_after_another(name):
    splits = read_reported_folds(PAPER / "folds_stage_1.csv")
    row = next(row for row in read_reported_table(PAPER / "table_4.csv") if row.name == name)
    counts = np.array([(part.positive, part.negative) for part in splits.validation])
    windows = windows_of(row)
    assert separating_plane(fold_points(FIGURES, counts), *window_centres(windows), enough=1.0)[0] < 1  # no plane does
    assert search_integer_tables(windows, counts, room=1.0) is None


def test_small_folds_are_decided_by_trying_all():
    counts = np.array([(4, 5), (3, 6)])
    every = [range(n + 1) for pair in counts for n in pair]
    means = {
        tuple(printed(averaged([(a, 4 - a, b, 5 - b), (c, 3 - c, d, 6 - d)])[key], 2) for key in FIGURES)
        for a, b, c, d in product(*every)
    }
    hits = 0
    for texts in [
        *list(means)[:20],
        ("0.61", "0.60", "0.62", "0.65", "0.58"),
        ("0.50", "0.40", "0.45", "0.52", "0.48"),
    ]:
        windows = {key: parse_figure(text).rounded() for key, text in zip(FIGURES, texts, strict=True)}
        found, whole = find_fold_tables(windows, counts)
        assert whole
        assert (found is not None) == (texts in means)
        hits += found is not None
    assert 0 < hits < 22


def test_gaps_between_averages_are_seen():
    assert not mean_is_reachable(parse_figure("0.2400").rounded(), np.array([2, 2]))  # 0, .25, .5, ...
    assert mean_is_reachable(parse_figure("0.2500").rounded(), np.array([2, 2]))


def call(tmp_path, table, folds, *more):
    (tmp_path / "table.csv").write_text(table)
    (tmp_path / "folds.csv").write_text(folds)
    out = tmp_path / "out"
    arguments = ["forensics", str(tmp_path / "table.csv"), "--folds", str(tmp_path / "folds.csv"), "--out", str(out)]
    return CliRunner().invoke(app, [*arguments, *more]), out


GOOD_FOLDS = "fold,part,class,n\n1,validation,positive,20\n1,validation,negative,30\n"


def test_the_command_writes_solutions_and_a_page(tmp_path):
    table = HEADER + "good,0.9000,0.8571,0.8780,0.9000,0.9000\n<b>bad,0.9990,0.5,0.5000,0.5000,0.5000\n"
    answer, out = call(tmp_path, table, GOOD_FOLDS)
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.splitlines()[0] == "good\tsingle-split"
    with (out / "solutions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"name": "good", "verdict": "single-split", "tp": "18", "fn": "2", "tn": "27", "fp": "3"} in rows
    assert rows[-1] == {"name": "<b>bad", "verdict": "none", "tp": "", "fn": "", "tn": "", "fp": ""}
    page = (out / "report.html").read_text()
    assert "18/20" in page
    assert "Of 2 rows of figures, 0 can come from all the stated folds, 1 from a single table only, and 1 from" in page
    assert (
        page.index("Of 2 rows")
        < page.index("Verdicts</h2>")
        < page.index("<details")
        < page.index("The stated folds</h2>")
    )
    assert "<b>bad" not in page


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize(
    "excel", [str, lambda text: text.replace(",", ";").replace(".", ","), lambda text: f"sep=,\n{text}"]
)
def test_tables_of_a_spreadsheet_read_as_meant(tmp_path, encoding, excel):
    (tmp_path / "t.csv").write_text(excel(HEADER + "Müller,0.94,0.9120,,.5,1\n"), encoding)
    (tmp_path / "f.csv").write_text(excel(GOOD_FOLDS.replace("30", "30.0").replace("fold", " Fold")), encoding)
    (row,) = read_reported_table(tmp_path / "t.csv")
    assert row.name == "Müller"
    assert {name: str(figure) for name, figure in row.figures.items()} == (
        {"accuracy": "0.94", "precision": "0.9120", "sensitivity": "0.5", "specificity": "1.0000"}
    )
    (part,) = read_reported_folds(tmp_path / "f.csv").parts
    assert (part.fold, part.positive, part.negative) == ("1", 20, 30)


WRONG = {
    "two spellings": (
        HEADER + "x,0.9,,,,\n",
        GOOD_FOLDS.replace("\n1", "\n01", 1),
        "fold is written '01' (row 2) and '1'",
    ),
    "blank fold": (HEADER + "x,0.9,,,,\n", GOOD_FOLDS.replace("\n1", "\nNA"), "fold is blank"),
    "unknown column": ("name,acuracy\nx,0.9\n", GOOD_FOLDS, "did you mean 'accuracy'"),
    "no name": ("accuracy\n0.9\n", GOOD_FOLDS, "no column 'name'"),
    "above 100": (HEADER + "x,101.2,,,,\n", GOOD_FOLDS, "outside 0 to 100"),
    "below 0": (HEADER + "x,-0.2,,,,\n", GOOD_FOLDS, "outside 0 to 1"),
    "mixed": (HEADER + "x,94.5,0.91,,,\n", GOOD_FOLDS, "mixed"),
    "words": (HEADER + "x,0.9 ± 0.1,,,,\n", GOOD_FOLDS, "is no number"),
    "nothing": (HEADER + "x,,,,,\n", GOOD_FOLDS, "reports no figure"),
    "empty": ("", GOOD_FOLDS, "is empty"),
    "twice": (HEADER + "x,0.9,,,,\nx,0.9,,,,\n", GOOD_FOLDS, "there already"),
    "too wide": (HEADER + "x,0.9,,,,,,0.8\n", GOOD_FOLDS, "has 8 cells, the header 6"),
    "negative count": (HEADER + "x,0.9,,,,\n", GOOD_FOLDS.replace("30", "-3"), "n is '-3'"),
    "unknown part": (HEADER + "x,0.9,,,,\n", GOOD_FOLDS.replace("validation", "valid"), "'validation'"),
    "unknown class": (HEADER + "x,0.9,,,,\n", GOOD_FOLDS.replace("negative", "normal"), "class is 'normal'"),
    "one class": (HEADER + "x,0.9,,,,\n", GOOD_FOLDS.rsplit("1,", 1)[0], "lacks the class negative"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_calls_say_what_to_do(case, tmp_path):
    table, folds, said = WRONG[case]
    answer, out = call(tmp_path, table, folds)
    assert isinstance(answer.exception, UsageError)
    assert answer.exception.exit_code == 2
    assert said in str(answer.exception)
    assert not out.exists()


def test_what_cannot_be_read_exits_with_2(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    done = subprocess.run(
        [sys.executable, "-m", "fundoscope.cli.main", "forensics", tmp_path / "table.csv", "--folds", "none.csv",
         "--out", tmp_path / "out"], capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 2
    assert "UTF-8" in done.stderr
