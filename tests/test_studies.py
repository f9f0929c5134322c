import json
import subprocess
import sys

import pytest
from test_outputs import small_files

from fundoscope.errors import OutputError, StudyError, UsageError
from fundoscope.studies import Study, command

MANIFEST = {"recipe": "tiny", "seeds": 1, "commands": ["a"], "versions": {"torch": "1"}}


def test_a_step_is_done_only_when_its_block_ends(tmp_path):
    study = Study.open(tmp_path / "s", MANIFEST)
    with pytest.raises(RuntimeError), study.step("fits/a") as folder:
        (folder / "half").write_text("1")
        raise RuntimeError
    assert not study.done("fits/a")
    with study.step("fits/a") as folder:
        assert (folder / "half").read_text() == "1"  # what was there is there again
    assert study.done("fits/a")
    assert (study.result("fits/a") / "half").exists()


def test_the_same_study_goes_on_and_remembers_its_commands(tmp_path):
    Study.open(tmp_path / "s", MANIFEST)
    later = {**MANIFEST, "commands": ["b"], "versions": {"torch": "2"}}
    assert Study.open(tmp_path / "s", later).manifest["commands"] == ["a", "b"]


def test_another_study_in_the_folder_is_refused_by_what_differs(tmp_path):
    Study.open(tmp_path / "s", MANIFEST)
    with pytest.raises(StudyError, match=r"seeds: 1 there, 2 now"):
        Study.open(tmp_path / "s", {**MANIFEST, "seeds": 2})


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(StudyError, match="holds files but no study"):
        Study.open(tmp_path, MANIFEST)
    assert (tmp_path / "x").read_text() == "mine"


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_broken_manifest_is_refused(tmp_path, text):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(StudyError, match="study.json"):
        Study.open(tmp_path, MANIFEST)


def test_an_unfinished_step_has_no_result(tmp_path):
    study = Study.open(tmp_path / "s", MANIFEST)
    with pytest.raises(StudyError, match="the step 'x' is not done"):
        study.result("x")
    assert json.loads((tmp_path / "s" / "study.json").read_text())["recipe"] == "tiny"


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["/usr/bin/fundoscope", "rop", "study", "my cohort.csv"], "fundoscope rop study 'my cohort.csv'"),
        (["/x/fundoscope/cli/main.py", "doctor"], "fundoscope doctor"),
        (["benchmarks/weights_rop.py", "--seeds", "2"], "python benchmarks/weights_rop.py --seeds 2"),
    ],
)
def test_a_command_is_told_as_it_would_be_typed_again(monkeypatch, argv, told):
    monkeypatch.setattr("sys.argv", argv)
    assert command() == told


def test_two_studies_never_write_into_one_folder(tmp_path):
    script = (
        "import sys; from pathlib import Path; from fundoscope.studies import Study\n"
        f"Study.open(Path(sys.argv[1]), {MANIFEST!r})\n"
        "print('open', flush=True); sys.stdin.readline()\n"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "s")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout.readline() == "open\n"
    with pytest.raises(UsageError, match="another run is writing into it"):
        Study.open(tmp_path / "s", MANIFEST)
    first.kill()  # the lock goes with the process
    first.communicate()
    assert Study.open(tmp_path / "s", MANIFEST).manifest["commands"] == ["a"]
    assert Study.open(tmp_path / "s", MANIFEST).folder == tmp_path / "s", "one process may open it again"


def test_nothing_that_a_study_reads_lies_in_its_folder(tmp_path):
    out = Study.open(tmp_path / "s", MANIFEST).folder
    (out / "a.png").write_text("mine")
    (tmp_path / "link").symlink_to(out)
    for place in (out / "a.png", tmp_path / "link" / "a.png", out):
        with pytest.raises(UsageError, match="would be overwritten"):
            Study.open(out, MANIFEST, [place])
    Study.open(out, MANIFEST, [tmp_path / "b.png"])


def test_a_study_on_a_full_disk_keeps_its_manifest(tmp_path):
    before = (Study.open(tmp_path / "s", MANIFEST).folder / "study.json").read_bytes()
    with small_files(10), pytest.raises(OutputError, match="cannot be written"):
        Study.open(tmp_path / "s", MANIFEST)
    assert (tmp_path / "s" / "study.json").read_bytes() == before
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made a folder"):
        Study.open(tmp_path / "file", MANIFEST)
