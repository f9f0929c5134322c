from __future__ import annotations

import csv
import math
import re
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fundoscope.cohort import Cohort
from fundoscope.cohort.sheet import clean_cell, is_blank
from fundoscope.errors import CohortError

PLAIN = "image,label,treatment_requiring,infant,eye,camera\na b/Ä.png,Normal,,7,OD,x\nc.png,ROP,yes,8,l,y\n"


def table(folder, text, encoding="utf-8"):
    path = folder / "cohort.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_spelling_of_a_table_reads_alike(tmp_path, delimiter, ending, encoding):
    text = PLAIN.replace(",", delimiter).replace("\n", ending)
    cohort = Cohort.read(table(tmp_path, text, encoding))
    first, second = cohort
    assert (first.image, first.path) == ("a b/Ä.png", tmp_path / "a b" / "Ä.png")
    assert (first.label, first.treatment_requiring, first.infant, first.eye) == ("normal", None, "7", "right")
    assert (second.label, second.treatment_requiring, second.infant, second.eye) == ("rop", True, "8", "left")
    assert second.extra == {"camera": "y"} and (second.row, second.line) == (1, 3)
    assert cohort.has_infants and cohort.labels.tolist() == [0, 1] and cohort.treatments.tolist() == [-1, 1]


def test_header_may_be_in_capitals_with_spaces_and_in_any_order(tmp_path):
    cohort = Cohort.read(table(tmp_path, "LABEL, Treatment Requiring ,Image\n\nrop,No,x.png\n"))
    assert cohort[0].treatment_requiring is False and cohort[0].image == "x.png" and cohort[0].line == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("image,label\n", "no photograph"),
        ("images,label\na,rop\n", "no column 'image'; did you mean 'images'"),
        ("image,class\na,rop\n", "no column 'label'"),
        ("image,label,Label\na,rop,rop\n", "'label' stands twice"),
        ("image,label,infants\na,rop,1\n", "'infants' is unknown; did you mean 'infant'"),
        ("image,label,infant_id\na,rop,1\n", "did you mean 'infant'"),
        ("image,label\na,normal\nb,ropp\n", "row 3: the label 'ropp' is unknown; did you mean 'rop'"),
        ("image,label\na,\n", "row 2: the label is blank"),
        ("image,label\n,rop\n", "row 2: the image is blank"),
        ("image,label\na,b.png,rop\n", "row 2: has 3 cells, the header 2"),
        ("image,label,treatment_requiring\na,rop,maybe\n", "row 2: treatment_requiring is 'maybe'"),
        (
            "image,label,treatment_requiring\na,normal,yes\n",
            "row 2: treatment_requiring is yes, but the label",
        ),
        ("image,label,eye\na,rop,both\n", "row 2: the eye 'both' is unknown"),
        ("image,label\na/x.png,rop\nb,rop\na/../a/x.png,normal\n", "is rop in row 2 and normal in row 4"),
        ("image,label,infant\na,rop,1\nb,rop,\nc,rop,\n", "blank in row 3, 4 but given elsewhere"),
    ],
)
def test_a_wrong_table_is_refused_with_row_and_remedy(tmp_path, text, said):
    with pytest.raises(CohortError) as caught:
        Cohort.read(table(tmp_path, text))
    assert said in str(caught.value)
    assert "cohort.csv" in str(caught.value) and str(caught.value).endswith(".")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\0\0\0", b"PK\x03\x04\0\0"])
def test_a_picture_or_spreadsheet_is_no_table(tmp_path, data):
    path = tmp_path / "cohort.csv"
    path.write_bytes(data)
    with pytest.raises(CohortError, match="not a text file"):
        Cohort.read(path)
    with pytest.raises(CohortError, match="cannot be read"):
        Cohort.read(tmp_path)


def test_one_path_twice_with_one_label_is_left_to_the_audit(tmp_path):
    assert len(Cohort.read(table(tmp_path, "image,label\na,rop\n./a,rop\n"))) == 2


def test_infants_blank_everywhere_are_unknown(tmp_path):
    assert not Cohort.read(table(tmp_path, "image,label,infant\na,rop,\nb,normal,\n")).has_infants


def test_windows_paths_are_found(tmp_path):
    cohort = Cohort.read(table(tmp_path, "image,label\nsub\\a.png,rop\n"))
    assert cohort[0].path == tmp_path / "sub" / "a.png" and cohort[0].image == "sub\\a.png"


@settings(max_examples=80, deadline=None)
@given(
    data=st.binary(max_size=60)
    | st.builds(
        lambda a, at, b: a[:at] + b + a[at + len(b) :],
        st.just(PLAIN.encode()),
        st.integers(0, 90),
        st.binary(),
    )
)
def test_any_bytes_give_a_cohort_or_a_reason(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(data)
    try:
        cohort = Cohort.read(path)
    except CohortError as error:
        assert str(error)
        return
    assert len(cohort) > 0 and len(cohort.sha256) == 64
    assert Cohort.read(cohort.write(path.with_name("again.csv"))).labels.tolist() == cohort.labels.tolist()


words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(
    lambda text: not is_blank(clean_cell(text))
)
cells = words | st.sampled_from(['a"b', "a,b", "a;b\tc", "=1+1", "<script>", "'a'", "\u00a07\u200b", '"a"b'])


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(cells, st.sampled_from(["normal", "rop"]), cells, st.sampled_from(["left", "right", ""]), words),
        min_size=1,
        max_size=6,
        unique_by=lambda row: row[0],
    )
)
def test_what_is_written_reads_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("cohort")
    header = ("image", "label", "infant", "eye", "über")
    safe = [(image.replace("/", "_").replace("\\", "_").strip(".") or "x", *rest) for image, *rest in rows]
    rows = [(f"{n} {image}", label, f"i{infant}", *rest) for n, (image, label, infant, *rest) in enumerate(safe)]
    before = Cohort.from_rows([dict(zip(header, row, strict=True)) for row in rows], folder, allow_two_spellings=True)
    after = Cohort.read(before.write(folder / "again.csv"), allow_two_spellings=True)
    assert [(r.content(), r.path) for r in after] == [(r.content(), r.path) for r in before]
    assert after.sha256 == before.sha256


def test_writing_elsewhere_keeps_the_photographs(tmp_path):
    (tmp_path / "deep").mkdir()
    cohort = Cohort.read(table(tmp_path, PLAIN))
    moved = Cohort.read(cohort.write(tmp_path / "deep" / "c.csv"))
    assert moved.paths == cohort.paths and moved[0].image == "../a b/Ä.png"
    with (tmp_path / "deep" / "c.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.reader(file)) == ["image", "label", "treatment_requiring", "infant", "eye", "camera"]


def test_the_digest_follows_cells_and_bytes_but_not_the_place(tmp_path):
    one = tmp_path / "one"
    one.mkdir()
    (one / "c.png").write_bytes(b"abc")
    digest = Cohort.read(table(one, PLAIN)).sha256
    shutil.copytree(one, tmp_path / "two")
    assert Cohort.read(tmp_path / "two" / "cohort.csv").sha256 == digest
    (one / "c.png").write_bytes(b"abd")
    assert Cohort.read(one / "cohort.csv").sha256 != digest
    (one / "c.png").write_bytes(b"abc")
    assert Cohort.read(table(one, PLAIN.replace("camera", "lens"))).sha256 != digest
    assert Cohort.read(table(one, PLAIN)).sha256 == digest


def folders(base, *names):
    for name in names:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(b"")
    return base


def test_folders_give_labels_in_natural_order(tmp_path):
    names = [
        "Normal/10.png",
        "Normal/9.JPG",
        "rop/deep/a.tif",
        "rop/notes.txt",
        ".cache/x.png",
        "rop/._a.png",
    ]
    cohort = Cohort.from_folders(folders(tmp_path, *names))
    assert [(r.image, r.label) for r in cohort] == [
        ("Normal/9.JPG", "normal"),
        ("Normal/10.png", "normal"),
        ("rop/deep/a.tif", "rop"),
    ]
    assert cohort[2].path == tmp_path / "rop" / "deep" / "a.tif"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["normal/a.png", "rops/b.png", "other/c.png"], "no label is called 'other', 'rops'. Name each"),
        (["normal/a.png", "b.png"], "'b.png' lies in no label's folder"),
        (["normal/a.txt"], "no photograph in normal/ or rop/"),
    ],
)
def test_folders_that_cannot_be_labels_are_named(tmp_path, names, said):
    with pytest.raises(CohortError, match=said):
        Cohort.from_folders(folders(tmp_path, *names))


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(CohortError, match="no such folder"):
        Cohort.from_folders(tmp_path / "none")


@pytest.mark.parametrize(
    ("age", "weeks"),
    [("28", 28), ("28.5", 28.5), ("28,5", 28.5), ("28+3", 28 + 3 / 7), ("28w3d", 28 + 3 / 7), ("28 3/7", 28 + 3 / 7),
     ("28 weeks", 28), ("NA", math.nan), ("", math.nan)],
)  # fmt: skip
def test_measures_of_infants_are_read_whatever_their_header_and_notation(tmp_path, age, weeks):
    text = f'image,label,Gestational Age,BIRTH-WEIGHT,Sex\na,rop,"{age}",1200 g,f\n'
    (row,) = Cohort.read(table(tmp_path, text))
    assert row.measure("gestational_age") == pytest.approx(weeks, nan_ok=True) and row.measure("birth_weight") == 1200
    assert row.extra["sex"] == "f"


@pytest.mark.parametrize(
    ("header", "cell", "said"),
    [("birth_weight", "1.25", "not 200 to 7000 g"), ("birth_weight", "1,250", "'1,250' can be 1.250 or 1250. Write"), ("birth_weight", "x", "no number"),
     ("gestational_age", "198", "not 18 to 46 weeks"), ("gestational_age", "28+9", "no number. Write it in weeks"),
     ("birth_weight_g", "1250", "did you mean 'birth_weight'"), ("gestation_age", "28", "did you mean 'gestational_age'")],
)  # fmt: skip
def test_measures_that_are_in_doubt_are_refused_before_a_study_begins(tmp_path, header, cell, said):
    text = f'image;label;{header}\na;rop;\nb;rop;"{cell}"\n'
    with pytest.raises(CohortError, match=re.escape(said)) as caught:
        Cohort.read(table(tmp_path, text))
    assert "row 3" in str(caught.value) or "did you mean" in said


def test_a_table_to_be_screened_needs_no_answers(tmp_path):
    text = "image,label,treatment_requiring,infant,birth_weight\na,ROP stage 2,maybe,1,1.2 kg\nb,0,,,\n"
    first, second = Cohort.read(table(tmp_path, text), labelled=False)
    assert (first.label, first.treatment_requiring, first.infant, second.infant) == ("", None, "1", None)
    with pytest.raises(CohortError, match="row 2: birth_weight"):
        Cohort.read(table(tmp_path, text))
