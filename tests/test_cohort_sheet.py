"""The one reader of tables: what spreadsheets and people write is read alike, or refused with row and remedy."""

import csv
import itertools
import math
import os
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fundoscope.cohort import Cohort, audit, write_audit_page
from fundoscope.cohort.image_paths import find_file
from fundoscope.cohort.sheet import clean_cell, is_blank, parse_number, parse_whole, read_sheet
from fundoscope.cohort.spellings import find_two_spellings
from fundoscope.errors import CohortError, PhotographError, UsageError
from fundoscope.evaluation.metrics import results_table
from fundoscope.findings import ROP_COLUMNS, RopFinding, Status
from fundoscope.imaging import read
from fundoscope.runs.sinks import CsvTable
from fundoscope.runs.walker import walk

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
        'image,label,infant\n"im/1.jpg",normal,="007"\n\u201cim/Müller 2.jpg\u201d,rop,"=""008"""\n',
        "\ufeffSEP=,,,\nIMAGE,\u00a0Label,  infant \nim/1.jpg,normal,007\nim/Müller 2.jpg,rop,008\n",
        "sep=,\nimage;label;infant\nim/1.jpg;normal;007\nim/Müller 2.jpg;rop;008\n\n;;\n ; ;\n",
        '"image";"label";"infant"\nim/1.jpg;normal;007\n"im/Müller 2.jpg";rop;008',
        "infant of a, b, c, d\timage\tlabel\n007\tim/1.jpg\tnormal\n008\tim/Müller 2.jpg\trop\n",
    ],
    ids=["sep=", "title", "title with commas", "blank columns", "quotes", "spaces", "index of pandas", "formulas keep zeros",
         "header", "a wrong sep=", "quoted header", "commas in the header"],
)  # fmt: skip
def test_habits_of_spreadsheets_change_nothing(tmp_path, text):
    assert [sorted(row) for row in cells_of(written(tmp_path, text))] == [sorted(row) for row in ROWS]


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
        ('image,label\n"a\nb",rop\nc,normal\n', "row 2: its quotes do not match"),
        ("image,label\na,rop\nb;normal\n", "row 3: is separated by ';', the header by ','"),
        ("image;label\na,rop\n", "row 2: is separated by ',', the header by ';'"),
        ("a.jpg,rop,1\nb.jpg,normal,1\n", "its first line reads 'a.jpg,rop,1'"),
        ("a.jpg,1,1\nb.jpg,2,2\n", "where the header is missing, write image,label above the rows"),
        ("image label\na.jpg rop\n", "its first line reads 'image label'"),
        ("Photos of 2024\nimages,labels\na,rop\n", "there is no column 'image'"),
        ("photos\nimage,what\na,rop\n", "there is no column 'label'; the other is what. Name it 'label' in"),
        ("PK\x03\x04\0\0", "a workbook of Excel or OpenOffice, not a text file with a table. Open it in a spreadsheet"),
        ("<html><table>", "a web page or XML, not a text file"),
        ("image,label\na,#REF!\n", "row 2: the cell of 'label' holds the spreadsheet's error #REF!"),
        ("image,label\n########,rop\n", "row 2: the cell of 'image' holds the spreadsheet's error ####"),
        ("image,label\na,#WERT!\n", "the spreadsheet's error #WERT!. Write its value"),
        ("image,label\na,#DIV/0!\n", "the spreadsheet's error #DIV/0!. Write its value"),
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
    with pytest.raises(CohortError, match="'camera' is unknown; there are"):
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


@pytest.mark.parametrize("word", ["", "nan", "NaN", "N/A", "#N/A", "NA", "null", "-", "None", "empty", "unknown", "?"])
def test_words_for_unknown_are_blank(tmp_path, word):
    assert is_blank(word)
    cohort = Cohort.read(written(tmp_path, f"image,label,infant,eye,treatment_requiring\na,rop,{word},{word},{word}\n"))
    assert (cohort[0].infant, cohort[0].eye, cohort[0].treatment_requiring) == (None, None, None)
    with pytest.raises(CohortError, match="row 2: the label is blank"):
        Cohort.read(written(tmp_path, f"image,label\na,{word}\n"))


@pytest.mark.parametrize(
    "spellings",
    [
        ["007", "7", "7.0", " 0007 ", "７", "7,0", "#7", "'7"], ["Ab-01", "AB-01", "ab 01", "ab_01", "A.B 1", "Ab\u200b01"],
        ["A 01", "A-01", "A_01", "A/1", "Ａ０１"], ["Müller", "mu\u0308ller", "MÜLLER"], ["2024-0012", "20240012"],
    ],
)  # fmt: skip
def test_an_infant_in_two_spellings_is_refused_with_both_and_their_rows(tmp_path, spellings):
    for other in spellings[1:]:
        table = written(tmp_path, f'image,label,infant\na,rop,"{spellings[0]}"\nb,rop,x\nc,normal,"{other}"\n')
        with pytest.raises(CohortError, match="row 4.*write it alike in all rows; if not, give names") as caught:
            Cohort.read(table)
        assert f"'{spellings[0]}' (row 2) and '{clean_cell(other)}' (row 4)" in str(caught.value)
        with pytest.raises(CohortError, match="row 4"):  # every command that groups reads its table so
            walk([str(table)])


@pytest.mark.parametrize("name", ["t.csv", "t.CSV", "t.tsv", "t.xlsx", "t.xls", "t.ods"])
def test_a_table_is_known_by_its_name_and_a_workbook_in_its_place_is_told(tmp_path, name):
    table, is_table = tmp_path / name, name.lower().endswith("sv")
    if is_table:
        table.write_text("image\tinfant\na.png\t1\n")
        (mention,) = walk([str(table)]).mentions
        assert (mention.file, mention.infant) == (tmp_path / "a.png", "1")
    table.write_bytes(b"PK\x03\x04\0\0")
    with pytest.raises(CohortError, match="workbook of Excel.*save it as CSV"):
        walk([str(table)])
    if not is_table:  # among photographs it is no reason to grade none of them
        (tmp_path / "a.png").touch()
        assert [mention.file.name for mention in walk([str(tmp_path / "a.png"), str(table)]).mentions] == [
            "a.png",
            name,
        ]


def test_infants_that_truly_differ_are_left_alone():
    names = [
        "1", "10", "100", "01-1", "11", "1-11", "A1", "A11", "A1B", "AB1", "B1", "A", "B", "12-1", "121", "A+", "A*", "1.5",
        "15", "2023-1-12", "2023-11-2", "7a", "7b", "IV", "VI", "-", "0", "王", "李",
    ]  # fmt: skip
    assert find_two_spellings([*names, *names, None, None]) == []


@pytest.mark.parametrize(
    ("text", "label"),
    [("no ROP", "normal"), ("no_rop", "normal"), ("noROP", "normal"), ("Non-ROP", "normal"), ("without ROP", "normal"),
     ("Healthy", "normal"), ("ROP absent", "normal"), (" NORMAL ", "normal"), ("ROP", "rop"), ("ＲＯＰ", "rop")],
)  # fmt: skip
def test_plain_words_for_a_label_are_known_in_tables_and_as_folders(tmp_path, text, label):
    assert Cohort.read(written(tmp_path, f"image,label\na,{text}\n"))[0].label == label
    (tmp_path / text).mkdir()
    (tmp_path / text / "a.png").touch()
    assert [row.label for row in Cohort.from_folders(tmp_path)] == [label]


@pytest.mark.parametrize(("text", "said"), [("1.23457E+11", "rounded"), ("1,2e+10", "rounded"), ("=B2", "a formula")])
@pytest.mark.parametrize("column", ["infant", "exam"])
def test_what_a_spreadsheet_made_of_a_name_is_refused(tmp_path, text, said, column):
    with pytest.raises(CohortError, match=f"row 3: the {column} '{re.escape(text)}' is .*{said}"):
        Cohort.read(written(tmp_path, f'image;label;other;{column}\na;rop;=A2;1\nb;rop;1;"{text}"\n'))


def test_an_infant_that_a_spreadsheet_took_for_a_date_is_refused_and_an_exam_on_a_day_is_not(tmp_path):
    for text in ("03-Jan", "3. Mrz", "Dec-12"):
        with pytest.raises(CohortError, match=f"row 2: the infant '{text}' looks like a name that a spreadsheet took"):
            Cohort.read(written(tmp_path, f"image,label,infant\na,rop,{text}\n"))
        assert Cohort.read(written(tmp_path, f"image,label,infant,exam\na,rop,3E7,{text}\n"))[0].exam == text


def test_numbers_have_a_point_or_a_comma_and_thousands_are_not_guessed():
    assert [parse_number(text) for text in ("0,125", "-1.5", "12,5", "1250", "0.90", "1e-3")] == [
        0.125, -1.5, 12.5, 1250, 0.9, 1e-3]  # fmt: skip
    assert math.isnan(parse_number("NA"))
    for text in ("1,250", "1.250,5", "1,250.5", "x", "inf", "1,2,3"):
        with pytest.raises(ValueError):
            parse_number(text)
    assert [parse_whole(text) for text in ("3", "3.0", "3,00", "007", "3.5", "-1", "x", "٣")] == [
        3, 3, 3, 7, None, None, None, None]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [("0", "can mean either"), ("1", "can mean either"), ("1.0", "can mean either"), ("yes", "can mean either"),
     ("norml", "did you mean 'normal'?"), ("rops", "did you mean 'rop'?"), *((word, "is unknown. Write") for word in (
        "ROP stage 2", "rop-", "ROP 0", "no", "nonnormal", "abnormal", "not normal", "no normal", "norop?", "rop n", "drop"))],
)  # fmt: skip
def test_other_labels_are_refused_and_the_opposite_is_never_proposed(tmp_path, text, said):
    said = "can mean either" if text == "no" else said
    with pytest.raises(CohortError) as caught:
        Cohort.read(written(tmp_path, f"image,label\na,rop\nb,{text}\n"))
    assert f"row 3: the label '{text}'" in str(caught.value) and said in str(caught.value)
    assert "normal or rop" in str(caught.value)
    (tmp_path / text).mkdir()
    with pytest.raises(CohortError, match=f"no label is called '{re.escape(text)}'. Name each folder normal or rop"):
        Cohort.from_folders(tmp_path)


def test_images_are_found_however_their_names_are_written(tmp_path):
    (tmp_path / "im").mkdir()
    (tmp_path / "im" / "Müller 1.jpg").touch()
    (tmp_path / "im" / "2.jpg").touch()
    there = tmp_path / "im" / "Müller 1.jpg"
    decomposed = unicodedata.normalize("NFD", "im/Müller 1.jpg")
    for image in ("im/Müller 1.jpg", "im\\Müller 1.jpg", decomposed):
        assert Cohort.read(written(tmp_path, f"image,label\n{image},rop\n"))[0].path == there, image
    assert Cohort.read(written(tmp_path, "image,label\nim/Müller 1.jpg,rop\n", "cp1252"))[0].path == there
    url = (tmp_path / "im" / "2.jpg").as_uri().replace("2", "%32")
    assert Cohort.read(written(tmp_path, f"image,label\n{url},rop\n"))[0].path == tmp_path / "im" / "2.jpg"


@pytest.mark.parametrize(("on_disk", "in_table"), list(itertools.permutations(["NFC", "NFD"])))
def test_accents_taken_apart_on_disk_or_in_the_table_name_the_same_file(tmp_path, on_disk, in_table):
    def names(form, other):
        return f"{unicodedata.normalize(form, 'Ägypten')}/{unicodedata.normalize(other, 'é Müller')}.jpg"

    for other in ("NFC", "NFD"):  # folder and file need not be encoded alike
        there = tmp_path / names(on_disk, other)
        there.parent.mkdir(exist_ok=True)
        there.touch()
        assert Cohort.read(written(tmp_path, f"image,label\n{names(in_table, in_table)},rop\n"))[0].path.is_file()


def test_a_name_that_differs_in_capital_letters_is_told(tmp_path):
    (tmp_path / "Im").mkdir()
    (tmp_path / "Im" / "1.JPG").touch()
    cohort = Cohort.read(written(tmp_path, "image,label\nIm/1.jpg,rop\nim/1.JPG,rop\nIm/2.jpg,rop\n"))
    causes = []
    for row in cohort:
        with pytest.raises(PhotographError) as caught:
            read(row.path)  # by the audit, by a screening and by everything else that reads
        causes.append(caught.value.cause)
    assert causes == [f"there is no such file{more}" for more in ("; it exists as 1.JPG", "; it exists as Im", "")]


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


#: Names that a photograph may have, and that spreadsheets, separators or a reader could make something else of.
NAMES = [
    "a,b.jpg", 'a"b".jpg', '"a".jpg', "a;b|c\td.jpg", "=cmd.jpg", "+1.jpg", "-2.jpg", "@SUM(A1).jpg", "#REF!.jpg", "it's.jpg",
    " a.jpg", "\u00a0b.jpg", "a\\nb.jpg", "a\u2028b.jpg", "a\x85b.jpg", "a\x0bb.jpg", "sep=;.jpg", "Müller.jpg",
    os.fsdecode(b"M\xfcller 2.jpg"),
]  # fmt: skip


def test_every_table_that_we_write_is_read_by_our_reader(tmp_path):
    """Whatever the photographs are called: the cohort of folders, an audit's problems, rows of results, figures, forensics."""
    for name in NAMES:
        (tmp_path / "normal").mkdir(exist_ok=True)
        (tmp_path / "normal" / name).touch()
    cohort = Cohort.from_folders(tmp_path)
    assert {row.path.name for row in cohort} == set(NAMES)
    table = cohort.write(tmp_path / "normal" / "c.csv")  # beside them: no folder stands before the names
    assert [row.path for row in Cohort.read(table)] == [row.path for row in cohort]
    assert [mention.file for mention in walk([str(table)]).mentions] == [row.path for row in cohort]

    write_audit_page(audit(cohort), tmp_path / "audit")
    problems = read_sheet(tmp_path / "audit" / "problems.csv")
    assert {find_file(row["image"], tmp_path, problems.encoding) for row in problems} == {row.path for row in cohort}

    results = CsvTable(tmp_path / "results.csv", ROP_COLUMNS)
    for name in NAMES:
        results.add_rows([RopFinding(f"x/{name}", Status.FAILED, 'cannot, "be"; read').as_row()])
    results.close(True)
    sheet = read_sheet(tmp_path / "results.csv", ROP_COLUMNS)
    assert [os.fsencode(row["file"].encode(sheet.encoding)) for row in sheet] == [
        f"x/{name}".encode("utf-8", "surrogateescape") for name in NAMES]  # fmt: skip
    assert {row["reason"] for row in sheet} == {'cannot, "be"; read'}

    results_table([{"network": name, "auc": 0.5, "n": None} for name in NAMES[:10]], tmp_path / "tables" / "t.csv")
    assert [row["network"] for row in read_sheet(tmp_path / "tables" / "t.csv", ("network",))] == NAMES[:10]
