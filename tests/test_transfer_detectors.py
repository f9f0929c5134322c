import json
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
import layouts
from crosses import tiny_body
from safetensors.torch import load_file

from fundoscope.bundles.read_nicking import open_nicking_bundle
from fundoscope.datasets import open_dataset
from fundoscope.errors import UsageError
from fundoscope.networks import mask_rcnn, nick_grader
from fundoscope.networks.nick_grader import GraderOptions, NickGrader
from fundoscope.nicking.crossing_study import packed_sets, transfer_detectors
from fundoscope.nicking.crossing_study.transfer_detectors import sets_without
from fundoscope.nicking.grade_study.transfer import Upstream

EYE = {"01": layouts.eyes()["01"]}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The packed copies of three sets of one eye each, beside what they were packed from."""
    data, out = (tmp_path_factory.mktemp(name) for name in ("data", "packed"))
    layouts.rite(data / "drive_av", EYE, part="training")
    layouts.junctions(data / "iostar", EYE)
    layouts.les_av_short(data / "les_av", EYE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_sets, "_LARGE", 570)  # the eye of LES-AV is to become a JPEG; DRIVE's is 584 high
        patch.setattr(sys, "argv", ["packed_sets", "--data", str(data), "--out", str(out)])
        packed_sets.main()
    return data, out


def test_packed_sets_keep_names_and_truth_and_open_as_they_did(packed):
    for name in transfer_detectors.COMPLETE_SETS.values():
        before, after = (open_dataset(folder / name) for folder in packed)
        assert [s.full_name for s in before.sources] == [s.full_name for s in after.sources]
        one, other = before[0], after[0]
        np.testing.assert_array_equal(one.crossings, other.crossings)
        assert (
            np.mean(one.field != other.field) < 1e-3
        )  # where it is found in the photograph, JPEG moves its rim a little
        assert np.abs(one.pixels.astype(int) - other.pixels).mean() < 3
    assert len(list((packed[1] / "les_av/images").glob("*.jpg"))) == 1


def test_a_camera_left_out_lends_no_photograph(packed):
    names = {c: {d.folder.name for d in sets_without(c, packed[1])} for c in transfer_detectors.CAMERAS_LEFT_OUT}
    everything = {"training", "iostar", "les_av"}
    assert names == {"drive": everything - {"training"}, "iostar": everything - {"iostar"},
                     "les_av": everything - {"les_av"}, "hrf": everything}  # fmt: skip
    with pytest.raises(UsageError, match="did you mean 'drive'"):
        sets_without("drivee", packed[1])


def test_what_is_written_is_body_and_pyramid_in_half_precision_and_graders_take_it_over(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(mask_rcnn, "build_multiscale_body", tiny_body)
    monkeypatch.setattr(nick_grader, "build_multiscale_body", tiny_body)
    call = [
        "x",
        "--data",
        str(packed[1]),
        "--out",
        str(tmp_path),
        "--recipe",
        "tiny",
        "--without",
        "iostar",
        "--workers",
        "0",
    ]
    monkeypatch.setattr(sys, "argv", call)
    transfer_detectors.main()
    folder = tmp_path / "without_iostar"
    written = load_file(folder / "detector.safetensors")
    assert all(name.startswith("backbone.") for name in written)
    assert {value.dtype for value in written.values() if value.is_floating_point()} == {torch.float16}
    assert json.loads((folder / "seen.json").read_text()) == ["LES-AV/01", "RITE training/01_training"]

    grader = NickGrader(GraderOptions(pretrained=False, maps=16, excited=False))
    upstream = Upstream("u", open_nicking_bundle("nicking", 1), frozenset(), folder / "detector.safetensors")
    assert upstream.transfer_weights(grader) > 0.5
    trained = load_file(folder / "fit/step_2/weights.safetensors")
    name = "body.network.stages.0.0.weight"
    torch.testing.assert_close(grader.streams[1].state_dict()[name], trained[f"backbone.{name}"], atol=1e-3, rtol=1e-3)

    monkeypatch.setattr(transfer_detectors, "fit_detector", lambda *_: pytest.fail("trained again"))
    transfer_detectors.main()
    late = tmp_path / "late"
    monkeypatch.undo()
    monkeypatch.setattr(sys, "argv", [*call[:3], "--out", str(late), *call[5:], "--minutes", "-1"])
    monkeypatch.setattr(mask_rcnn, "build_multiscale_body", tiny_body)
    with pytest.raises(SystemExit, match="Run the same command again"):
        transfer_detectors.main()
    assert not list(Path(late).rglob("detector.safetensors"))
