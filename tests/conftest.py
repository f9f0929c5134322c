"""Photographs and a bundle for the tests: simulated eyes, and a tiny network that knows nothing."""

from __future__ import annotations

import csv
import random
import sys

import cv2
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def same_draws_in_every_run():
    """Every test begins at the same random numbers, alone or among others: a failure comes back."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


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
    from fundoscope.bundles import Attribution, Card, DecisionThreshold, Stage
    from fundoscope.bundles.write import write_bundle
    from fundoscope.imaging import Standard
    from fundoscope.networks import build

    torch.manual_seed(1)
    point = DecisionThreshold(threshold=0.5, rule="none", data="none", n_positive=0, sensitivity_bound="none")
    card = Card(
        name="tiny", task="rop", population="infant", recipe="tiny", seeds=(1,), commands=("pytest",),
        intended_use="tests", trained_on=("nothing",), never_tested_on=("anything",), standard=Standard(size=64),
        stages=(Stage(name="rop", classes=("normal", "rop"), temperature=1.0, operating_point=point),),
        initial_weights=Attribution(name="random", licence="none"),
    )  # fmt: skip
    inputs = np.random.default_rng(0).normal(size=(6, 3, 64, 64)).astype(np.float32)
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    return write_bundle(build("tiny").eval(), card, inputs, inputs, out, say=lambda line: None)


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """An untrained network of maps, the folder of a bundle around it, and what was said when it was written."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from test_maps_bundle import card, contrast, small_vessel_net

    from fundoscope.bundles.write_nicking import write_nicking_bundle

    torch.manual_seed(0)
    network = small_vessel_net().eval()
    said = []
    out = write_nicking_bundle(network, card(), [contrast(64, 80)], tmp_path_factory.mktemp("b") / "maps", said.append)
    return network, out, said


@pytest.fixture(scope="session")
def graded(written, tmp_path_factory):
    """An untrained grader, and the folder of a bundle around it and the same network of maps."""
    import torch
    from crosses import tiny_body
    from test_maps_bundle import card
    from test_nicking_widths import HOW

    from fundoscope.bundles import write_nicking as module
    from fundoscope.bundles.card import GradeSettings
    from fundoscope.networks import nick_grader

    network, maps, _ = written
    torch.manual_seed(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nick_grader, "build_multiscale_body", tiny_body)
        grader = nick_grader.NickGrader(nick_grader.GraderOptions(pretrained=False, maps=8))
    torch.nn.init.normal_(grader.head.weight, std=0.2)  # else all patches are told alike
    check = np.random.default_rng(0).normal(size=(3, 6, 128, 128)).astype(np.float32)
    graders = module.GraderNetworks([grader], (0.7,), check)
    grades = GradeSettings(side=128, span=12, networks=1, minimum_confidence=0.3, rule="none", learnt_from="nothing")
    said = []
    with pytest.MonkeyPatch.context() as patch:
        exported = (maps / module.MAPS_FILE).read_bytes()
        patch.setattr(module, "export_maps", lambda _, path: path.write_bytes(exported))
        out = module.write_nicking_bundle(
            network, card(crossings=HOW, grades=grades), [np.zeros((3, 64, 64), np.float32)],
            tmp_path_factory.mktemp("graded") / "nicking", said.append, graders,
        )  # fmt: skip
    return graders, out, said


@pytest.fixture(scope="session")
def patch_table(tmp_path_factory):
    """Four simulated adults with four graded patches and an unlabelled one each; the grades are dealt out in turn."""
    from collections import Counter

    from fundoscope.simulate import write_adults

    folder = tmp_path_factory.mktemp("patches") / "eyes"
    write_adults(4, folder, seed=4, camera="drive")
    chosen, taken = [], Counter()
    with (folder / "patches.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            number = taken[row["image"]]
            if number < 5:
                chosen.append({"patch": row["patch"], "grade": "0123"[number : number + 1], "photograph": row["image"]})
            taken[row["image"]] += 1
    with (folder / "few.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ("patch", "grade", "photograph"))
        writer.writeheader()
        writer.writerows(chosen)
    return folder / "few.csv"


@pytest.fixture(scope="session")
def patch_rows(patch_table):
    """Its rows."""
    from fundoscope.nicking.grade_study.patch_table import read_patch_table

    return read_patch_table(patch_table)


@pytest.fixture(scope="session")
def fresh_upstream():
    """The shipped maps, which have seen no simulated eye of these tests."""
    from fundoscope.nicking.grade_study.transfer import Upstream

    return Upstream.from_bundle("nicking")


@pytest.fixture(scope="session")
def grade_recipe_file(tmp_path_factory):
    """A recipe of grades with the smallest bodies that there are."""
    path = tmp_path_factory.mktemp("recipes") / "smallest.toml"
    path.write_text(
        'base = "tiny"\nname = "smallest"\n[network]\nbody = "resnet10t"\n'
        '[mdtnet]\nplain = ["tiny", "tiny"]\nfocal_body = "tiny"\nhidden = [16, 8]\n'
    )
    return path
