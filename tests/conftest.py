"""Photographs and a bundle for the tests: simulated eyes, and a tiny network that knows nothing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest


def draw_eye(path, seed=0, size=(480, 640)):
    """A quick picture that the quality verdict takes for an infant's: used where only the plumbing is tested."""
    from fundoscope.simulate import infant

    eye = infant(seed, camera="retcam", level="good")
    assert eye.pixels.shape[:2] == size
    cv2.imwrite(str(path), cv2.cvtColor(eye.pixels, cv2.COLOR_RGB2BGR))
    return path


@pytest.fixture(scope="session")
def eyes(tmp_path_factory):
    """A folder with four simulated infants' photographs, 640x480."""
    folder = tmp_path_factory.mktemp("eyes")
    return [draw_eye(folder / f"eye {seed}.png", seed) for seed in range(4)]


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory):
    """The folder of a verified bundle around an untrained tiny network."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from fundoscope.bundles import Card, OperatingPoint, Source, Stage
    from fundoscope.bundles.write import write_bundle
    from fundoscope.imaging import Standard
    from fundoscope.networks import build

    torch.manual_seed(1)
    point = OperatingPoint(threshold=0.5, rule="none", data="none", n_positive=0, sensitivity_bound="none")
    card = Card(
        name="tiny", task="rop", population="infant", recipe="tiny", seeds=(1,), commands=("pytest",),
        intended_use="tests", trained_on=("nothing",), never_tested_on=("anything",), standard=Standard(size=64),
        stages=(Stage(name="rop", classes=("normal", "rop"), temperature=1.0, operating_point=point),),
        initial_weights=Source(name="random", licence="none"),
    )  # fmt: skip
    inputs = np.random.default_rng(0).normal(size=(6, 3, 64, 64)).astype(np.float32)
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    return write_bundle(build("tiny").eval(), card, inputs, inputs, out, say=lambda line: None)
