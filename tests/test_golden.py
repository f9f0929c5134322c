"""Golden vectors: a bundle tells on any machine whether its numbers are its makers'."""

import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from fundoscope.bundles import golden, verify
from fundoscope.bundles.folder import rewrite_card
from fundoscope.bundles.golden import TensorRecord, add_golden, check_golden, sample_places
from fundoscope.cli.main import app
from fundoscope.errors import BundleError


@pytest.fixture(scope="module")
def vectors(tiny_bundle, tmp_path_factory):
    """A tiny classifier's bundle with its golden vectors."""
    folder = tmp_path_factory.mktemp("golden") / "tiny"
    add_golden(tiny_bundle, folder)
    return folder


def change_weight(folder, out, file):
    """The bundle with the largest weight of a layer a quarter smaller, and its checksums made anew."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(folder / file)
    kinds = (onnx.TensorProto.INT8, onnx.TensorProto.FLOAT)
    large = (w for w in model.graph.initializer if w.data_type in kinds and np.prod(w.dims) > 50)
    weight = next(w for w in large if onnx.numpy_helper.to_array(w).any())  # zero points are all 0
    values = onnx.numpy_helper.to_array(weight).copy()
    at = np.unravel_index(np.abs(values.astype(float)).argmax(), values.shape)
    values[at] = values[at] * 0.75
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    rewrite_card(folder, {}, out, {file: model.SerializeToString()})


def test_a_bundle_passes_its_own_test_and_the_source_stays_as_it_was(tiny_bundle, vectors):
    test = check_golden(vectors)
    assert not test.faults and len(test.lines) > 10
    assert golden.GOLDEN_FILE not in verify(tiny_bundle).files


@pytest.mark.parametrize("file", ["model.int8.onnx", "model.fp32.onnx"])
def test_one_changed_weight_fails(vectors, tmp_path, file):
    change_weight(vectors, tmp_path / "changed", file)
    faults = check_golden(tmp_path / "changed").faults
    assert faults and all(file in fault for fault in faults)
    result = CliRunner().invoke(app, ["bundle", "selftest", str(tmp_path / "changed")])
    assert result.exit_code == 3 and "FAILED" in result.output


def test_another_picture_or_another_standard_fails(vectors, tmp_path):
    first, second = (vectors / f"golden_square_{number}.png" for number in (1, 2))
    rewrite_card(vectors, {}, tmp_path / "swapped", {first.name: second.read_bytes()})
    assert any("picture to tensor" in fault for fault in check_golden(tmp_path / "swapped").faults)
    standard = verify(vectors).standard.model_copy(update={"mean": (0.4, 0.5, 0.5)})
    rewrite_card(vectors, {"standard": standard}, tmp_path / "standard")
    assert any("picture to tensor" in fault for fault in check_golden(tmp_path / "standard").faults)


def test_a_bundle_without_vectors_names_the_remedy_and_add_follows_it(tiny_bundle, tmp_path):
    with pytest.raises(BundleError, match="--add"):
        check_golden(tiny_bundle)
    shutil.copytree(tiny_bundle, tmp_path / "own")
    result = CliRunner().invoke(app, ["bundle", "selftest", "--add", str(tmp_path / "own")])
    assert result.exit_code == 0 and result.output.startswith("passed")


def test_what_ships_gives_its_makers_numbers_here():
    result = CliRunner().invoke(app, ["bundle", "selftest"])
    assert result.exit_code == 0 and result.output.count("passed") == 2


def test_another_kind_of_processor_is_allowed_more_in_int8_only(vectors, monkeypatch):
    def allowed(lines, file):
        return [float(line.rsplit(" ", 1)[1]) for line in lines if f"{file}, logits" in line]

    here = check_golden(vectors).lines
    monkeypatch.setattr(golden, "describe_processor", lambda: "aarch64")
    there = check_golden(vectors).lines
    assert allowed(there, "fp32.onnx") == allowed(here, "fp32.onnx")
    assert np.allclose(np.divide(allowed(there, "int8.onnx"), allowed(here, "int8.onnx")), 200, rtol=0.05)


def test_a_record_tells_shape_and_values_apart():
    array = np.linspace(-1, 1, 1000, dtype=np.float32).reshape(10, 100)
    record = TensorRecord.of_array(array)
    assert record.difference(array) == 0
    assert record.difference(array + 0.25) == pytest.approx(0.25, abs=1e-6)
    assert record.difference(array.T) == float("inf")
    assert record.difference(np.full_like(array, np.nan)) == float("inf")
    places = sample_places(array.size)
    assert len(places) == 64 and places[0] == 0 and places[-1] == 999


def test_golden_json_is_whole_and_readable(vectors):
    values = json.loads((vectors / golden.GOLDEN_FILE).read_text())
    assert {picture["kind"] for picture in values["pictures"]} == {"square", "photograph"}
    assert all(set(p["outputs"]) == {"model.int8.onnx", "model.fp32.onnx"} for p in values["pictures"])
