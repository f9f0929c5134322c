from __future__ import annotations

import json
import math
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits
from typer.testing import CliRunner

from fundoscope.bundles import Attribution, Card, DecisionThreshold, Stage, find_bundles, open_bundle, read, verify
from fundoscope.bundles.card import SCHEMA_VERSION, seal
from fundoscope.cli.bundle import app
from fundoscope.errors import BundleError, StudyError, UsageError
from fundoscope.imaging import Standard

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from torch import nn

from fundoscope.bundles import folder, write

SIZE = 48
runner = CliRunner()


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
            nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
        )  # fmt: skip
        self.head = nn.Linear(16, 2)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.3, 0.3)
                nn.init.uniform_(module.running_var, 0.2, 1.0)

    def features(self, x):
        return self.body(x)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def card_of(**changes) -> Card:
    point = DecisionThreshold(
        threshold=0.5, rule="as sure as not", data="made-up squares", n_positive=4, sensitivity_bound="4 of 4"
    )
    stage = Stage(name="rop", classes=("normal", "rop"), temperature=1.5, operating_point=point)
    values = {
        "name": "toy", "task": "rop", "intended_use": "tests", "population": "infant", "recipe": "tiny",
        "seeds": (0,), "commands": ("fundoscope rop study",), "trained_on": ("squares",),
        "never_tested_on": ("eyes",),
        "standard": Standard(size=SIZE), "stages": (stage,),
        "initial_weights": Attribution(name="random", licence="none"),
        "figures": ({"name": "AUC", "value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "on": "squares"},),
    }  # fmt: skip
    return Card.model_validate({**values, **changes})


def squares(n: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    blur = draw.normal(size=(n, 3, SIZE // 8, SIZE // 8)).repeat(8, axis=2).repeat(8, axis=3)
    return (0.5 * blur + 0.1 * draw.normal(size=(n, 3, SIZE, SIZE))).astype(np.float32)


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def model() -> Tiny:
    return Tiny().train()


@pytest.fixture(scope="module")
def made(tmp_path_factory, model, said):
    out = tmp_path_factory.mktemp("bundles") / "toy"
    labels = np.arange(12) % 2
    calibration = [squares(8, 0), squares(8, 9)]
    return write.write_bundle(model, card_of(), calibration, squares(12, 1), out, labels, say=said.append)


@pytest.fixture
def bundle(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


def rewrite(bundle, reseal=True, **changes) -> None:
    path = bundle / "bundle.json"
    values = {**json.loads(path.read_text()), **changes}
    if reseal:
        values["seal"] = seal(values)
    path.write_text(json.dumps(values))


# What is written


def test_a_bundle_holds_its_files_and_nothing_beside_it(made):
    assert sorted(path.name for path in made.iterdir()) == [
        "bundle.json", "card.md", "model.fp32.onnx", "model.int8.onnx",
    ]  # fmt: skip
    assert [path.name for path in made.parent.iterdir()] == ["toy"]
    assert set(verify(made).files) == {"card.md", "model.fp32.onnx", "model.int8.onnx"}


def test_fp32_answers_as_torch_does_whatever_the_batch(made):
    model, opened = Tiny().eval(), open_bundle(made, precision="fp32")
    for n in (1, 3, 5):
        batch = squares(n, n)
        with torch.no_grad():
            expected = model(torch.from_numpy(batch)).numpy()
        np.testing.assert_allclose(opened.run(batch)[0], expected, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_mean_of_the_activation_is_the_difference_of_the_logits(made, precision):
    logits, activation = open_bundle(made, precision=precision).run(squares(4, 7))
    assert activation.shape == (4, SIZE // 4, SIZE // 4)
    assert activation.std() > 0.01
    np.testing.assert_allclose(activation.mean((1, 2)), logits[:, 1] - logits[:, 0], atol=1e-5)


def test_activation_is_the_classes_difference_in_weights_times_the_features(made):
    model, batch = Tiny().eval(), squares(2, 8)
    with torch.no_grad():
        features = model.features(torch.from_numpy(batch)).numpy()
    weight, bias = model.head.weight.detach().numpy(), model.head.bias.detach().numpy()
    expected = np.einsum("c,nchw->nhw", weight[1] - weight[0], features) + bias[1] - bias[0]
    np.testing.assert_allclose(open_bundle(made, precision="fp32").run(batch)[1], expected, atol=1e-5)


def test_int8_is_close_to_fp32_and_not_the_same(made):
    batch = squares(12, 1)
    fp32, int8 = (open_bundle(made, precision=precision).run(batch)[0] for precision in ("fp32", "int8"))
    assert 0 < np.abs(int8 - fp32).max() < 0.1 * np.ptp(fp32)


def test_convolutions_run_on_integers(made):
    import onnx

    graph = onnx.load(made / "model.int8.onnx").graph
    producer = {name: node for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    quantised = [node for node in convolutions if producer[node.input[0]].op_type == "DequantizeLinear"
                 and producer.get(node.input[1], node).op_type == "DequantizeLinear"]  # fmt: skip
    assert (len(convolutions), len(quantised)) == (4, 3)  # the head alone stays in fp32
    assert not [node for node in graph.node if node.op_type == "BatchNormalization"]


def test_no_path_of_the_maker_is_in_the_network(made):
    networks = sorted(made.glob("*.onnx"))
    assert networks
    for path in networks:
        assert str(Path.cwd()).encode() not in path.read_bytes()
        assert not re.search(rb"\.py\b|pkg\.|\.part", path.read_bytes())


def test_parity_is_kept_and_told(made, said):
    parity = verify(made).parity
    assert parity.n_photographs == 12
    assert parity.fp32_max_abs_logit <= write.FP32_TOLERANCE
    fp32, int8 = (open_bundle(made, precision=precision) for precision in ("fp32", "int8"))
    decided = [one.probabilities(one.run(squares(12, 1))[0]) >= 0.5 for one in (fp32, int8)]
    assert parity.int8_flips == (decided[0] != decided[1]).sum()
    before, after = (write._auc(one.run(squares(12, 1))[0], np.arange(12) % 2) for one in (fp32, int8))
    assert parity.int8_auc_change == pytest.approx(after - before)
    assert "12 photographs" in said[0] and f"{parity.int8_flips} of 12 decisions change" in said[1]


def test_auc_is_that_of_pairs():
    draw = np.random.default_rng(5)
    margin, labels = draw.integers(0, 6, 40) / 2.0, draw.integers(0, 2, 40)
    logits = np.column_stack([np.zeros(40), margin]).astype(np.float32)
    pairs = [(p > q) + (p == q) / 2 for p in margin[labels == 1] for q in margin[labels == 0]]
    assert write._auc(logits, labels) == pytest.approx(sum(pairs) / len(pairs))


def test_the_page_says_what_a_reader_asks(made):
    page = (made / "card.md").read_text()
    assert page.splitlines()[2].startswith("**RESEARCH USE ONLY.**")
    for wanted in (
        "squares",
        "eyes",
        "0.500",
        "as sure as not",
        "0.400 to 0.600",
        "4 of 4",
        "fundoscope rop study",
    ):
        assert wanted in page
    assert verify(made).files["model.int8.onnx"].sha256 in page
    assert "SIMULATED" not in page
    assert "\n\n\n" not in page


def test_the_page_says_simulated():
    assert "**SIMULATED.**" in folder.render(card_of(stage2="simulated"), ())


def test_the_model_is_left_as_it_was(made, model):
    untouched = Tiny().state_dict()
    assert model.training
    assert all(torch.equal(value, untouched[name]) for name, value in model.state_dict().items())


@pytest.fixture
def exported(made, monkeypatch):
    """The export, which takes seconds, is made once."""
    monkeypatch.setattr(write, "export", lambda _, size, path: shutil.copy(made / "model.fp32.onnx", path))


def test_fp32_may_stay_behind(exported, tmp_path):
    folder = write.write_bundle(
        Tiny(), card_of(), squares(2, 0), squares(2, 2), tmp_path / "b", keep_fp32=False, say=lambda _: None
    )
    assert verify(folder).parity.int8_auc_change is None
    assert "model.fp32.onnx" not in (folder / "card.md").read_text()
    with pytest.raises(BundleError, match=r"ships no model\.fp32\.onnx"):
        open_bundle(folder, precision="fp32")


def test_the_same_network_and_photographs_give_the_same_bytes(exported, made, tmp_path):
    calibration = np.concatenate([squares(8, 0), squares(8, 9)])
    folder = write.write_bundle(Tiny(), card_of(), calibration, squares(2, 2), tmp_path / "b", say=print)
    assert verify(folder).files["model.int8.onnx"] == verify(made).files["model.int8.onnx"]


def test_onnx_that_strays_from_torch_is_not_written(exported, tmp_path):
    class Shifted(Tiny):
        def forward(self, x):
            return super().forward(x) + 3e-4

    with pytest.raises(StudyError, match="no bundle was written"):
        write.write_bundle(Shifted(), card_of(), squares(2, 0), squares(2, 1), tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("nothing", [np.zeros((0, 3, SIZE, SIZE)), np.zeros((3, SIZE, SIZE))])
def test_without_photographs_nothing_is_written(tmp_path, nothing):
    for calibration, check in ((nothing, squares(1, 0)), (squares(1, 0), nothing)):
        with pytest.raises(UsageError, match="holds no photographs"):
            write.write_bundle(Tiny(), card_of(), calibration, check, tmp_path / "b")


@pytest.mark.parametrize("head", [nn.Linear(16, 3), nn.Identity(), None])
def test_a_head_that_has_no_activation_map_is_refused(head):
    model = Tiny()
    model.head = head
    with pytest.raises(UsageError, match="cannot be exported"):
        write.ExportedClassifiers(model)


# Interrupted


def fake_folder(path, text):
    path.mkdir()
    (path / "bundle.json").write_text(text)
    return path


def test_a_move_that_fails_leaves_the_old_bundle(tmp_path, monkeypatch):
    out, part = fake_folder(tmp_path / "b", "old"), fake_folder(tmp_path / ".b.part", "new")
    replace = Path.replace

    def fail_on_part(source, target):
        if source == part:
            raise OSError("no space")
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", fail_on_part)
    with pytest.raises(OSError, match="no space"):
        folder._move(part, out)
    assert (out / "bundle.json").read_text() == "old"


def test_a_move_replaces_the_old_bundle(tmp_path):
    out, part = fake_folder(tmp_path / "b", "old"), fake_folder(tmp_path / ".b.part", "new")
    folder._move(part, out)
    assert (out / "bundle.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_killed_between_the_moves_the_old_bundle_comes_back(tmp_path):
    fake_folder(tmp_path / ".b.old", "old")
    fake_folder(tmp_path / ".b.part", "half")
    assert list(folder._fresh(tmp_path / "b").iterdir()) == []
    assert (tmp_path / "b" / "bundle.json").read_text() == "old"


def test_stopped_while_writing_leaves_no_half_bundle(tmp_path, monkeypatch):
    def stop(classifier, size, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "export", stop)
    with pytest.raises(KeyboardInterrupt):
        write.write_bundle(Tiny(), card_of(), squares(2, 0), squares(2, 1), tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_killed_before_the_move_leaves_no_bundle_and_the_next_writer_clears_up(tmp_path):
    program = f"""
import os, signal
from pathlib import Path
from fundoscope.bundles import folder
part = folder._fresh(Path({str(tmp_path)!r}) / "b")
(part / "bundle.json").write_text("half")
folder.flush_to_disk = lambda path: os.kill(os.getpid(), signal.SIGKILL)
folder._move(part, Path({str(tmp_path)!r}) / "b")
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    with pytest.raises(BundleError, match="no such folder"):
        open_bundle(tmp_path / "b")
    assert list(folder._fresh(tmp_path / "b").iterdir()) == []


@pytest.fixture
def threads_put_back():
    opencv, blas = cv2.getNumThreads(), threadpool_limits()
    yield
    cv2.setNumThreads(opencv)
    blas.restore_original_limits()


@pytest.mark.parametrize(
    ("wanted", "processors", "told", "given"),
    [(1, 8, "", 1), (4, 8, "", 4), (4, 2, "", 2), (0, 2, "", 1), (4, 8, "2", 2), (2, 8, "many", 2)],
)
def test_no_library_gets_more_threads_than_processors_and_blas_gets_one(
    bundle, monkeypatch, threads_put_back, wanted, processors, told, given
):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(processors)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    opened = open_bundle(bundle, threads=wanted)
    assert opened.session.get_session_options().intra_op_num_threads == given
    assert cv2.getNumThreads() == given
    assert [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    assert all(pool["num_threads"] == 1 for pool in threadpool_info() if pool["user_api"] == "blas")


# Refused


@pytest.mark.parametrize("name", ["card.md", "model.fp32.onnx", "model.int8.onnx"])
def test_a_changed_file_is_named(bundle, name):
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name} was changed or damaged"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["card.md", "model.fp32.onnx", "model.int8.onnx"])
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        verify(bundle)


def test_a_changed_card_is_refused(bundle):
    path = bundle / "bundle.json"
    path.write_text(path.read_text().replace('"threshold": 0.5', '"threshold": 0.6'))
    with pytest.raises(BundleError, match=r"bundle\.json was changed"):
        verify(bundle)


def test_spacing_and_order_do_not_break_the_seal(bundle):
    values = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(dict(reversed(values.items()))))
    assert verify(bundle).name == "toy"


def test_a_newer_schema_names_both_versions_and_the_remedy(bundle):
    rewrite(bundle, reseal=False, schema_version=SCHEMA_VERSION + 1, fundoscope="9.1", unheard="of")
    with pytest.raises(BundleError, match=r"version 6 \(made by fundoscope 9.1\).* up to 5\. Upgrade"):
        verify(bundle)


@pytest.mark.parametrize("version", [0, -1, "1", True, None, 1.0])
def test_a_version_that_is_none_is_refused(bundle, version):
    rewrite(bundle, schema_version=version)
    with pytest.raises(BundleError, match="names no schema version"):
        verify(bundle)


def test_an_unknown_task_is_refused(bundle):
    rewrite(bundle, task="horoscope")
    with pytest.raises(BundleError, match="'horoscope', which this program does not know"):
        verify(bundle)


@pytest.mark.parametrize(
    ("changes", "at"),
    [
        ({"unheard": "of"}, "unheard"),
        ({"stages": []}, "stages"),
        ({"population": "giraffe"}, "population"),
        ({"standard": {"size": 3}}, "standard.size"),
        ({"files": {"../bundle.json": {"sha256": "0" * 64, "bytes": 1}}}, "files"),
        ({"files": {"/etc/passwd": {"sha256": "0" * 64, "bytes": 1}}}, "files"),
    ],
)
def test_a_card_that_does_not_fit_is_refused_by_field(bundle, changes, at):
    rewrite(bundle, **changes)
    with pytest.raises(BundleError, match=f"does not fit its schema, at {at}"):
        verify(bundle)


ODD = [b"[]", b"null", b"1" * 5000, b"[" * 90000, b'{"schema_version": 1}', b'{"schema_version": NaN}']


@given(st.one_of(st.binary(max_size=60), st.sampled_from(ODD)))
def test_any_bytes_for_a_card_are_refused_in_words(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("odd")
    (folder / "bundle.json").write_bytes(data)
    with pytest.raises(BundleError):
        verify(folder)


def test_a_network_that_cannot_be_loaded_is_refused():
    with pytest.raises(BundleError, match="ONNX Runtime"):
        read.load_network(b"no network", "model.int8.onnx")


def test_what_is_no_bundle_says_what_is_missing_and_what_is_shipped(tmp_path, made, monkeypatch):
    monkeypatch.setattr(read, "SHIPPED", made.parent)
    (tmp_path / "file").touch()
    assert find_bundles() == {"toy": made}
    assert open_bundle("toy").folder == made
    causes = {
        tmp_path: r"holds no bundle\.json",
        tmp_path / "no": "no such folder",
        tmp_path / "file": "it is a file",
    }
    for path, cause in causes.items():
        with pytest.raises(BundleError, match=f"{cause}.*toy"):
            open_bundle(path)
    with pytest.raises(BundleError, match="did you mean 'toy'"):
        open_bundle("toi")


@pytest.mark.parametrize("shape", [(3, SIZE, SIZE), (1, 3, SIZE, SIZE + 1), (1, 1, SIZE, SIZE)])
def test_a_batch_of_another_shape_is_refused(made, shape):
    with pytest.raises(UsageError, match=r"takes \(n, 3, 48, 48\)"):
        open_bundle(made).run(np.zeros(shape, np.float32))


def test_running_leaves_the_arithmetic_of_this_thread_alone(made):
    open_bundle(made).run(squares(1, 0))
    assert np.float64(5e-324) * 1.0 > 0


def test_exact_sums_are_asked_for_only_where_fast_ones_are_not_exact(tmp_path):
    (tmp_path / "new").write_text("flags\t: fpu avx2 avx512_vnni amx_int8")
    (tmp_path / "old").write_text("flags\t: fpu avx2")
    assert not read._sums_saturate("x86_64", tmp_path / "new")
    assert read._sums_saturate("x86_64", tmp_path / "old")
    assert read._sums_saturate("AMD64", tmp_path / "unknown")
    assert not read._sums_saturate("aarch64", tmp_path / "unknown")


def test_an_answer_that_is_no_number_is_never_a_negative(made):
    with pytest.raises(BundleError, match="no finite number"):
        open_bundle(made, precision="fp32").run(np.full((1, 3, SIZE, SIZE), np.nan, np.float32))


# Decided


@given(st.floats(-60, 60), st.floats(-60, 60), st.floats(0.05, 20))
def test_probability_is_the_softmax_over_the_temperature(a, b, temperature):
    point = DecisionThreshold(threshold=0.3, rule="", data="", n_positive=0, sensitivity_bound="")
    stage = Stage(name="rop", classes=("a", "b"), temperature=temperature, operating_point=point)
    one, other = math.exp((a - max(a, b)) / temperature), math.exp((b - max(a, b)) / temperature)
    p = stage.probabilities(np.array([[a, b]]))
    assert p[0] == pytest.approx(other / (one + other), rel=1e-9, abs=1e-300)
    assert stage.decisions(p)[0] == (p[0] >= 0.3)


def test_the_operating_point_itself_is_positive(made):
    opened = open_bundle(made)
    assert opened.decide(0.5) is True
    assert opened.decide(0.4999) is False


# Without torch, and on the command line


def test_reading_and_running_need_no_torch(made):
    program = f"""
import sys
from pathlib import Path
for name in ("torch", "timm", "lightning", "onnx", "matplotlib", "pandas", "sklearn"):
    sys.modules[name] = None
import numpy as np
import fundoscope.bundles as bundles
assert "onnxruntime" not in sys.modules
opened = bundles.open_bundle({str(made)!r})
logits, activation = opened.run(np.zeros((1, 3, {SIZE}, {SIZE}), np.float32))
print(opened.decide(float(opened.probabilities(logits)[0])), activation.shape)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("(1, 12, 12)")


def test_show_prints_the_card(made):
    assert "RESEARCH USE ONLY" in runner.invoke(app, ["show", str(made)]).stdout
    assert json.loads(runner.invoke(app, ["show", str(made), "--json"]).stdout)["name"] == "toy"


def test_verify_tells_whole_from_broken(bundle, made, monkeypatch):
    assert runner.invoke(app, ["verify", str(bundle)]).stdout.startswith("whole   toy: 3 files")
    (bundle / "card.md").write_text("better")
    broken = runner.invoke(app, ["verify", str(bundle)])
    assert broken.exit_code == 3
    assert "card.md" in broken.stdout
    monkeypatch.setattr(read, "SHIPPED", bundle.parent)
    assert runner.invoke(app, ["verify"]).exit_code == 3
    monkeypatch.setattr(read, "SHIPPED", bundle)
    assert isinstance(runner.invoke(app, ["verify"]).exception, BundleError)
