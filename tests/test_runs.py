"""Runs: whatever is stopped goes on, whatever lies in --out is safe, and nothing else is known of a grader than `Grader`."""

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_cli_screen import hear_ctrl_c
from test_nicking_report import Drawn as Page

import fundoscope
from fundoscope.errors import OutputError, PhotographError, UsageError
from fundoscope.findings import BundleIdentity, GradedPhotograph, Mention, Status, join_remarks
from fundoscope.nicking.grading.grader import PatchGrader
from fundoscope.runs import run, walk
from fundoscope.runs.engines import map_in_order
from fundoscope.runs.resume import Journal
from fundoscope.simulate import adult
from fundoscope.simulate.crossing_patches import crossing_patch


class Finding:
    """The row of a grader that nobody knows."""

    def __init__(self, file, status, reason="", number=None):
        self.file, self.status, self.reason, self.number = file, status, reason, number

    def as_row(self):
        return {"file": self.file, "status": self.status.value, "reason": self.reason, "number": self.number}


class NumberGrader:
    """A third grader: a photograph is a text file that holds a number; it has no page."""

    name, noun, columns, files, threads = "number grade", "photograph", ("file", "status", "reason", "number"), (), 1

    def __init__(self, digest="d", **options):
        self.identity, self.options = BundleIdentity("numbers", "2026-11-27", digest), options
        self.graded = []

    def grade_one(self, source, name):
        self.graded.append(name)
        text = Path(source).read_text()
        if text == "unreadable":
            raise PhotographError(name, "is cut short", "Copy it again.")
        return GradedPhotograph((Finding(name, Status.OK, number=int(text)),))

    def failed(self, name, reason):
        return GradedPhotograph((Finding(name, Status.FAILED, reason),))

    def count(self, rows):
        return {
            "ok": sum(row["status"] == "ok" for row in rows),
            "failed": sum(row["status"] == "failed" for row in rows),
        }

    def open_sinks(self, folder, started, positions, skipped=""):
        return {}


@pytest.fixture
def numbers(tmp_path):
    folder = tmp_path / "numbers"
    folder.mkdir()
    for n in range(5):
        (folder / f"{n}.png").write_text(str(n))
    return folder


def named(folder):
    return walk([str(folder)]).mentions


def rows(out, *without):
    with (out / "results.csv").open(newline="") as file:
        table = [{key: value for key, value in row.items() if key not in without} for row in csv.DictReader(file)]
    blank = [{key: "" if value is None else str(value) for key, value in row.items() if key not in without}
             for row in json.loads((out / "results.json").read_text())["rows"]]  # fmt: skip
    assert table == blank, "both files say the same"
    return table


class StopAfter(NumberGrader):
    """Is stopped, as by Ctrl-C, when it has graded `n` photographs."""

    def __init__(self, n, stop=KeyboardInterrupt, **options):
        super().__init__(**options)
        self.n, self.stop = n, stop

    def grade_one(self, source, name):
        if len(self.graded) == self.n:
            raise self.stop
        return super().grade_one(source, name)


# --- one run


def test_a_grader_that_nobody_knows_needs_nothing_else(numbers, tmp_path, capsys):
    (numbers / "3.png").write_text("no number")
    (numbers / "4.png").write_text("unreadable")
    summary = run(
        NumberGrader(), [*named(numbers), Mention(str(numbers / "missing.png"))], tmp_path / "out", print_json=True
    )
    table = rows(tmp_path / "out")
    assert [row["number"] for row in table] == ["0", "1", "2", "", "", ""]
    assert table[3]["reason"].startswith("the program failed on it (ValueError: invalid literal")
    assert table[4]["reason"] == "is cut short. Copy it again." and "FileNotFoundError" in table[5]["reason"]
    assert summary.counts == {"ok": 3, "failed": 3} and summary.exit_code == 1 and summary.photographs == 6
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == json.loads(
        (tmp_path / "out/results.json").read_text()
    )["rows"]
    manifest = json.loads((tmp_path / "out/run.json").read_text())
    assert manifest["finished"] and manifest["bundle"]["name"] == "numbers" and manifest["counts"]["failed"] == 3
    assert run(NumberGrader(), named(numbers)[:3]).exit_code == 0


def test_each_row_is_in_the_files_before_the_next_photograph_is_begun(numbers, tmp_path):
    class Looking(NumberGrader):
        def grade_one(self, source, name):
            lying.append(len(rows(tmp_path / "out")))
            return super().grade_one(source, name)

    lying = []
    run(Looking(), named(numbers), tmp_path / "out")
    assert lying == [0, 1, 2, 3, 4]


def test_memory_stays_flat(numbers, tmp_path):
    class Large(NumberGrader):
        threads = 2

        def grade_one(self, source, name):
            return GradedPhotograph((Finding(name, Status.OK, number=1),), np.zeros((500, 500, 3), np.uint8))

    few, many = ([Mention(f"{n}.png") for n in range(count)] for count in (60, 1000))
    peaks = []
    for mentions in (few, many):
        tracemalloc.start()
        run(Large(), mentions, tmp_path / str(len(mentions)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] > 750_000 and peaks[1] < 1.3 * peaks[0]


def test_work_is_given_back_in_order_and_little_of_it_is_begun():
    begun = []

    def work(n):
        begun.append(n)
        time.sleep(0.002 * (n % 3))
        return n

    results = map_in_order(work, range(1000), threads=3)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert len(begun) < 30
    results.close()
    assert len(begun) < 30
    assert threading.active_count() < 10


# --- going on


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, MemoryError])
def test_the_same_command_goes_on_where_it_was_stopped(numbers, tmp_path, stop, capsys):
    (numbers / "1.png").write_text("unreadable")
    mentions = [*named(numbers), named(numbers)[0]]
    if stop is MemoryError:  # an error that is no stop is a row
        assert run(StopAfter(2, stop), mentions).counts["failed"] == 5
        return
    with pytest.raises(stop):
        run(StopAfter(3, stop), mentions, tmp_path / "out")
    assert len(rows(tmp_path / "out")) == 3
    grader = NumberGrader()
    summary = run(grader, mentions, tmp_path / "out", print_json=True)
    run(NumberGrader(), mentions, tmp_path / "whole")
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")
    assert (tmp_path / "out/results.csv").read_bytes() == (tmp_path / "whole/results.csv").read_bytes()
    assert (tmp_path / "out/results.json").read_bytes() == (tmp_path / "whole/results.json").read_bytes()
    assert len(grader.graded) == 3 and summary.kept == 3, "none is worked twice"
    assert summary.counts == {"ok": 5, "failed": 1} and summary.exit_code == 1, "kept rows count"
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_what_a_kill_left_behind_is_cut_away(numbers, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(StopAfter(3), named(numbers), out)
    with (out / "results.csv").open("a") as file:
        file.write("half a r")
    with (out / "results.json").open("a") as file:
        file.write(',\n{"file"')
    with (out / ".run/journal.jsonl").open("a") as file:
        file.write('{"rows": [{"fi')
    run(NumberGrader(), named(numbers), out)
    assert [row["number"] for row in rows(out)] == list("01234")


def test_rows_that_somebody_removed_are_made_again(numbers, tmp_path):
    out = tmp_path / "out"
    run(NumberGrader(), named(numbers), out)
    os.truncate(out / "results.csv", (out / "results.csv").stat().st_size - 4)
    run(NumberGrader(), named(numbers), out)
    assert [row["number"] for row in rows(out)] == list("01234")
    (out / "results.json").unlink()
    run(NumberGrader(), named(numbers), out)
    assert [row["number"] for row in rows(out)] == list("01234")


def test_a_finished_run_is_kept(numbers, tmp_path):
    run(NumberGrader(), named(numbers), tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.suffix == ".csv"}
    grader = NumberGrader()
    assert run(grader, named(numbers), tmp_path / "out").kept == 5 and grader.graded == []
    (tmp_path / "others").mkdir()
    others = [Mention(str(tmp_path / "others" / f"{n}.png")) for n in range(5)]
    with pytest.raises(UsageError, match="5 photographs there, others now"):
        run(grader, others, tmp_path / "out")
    assert before == {path: path.read_bytes() for path in before}


def test_a_photograph_that_was_replaced_since_does_not_keep_its_old_answer(numbers, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(StopAfter(3), named(numbers), tmp_path / "out")
    before = rows(tmp_path / "out")
    os.utime(numbers / "4.png", ns=(0, 0))  # was not graded yet
    place = numbers / "1.png"
    known = place.stat()
    place.write_text("7")
    with pytest.raises(UsageError, match=r"changed, replaced or removed since: \S*1\.png\. .*--replace"):
        run(NumberGrader(), named(numbers), tmp_path / "out")
    assert rows(tmp_path / "out") == before
    place.write_text("1")
    os.utime(place, ns=(known.st_atime_ns, known.st_mtime_ns))
    assert run(NumberGrader(), named(numbers), tmp_path / "out").kept == 3
    (numbers / "2.png").write_text("22")
    assert run(NumberGrader(), named(numbers), tmp_path / "out", replace=True).kept == 0


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda: NumberGrader(digest="other"), "bundle numbers of 2026-11-27 there, another of that name and day now"),
        (lambda: NumberGrader(allow_simulated=True), "allow_simulated: None there, True now"),
    ],
)
def test_another_bundle_or_option_does_not_go_on(numbers, tmp_path, other, words):
    with pytest.raises(KeyboardInterrupt):
        run(StopAfter(2), named(numbers), tmp_path / "out")
    with pytest.raises(UsageError, match=words) as error:
        run(other(), named(numbers), tmp_path / "out")
    assert "--replace" in str(error.value) and len(rows(tmp_path / "out")) == 2
    run(other(), named(numbers), tmp_path / "out", replace=True)
    assert len(rows(tmp_path / "out")) == 5


# --- the folder


def test_another_run_is_refused_and_replace_removes_its_own_files_only(numbers, tmp_path):
    out = tmp_path / "out"
    run(NumberGrader(), named(numbers), out)
    (out / "notes.txt").write_text("mine")
    (out / "pictures/mine.jpg").write_text("mine")
    with pytest.raises(UsageError, match="holds another run .5 photographs there, 2 now"):
        run(NumberGrader(), named(numbers)[:2], out)
    assert len(rows(out)) == 5
    run(NumberGrader(), named(numbers)[:2], out, replace=True)
    assert len(rows(out)) == 2
    assert (out / "notes.txt").read_text() == (out / "pictures/mine.jpg").read_text() == "mine"


def test_files_of_unknown_origin_are_never_touched(numbers, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "results.csv").write_text("mine")
    for replace in (False, True):
        with pytest.raises(UsageError, match=r"holds results\.csv, which no run"):
            run(NumberGrader(), named(numbers), out, replace=replace)
    assert [path.name for path in out.iterdir()] == ["results.csv"] and (out / "results.csv").read_text() == "mine"


@pytest.mark.parametrize("place", ["run.json", "pictures/0001_mine.jpg", "pictures"])
def test_nothing_that_a_run_would_overwrite_may_lie_there(numbers, tmp_path, place):
    out = tmp_path / "out"
    if place == "pictures":
        out.mkdir()
        (out / place).symlink_to(numbers)
    else:
        (out / place).parent.mkdir(parents=True)
        (out / place).write_text("{}")
    with pytest.raises(UsageError, match=f"holds {place}, which no run"):
        run(NumberGrader(), [Mention("a.png")], out)
    assert not (out / ".run").exists()


def test_replace_spares_files_of_others_under_names_of_the_new_run(numbers, tmp_path):
    class WithTable(NumberGrader):
        files = ("eyes.csv",)

    out = tmp_path / "out"
    run(NumberGrader(), named(numbers), out)
    (out / "eyes.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"holds eyes\.csv, which no run"):
        run(WithTable(), named(numbers), out, replace=True)
    assert (out / "eyes.csv").read_text() == "mine" and len(rows(out)) == 5


def test_a_manifest_that_was_tampered_with_removes_nothing_elsewhere(numbers, tmp_path):
    out = tmp_path / "out"
    run(NumberGrader(), named(numbers), out)
    manifest = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**manifest, "files": ["../numbers/1.png", *manifest["files"]]}))
    run(NumberGrader(), named(numbers)[:2], out, replace=True)
    assert (numbers / "1.png").read_text() == "1"


def test_a_folder_with_other_files_may_take_a_run(numbers):
    run(NumberGrader(), named(numbers), numbers)
    assert len(rows(numbers)) == 5 and len(named(numbers)) == 5
    assert run(NumberGrader(), named(numbers), numbers).kept == 5


def test_an_answer_never_overwrites_a_photograph(numbers, tmp_path):
    out = tmp_path / "out"
    (out / "pictures").mkdir(parents=True)
    photograph = out / "pictures" / "0001_a.png"
    photograph.write_text("7")
    link = tmp_path / "link.png"
    link.symlink_to(photograph)
    (tmp_path / "out-link").symlink_to(out)
    table = out / "results.csv"
    for mention, folder in (
        (Mention(str(photograph)), out),
        (Mention(str(link)), out),
        (Mention(str(photograph)), tmp_path / "out-link"),
        (Mention("7.png", location=numbers / "1.png", table=table), out),
    ):
        for replace in (False, True):
            with pytest.raises(UsageError, match="would be overwritten"):
                run(NumberGrader(), [mention], folder, replace=replace)
    assert photograph.read_text() == "7" and sorted(path.name for path in out.iterdir()) == ["pictures"]


def test_two_runs_never_write_into_one_folder(numbers, tmp_path):
    script = (
        "import sys, time; from test_runs import *\n"
        "class Slow(NumberGrader):\n"
        "    def grade_one(self, source, name):\n"
        "        print('begun', flush=True); sys.stdin.readline(); return super().grade_one(source, name)\n"
        f"run(Slow(), named({str(numbers)!r}), Path({str(tmp_path / 'out')!r}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}
    first = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert first.stdout.readline() == "begun\n"
    for replace in (False, True):
        with pytest.raises(UsageError, match="another run is writing into it"):
            run(NumberGrader(), named(numbers), tmp_path / "out", replace=replace)
    first.kill()  # the lock goes with the process
    first.communicate()
    assert run(NumberGrader(), named(numbers), tmp_path / "out").counts["ok"] == 5


# --- what cannot be written


def test_a_full_disk_is_an_output_error_and_the_run_goes_on_later(numbers, tmp_path):
    out = tmp_path / "out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(OutputError, match="cannot be written") as error:
            run(NumberGrader(), 20 * named(numbers), out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.exit_code == 4
    summary = run(NumberGrader(), 20 * named(numbers), out)
    assert summary.kept > 0 and [row["number"] for row in rows(out)] == 20 * list("01234")


def test_a_folder_that_cannot_be_made_is_told(numbers, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(UsageError, match="cannot be made a folder"):
            run(NumberGrader(), named(numbers), out)


# --- the graders themselves


def page_of(path, skipped):
    """A page of any grader, with what was skipped when photographs were looked for."""
    from fundoscope.reports.streamed import StreamedReport

    class Empty(StreamedReport):
        def _summary(self, state):
            return b""

        def _foot(self):
            return b""

    with Empty(path, b"<main>", b"", skipped=skipped):
        pass
    return path.read_text()


@pytest.fixture(scope="module")
def photographs(eyes, tmp_path_factory):
    """By command: the grader, and good photographs for it."""
    folder = tmp_path_factory.mktemp("photographs")
    grown = adult(3, camera="drive", level="perfect", grade=0, size=300)
    cv2.imwrite(str(folder / "adult.png"), grown.pixels[..., ::-1])
    for number, crossing in enumerate(grown.truth.crossings[:2]):
        cv2.imwrite(str(folder / f"patch {number}.png"), crossing_patch(grown.pixels, crossing)[..., ::-1])
    rop, nicking = fundoscope.load("rop"), fundoscope.load("nicking")
    return {
        "rop screen": (rop, eyes[:2]),
        "nicking grade": (nicking, [folder / "adult.png"]),
        "nicking grade-patches": (PatchGrader(nicking), sorted(folder.glob("patch*.png"))),
    }


COMMANDS = ("rop screen", "nicking grade", "nicking grade-patches")


def mentions_of(good, broken, times=1):
    return [Mention(str(path)) for path in times * [*good, broken, *good]]


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"no picture")
    return path


def page(out):
    return Page((out / "report.html").read_text(encoding="utf-8"))


def pictures(out):
    return {path.name: path.read_bytes() for path in (out / "pictures").iterdir()}


def parts(shown):
    return [attrs["id"] for _, attrs in shown.tags if (attrs.get("id") or "").startswith(("photograph-", "patch-"))]


class Stopping:
    """A grader that is stopped after `n` photographs; in all else the one it stands for."""

    def __init__(self, grader, n):
        self.grader, self.n, self.threads = grader, n, 1

    def __getattr__(self, name):
        return getattr(self.grader, name)

    def grade_one(self, source, name):
        self.n -= 1
        if self.n < 0:
            raise KeyboardInterrupt
        return self.grader.grade_one(source, name)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_grader_goes_on_with_rows_pictures_and_page(photographs, broken, tmp_path, command, capsys):
    grader, good = photographs[command]
    mentions = mentions_of(good, broken)
    with pytest.raises(KeyboardInterrupt):
        run(Stopping(grader, len(good) + 1), mentions, tmp_path / "out")
    half = page(tmp_path / "out")
    assert len(parts(half)) == len(good) + 1 and half.open == []
    assert f"stopped after {len(good) + 1} " in half.text(".alarm") and "same command goes on" in half.text(".alarm")
    summary = run(grader, mentions, tmp_path / "out", print_json=True)
    assert summary.kept == len(good) + 1 and summary.exit_code == 1
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (
        printed == json.loads((tmp_path / "out/results.json").read_text())["rows"]
        and tuple(printed[0]) == grader.columns
    )
    expected = run(grader, mentions, tmp_path / "whole")
    assert summary.counts == expected.counts
    assert rows(tmp_path / "out", "seconds") == rows(tmp_path / "whole", "seconds")
    assert [row["status"] for row in rows(tmp_path / "out")].count("failed") == 1
    assert pictures(tmp_path / "out") == pictures(tmp_path / "whole") and pictures(tmp_path / "out")
    whole, ours = page(tmp_path / "whole"), page(tmp_path / "out")
    assert parts(ours) == parts(whole) and ours.open == [] and len(parts(ours)) == len(mentions)
    for key in (".tiles", "footer"):
        assert ours.text(key) == whole.text(key) and ours.text(key)
    assert "Not finished" not in ours.text()


@pytest.mark.parametrize("command", ["rop screen", "nicking grade-patches"])
def test_replace_leaves_nothing_of_the_run_that_lay_there(photographs, broken, tmp_path, command):
    grader, good = photographs[command]
    with pytest.raises(KeyboardInterrupt):
        run(Stopping(grader, 1), mentions_of(good, broken), tmp_path / "out")
    (tmp_path / "out/pictures/0002_begun.jpg").touch()  # of a photograph at which a kill came
    run(grader, [Mention(str(broken))], tmp_path / "out", replace=True)
    assert pictures(tmp_path / "out") == {} and parts(page(tmp_path / "out")) and len(rows(tmp_path / "out")) == 1


def test_a_killed_command_goes_on_when_it_is_given_again(photographs, broken, tmp_path):
    grader, good = photographs["rop screen"]
    listed = tmp_path / "list.txt"
    mentions = mentions_of(good, broken, times=8)
    listed.write_text("\n".join(mention.path for mention in mentions))
    out = tmp_path / "out"
    call = [sys.executable, "-m", "fundoscope.cli.main", "rop", "screen", "-", "--out", str(out)]
    with listed.open() as file:
        killed = subprocess.Popen(call, stdin=file, stderr=subprocess.DEVNULL)
    while len(list(Journal(out / ".run").entries())) < 4 and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    done = len(list(Journal(out / ".run").entries()))
    assert 4 <= done < len(mentions), "killed in the middle"
    with listed.open() as file:
        again = subprocess.run(call, stdin=file, capture_output=True, text=True)
    assert again.returncode == 1 and "kept from an earlier run: " in again.stderr, again.stderr
    run(grader, mentions, tmp_path / "whole")
    assert rows(out, "seconds") == rows(tmp_path / "whole", "seconds")
    assert pictures(out) == pictures(tmp_path / "whole")
    assert parts(page(out)) == parts(page(tmp_path / "whole")) and page(out).open == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_finishes_its_files(photographs, tmp_path, number):
    _, good = photographs["rop screen"]
    out = tmp_path / "out"
    call = [sys.executable, "-m", "fundoscope.cli.main", "rop", "screen", *map(str, 100 * good), "--out", str(out)]
    stopped = subprocess.Popen(call, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c)
    while len(list(Journal(out / ".run").entries())) < 2 and stopped.poll() is None:
        time.sleep(0.01)
    stopped.send_signal(number)
    _, said = stopped.communicate()
    assert stopped.returncode == 128 + number and "the same command goes on" in said and "Traceback" not in said
    done = len(rows(out))
    assert 2 <= done < 200 and len(parts(page(out))) == done and f"stopped after {done} " in page(out).text(".alarm")
    assert "\x1b" not in said and "\r" not in said, "no control characters without a terminal"


def test_eyes_of_a_cohort_are_the_same_after_going_on(eyes, tmp_path):
    table = tmp_path / "c.csv"
    lines = [f"{path},7,{eye}\n" for path, eye in zip(eyes[:3], ("left", "left", ""), strict=True)]
    table.write_text("image,infant,eye\n" + "".join(lines))
    mentions, grader = walk([str(table)]).mentions, fundoscope.load("rop")
    with pytest.raises(KeyboardInterrupt):
        run(Stopping(grader, 1), mentions, tmp_path / "out")
    assert (tmp_path / "out/eyes.csv").read_text().count("\n") == 2
    for out in ("out", "whole"):
        run(grader, mentions, tmp_path / out)
    assert (tmp_path / "out/eyes.csv").read_bytes() == (tmp_path / "whole/eyes.csv").read_bytes()
    assert page(tmp_path / "out").text(".eyes") == page(tmp_path / "whole").text(".eyes") != ""


def test_screening_many_arrays_keeps_no_pictures(eyes):
    grader = fundoscope.load("rop")
    array = cv2.imread(str(eyes[0]))[..., ::-1]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    findings = grader.screen(array.copy() for _ in range(40))
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(findings) == 40 and held < array.nbytes


def test_remarks_are_told_apart():
    assert join_remarks("too little of the vein is clear", "", "red and blue look exchanged") == (
        "too little of the vein is clear; red and blue look exchanged"
    )
    assert join_remarks("is too small. Export it larger.", "a second picture was left out") == (
        "is too small. Export it larger. a second picture was left out"
    )
    assert join_remarks("", "") == ""
