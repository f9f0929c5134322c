"""`cohort agreement`: labels of two readers, and the tool beside them."""

import csv

import pytest
from test_cli_screen import run

from fundoscope.cohort.label_readings import read_label_readings
from fundoscope.errors import CohortError


@pytest.fixture
def table(eyes, tmp_path):
    """Twelve rows of four photographs, told apart by their folders; two infants have three photographs each."""
    rows = []
    for k in range(12):
        place = tmp_path / f"{k:02d}.png"
        place.symlink_to(eyes[k % 4])
        rows.append((place.name, ("normal", "no ROP", "rop")[k % 3], ("normal", "ROP", "")[k % 4 % 3], f"i{max(k, 2)}"))
    path = tmp_path / "readings.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("image", "reader_1", "reader_2", "infant"), *rows])
    return path


def test_kappa_of_two_readers_and_of_the_tool_with_each(table, tiny_bundle, tmp_path):
    done = run("cohort", "agreement", table, "--out", tmp_path / "out", "--bundle", tiny_bundle)
    assert done.returncode == 0, done.stderr
    figures = {(row["first"], row["second"]): row for row in csv.DictReader((tmp_path / "out/agreement.csv").open())}
    readers = figures["reader_1", "reader_2"]
    pairs = [(k % 3 == 2, k % 4 % 3 == 1) for k in range(12) if k % 4 % 3 != 2]
    assert readers["graded_by_both"] == str(len(pairs)) == "9"
    assert float(readers["same_class"]) == pytest.approx(sum(a == b for a, b in pairs) / 9, abs=1e-3)
    assert readers["groups"] == "8", "three photographs are of one infant, and one of them has no second label"
    assert figures["reader_1", "tool"]["graded_by_both"] == "12"
    page = (tmp_path / "out/agreement.html").read_text()
    assert "How far readers and tool agree on ROP" in page and "Images assumed independent" not in page
    apart = list(csv.DictReader((tmp_path / "out/differences.csv").open()))
    assert len(apart) == sum(a != b for a, b in pairs) and {"image", "infant", "tool"} <= set(apart[0])


def test_without_infants_and_with_an_unreadable_photograph_the_page_says_so(table, tiny_bundle, tmp_path):
    lines = [line.rpartition(",")[0] for line in table.read_text().splitlines()[:6]]
    table.write_text("\n".join([*lines, "gone.png,rop,normal"]) + "\n")
    done = run("cohort", "agreement", table, "--out", tmp_path / "out", "--bundle", tiny_bundle, "-q")
    assert done.returncode == 1 and done.stderr == ""
    page = (tmp_path / "out/agreement.html").read_text()
    assert "Images assumed independent" in page and "could not read them: gone.png" in page
    alone = run("cohort", "agreement", table, "--out", tmp_path / "alone", "--without-tool")
    assert alone.returncode == 0 and "tool" not in (tmp_path / "alone/agreement.csv").read_text()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image,reader_1\na.png,rop\n", "there is no column 'reader_2'"),
        ("image,reader_1,reader_2\na.png,rop,maybe\n", "row 2, reader_2: the label 'maybe' is unknown"),
        ("image,reader_1,reader_2\na.png,rop,rop\na.png,rop,rop\n", "row 3: a.png stands there twice"),
        ("image,reader_1,reader_2\na.png,rop,\n", "reader_2 has no label"),
        ("image,reader_1,reader_2,infant\na.png,rop,rop,1\nb.png,rop,rop,\n", "the infant is blank in row 3"),
        ("image,reader_1,reader_2,infant\na.png,rop,rop,A-1\nb.png,rop,rop,a 1\n", "A-1"),
        ("image,reader_1,reader_2\n", "there is no photograph in it"),
    ],
)
def test_a_wrong_table_is_refused_with_its_row(tmp_path, text, told):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(CohortError, match=told):
        read_label_readings(tmp_path / "t.csv")
