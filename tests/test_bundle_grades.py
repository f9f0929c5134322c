import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
from crosses import tiny_body
from test_maps_bundle import card, small_vessel_net

from fundoscope.bundles import verify
from fundoscope.bundles.read_nicking import GRADES_FILE, open_nicking_bundle
from fundoscope.bundles.write_nicking import GraderEnsemble, GraderNetworks, write_nicking_bundle
from fundoscope.errors import BundleError, StudyError
from fundoscope.networks import nick_grader
from fundoscope.networks.nick_grader import GraderOptions, NickGrader
from fundoscope.nicking.grading.crossing_patches import PATCH_SIDE, CrossingPatch
from fundoscope.nicking.grading.grades import NO_ARTERY_AND_VEIN, decide_grade, grade_patches


def patches(n, seed=1):
    return np.random.default_rng(seed).normal(size=(n, 6, PATCH_SIDE, PATCH_SIDE)).astype(np.float32)


def asked(graders, x):
    """The mean of what each network says by itself, at its temperature, of patches as they are and turned by 180 degrees."""
    told, shown = [], []
    with torch.no_grad():
        for network, temperature in zip(graders.networks, graders.temperatures, strict=True):
            network.eval()
            for quarters in (0, 2):
                way = torch.from_numpy(np.rot90(x, quarters, axes=(2, 3)).copy())
                told.append(network.probabilities(network(way) / temperature).numpy())
                maps = np.stack([m.numpy() for m in network.activation_maps(network.stream_maps(way))], axis=1)
                shown.append(np.rot90(maps, quarters, axes=(2, 3)))
    return np.mean(told, axis=0), np.mean(shown, axis=0)


@pytest.fixture(autouse=True)
def _quick_bodies(monkeypatch):
    monkeypatch.setattr(nick_grader, "build_multiscale_body", tiny_body)


@pytest.fixture(scope="module")
def bundle(graded):
    return open_nicking_bundle(graded[1], threads=1)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_file_grades_as_the_networks_do_whatever_their_number(graded, bundle, n):
    x = patches(n)
    p, attention = bundle.grade_patches(x)
    true, shown = asked(graded[0], x)
    assert p.shape == (n, 4) and p.dtype == float and attention.shape == (n, 2, PATCH_SIDE // 8, PATCH_SIDE // 8)
    np.testing.assert_allclose(p, true, atol=0.02)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert shown.max() > 0
    np.testing.assert_allclose(attention, shown, atol=0.1 * shown.max())


def test_a_patch_is_told_the_same_whichever_way_round_it_lies(bundle):
    x = patches(3)
    (p, shown), (turned, back) = bundle.grade_patches(x), bundle.grade_patches(np.rot90(x, 2, axes=(2, 3)).copy())
    np.testing.assert_allclose(p, turned, atol=1e-5)
    np.testing.assert_allclose(shown, np.rot90(back, 2, axes=(2, 3)), atol=1e-4 * shown.max())


def test_several_graders_are_one_by_the_mean_each_at_its_own_temperature(graded):
    torch.manual_seed(9)
    other = NickGrader(graded[0].networks[0].options)
    torch.nn.init.normal_(other.head.weight, std=0.2)
    graders, x = GraderNetworks([graded[0].networks[0], other], (0.7, 3.0), patches(2)), patches(2)
    with torch.no_grad():
        p, shown = (found.numpy() for found in graders.ensemble(torch.from_numpy(x)))
        swapped = GraderEnsemble(graders.networks, graders.temperatures[::-1]).eval()(torch.from_numpy(x))[0].numpy()
    true, attention = asked(graders, x)
    np.testing.assert_allclose(p, true, atol=1e-5)
    np.testing.assert_allclose(shown, attention, atol=1e-6)
    assert np.abs(p - swapped).max() > 1e-3


def test_writing_leaves_the_networks_as_they_were(graded):
    graders = graded[0]
    network = graders.networks[0].train()
    assert graders.ensemble is not network and not graders.ensemble.training
    assert network.training and graders.ensemble.graders[0] is not network


def test_the_card_says_what_grades_and_how_far_it_strays(graded):
    _, out, said = graded
    found = verify(out)
    assert found.grades.networks == 1 and found.grades.minimum_confidence == 0.3
    assert 0 < found.parity_grades < 0.02 and 0 <= found.parity < 0.02
    assert GRADES_FILE in found.files and len(said) == 2 and "graders: probabilities differ by" in said[-1]
    assert said[1] in (out / "card.md").read_text()


def test_a_bundle_that_grades_nothing_says_so(tmp_path, graded):
    bundle = replace(open_nicking_bundle(graded[1]), graders=None)
    with pytest.raises(BundleError, match="holds no network that grades. Give a bundle that has one to --bundle"):
        bundle.grade_patches(patches(1))
    copy = tmp_path / "copy"
    shutil.copytree(graded[1], copy)
    (copy / GRADES_FILE).unlink()
    with pytest.raises(BundleError, match=GRADES_FILE.replace(".", r"\.")):
        open_nicking_bundle(copy)


def test_graders_that_stray_are_not_written(tmp_path, monkeypatch, graded):
    import fundoscope.bundles.write_nicking as module

    monkeypatch.setattr(module, "export_maps", lambda _, path: path.write_bytes(b""))
    monkeypatch.setattr(module, "_maps_difference", lambda *_: 0.0)
    other = NickGrader(GraderOptions(pretrained=False, maps=8))
    monkeypatch.setattr(module, "export_ensemble", lambda *given: shutil.copy(graded[1] / GRADES_FILE, given[-1]))
    graders = GraderNetworks([other], (1.0,), patches(2))
    with pytest.raises(StudyError, match="strays from the network by .* no bundle was written"):
        write_nicking_bundle(small_vessel_net(), card(), [], tmp_path / "b", lambda _: None, graders)
    assert list(tmp_path.iterdir()) == []


def test_patches_are_judged_in_their_order_by_the_bundle_and_the_measured_widths(bundle):
    rng = np.random.default_rng(5)
    every = []
    for k in range(3):
        maps = np.zeros((PATCH_SIDE, PATCH_SIDE, 3), np.uint8)
        maps[60:68, :, :2] = maps[:, 60:68, ::2] = 255
        if k == 2:
            maps[:] = 0
        every.append(
            CrossingPatch(
                rng.integers(40, 200, (PATCH_SIDE, PATCH_SIDE, 3), dtype=np.uint8),
                maps,
                np.ones((PATCH_SIDE, PATCH_SIDE), bool),
            )
        )
    judged = grade_patches(every, [None] * 3, bundle)
    assert [one.patch for one in judged] == every and grade_patches([], [], bundle) == []
    for one, patch in zip(judged, every, strict=True):
        p, attention = bundle.grade_patches(np.concatenate(patch.inputs)[None])
        np.testing.assert_allclose(one.probabilities, p[0], atol=1e-5)
        lying = np.stack([patch.unposed(m) for m in attention[0]])
        np.testing.assert_allclose(one.attention, lying, rtol=1e-3, atol=1e-5)
        assert (one.grade, one.reason) == decide_grade(patch, p[0], None, 0.3)
    assert judged[2].reason == NO_ARTERY_AND_VEIN and NO_ARTERY_AND_VEIN not in (judged[0].reason, judged[1].reason)


def test_more_patches_than_one_batch_are_all_judged(bundle, monkeypatch):
    from fundoscope.nicking.grading import grades as judging

    monkeypatch.setattr(judging, "_BATCH", 2)
    maps = np.zeros((PATCH_SIDE, PATCH_SIDE, 3), np.uint8)
    maps[60:68, :, :2] = maps[:, 60:68, ::2] = 255
    every = [
        CrossingPatch(
            np.full((PATCH_SIDE, PATCH_SIDE, 3), 60 + k, np.uint8), maps, np.ones((PATCH_SIDE, PATCH_SIDE), bool)
        )
        for k in range(5)
    ]
    told = []
    monkeypatch.setattr(judging, "decide_grade", lambda patch, p, own, least: told.append(own) or (None, str(own)))
    judged = grade_patches(every, list("abcde"), bundle)
    assert [one.patch for one in judged] == every and told == list("abcde")
    assert [one.reason for one in judged] == told
