import io
import json
import os
from pathlib import Path

import pytest

from fundoscope.errors import UsageError
from fundoscope.imaging.read import natural_order
from fundoscope.runs import walk


@pytest.fixture
def folder(tmp_path):
    for name in ("b/10.png", "b/9.png", "a.JPG", ".hidden.png", "note.txt", "[x].png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def paths(*photos):
    return [mention.path for mention in walk([str(photo) for photo in photos]).mentions]


def report_folder(path):
    (path / "pictures").mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"kind": "fundoscope run"}))
    (path / "pictures" / "0001_a.jpg").touch()


def test_a_folder_gives_its_photographs_in_natural_order(folder):
    assert paths(folder) == [str(folder / name) for name in ("[x].png", "a.JPG", "b/9.png", "b/10.png")]


def test_files_are_taken_as_given_repeats_and_missing_ones_included(folder):
    given = [folder / "a.JPG", folder / "missing.png", folder / "a.JPG", folder / "note.txt"]
    assert paths(*given) == [str(path) for path in given]


def test_globs_match_and_a_name_with_brackets_is_a_name(folder):
    assert paths(folder / "b" / "*.png") == [str(folder / "b" / "9.png"), str(folder / "b" / "10.png")]
    assert paths(folder / "[x].png") == [str(folder / "[x].png")]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("**/*.png", ["[[]x].png", "b/9.png", "b/10.png"]),
        ("./**/9.png", ["b/9.png"]),
        ("**/b/*", ["b/9.png", "b/10.png"]),
        ("b/**", ["b/9.png", "b/10.png"]),
        ("*/9.*", ["b/9.png"]),
    ],
)
def test_deep_patterns_give_what_glob_gives_and_paths_as_they_were_typed(folder, monkeypatch, pattern, names):
    import glob

    monkeypatch.chdir(folder)
    found = paths(pattern)
    expected = [name for name in glob.glob(pattern, recursive=True) if os.path.isfile(name)]  # noqa: PTH207, PTH113
    assert found == sorted(expected, key=natural_order) and len(found) == len(names)


@pytest.mark.parametrize("empty", ["none/*.png", "b/*.tif", "none/**/*.png", "b/**/*.tif"])
def test_a_glob_that_holds_nothing_is_a_wrong_call(folder, empty):
    with pytest.raises(UsageError, match="no file matches"):
        paths(folder / empty)


def test_an_empty_folder_is_a_wrong_call_that_tells_what_is_in_it(tmp_path):
    with pytest.raises(UsageError, match="holds no photograph"):
        paths(tmp_path)
    (tmp_path / "a.txt").touch()
    (tmp_path / ".b.png").touch()
    with pytest.raises(UsageError, match=r"1 hidden or system file \(.b.png\); 1 other file \(a.txt\)"):
        paths(tmp_path)


def test_a_list_on_standard_input_may_hold_any_name(folder, monkeypatch):
    def give(data):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    give(f"{folder}/a.JPG\n\n{folder}/b\r\n".encode())
    assert len(paths("-")) == 3
    name = os.fsencode(folder) + b"/caf\xe9.png"  # no UTF-8
    Path(os.fsdecode(name)).touch()
    give(name + b"\n")
    assert [os.fsencode(path) for path in paths("-")] == [name]
    give(b"\n")
    with pytest.raises(UsageError, match="No photograph was named"):
        paths("-")


def test_a_cohort_table_tells_whose_eye_it_is(folder):
    (folder / "c.csv").write_text("image,infant,eye\nb/9.png,7,OD\nb/10.png,7,left\n")
    found = walk([str(folder / "c.csv")]).mentions
    assert [(m.path, m.infant, m.eye, m.table) for m in found] == [
        ("b/9.png", "7", "right", folder / "c.csv"),
        ("b/10.png", "7", "left", folder / "c.csv"),
    ]
    assert found[0].file == folder / "b" / "9.png"


def test_names_that_no_file_system_holds_are_still_mentions():
    assert paths(__file__, "x" * 5000, "a\0b")[1:] == ["x" * 5000, "a\0b"]


def test_natural_order():
    assert sorted(["a10", "a9", "b1"], key=natural_order) == ["a9", "a10", "b1"]


def test_links_are_followed_once_and_loops_end(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "c.png").touch()
    (folder / "a-link").symlink_to(other)
    (folder / "b" / "loop").symlink_to(folder)
    (folder / "a-way-to-b").symlink_to(folder / "b")  # sorts before b, which keeps its own name
    (folder / "b" / "gone.png").symlink_to(folder / "nowhere.png")
    found = walk([str(folder)])
    names = [os.path.relpath(mention.path, folder) for mention in found.mentions]
    assert names == ["[x].png", "a-link/c.png", "a.JPG", "b/9.png", "b/10.png", "b/gone.png"]
    assert found.skipped.counts["linked folder that was entered already"] == 2
    assert paths(folder / "**" / "9.png") == [str(folder / "b" / "9.png")]


def test_what_is_skipped_is_counted(folder):
    for name in ("__MACOSX/a.png", ".git/b.png", "b/@eaDir/9.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    found = walk([str(folder)])
    assert len(found.mentions) == 4
    assert found.skipped.counts == {"hidden or system folder": 3, "hidden or system file": 1, "other file": 1}
    assert "1 other file (note.txt)" in found.skipped.describe()


def test_pictures_of_our_reports_are_not_photographs_but_others_beside_them_are(folder):
    report_folder(folder / "out")
    (folder / "out" / "mine.png").touch()
    (folder / "pictures").mkdir()
    (folder / "pictures" / "theirs.png").touch()
    found = walk([str(folder)])
    names = {os.path.relpath(mention.path, folder) for mention in found.mentions}
    assert {"out/mine.png", "pictures/theirs.png"} <= names and len(names) == 6
    assert found.skipped.counts["report folder"] == 1
    for pattern in ("**/*.jpg", "*/*/*.jpg"):
        with pytest.raises(UsageError, match="no file matches"):
            paths(folder / pattern)
    named = folder / "out" / "pictures"  # who names them means them
    assert paths(named) == paths(named / "*.jpg") == [str(named / "0001_a.jpg")]


def test_a_folder_that_cannot_be_read_is_counted(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    assert walk([str(folder)]).skipped.counts["unreadable folder"] == 1
    with pytest.raises(UsageError, match="Permission denied"):
        paths(folder / "b")


SYSTEM = (".ipynb_checkpoints", ".thumbnails", ".Trash-1000", "__MACOSX", "@eaDir", "@EADIR", "$RECYCLE.BIN")


def labelled(top):
    for label in ("normal", "rop"):
        (top / label / "deep").mkdir(parents=True)
        (top / label / "deep" / "a.png").touch()
    return top


def taken(top):
    """What each way of naming the photographs below `top` finds: a walk, two patterns, and a table from folders."""
    from fundoscope.cohort import Cohort
    from fundoscope.folders import Skipped

    found, skipped = walk([str(top)]), Skipped()
    ways = [
        paths(top),
        paths(f"{top}/**/*.png"),
        paths(f"{top}/*/*/*.png"),
        [str(path) for path in Cohort.from_folders(top, skipped).paths],
    ]
    return [sorted(os.path.relpath(path, top) for path in way) for way in ways], found.skipped, skipped


def test_every_command_walks_by_the_same_rules(tmp_path):
    top = labelled(tmp_path)
    expected = ["normal/deep/a.png", "rop/deep/a.png"]
    assert taken(top)[0] == [expected] * 4
    for name in SYSTEM:
        for place in (top / name, top / "normal" / name, top / "rop" / name / "deep"):
            place.mkdir(parents=True)
            (place / "b.png").touch()
    for name in ("._a.png", "Thumbs.db"):
        (top / "normal" / name).touch()
    ways, walked, made = taken(top)
    assert ways == [expected] * 4
    for skipped in (walked, made):
        assert skipped.counts == {"hidden or system folder": 3 * len(SYSTEM), "hidden or system file": 2}
    assert "21 hidden or system folders (" in made.describe() and "Thumbs.db" in made.describe()


def mark(folder, command, photographs=()):
    from fundoscope.outputs import ANSWER_KIND

    values = {"kind": ANSWER_KIND, "command": command, "entries": ["truth", "sheet.png"], "photographs": photographs}
    (folder / "fundoscope.json").write_text(json.dumps(values))


def test_what_our_commands_wrote_never_comes_back(tmp_path):
    top = labelled(tmp_path)
    report_folder(top / "rop" / "report")
    (top / "rop" / "study" / "explained").mkdir(parents=True)
    (top / "rop" / "study" / "explained" / "b.png").touch()
    (top / "rop" / "study" / "study.json").write_text(json.dumps({"commands": ["x"], "versions": {}}))
    for name in ("truth/b.png", "images/b.png", "sheet.png"):
        place = top / "rop" / "eyes" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    mark(top / "rop" / "eyes", "simulate infants", ["images"])
    ways, walked, made = taken(top)
    assert ways[0] == ways[1] == ways[3] == ["normal/deep/a.png", "rop/deep/a.png"]
    assert ways[2] == ["normal/deep/a.png", "rop/deep/a.png"], "a pattern too"
    for skipped in (walked, made):
        assert skipped.counts == {"report folder": 1, "study folder": 1, "folder of simulated eyes": 1}
    assert paths(top / "rop" / "eyes") == [str(top / "rop" / "eyes" / "images" / "b.png")], "who names them means them"
    with pytest.raises(UsageError, match=r"Skipped: 1 study folder"):
        paths(top / "rop" / "study")


def test_a_shell_that_names_everything_names_no_report(tmp_path):
    (tmp_path / "a.png").touch()
    report_folder(tmp_path / "report")
    (tmp_path / "run.json").write_text(json.dumps({"kind": "fundoscope run", "files": ["results.csv", "report.html"]}))
    for name in ("results.csv", "report.html"):
        (tmp_path / name).write_text("file,status\n")
    named = sorted(str(path) for path in tmp_path.iterdir())  # what `*` becomes
    found = walk(named)
    assert [mention.path for mention in found.mentions] == [str(tmp_path / "a.png")]
    assert found.skipped.counts == {"file of a report": 3, "report folder": 1}


def test_a_linked_folder_is_walked_into_and_a_dangling_link_is_named(tmp_path):
    top, other = labelled(tmp_path / "top"), tmp_path / "other"
    other.mkdir()
    (other / "b.png").touch()
    (top / "rop" / "linked").symlink_to(other)
    (top / "rop" / "loop").symlink_to(top / "rop")
    (top / "rop" / "gone").symlink_to(tmp_path / "nowhere")
    ways, walked, made = taken(top)
    expected = ["normal/deep/a.png", "rop/deep/a.png", "rop/linked/b.png"]
    assert ways[0] == ways[1] == ways[3] == expected
    for skipped in (walked, made):
        assert skipped.counts == {"dangling link": 1, "linked folder that was entered already": 1}
        assert "1 dangling link (gone)" in skipped.describe()


def test_other_files_are_counted_and_named_everywhere(tmp_path):
    from test_runs import NumberGrader, page_of

    from fundoscope.runs import run

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_text("1")
    for name in ("a.mp4", "b.heic", "c.HEIC", "d.txt", "e<b>.txt", "f", "g.txt"):
        (tmp_path / "in" / name).touch()
    found = walk([str(tmp_path / "in")])
    words = found.skipped.describe()
    assert words.startswith("7 other files (3 .txt, 2 .heic, ") and "1 without ending" in words and "2 more" in words
    run(NumberGrader(), found, tmp_path / "out")
    told = json.loads((tmp_path / "out/results.json").read_text())["skipped"]["other file"]
    assert told["count"] == 7 and len(told["names"]) == 7 and str(tmp_path / "in/b.heic") in told["names"]
    shown = page_of(tmp_path / "page.html", words)
    assert "Not among them: 7 other files" in shown and "e&lt;b&gt;.txt" in shown and "<b>" not in shown
