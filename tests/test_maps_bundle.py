import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from crosses import tiny_body

from fundoscope.bundles import Attribution, DecisionThreshold, open_bundle, verify
from fundoscope.bundles.card import CrossingSettings, NickingCard, seal
from fundoscope.bundles.read_nicking import MAPS_FILE, open_nicking_bundle
from fundoscope.bundles.write_nicking import write_nicking_bundle
from fundoscope.errors import BundleError, StudyError
from fundoscope.networks import VesselNet, VesselNetOptions, vessel_net

SMALL = VesselNetOptions(widths=(8, 8, 8, 8, 12, 16), pretrained=False)


def small_vessel_net():
    """A `VesselNet` on a body of four convolutions: every step of its own, and quick to export."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vessel_net, "build_multiscale_body", tiny_body)
        return VesselNet(SMALL)


def card(**changed):
    point = DecisionThreshold(
        threshold=0.4, rule="greatest F1", data="two photographs", n_positive=9, sensitivity_bound="recall 0.7"
    )
    values = {
        "name": "nicking", "task": "nicking", "intended_use": "adults' photographs", "population": "adult", "recipe": "lite",
        "seeds": (1,), "commands": ("make weights-nicking",), "trained_on": ("drawn lines",), "never_tested_on": ("any eye",),
        "initial_weights": Attribution(name="random", licence="none"),
        "crossings": CrossingSettings(diameter=540, vessel_threshold=0.5, confidence_weights=(0.0,) * 7, operating_point=point),
    }  # fmt: skip
    return NickingCard(**{**values, **changed})


def contrast(rows, columns, seed=0):
    return np.random.default_rng(seed).normal(size=(3, rows, columns)).astype(np.float32)


@pytest.mark.parametrize("shape", [(64, 80), (61, 47), (200, 33)])
def test_the_file_answers_as_the_network_does_at_any_size(written, shape):
    network, out, _ = written
    x = contrast(*shape, seed=3)
    with torch.no_grad():
        asked = torch.sigmoid(network(torch.from_numpy(x)[None]))[0].numpy()
    found = open_nicking_bundle(out).map_vessels(x)
    assert found.shape == (4, *shape) and found.dtype == np.float32
    np.testing.assert_allclose(found, asked, atol=0.01)


def test_the_card_says_how_it_decides_and_how_far_it_strays(written):
    _, out, said = written
    assert isinstance(verify(out), NickingCard) and 0 < verify(out).parity < 0.02
    page = (out / "card.md").read_text()
    for words in (
        "RESEARCH USE ONLY",
        "where arteries cross veins",
        "**0.400**",
        "greatest F1",
        "9 crossings",
        said[0],
    ):
        assert words in page, words
    half = sum(p.numel() for p in small_vessel_net().parameters()) * 2
    assert (out / MAPS_FILE).stat().st_size < half + 25_000


def test_a_card_with_the_names_of_version_2_is_read(written, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(written[1], copy)
    values = json.loads((copy / "bundle.json").read_text())
    today = values["crossings"]
    values["crossings"] = {name: today[name] for name in ("diameter", "votes")} | {
        "vessel": today["vessel_threshold"], "trust": today["confidence_weights"], "confidence": today["operating_point"]
    }  # fmt: skip
    values["schema_version"] = 2
    (copy / "bundle.json").write_text(json.dumps({**values, "seal": seal(values)}))
    assert verify(copy) == verify(written[1])
    values["schema_version"] = 3  # today's version with yesterday's names is neither
    (copy / "bundle.json").write_text(json.dumps({**values, "seal": seal(values)}))
    with pytest.raises(BundleError, match="does not fit its schema, at crossings"):
        verify(copy)


def test_a_bundle_given_to_the_wrong_grader_says_where_it_belongs(written, tiny_bundle):
    _, out, _ = written
    with pytest.raises(BundleError, match="for the task 'nicking'. Give it to `fundoscope nicking`"):
        open_bundle(out)
    with pytest.raises(BundleError, match="for the task 'rop'"):
        open_nicking_bundle(tiny_bundle)


def test_a_changed_file_is_told(written, tmp_path):
    import shutil

    _, out, _ = written
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    data = bytearray((copy / MAPS_FILE).read_bytes())
    data[200] ^= 1
    (copy / MAPS_FILE).write_bytes(data)
    with pytest.raises(BundleError, match="was changed or damaged"):
        open_nicking_bundle(copy)
    values = json.loads((copy / "bundle.json").read_text())
    values["crossings"]["vessel_threshold"] = 0.1
    (copy / "bundle.json").write_text(json.dumps(values))
    with pytest.raises(BundleError, match="was changed after it was written"):
        open_nicking_bundle(copy)


def test_a_file_that_strays_is_not_written(written, tmp_path, monkeypatch):
    _, out, _ = written
    monkeypatch.setattr(
        "fundoscope.bundles.write_nicking.export_maps", lambda _, path: path.write_bytes((out / MAPS_FILE).read_bytes())
    )
    other = small_vessel_net()
    torch.nn.init.constant_(other.head.bias, 1.0)
    with pytest.raises(StudyError, match="no bundle was written"):
        write_nicking_bundle(other, card(), [contrast(32, 32)], tmp_path / "b", lambda _: None)
    assert list(tmp_path.iterdir()) == []
