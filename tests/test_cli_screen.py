import contextlib
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import fundoscope
from fundoscope.cli import main
from fundoscope.cli.console import Console
from fundoscope.errors import UsageError
from fundoscope.findings import ROP_COLUMNS


def run(*args, stdin=""):
    """The command, in this process: its exit code, standard output and standard error."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patched.setattr("sys.argv", ["fundoscope", *map(str, args)])
        patched.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as left:
            main.run()
    out.flush()
    printed = out.buffer.getvalue().decode("utf-8", "surrogateescape")
    return SimpleNamespace(returncode=left.value.code or 0, stdout=printed, stderr=err.getvalue())


def hear_ctrl_c():
    """In a child, before it runs: Ctrl-C is heard. A shell that starts the tests behind itself has it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def screened(eyes, tiny_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("screen")
    broken = folder / "broken.png"
    broken.write_bytes(eyes[0].read_bytes()[:5000])
    blank = folder / "blank.bmp"
    import cv2

    cv2.imwrite(str(blank), np.full((400, 400, 3), 255, np.uint8))
    given = [eyes[0], broken, folder / "missing.png", blank, eyes[1], eyes[0]]
    done = run("rop", "screen", *given, "--bundle", tiny_bundle, "--out", folder / "out", "--json")
    return done, given, folder / "out"


def test_every_mention_has_its_row_in_order(screened):
    done, given, out = screened
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert tuple(rows[0]) == ROP_COLUMNS
    assert [row["file"] for row in rows] == [str(path) for path in given]
    assert [row["status"] for row in rows] == ["ok", "failed", "failed", "rejected", "ok", "ok"]
    assert rows[0]["p_rop"] == rows[5]["p_rop"] and rows[0]["rop"] in ("yes", "no")
    assert all(bool(row["reason"]) == (row["status"] != "ok") for row in rows)
    assert all(row["p_tr"] == row["treatment_requiring"] == "" for row in rows)
    assert done.returncode == 1


def test_json_says_the_same_and_blank_is_null(screened):
    done, _, out = screened
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines == json.loads((out / "results.json").read_text())["rows"]
    assert lines[1]["p_rop"] is None and lines[0]["status"] == "ok"


def test_report_and_pictures(screened):
    _, _, out = screened
    page = (out / "report.html").read_text()
    assert "research use only" in page.lower() and "http://" not in page and "https://" not in page
    names = sorted(path.name for path in (out / "pictures").iterdir())
    assert any(name.startswith("0001_eye_0") for name in names) and any(name.startswith("0006_eye_0") for name in names)
    assert not any(name.startswith("0002") for name in names)


def test_all_read_is_exit_0_and_a_list_comes_on_standard_input(eyes, tiny_bundle):
    done = run("rop", "screen", "-", "--bundle", tiny_bundle, "--json", stdin=f"{eyes[0]}\n{eyes[1]}\n")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 2 and done.stderr == ""


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["{eye}"], 2, "--out DIR, --json"),
        (["{folder}/none*.png", "--json"], 2, "no file matches"),
        (["{eye}", "--json", "--bundle", "/nowhere"], 3, "/nowhere is no bundle"),
        (["{eye}", "--json", "--bundel", "x"], 2, "--bundle"),
        (["{eye}", "--out", "{eye}"], 2, "cannot be made a folder"),
        (["{eye}", "--out", ""], 2, "--out: is empty"),
        (["{eye}", "--out="], 2, "--out: is empty"),
        (["{eye}", "--json", "--replace"], 2, "name that folder"),
        (["{eye}", "--json", "--bundle", "rpo"], 3, "did you mean 'rop'"),
    ],
)
def test_wrong_calls_say_what_to_do(eyes, tiny_bundle, args, code, told):
    args = [arg.format(eye=eyes[0], folder=eyes[0].parent) for arg in args]
    if "--bundle" not in args:
        args += ["--bundle", tiny_bundle]
    done = run("rop", "screen", *args)
    assert done.returncode == code and told in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_another_run_in_the_folder_is_exit_2_and_replace_begins_anew(eyes, tiny_bundle, tmp_path):
    call = ["rop", "screen", eyes[0], "--bundle", tiny_bundle, "--out", tmp_path / "out"]
    assert run(*call).returncode == 0
    again = run(*call)
    assert again.returncode == 0 and "kept from an earlier run: 1 photograph" in again.stderr
    other = run(*call, "--allow-simulated")
    assert other.returncode == 2 and "allow_simulated: False there, True now" in other.stderr
    assert run(*call, "--allow-simulated", "--replace").returncode == 0
    mixed = run("nicking", "grade", eyes[0], "--out", tmp_path / "out")
    assert mixed.returncode == 2 and "of 'rop screen', and this is 'nicking grade'" in mixed.stderr


@pytest.mark.parametrize(("reader", "message"), [("full", "No space left"), ("left", "")])
def test_answers_that_cannot_be_written_are_exit_4(eyes, tiny_bundle, reader, message):
    command = [sys.executable, "-m", "fundoscope.cli.main", "rop", "screen", *map(str, 4 * eyes), "--json"]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.Popen(
            [*command, "--bundle", str(tiny_bundle)], stdout=full if reader == "full" else subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        if reader == "left":
            done.stdout.readline()
            done.stdout.close()
        said = done.stderr.read()
    assert done.wait() == 4 and message in said and "Traceback" not in said and "Exception ignored" not in said
    assert message or said == ""


def test_ctrl_c_ends_any_command_with_130(monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fundoscope.bundles.find_bundles", stop)
    done = run("doctor")
    assert done.returncode == 130 and done.stderr == "stopped\n"


def test_without_a_terminal_progress_is_a_plain_line_now_and_then(monkeypatch, capsys):
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr("fundoscope.cli.console.time.monotonic", lambda: next(clock))
    assert list(Console().follow(range(8), 8, "photographs")) == list(range(8))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "photographs: 3 of 8 after 12 s, about 20 s left" and len(lines) == 2
    assert list(Console(quiet=True).follow(range(3), 3, "photographs")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_cohort_gives_a_row_an_eye(eyes, tiny_bundle, tmp_path):
    table = "image,infant,eye\n" + "".join(
        f"{path},7,{eye}\n" for path, eye in zip(eyes[:3], ("left", "left", ""), strict=True)
    )
    (tmp_path / "c.csv").write_text(table)
    done = run("rop", "screen", tmp_path / "c.csv", "--bundle", tiny_bundle, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "out" / "eyes.csv").open()))
    assert [(row["eye"], row["views"]) for row in rows] == [("left", "2"), ("", "1")]
    assert "laterality missing" in rows[1]["flag"]


def test_a_tampered_bundle_is_exit_3(eyes, tiny_bundle, tmp_path):
    copy = tmp_path / "b"
    shutil.copytree(tiny_bundle, copy)
    with (copy / "model.int8.onnx").open("ab") as file:
        file.write(b"x")
    done = run("rop", "screen", eyes[0], "--json", "--bundle", copy)
    assert done.returncode == 3 and "model.int8.onnx" in done.stderr


def test_from_python_paths_arrays_and_bytes_agree(eyes, tiny_bundle):
    from fundoscope.imaging import read

    grader = fundoscope.load("rop", tiny_bundle)
    findings = grader.screen([eyes[0], read(eyes[0]).pixels, eyes[0].read_bytes(), "missing.png"])
    assert [finding.status for finding in findings] == ["ok", "ok", "ok", "failed"]
    assert len({finding.p_rop for finding in findings[:3]}) == 1
    assert grader.screen(eyes[0])[0].p_rop == findings[0].p_rop
    (graded,) = grader.screen_with_evidence([eyes[0]])
    margin = np.log(findings[0].p_rop / (1 - findings[0].p_rop))
    assert graded.evidence.activation.mean() == pytest.approx(margin, abs=1e-3)


def test_an_unknown_task_names_the_known_one():
    with pytest.raises(UsageError, match="rop"):
        fundoscope.load("ropp")


def test_doctor_speaks():
    done = run("doctor")
    assert "onnxruntime" in done.stdout and "bundle" in done.stdout and done.returncode in (0, 3)


def test_the_package_is_the_command(eyes):
    told = subprocess.run([sys.executable, "-m", "fundoscope", "--version"], capture_output=True, text=True)
    assert told.returncode == 0 and told.stdout.startswith("fundoscope ")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not remove a folder that is in use")
def test_a_removed_folder_to_stand_in_is_told(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    call = f"import os; os.rmdir({str(gone)!r}); import sys; sys.argv[1:] = ['rop', 'screen', {str(tmp_path)!r}, "
    call += "'--out', 'report']; from fundoscope.cli.main import run; run()"
    (tmp_path / "a.png").write_bytes(b"")
    told = subprocess.run([sys.executable, "-c", call], cwd=gone, capture_output=True, text=True)
    assert told.returncode == 2 and "the folder that you stand in was removed" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_named_pipe_is_a_row_and_does_not_stop_the_run(eyes, tiny_bundle, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    done = run("rop", "screen", tmp_path / "pipe.png", "--json", "--bundle", tiny_bundle)
    assert json.loads(done.stdout)["reason"].startswith("is not a regular file") and done.returncode == 1


@pytest.mark.parametrize("low", [0.41, 0.9])
def test_a_bundle_worth_nothing_says_so_everywhere(eyes, tiny_bundle, tmp_path, low):
    """No better than chance on its own folds: terminal, every graded row, page, table of eyes, card; else nowhere."""
    from fundoscope.bundles.card import CardFigure
    from fundoscope.bundles.folder import rewrite_card

    bundle, out = tmp_path / "bundle", tmp_path / "out"
    shutil.copytree(tiny_bundle, bundle)
    auc = CardFigure(name="auc", value=0.95, low=low, high=0.99, n=90, on="90 photographs, out of fold")
    rewrite_card(bundle, {"figures": (auc,)})
    table = tmp_path / "cohort.csv"
    table.write_text(f"image,label,infant,eye\n{eyes[0]},,7,left\n{eyes[1]},,7,right\n")
    done = run("rop", "screen", table, "--bundle", bundle, "--out", out)
    said = [
        done.stderr, (out / "report.html").read_text(), (bundle / "card.md").read_text(), (out / "eyes.csv").read_text(),
        *(row["reason"] for row in csv.DictReader((out / "results.csv").open())),
    ]  # fmt: skip
    assert done.returncode == 0 and len(said) == 6
    assert ["no better than chance on its own folds" in text for text in said] == [low < 0.5] * 6
    head = said[1].partition("</header>")[0]  # before any photograph
    assert ("WARNING.</strong> This grader is no better than chance" in head) == (low < 0.5)


def test_a_missing_photograph_alone_is_a_row_and_a_mistyped_folder_is_not(eyes, tiny_bundle):
    done = run("rop", "screen", "nowhere/missing.png", "--json", "--bundle", tiny_bundle)
    assert json.loads(done.stdout)["status"] == "failed" and done.returncode == 1
    done = run("rop", "screen", "nowhere/photographs", "--json", "--bundle", tiny_bundle)
    assert done.stdout == "" and done.returncode == 2 and "no such file or folder" in done.stderr
