"""The command line as a whole: exit codes, errors in words, signals, pipes, and what is said without a terminal."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from test_cli_screen import hear_ctrl_c, run
from test_outputs import small_files

import fundoscope
from fundoscope.cli import console, main
from fundoscope.cli.main import leaf_commands, places_of
from fundoscope.errors import OutputError, UsageError, counted, in_time, list_names, nearest, printable
from fundoscope.findings import Mention
from fundoscope.outputs import cannot_write
from fundoscope.runs import walk
from fundoscope.runs.sinks import CsvTable, JsonLines

PACKAGE = Path(fundoscope.__file__).parent
COMMAND = (sys.executable, "-m", "fundoscope.cli.main")


# --- exit codes


def exit_code_calls(tmp_path, eyes):
    """A call for each exit code but 4, by the code."""
    for label, names in (("normal", eyes[:2]), ("rop", eyes[1:2])):  # the second photograph has both labels
        (tmp_path / "photographs" / label).mkdir(parents=True)
        for path in names:
            (tmp_path / "photographs" / label / path.name).write_bytes(path.read_bytes())
    return [
        (0, ["cohort", "from-folders", tmp_path / "photographs", "--out", tmp_path / "c.csv"], str(tmp_path / "c.csv")),
        (1, ["cohort", "audit", tmp_path / "c.csv"], "eye 1.png"),
        (2, ["cohort", "audit", tmp_path / "missing.csv"], "missing.csv"),
        (3, ["bundle", "verify", tmp_path], str(tmp_path)),
    ]


def test_exit_codes_0_to_3(tmp_path, eyes):
    for code, call, words in exit_code_calls(tmp_path, eyes):
        done = run(*call)
        assert done.returncode == code, f"{call}: {done.stderr}"
        assert words in done.stdout + done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("reader", ["full", "left"])
def test_an_output_that_takes_nothing_is_exit_4(reader):
    """Of any command, not only of those that print rows: `bundle show | head -0`, and a full disk."""
    if reader == "full":
        taker = os.open("/dev/full", os.O_WRONLY)
    else:
        end, taker = os.pipe()
        os.close(end)
    done = subprocess.run([*COMMAND, "bundle", "show"], stdout=taker, stderr=subprocess.PIPE, text=True)
    os.close(taker)
    assert done.returncode == 4 and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert ("No space left" in done.stderr) if reader == "full" else done.stderr == ""


# --- errors that nobody foresaw


def test_an_unforeseen_error_is_a_line_and_with_debug_a_traceback(monkeypatch):
    def fail():
        raise ZeroDivisionError("by\nnought")

    monkeypatch.setattr("fundoscope.bundles.find_bundles", fail)
    done = run("bundle", "show")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert "ZeroDivisionError: by\\nnought" in done.stderr and "fundoscope --debug" in done.stderr
    assert "Traceback" in run("--debug", "bundle", "show").stderr


def test_an_error_in_another_thread_is_a_line_too(monkeypatch):
    def fail():
        threading.Thread(target=lambda: 1 / 0).start()
        while threading.active_count() > before:
            time.sleep(0.01)
        return {}

    before = threading.active_count()
    monkeypatch.setattr("fundoscope.bundles.find_bundles", fail)
    for words, shown in (([], False), (["--debug"], True)):
        hook = threading.excepthook
        done = run(*words, "doctor")
        assert ("Traceback" in done.stderr) == shown and (shown or "ZeroDivisionError" in done.stderr)
        assert threading.excepthook is hook


def test_packages_that_do_not_name_the_error_of_the_system_are_understood(tmp_path):
    with small_files(100), pytest.raises(OSError, match=r".") as numpy_error:
        np.save(tmp_path / "a.npy", np.zeros(1000))
    assert cannot_write(numpy_error.value)
    torch = pytest.importorskip("torch")
    with small_files(100), pytest.raises((RuntimeError, OSError)) as torch_error:
        torch.save(torch.zeros(1000), tmp_path / "a.pt")
    assert cannot_write(torch_error.value)
    assert not cannot_write(RuntimeError("shapes differ")) and not cannot_write(FileNotFoundError(2, "none"))


# --- stopped


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_running(number):
    try:
        return open(f"/proc/{number}/stat").read().rpartition(")")[2].split()[0] != "Z"  # noqa: PTH123
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_simulation_leaves_no_half_set_and_no_process(tmp_path, number):
    out = tmp_path / "eyes"
    call = [*COMMAND, "simulate", "infants", "500", "--workers", "2", "--size", "96", "--out", str(out)]
    child = subprocess.Popen(call, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=hear_ctrl_c)
    wait_for(lambda: list(out.glob(".part/images/*.jpg")) or child.poll() is not None)
    workers = [int(n) for n in open(f"/proc/{child.pid}/task/{child.pid}/children").read().split()]  # noqa: PTH123, SIM115
    assert len(workers) >= 2
    if number == signal.SIGINT:  # Ctrl-C goes to all of them
        os.killpg(child.pid, number)
    else:
        child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert child.returncode == {2: 130, 9: -9}[number] and "Traceback" not in said, said
    wait_for(lambda: not any(map(is_running, workers)))
    if number != signal.SIGKILL:
        assert not out.exists()
        return
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == []
    done = run("simulate", "infants", "1", "--size", "96", "--out", out)  # a killed one does not stand in the way
    assert done.returncode == 0 and not (out / ".part").exists()


# --- words


def test_every_empty_name_is_refused():
    for name, command in leaf_commands().items():
        for place, options in places_of(command).items():
            for option in options:
                for words in ([option, ""], [f"{option}="], [option, "  "]):
                    done = run(*name.split(), *words)
                    assert done.returncode == 2 and f"{option}: is empty" in done.stderr, (name, place, done.stderr)
            if not options:
                assert "is empty" in run(*name.split(), "").stderr, (name, place)


def test_what_does_not_exist_is_a_wrong_call_only_where_nothing_else_is_named(tmp_path, eyes):
    (tmp_path / "photos").mkdir()
    done = run("rop", "screen", tmp_path / "photoss", "--out", tmp_path / "out")
    assert done.returncode == 2 and "no such file or folder" in done.stderr and "Did you mean" in done.stderr
    assert not (tmp_path / "out").exists()
    assert len(walk([str(tmp_path / "photoss"), str(eyes[0])]).mentions) == 2, "beside others it is a row"


def test_closed_standard_streams_are_told(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="standard input is closed"):
        walk(["-"])
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(OutputError, match="standard output: cannot be written"):
        JsonLines().add(1, Mention("a"), None, [{"file": "a"}])


def test_an_answer_to_a_closed_output_is_exit_4(monkeypatch, capsys):
    for words, code in ((["bundle", "show"], 4), (["cohort", "audit", "missing.csv"], 2)):
        with monkeypatch.context() as patched:
            patched.setattr("sys.argv", ["fundoscope", *words])
            patched.setattr("sys.stdout", None)
            with pytest.raises(SystemExit) as left:
                main.run()
        assert left.value.code == code and "Traceback" not in capsys.readouterr().err


def test_numbers_and_names_in_words():
    assert [counted(n, noun) for n, noun in ((1, "patch"), (2, "patch"), (0, "eye"), (2, "folder of simulated eyes"))] == [
        "1 patch", "2 patches", "0 eyes", "2 folders of simulated eyes",
    ]  # fmt: skip
    assert [in_time(s) for s in (0.4, 59, 61, 3000, 9000)] == ["less than a minute"] * 2 + [
        "1 minute",
        "50 minutes",
        "2.5 hours",
    ]
    assert (
        nearest("x", ["rop"]) == "there is only rop." and nearest("x", ["rop", "nicking"]) == "there are nicking, rop."
    )
    assert list_names(list("abcdefg"), 2) == "a, b and 5 more" and list_names(["a"]) == "a"
    assert printable("a\n\x1b[31mb\u202e") == "a\\n\\x1b[31mb\\u202e"


# --- what cannot be written


def test_a_table_of_which_nothing_could_be_written_is_no_empty_file(tmp_path):
    with small_files(0), pytest.raises(OutputError):
        CsvTable(tmp_path / "results.csv", ("file", "status"))
    assert list(tmp_path.iterdir()) == []


# --- no terminal


def test_a_line_comes_every_ten_seconds_even_while_one_piece_of_work_lasts(monkeypatch, capsys):
    monkeypatch.setattr(console, "_SECONDS_BETWEEN_LINES", 0.01)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as some CI systems do
    said = console.Console()
    with said.stages() as report:
        report("photographs", 0, 2)
        time.sleep(1.2)
    text = capsys.readouterr().err
    assert re.search(r"^photographs: 0 of 2 after \d+ s$", text, re.MULTILINE), text
    assert "\x1b" not in text and "\r" not in text
    wait_for(lambda: not any(thread.name == "progress" for thread in threading.enumerate()))


#: What is counted in messages: behind a number that may be 1 it stands as `counted(n, "photograph")`.
NOUNS = "photographs|patches|problems|pairs|groups|seeds|epochs|files|eyes|infants|minutes|rows|networks"
#: Files whose messages count what is never one, or which run no command.
PLURAL_ONLY = (
    "evaluation/",
    "quality_",
    "write_nicking.py",
    "nicked_patches.py",
    "reports/checklist.py",
    "cohort/folds.py",
)


def test_one_of_a_thing_is_never_told_in_the_plural():
    """`1 problems`: a message that counts says so through `counted` or `ngettext`, unless it says how many of how many."""
    counts = re.compile(r"(?<!of )(?<!of \{)\{(?:len\(|n\b|count\b|total\b)[^{}]*\} (?:" + NOUNS + r")\b")
    both = re.compile(r"\{n\} (\w+)[^\"]*\", \"[^\"]*\{n\} \1e?s\b")  # what `ngettext` chooses from
    guilty = [
        f"{path.relative_to(PACKAGE)}:{number}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if not any(part in path.as_posix() for part in PLURAL_ONLY)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if counts.search(line) and not both.search(line)
    ]
    assert guilty == []
    assert [counted(n, noun) for n, noun in ((1, "patch"), (2, "patch"), (3, "epoch"))] == [
        "1 patch",
        "2 patches",
        "3 epochs",
    ]
