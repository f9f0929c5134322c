import io

import pytest

from fundoscope.cli.photographs import mentions, natural
from fundoscope.errors import UsageError


@pytest.fixture
def folder(tmp_path):
    for name in ("b/10.png", "b/9.png", "a.JPG", ".hidden.png", "note.txt", "[x].png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def paths(*photos):
    return [mention.path for mention in mentions([str(photo) for photo in photos])]


def test_a_folder_gives_its_photographs_in_natural_order(folder):
    assert paths(folder) == [str(folder / name) for name in ("[x].png", "a.JPG", "b/9.png", "b/10.png")]


def test_files_are_taken_as_given_repeats_and_missing_ones_included(folder):
    given = [folder / "a.JPG", folder / "missing.png", folder / "a.JPG", folder / "note.txt"]
    assert paths(*given) == [str(path) for path in given]


def test_globs_match_and_a_name_with_brackets_is_a_name(folder):
    assert paths(folder / "b" / "*.png") == [str(folder / "b" / "9.png"), str(folder / "b" / "10.png")]
    assert paths(folder / "[x].png") == [str(folder / "[x].png")]


@pytest.mark.parametrize("empty", ["none/*.png", "b/*.tif"])
def test_a_glob_that_holds_nothing_is_a_wrong_call(folder, empty):
    with pytest.raises(UsageError, match="no file matches"):
        paths(folder / empty)


def test_an_empty_folder_is_a_wrong_call(tmp_path):
    with pytest.raises(UsageError, match="holds no photograph"):
        paths(tmp_path)


def test_a_list_on_standard_input(folder, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{folder}/a.JPG\n\n{folder}/b\n"))
    assert len(paths("-")) == 3
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    with pytest.raises(UsageError, match="No photograph was named"):
        paths("-")


def test_a_cohort_table_tells_whose_eye_it_is(folder):
    (folder / "c.csv").write_text("image,infant,eye\nb/9.png,7,OD\nb/10.png,7,left\n")
    found = mentions([str(folder / "c.csv")])
    assert [(m.path, m.infant, m.eye, m.from_table) for m in found] == [
        ("b/9.png", "7", "right", True),
        ("b/10.png", "7", "left", True),
    ]
    assert found[0].file == folder / "b" / "9.png"


def test_names_that_no_file_system_holds_are_still_mentions():
    assert paths("x" * 5000, "a\0b") == ["x" * 5000, "a\0b"]


def test_natural_order():
    assert sorted(["a10", "a9", "b1"], key=natural) == ["a9", "a10", "b1"]
