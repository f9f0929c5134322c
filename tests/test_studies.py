import json

import pytest

from fundoscope.errors import StudyError
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
