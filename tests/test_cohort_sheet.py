"""The one reader of tables: what spreadsheets and people write is read alike, or refused with row and remedy."""

import csv
import os
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fundoscope.cohort import Cohort
from fundoscope.cohort.sheet import clean_cell, is_blank, read_sheet
from fundoscope.errors import CohortError, UsageError

ROWS = [["im/1.jpg", "normal", "007"], ["im/Müller 2.jpg", "rop", "008"]]


def written(folder, text, encoding="utf-8"):
    path = folder / "t.csv"
    path.write_bytes(text.encode(encoding))
    return path


def cells_of(path):
    sheet = read_sheet(path, ("image", "label"))
    return [list(row.cells.values()) for row in sheet]


@pytest.mark.parametrize("separator", list(",;\t|"))
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_encodings_separators_and_line_ends_read_alike(tmp_path, separator, ending, encoding):
    lines = [["image", "label", "infant"], *ROWS]
    text = "".join(separator.join(line) + ending for line in lines)
    assert cells_of(written(tmp_path, text, encoding)) == ROWS


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\r\nimage;label;infant\r\nim/1.jpg;normal;007\r\nim/Müller 2.jpg;rop;008\r\n",
        "Export of clinic X;;\nimage;label;infant\nim/1.jpg;normal;007\nim/Müller 2.jpg;rop;008\n",
        "Export, of 2024-05-01; clinic X\n\nImage;LABEL;Infant\nim/1.jpg;normal;007\nim/Müller 2.jpg;rop;008\n",
        "image,label,infant,,\nim/1.jpg,normal,007,,\n,,,,\nim/Müller 2.jpg,rop,008,,\n",
        "image,label,infant\n\"im/1.jpg\",normal,\"007\"\n'im/Müller 2.jpg',rop,'008'\n",
        "image, label, infant\nim/1.jpg, \u00a0normal\u00a0,007\u200b\nim/Müller 2.jpg , rop,\ufeff008\n",
        ",image,label,infant\n0,im/1.jpg,normal,007\n1,im/Müller 2.jpg,rop,008\n",
    ],
    ids=["sep=", "title", "title with commas", "blank columns", "quotes", "spaces", "index of pandas"],
)
def test_habits_of_spreadsheets_change_nothing(tmp_path, text):
    assert cells_of(written(tmp_path, text)) == ROWS


def test_rows_keep_the_numbers_of_the_file(tmp_path):
    sheet = read_sheet(written(tmp_path, "a title\n\nimage,label\nx,rop\n\ny,normal\n"), ("image", "label"))
    assert [(row.line, row["image"], row["infant"]) for row in sheet] == [(4, "x", ""), (6, "y", "")]
    assert sheet.rows[1].where.endswith("t.csv, row 6")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('image,label\n"a,rop\nb,normal\n', "row 2: its quotes do not match"),
        ('image,label\na,"rop\n', "row 2: its quotes do not match"),
        ('image,label\n"a"b,rop\n', "row 2: its quotes do not match"),
        ("image,label\na,rop,normal\n", "row 2: has 3 cells, the header 2"),
        ("image,label\na;b;c,rop\n1;2;3,rop,x\n", "row 3: has 3 cells"),
        ("image,label, Image\na,rop,b\n", "'image' stands twice"),
        ("\n ;;\n", "row"),
        ("", "the table is empty"),
    ],
)
def test_what_would_lose_rows_or_cells_is_refused(tmp_path, text, said):
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        read_sheet(path, ("image", "label")).check_columns(("image", "label"))
    assert (said if said != "row" else "no column 'image'") in str(caught.value) and "t.csv" in str(caught.value)


def test_an_open_table_refuses_slips_only_and_a_closed_one_all_unknown_columns(tmp_path):
    sheet = read_sheet(written(tmp_path, "image,label,infants,camera\nx,rop,1,a\n"), ("image", "label"), CohortError)
    with pytest.raises(CohortError, match="'infants' is unknown; did you mean 'infant'"):
        sheet.check_columns(("image", "label"), ("infant",))
    sheet.check_columns(("image", "label"), ("infants",))
    with pytest.raises(CohortError, match="'camera' is unknown; known are"):
        sheet.check_columns(("image", "label"), ("infants",), closed=True)


def test_bytes_of_a_picture_are_no_table(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0")
    with pytest.raises(UsageError, match="not a text file"):
        read_sheet(tmp_path / "t.csv")
    with pytest.raises(UsageError, match="cannot be read"):
        read_sheet(tmp_path / "none.csv")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8), min_size=3, max_size=3),
        min_size=1, max_size=5,
    ),
    st.sampled_from([",", ";", "\t"]),
)  # fmt: skip
def test_whatever_a_csv_writer_writes_is_read_as_pandas_reads_it(tmp_path_factory, rows, separator):
    path = tmp_path_factory.getbasetemp() / "written.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows([["image", "label", "x y"], *rows])
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(path, sep=separator, dtype=str, keep_default_na=False, skip_blank_lines=False)
    expected = [[clean_cell(cell) for cell in row] for row in frame.to_numpy().tolist()]
    assert cells_of(path) == [row for row in expected if any(row)]


@pytest.mark.parametrize("word", ["", "nan", "NaN", "N/A", "-", "None"])
def test_words_for_unknown_are_blank(tmp_path, word):
    assert is_blank(word)
    cohort = Cohort.read(written(tmp_path, f"image,label,infant,eye,treatment_requiring\na,rop,{word},{word},{word}\n"))
    assert (cohort[0].infant, cohort[0].eye, cohort[0].treatment_requiring) == (None, None, None)


def test_no_word_for_normal_is_taken_for_rop(tmp_path):
    for word in ("No ROP", "no-rop", "non ROP", "nan", "0"):
        with pytest.raises(CohortError, match=f"the label '{word}' is unknown. Write normal or rop"):
            Cohort.read(written(tmp_path, f"image,label\na,{word}\n"))


def test_images_are_found_however_their_names_are_written(tmp_path):
    (tmp_path / "im").mkdir()
    (tmp_path / "im" / "Müller 1.jpg").touch()
    (tmp_path / "im" / "2.jpg").touch()
    there = tmp_path / "im" / "Müller 1.jpg"
    decomposed = unicodedata.normalize("NFD", "im/Müller 1.jpg")
    for image in ("im/Müller 1.jpg", "im\\Müller 1.jpg", decomposed):
        assert Cohort.read(written(tmp_path, f"image,label\n{image},rop\n"))[0].path == there, image
    assert Cohort.read(written(tmp_path, "image,label\nim/Müller 1.jpg,rop\n", "cp1252"))[0].path == there
    url = (tmp_path / "im" / "2.jpg").as_uri()
    assert Cohort.read(written(tmp_path, f"image,label\n{url},rop\n"))[0].path == tmp_path / "im" / "2.jpg"


def test_a_name_in_an_older_encoding_is_found_by_its_bytes(tmp_path):
    name = os.fsdecode("Müller.jpg".encode("cp1252"))
    try:
        (tmp_path / name).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    cohort = Cohort.read(written(tmp_path, "image,label\nMüller.jpg,rop\n", "cp1252"))
    assert cohort[0].path == tmp_path / name and cohort.digests[0]


@pytest.mark.parametrize("name", ["张三.jpg", "早产儿 左眼.jpg"])
def test_names_in_a_chinese_encoding_are_found(tmp_path, name):
    (tmp_path / name).touch()
    assert Cohort.read(written(tmp_path, f"image,label\n{name},rop\n", "gb18030"))[0].path == tmp_path / name
