"""Bundles that answer both questions, and what screening tells of the second."""

import csv
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from test_bundles import card_of
from test_cli_screen import run

from fundoscope.bundles import open_bundle
from fundoscope.bundles.write import ExportedClassifiers, write_bundle
from fundoscope.imaging import Standard
from fundoscope.networks import build
from fundoscope.rop.screening.grader import RopGrader
from fundoscope.rop.screening.screener import SIMULATED

SIZE = 64


def inputs(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 3, SIZE, SIZE)).astype(np.float32)


def two_stage_card(first=0.5, **changes):
    card = card_of(standard=Standard(size=SIZE), **changes)
    (stage,) = card.stages
    point = stage.operating_point.model_copy(update={"threshold": first})
    second = stage.model_copy(update={"name": "treatment", "classes": ("no treatment", "treatment-requiring")})
    return card.model_copy(update={"stages": (stage.model_copy(update={"operating_point": point}), second)})


def networks():
    torch.manual_seed(1)
    return [build("tiny").eval(), build("tiny").eval()]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Bundles of which everything is suspected (the first threshold is 0), one learnt from simulated eyes, one from real."""
    folder = tmp_path_factory.mktemp("two")
    made = {}
    for source in ("simulated", "real"):
        card = two_stage_card(first=0.0, stage2=source)
        made[source] = write_bundle(networks(), card, inputs(6), inputs(6, 1), folder / source, say=lambda line: None)
    return made


def test_each_stage_answers_as_its_network_does(folders):
    bundle = open_bundle(folders["real"], precision="fp32")
    x = inputs(4, 5)
    answers = bundle.run_stages(x, 2)
    for (logits, activation), network in zip(answers, networks(), strict=True):
        with torch.no_grad():
            np.testing.assert_allclose(logits, network(torch.from_numpy(x)).numpy(), atol=1e-4)
            np.testing.assert_allclose(activation, network.activation_map(torch.from_numpy(x)).numpy(), atol=1e-4)
    np.testing.assert_array_equal(bundle.run(x)[0], answers[0][0])
    card = bundle.card
    assert card.parity.n_photographs == card.parity_second.n_photographs == 6
    assert "treatment-requiring" in (folders["real"] / "card.md").read_text()


def test_a_trunk_that_both_keep_runs_once():
    first = build("tf_efficientnet_lite0", pretrained=False).eval()
    second = build("tf_efficientnet_lite0", pretrained=False).eval()
    assert not ExportedClassifiers(first, second).shared
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        second.body.last[0].weight += 0.1
    both = ExportedClassifiers(first, second).eval()
    assert both.shared
    calls = []
    first.body.stem.register_forward_hook(lambda *_: calls.append("first"))
    second.body.stem.register_forward_hook(lambda *_: calls.append("second"))
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        logits, _, second_logits, _ = both(x)
        assert calls == ["first"]
        torch.testing.assert_close(logits, first(x), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(second_logits, second(x), atol=1e-5, rtol=1e-4)


def test_training_on_leaves_the_trunk_as_it_is():
    model = build("tf_efficientnet_lite0", pretrained=False)
    model.freeze_trunk()
    x = torch.rand(2, 3, 64, 64)
    model.eval()
    before = model.body.trunk(x)
    model.train()
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    model(x).square().sum().backward()
    optimiser.step()
    torch.testing.assert_close(model.eval().body.trunk(x), before, rtol=0, atol=0)
    assert not torch.equal(model.body.tail(before), build("tf_efficientnet_lite0", pretrained=False).body.tail(before))


@pytest.mark.parametrize(("source", "allowed", "told"), [
    ("simulated", False, False), ("simulated", True, True), ("real", False, True), ("real", True, True),
])  # fmt: skip
def test_what_was_learnt_from_simulated_eyes_is_told_only_if_asked(folders, eyes, source, allowed, told):
    grader = RopGrader(open_bundle(folders[source]), allow_simulated=allowed)
    (found,) = grader.screen([eyes[0]])
    assert found.rop is True
    assert (found.p_tr is not None) == told
    assert (found.treatment_requiring is not None) == told
    assert found.reason == (SIMULATED if told and source == "simulated" else "")


def test_treatment_is_asked_only_where_rop_is_suspected(eyes, tmp_path):
    card = two_stage_card(first=1.0, stage2="real")
    bundle = write_bundle(networks(), card, inputs(6), inputs(6, 1), tmp_path / "b", say=lambda line: None)
    (found,) = RopGrader(open_bundle(bundle)).screen([eyes[0]])
    assert found.rop is False and found.p_tr is None and found.treatment_requiring is None


def test_every_file_says_simulated(folders, eyes, tmp_path):
    cohort = tmp_path / "cohort.csv"
    cohort.write_text(f"image,label,infant,eye\n{eyes[0]},rop,1,left\n{eyes[1]},rop,1,left\n")
    done = run(
        "rop",
        "screen",
        cohort,
        "--bundle",
        folders["simulated"],
        "--allow-simulated",
        "--out",
        tmp_path / "o",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "o/results.csv").open()))
    assert all(
        row["p_tr"] and row["treatment_requiring"] in ("yes", "no") and "SIMULATED" in row["reason"] for row in rows
    )
    assert "SIMULATED" in (tmp_path / "o/results.json").read_text()
    assert "SIMULATED" in (tmp_path / "o/report.html").read_text()
    assert all("SIMULATED" in json.loads(line)["reason"] for line in done.stdout.splitlines())
    (eye,) = csv.DictReader((tmp_path / "o/eyes.csv").open())
    assert eye["treatment_requiring"] in ("yes", "no") and "SIMULATED" in eye["flag"]
    quiet = run("rop", "screen", eyes[0], "--bundle", folders["simulated"], "--out", tmp_path / "q")
    assert quiet.returncode == 0
    (row,) = csv.DictReader((tmp_path / "q/results.csv").open())
    assert row["p_tr"] == row["treatment_requiring"] == row["reason"] == ""
