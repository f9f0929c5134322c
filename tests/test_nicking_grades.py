import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from fundoscope.bundles.maps import open_maps
from fundoscope.cli.main import app
from fundoscope.cli.talk import Talk
from fundoscope.errors import FundoscopeError, LeakError, StudyError, UsageError
from fundoscope.imaging import read
from fundoscope.imaging.evened import evened
from fundoscope.networks.bilinear import NickGrader
from fundoscope.nicking.grades import fitting
from fundoscope.nicking.grades.arms import NAMES, RULES, USUAL, arm_of, arms_of, names_of, recipe_of
from fundoscope.nicking.grades.asked import VARIANTS, Asked, Widths
from fundoscope.nicking.grades.assess import Said, called
from fundoscope.nicking.grades.fitting import Fold, Network, Tables, Team, run_arm
from fundoscope.nicking.grades.folds import GradeFold, grade_folds
from fundoscope.nicking.grades.pages import kinds_picture, side_by_side
from fundoscope.nicking.grades.pointing import Pointed, flanks, pointed
from fundoscope.nicking.grades.study import GradeOptions, _untransferred, run_study
from fundoscope.nicking.grades.table import PatchRow, read_table
from fundoscope.nicking.grades.upstream import Upstream, free_of
from fundoscope.nicking.grades.views import (
    Examples,
    Views,
    around,
    drawn,
    inputs_of,
    masked,
    packed,
    training_batches,
    turned,
    unpacked,
    usual,
)
from fundoscope.nicking.judging import grade_called
from fundoscope.nicking.patches import SIDE, WIDTH, Patch
from fundoscope.simulate import write_adults

TINY = recipe_of("tiny")
ARMS = ("ours", "majority", "nguyen")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Six simulated adults with four graded patches and an unlabelled one each; the grades are dealt out in turn."""
    folder = tmp_path_factory.mktemp("patches") / "eyes"
    write_adults(6, folder, seed=4, camera="drive")
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


@pytest.fixture(scope="module")
def rows(table):
    return read_table(table)


@pytest.fixture(scope="module")
def upstream(graded):
    return Upstream("shipped", open_maps(graded[1], threads=1))


@pytest.fixture(scope="module")
def fold(rows, upstream, tmp_path_factory):
    """The first of two folds, with what is shown in it."""
    folder = tmp_path_factory.mktemp("fold")
    made = grade_folds(rows, [upstream], 2, 0, folder / "folds.json")
    return Fold(Tables(rows, [], {}), made[0], upstream, folder / "shown", TINY)


def command(table, out, bundle, *more):
    usual = ["--recipe", "tiny", "--graders", ",".join(ARMS), "--folds", "2", "--bundle", str(bundle), "-q"]
    return ["nicking", "study-grades", str(table), "--out", str(out), *usual, *more]


@pytest.fixture(scope="module")
def study(table, graded, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "s"
    result = CliRunner().invoke(app, command(table, out, graded[1]))
    assert result.exit_code == 0, result.exception
    return out


def lines(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def patch(seed=0, side=SIDE):
    rng = np.random.default_rng(seed)
    pixels, maps = rng.integers(20, 255, (2, side, side, 3), dtype=np.uint8)
    return Patch(pixels, maps, rng.random((side, side)) > 0.2)


def named(upstream, name, *seen):
    return replace(upstream, name=name, seen=frozenset(seen))


def photographs(*grades, n=8):
    """Rows of `n` photographs with these grades each; no file is looked at."""
    return [
        PatchRow(f"{k}_{j}.png", grade, f"p{k}") for k in range(n) for j, grade in enumerate(grades)
    ]  # fmt: skip


# --- folds


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("k", [2, 4])
def test_no_photograph_is_in_two_parts_and_each_is_tested_once(upstream, tmp_path, k, seed):
    rows = photographs(0, 1, 2, None, n=12)
    folds = grade_folds(rows, [upstream], k, seed, tmp_path / "folds.json")
    assert len(folds) == k and [fold.number for fold in folds] == list(range(k))
    assert Counter(name for fold in folds for name in fold.test) == Counter({f"p{n}": 1 for n in range(12)})
    for fold in folds:
        assert fold.inner and not fold.inner & fold.test
        parts = {part: fold.rows(rows, part) for part in ("train", "inner", "test")}
        assert sorted(np.concatenate(list(parts.values()))) == [
            n for n, row in enumerate(rows) if row.grade is not None
        ]
        owners = [{rows[n].photograph for n in ranks} for ranks in parts.values()]
        assert all(owners) and sum(map(len, owners)) == len(set.union(*owners)) == 12


def test_seeds_have_folds_of_their_own_and_a_seed_always_the_same(upstream, tmp_path):
    rows = photographs(0, 1, 2, n=12)
    made = [grade_folds(rows, [upstream], 3, seed, tmp_path / f"{seed}.json") for seed in (0, 1)]
    assert [fold.test for fold in made[0]] != [fold.test for fold in made[1]]
    assert grade_folds(rows, [upstream], 3, 0, tmp_path / "0.json") == made[0]
    kept = json.loads((tmp_path / "0.json").read_text())
    assert [set(each["test"]) for each in kept] == [fold.test for fold in made[0]]
    with pytest.raises(UsageError, match="holds folds of other patches. Give another folder to --out"):
        grade_folds(photographs(0, 1, n=12), [upstream], 4, 0, tmp_path / "0.json")


def test_grades_come_in_like_shares(upstream, tmp_path):
    rows = [PatchRow(f"{k}.png", int(k % 4 == 0), f"p{k}") for k in range(40)]
    for fold in grade_folds(rows, [upstream], 5, 0, tmp_path / "f.json"):
        assert sum(rows[k].grade for k in fold.rows(rows, "test")) == 2


def test_an_upstream_is_never_tested_on_what_it_saw(upstream, tmp_path):
    rows = photographs(0, 1, n=8)
    even, odd = (named(upstream, n, *(f"p{k}" for k in range(s, 8, 2))) for n, s in (("even", 0), ("odd", 1)))
    folds = grade_folds(rows, [even, odd], 4, 0, tmp_path / "f.json")
    assert {fold.upstream for fold in folds} == {0, 1}
    for fold in folds:
        assert fold.test and not fold.test & (even, odd)[fold.upstream].seen
    assert set.union(*(set(fold.test) for fold in folds)) == {f"p{k}" for k in range(8)}
    with pytest.raises(LeakError, match=r"p0 was seen by every upstream \(even, all\).*Give one that has not seen it"):
        grade_folds(rows, [even, named(upstream, "all", "p0")], 4, 0, tmp_path / "g.json")
    assert free_of([even, odd], "p0") == (1,) and free_of([even, odd], "new") == (0, 1)


def test_too_few_photographs_or_folds_are_told(upstream, tmp_path):
    with pytest.raises(UsageError, match="3 photographs make no 4 folds. Give patches of more, or fewer folds"):
        grade_folds(photographs(0, 1, n=3), [upstream], 4, 0, tmp_path / "f.json")
    with pytest.raises(UsageError, match="--folds 1: there are 1 upstreams in use. Give at least 2 folds"):
        grade_folds(photographs(0, 1), [upstream], 1, 0, tmp_path / "f.json")


def test_what_trains_is_not_tested_whichever_table_it_comes_from(upstream, tmp_path):
    rows, made = photographs(0, None, n=4), GradeFold(0, 0, frozenset({"p0"}), frozenset({"p1"}))
    extra = [PatchRow("x.png", 1, name) for name in ("p0", "p1", "p2", "new")] + [PatchRow("y.png", None, "new")]
    others = {"far": [PatchRow("z.png", 2, name) for name in ("p0", "p1", "p2", "new", "seen", "unknown")]}
    fold = Fold(Tables(rows, extra, others), made, named(upstream, "u", "seen"), tmp_path, TINY)
    every = [*rows, *extra]
    assert [every[k].photograph for k in fold.train] == ["p2", "p3", "p2", "new"]
    assert all(fold.tables.labelled[fold.train] >= 0)
    assert [rows[k].photograph for k in fold.inner] == ["p1"]
    assert [rows[k].photograph for k in fold.tested("")] == ["p0"]
    assert [others["far"][k].photograph for k in fold.tested("far")] == ["p0", "unknown"]
    assert [rows[k].photograph for k in fold.unlabelled] == ["p2", "p3"]
    assert all(rows[k].grade is None for k in fold.unlabelled)


# --- upstream


def test_an_upstreams_folder_is_read_and_a_wrong_one_is_told(upstream, graded, tmp_path):
    (tmp_path / "u").mkdir()
    (tmp_path / "u" / "maps").symlink_to(graded[1])
    with pytest.raises(UsageError, match=r"seen.json: cannot be read .*Give a folder that the crossing task wrote"):
        Upstream.of(tmp_path / "u")
    (tmp_path / "u" / "seen.json").write_text('["a", "b"]')
    found = Upstream.of(tmp_path / "u")
    assert (found.name, found.seen, found.detector) == ("u", {"a", "b"}, None)
    with pytest.raises(UsageError, match="has no detector.safetensors. Give another, or leave transfer out"):
        found.hand_down(NickGrader(TINY.network))


def test_a_detectors_body_and_pyramid_are_handed_down_to_both_streams(upstream, tmp_path):
    from fundoscope.networks.mask_rcnn import CrossingDetector, DetectorOptions

    torch.manual_seed(5)
    detector = CrossingDetector(DetectorOptions(pretrained=False, maps=8, hidden=8)).state_dict()
    save_file({k: v.contiguous() for k, v in detector.items()}, tmp_path / "detector.safetensors")
    given = load_file(tmp_path / "detector.safetensors")
    grader = NickGrader(arm_of("published", TINY).network)
    before = {name: value.clone() for name, value in grader.state_dict().items()}
    replace(upstream, detector=tmp_path / "detector.safetensors").hand_down(grader)
    for number in (0, 1):
        own = grader.streams[number].state_dict()
        body = [name for name in own if name.startswith("body.")]
        assert len(body) > 100
        for name in body:
            torch.testing.assert_close(own[name], given[f"backbone.{name}"])
        taken = [name for name in own if name.startswith("pyramid.") and f"backbone.{name}" in given]
        assert any(torch.equal(own[name], given[f"backbone.{name}"]) for name in taken)
    torch.testing.assert_close(grader.state_dict()["head.weight"], before["head.weight"])


# --- views


def test_views_are_named_by_patch_and_number_and_nothing_else(rows, upstream):
    maps = upstream.bundle.maps
    first, again = (list(Views(2).draw(rows[0], maps)) for _ in range(2))
    longer, other = list(Views(3).draw(rows[0], maps)), list(Views(2, seed=1).draw(rows[0], maps))
    for k in range(2):
        np.testing.assert_array_equal(packed(first[k]), packed(again[k]))
        np.testing.assert_array_equal(packed(first[k]), packed(longer[k]))
        assert (packed(first[k]) != packed(other[k])).mean() > 0.2
    assert (first[0].pixels != first[1].pixels).mean() > 0.2
    elsewhere = next(Views(1).draw(replace(rows[0], photograph="another"), maps))
    assert (first[0].pixels != elsewhere.pixels).mean() > 0.2


def test_views_are_drawn_once_and_kept(rows, upstream, tmp_path):
    asked = []

    def maps(contrast):
        asked.append(contrast.shape)
        return upstream.bundle.maps(contrast)

    kept = drawn(rows[:2], maps, Views(1), tmp_path / "v" / "views.npy")
    assert kept.shape == (2, 1, SIDE, SIDE, 7) and len(asked) == 2
    np.testing.assert_array_equal(kept[1, 0], packed(next(Views(1).draw(rows[1], upstream.bundle.maps))))
    again = drawn(rows[:2], maps, Views(1), tmp_path / "v" / "views.npy")
    np.testing.assert_array_equal(kept, again)
    assert len(asked) == 2 and [path.name for path in (tmp_path / "v").iterdir()] == ["views.npy"]


def test_the_usual_patch_and_views_from_more_around_are_the_same_cut(rows):
    whole = np.pad(read(rows[0].path).pixels, ((16, 16), (16, 16), (0, 0)), mode="reflect")  # 288 pixels
    wide = Patch(whole, whole, np.ones(whole.shape[:2], bool))
    for turn, zoom, shift in ((0.0, 1.0, (0.0, 0.0)), (33.0, 1.3, (4.0, -9.0))):
        np.testing.assert_array_equal(around(whole, turn, zoom, shift), wide.cut(turn, zoom, shift).pixels)
    assert usual(rows[0]).shape == (SIDE, SIDE, 3)
    corner = around(np.full((288, 288, 3), 90, np.uint8), zoom=0.3)
    assert corner.min() == 90  # edges are repeated


def test_packed_and_unpacked_it_is_the_same_patch():
    one = patch()
    two = unpacked(packed(one))
    for name in ("pixels", "maps", "inside"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        np.testing.assert_array_equal(getattr(turned(one, 1), name), np.rot90(getattr(one, name)))
        np.testing.assert_array_equal(getattr(turned(one, 4), name), getattr(one, name))


def test_masked_the_crossing_is_not_seen_and_all_else_is():
    x = np.random.default_rng(0).normal(size=(6, SIDE, SIDE)).astype(np.float32)
    kept, hidden = x.copy(), masked(x)
    away = np.hypot(*(np.indices((SIDE, SIDE)) - (SIDE - 1) / 2)) / WIDTH
    assert np.abs(hidden[:, away < 3.9]).max() == 0
    np.testing.assert_array_equal(hidden[:, away > 4.1], x[:, away > 4.1])
    np.testing.assert_array_equal(x, kept)


def examples(grades, seed=0, mask=False):
    kept = np.stack([packed(patch(k))[None] for k in range(len(grades))])
    return Examples(kept, np.arange(len(grades)), np.array(grades), seed, mask)


def test_examples_are_named_by_seed_epoch_and_rank():
    some, other = examples([0, 1, 2]), examples([0, 1, 2], seed=1)
    x, grade = some[4, 2]
    assert grade == 2 and x.shape == (6, SIDE, SIDE)
    torch.testing.assert_close(x, some[4, 2][0])
    assert any(not torch.equal(some[epoch, 2][0], other[epoch, 2][0]) for epoch in range(4))
    ways = {float(some[epoch, 2][0][3, 0, 0]) for epoch in range(40)}
    assert len(ways) == 4  # each corner has come to the upper left
    hidden = examples([0, 1, 2], mask=True)
    assert float(hidden[0, 1][0][:, SIDE // 2, SIDE // 2].abs().max()) == 0


def test_an_epoch_has_each_grade_as_often_and_each_patch_of_a_grade_as_often():
    grades = [0] * 30 + [1] * 6 + [3] * 4
    batches = training_batches(examples(grades), 8)
    seen = []
    for epoch in (0, 1, 0):
        batches.sampler.set_epoch(epoch)
        seen.append(list(batches.sampler))
    assert seen[0] == seen[2] != seen[1] and len(seen[0]) == len(grades) and {e for e, _ in seen[1]} == {1}
    ranks = Counter(k for _, k in seen[0])
    shares = [sum(ranks[k] for k in range(40) if grades[k] == g) for g in (0, 1, 3)]
    assert max(shares) - min(shares) <= 2 and sum(shares) == 40
    assert max(ranks[k] for k in range(30)) == 1
    assert {ranks[k] for k in range(30, 36)} <= {1, 2, 3} and min(ranks[k] for k in range(36, 40)) >= 2


# --- asked


def test_a_patch_is_spoilt_without_a_change_of_the_vessels(rows):
    plain = usual(rows[0]).astype(float)
    found = {name: spoil(rows[0], np.random.default_rng(0)).astype(float) for name, spoil in VARIANTS.items()}
    assert next(iter(found)) == "usual" and all(picture.shape == plain.shape for picture in found.values())
    np.testing.assert_array_equal(found["usual"], plain)
    field = np.ones(plain.shape[:2], bool)
    for name in ("blurred", "recompressed", "recoloured"):
        assert np.abs(found[name] - plain).mean() > 0.1
        contrasts = [evened(picture.astype(np.uint8), field)[1].ravel() for picture in (plain, found[name])]
        assert np.corrcoef(contrasts)[0, 1] > 0.8
    assert np.abs(found["double the scale"][1::2, 1::2] - plain[32:96, 32:96]).mean() < 6
    assert np.abs(found["half the scale"][32:96, 32:96] - plain[::2, ::2]).mean() < 12


def test_patches_are_asked_about_as_they_are_kept(rows, upstream, tmp_path):
    asked = Asked.of(rows[:3], "usual", upstream, tmp_path / "a" / "own.npy")
    found = asked.inputs(np.array([2, 0]))
    assert found.shape == (2, 6, SIDE, SIDE)
    np.testing.assert_array_equal(found[0], inputs_of(unpacked(asked.kept[2])))
    np.testing.assert_array_equal(unpacked(asked.kept[0]).pixels, usual(rows[0]))
    assert asked.inputs(np.array([], int)).shape == (0, 6, SIDE, SIDE)
    again = Asked.of(rows[:3], "usual", replace(upstream, bundle=None), tmp_path / "a" / "own.npy")
    np.testing.assert_array_equal(again.kept, asked.kept)


def test_widths_are_measured_once_and_nan_where_they_could_not_be(rows, upstream, tmp_path):
    first = Widths.of(rows[:2], upstream, tmp_path / "w.npz")
    again = Widths.of(rows[:2], replace(upstream, bundle=None), tmp_path / "w.npz")
    assert first.narrowing.shape == (2, 2) and len(first.features) == 2
    np.testing.assert_array_equal(first.narrowing, again.narrowing)


# --- arms


def test_each_arm_is_ours_or_the_published_one_but_for_one_part():
    ours = arm_of("ours", TINY)
    assert ours.network == TINY.network and ours == replace(arm_of("masked", TINY), name="ours", masked=False)
    published = arm_of("published", TINY)
    whole = replace(TINY.network, excited=True, pyramid="safpn", head="plain")
    assert published.transferred and published.network == whole and not ours.transferred
    assert arm_of("no-transfer", TINY) == replace(published, name="no-transfer", transferred=False)
    changed = {
        "pseudo": {"pseudo": True}, "masked": {"masked": True}, "shuffled": {"shuffled": True},
    }  # fmt: skip
    for name, change in changed.items():
        assert arm_of(name, TINY) == replace(ours, name=name, **change)
    networks = {
        "plain-pyramid": {"pyramid": "fpn"}, "no-excitation": {"excited": False}, "side-by-side": {"pooled": "side by side"},
        "ordinal-head": {"head": "ordinal"}, "one-stream": {"streams": 1},
    }  # fmt: skip
    for name, change in networks.items():
        assert arm_of(name, TINY) == replace(published, name=name, network=replace(whole, **change))
    assert all(arm_of(rule, TINY).network is None for rule in RULES)
    assert {arm_of(name, TINY).name for name in NAMES} == set(NAMES)


def test_names_of_several_are_spelt_out_and_unknown_ones_name_the_nearest():
    assert names_of("usual") == USUAL == names_of("") and set(names_of("all")) == set(NAMES)
    assert names_of("roy, ours,roy") == ("roy", "ours")
    assert [arm.name for arm in arms_of(("roy", "ours", "roy"), TINY)] == ["ours", "roy"]
    with pytest.raises(UsageError, match="no way of grading 'our': did you mean 'ours'"):
        arm_of("our", TINY)
    with pytest.raises(UsageError, match="no recipe 'tinny': did you mean 'tiny'"):
        recipe_of("tinny")


def test_grades_are_called_alike_in_studies_and_in_screening():
    p = np.random.default_rng(0).dirichlet(np.ones(4), 200)
    assert [grade_called(each) for each in p] == called(p).tolist()


# --- fits


class Recorder:
    """Stands for a network: keeps what it was taught, and is sure that every patch is of grade 2."""

    taught: list

    def __init__(self, arm, fold, seed):
        self.arm, self.model, self.temperature = arm, torch.nn.Identity(), 1.0

    def fit(self, grades, ranks, options, folder):
        Recorder.taught.append((grades.copy(), ranks.copy(), folder.name))

    def answers(self, asked, ranks):
        return np.tile([0.05, 0.05, 0.9, 0.0], (len(ranks), 1))


def taught(name, fold, seed, tmp_path, monkeypatch):
    Recorder.taught = []
    monkeypatch.setattr(fitting, "Network", Recorder)
    run_arm(arm_of(name, TINY), fold, seed, ("usual",), tmp_path)
    return Recorder.taught


def test_grades_are_dealt_anew_in_the_shuffled_arm_only(fold, tmp_path, monkeypatch):
    ((plain, ranks, _),) = taught("ours", fold, 0, tmp_path, monkeypatch)
    np.testing.assert_array_equal(plain, fold.tables.labelled)
    np.testing.assert_array_equal(ranks, fold.train)
    dealt = [taught("shuffled", fold, seed, tmp_path, monkeypatch)[0][0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(dealt[0], dealt[1])
    assert (dealt[0] != dealt[2]).any() and (dealt[0][ranks] != plain[ranks]).any()
    assert Counter(dealt[0][ranks]) == Counter(plain[ranks])
    others = np.setdiff1d(np.arange(len(plain)), ranks)
    np.testing.assert_array_equal(dealt[0][others], plain[others])


def test_pseudo_labels_are_given_to_unlabelled_patches_of_training_photographs_only(fold, tmp_path, monkeypatch):
    first, second = taught("pseudo", fold, 0, tmp_path, monkeypatch)
    np.testing.assert_array_equal(first[1], fold.train)
    added = np.setdiff1d(second[1], first[1])
    rows = fold.tables.rows
    assert len(added) and all(rows[k].grade is None for k in added)
    assert not {rows[k].photograph for k in added} & (fold.fold.test | fold.fold.inner)
    assert (second[0][added] == 2).all() and (first[0][added] == -1).all()
    assert (second[0][fold.train] == fold.tables.labelled[fold.train]).all() and second[2] != first[2]
    monkeypatch.setattr(fitting, "_SURE", 0.95)
    unsure = taught("pseudo", fold, 0, tmp_path, monkeypatch)[1]
    np.testing.assert_array_equal(unsure[1], fold.train)
    assert len(taught("ours", fold, 0, tmp_path, monkeypatch)) == 1


def test_a_masked_network_is_asked_about_masked_patches(fold):
    class Tell(torch.nn.Module):
        def forward(self, x):
            return x[:, :4, SIDE // 2, SIDE // 2]

    asked, ranks = fold.asked("", "usual"), fold.inner
    told = []
    for name in ("ours", "masked"):
        network = Network(arm_of(name, TINY), fold, 0)
        network.model = Tell()
        told.append(network.answers(asked, ranks))
    np.testing.assert_allclose(told[1], 0.25)
    assert np.abs(told[0] - 0.25).max() > 0.01


def test_the_temperature_is_that_of_the_least_loss(fold):
    assert fitting._temperature(lambda t: (np.log(t) - 0.7) ** 2) == pytest.approx(np.exp(0.7), rel=1e-3)
    assert fitting._temperature(lambda t: t) == pytest.approx(np.exp(-1.5), rel=1e-2)
    network = Network(arm_of("ours", TINY), fold, 0)
    inputs = fold.asked("", "usual").inputs(fold.inner)
    told = fold.tables.labelled[fold.inner]
    network.temperature = 2.0
    p = network.answers(fold.asked("", "usual"), fold.inner)
    assert network._loss_at(inputs, told, 2.0) == pytest.approx(-np.log(p[np.arange(len(told)), told]).mean(), rel=1e-5)


def test_a_seed_is_a_start_of_its_own(fold):
    heads = [Network(arm_of("ours", TINY), fold, seed).model.head.weight for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_mdtnet_looks_at_the_patch_alone_and_everyone_is_taught():
    from fundoscope.networks.mdtnet import LIGHT, mdtnet_loss

    torch.manual_seed(0)
    team = Team(replace(LIGHT, pretrained=False)).eval()
    x = torch.randn(2, 6, 64, 64)
    other = torch.cat([x[:, :3], torch.randn(2, 3, 64, 64)], dim=1)
    with torch.no_grad():
        assert team(x).shape == (2, 4)
        torch.testing.assert_close(team(x), team(other))
        said = team.team.answers(x[:, :3])
        logits = torch.cat([said.joined[None], said.plain, said.focal]).transpose(0, 1)
        grades = torch.tensor([0, 3])
        torch.testing.assert_close(team.loss(logits, grades), mdtnet_loss(said, grades))


# --- what was said


def test_only_patches_with_a_grade_that_were_asked_about_are_counted():
    rows = [PatchRow("a", 0, "p"), PatchRow("b", None, "p"), PatchRow("c", 3, "q"), PatchRow("d", 2, "r")]
    p = np.array([[0.9, 0.1, 0, 0], [1, 0, 0, 0], [np.nan] * 4, [0.1, 0.1, 0.7, 0.1]])
    said = Said(rows, p, np.ones(4, bool))
    assert said.known.tolist() == [0, 3] and said.truth.tolist() == [0, 2] == said.told.tolist()
    assert said.groups == ["p", "r"]


# --- where networks look


def crossing():
    maps = np.zeros((SIDE, SIDE, 3), np.uint8)
    maps[59:69, :, :2] = 255
    maps[:, 59:69] = 255, 0, 255
    return Patch(np.full((SIDE, SIDE, 3), 120, np.uint8), maps, np.ones((SIDE, SIDE), bool))


def test_flanks_are_the_vein_beside_the_artery():
    there = flanks(crossing())
    rows, columns = np.nonzero(there)
    assert (np.abs(columns - (SIDE - 1) / 2) < 9).all() and np.abs(rows - (SIDE - 1) / 2).max() < 2.5 * WIDTH + 3
    assert there[64 - 20, 64] and there[64 + 20, 64] and not there[64, 64] and not there[64, 64 + 20]


def test_pointing_at_the_flanks_scores_more_than_chance_and_elsewhere_less():
    patch, there = crossing(), flanks(crossing())
    on = pointed(there.astype(np.float32), patch)
    assert on == pointed(3 * there.astype(np.float32), patch) or on.score == pytest.approx(1 / there.mean())
    assert on.mass == pytest.approx(1) and on.area == pytest.approx(there.mean())
    assert pointed(np.ones((SIDE, SIDE), np.float32), patch).score == pytest.approx(1)
    assert pointed((~there).astype(np.float32), patch).score == 0
    assert pointed(np.zeros((SIDE, SIDE), np.float32), patch) is None
    assert pointed(np.ones((SIDE, SIDE), np.float32), replace(patch, maps=0 * patch.maps)) is None
    assert Pointed(0.3, 0.1).score == pytest.approx(3)


def test_pictures_show_patch_kinds_and_activation_beside_each_other():
    patch = crossing()
    shown = side_by_side(patch, np.stack([flanks(patch), np.zeros((SIDE, SIDE))]).astype(np.float32))
    assert shown.shape == (SIDE, 4 * SIDE, 3)
    np.testing.assert_array_equal(shown[:, :SIDE], patch.pixels)
    kinds = kinds_picture(patch)
    assert kinds[64, 10].tolist() == [255, 63, 63] and kinds[10, 64].tolist() == [63, 63, 255]
    assert (shown[44, 2 * SIDE + 64] != patch.pixels[44, 64]).any()


# --- the whole study


def test_every_graded_patch_is_told_once_by_each_arm(study, rows):
    told = lines(study / "tables" / "predictions.csv")
    graded = sorted(row.path.name for row in rows if row.grade is not None)
    for arm in ARMS:
        own = [row for row in told if row["grader"] == arm]
        assert sorted(row["patch"] for row in own) == graded
        for row in own:
            p = np.array([float(row[f"p{k}"]) for k in range(4)])
            assert p.sum() == pytest.approx(1, abs=3e-3)
            if np.abs(p.cumsum()[:3] - 0.5).min() > 3e-3:
                assert int(row["told"]) == grade_called(p)


def test_what_a_network_said_of_a_patch_stands_in_its_row(study, rows):
    told = {row["patch"]: row for row in lines(study / "tables" / "predictions.csv") if row["grader"] == "ours"}
    for number, fold in enumerate(json.loads((study / "folds_0.json").read_text())):
        tested = [row for row in rows if row.photograph in fold["test"] and row.grade is not None]
        with np.load(study / "fits" / "ours" / "seed_0" / f"fold_{number}" / "answers.npz") as kept:
            p = kept["|usual"]
        for row, chances in zip(tested, p, strict=True):
            line = told[row.path.name]
            assert [float(line[f"p{k}"]) for k in range(4)] == pytest.approx(chances.tolist(), abs=1e-3)
            assert int(line["grade"]) == row.grade and line["photograph"] == row.photograph


def test_tables_and_report_stand_there(study):
    tables = {path.stem: lines(path) for path in (study / "tables").glob("*.csv")}
    assert set(tables) >= {"grades", "differences", "spoilt", "shams", "predictions", "pointing"}
    assert [row["grader"] for row in tables["grades"]] == list(ARMS)
    assert all(row["quadratic_kappa"] and row["papers_mix_accuracy"] and row["nicked_auc"] for row in tables["grades"])
    assert [row["what"] for row in tables["differences"]] == ["ours less majority", "ours less nguyen"]
    assert [row["variant"] for row in tables["spoilt"]] == list(VARIANTS)[1:]
    assert {row["grader"] for row in tables["shams"]} == {"ours"}
    majority = tables["grades"][1]
    assert float(majority["quadratic_kappa"]) == 0 and float(majority["accuracy"]) == pytest.approx(0.25, abs=0.05)
    page = (study / "report.html").read_text()
    for words in ("ours: truth by row", "Where the networks look", "papers_mix", "data:image"):
        assert words in page, words


def test_the_figures_are_those_of_the_predictions(study):
    from sklearn.metrics import cohen_kappa_score

    told = [row for row in lines(study / "tables" / "predictions.csv") if row["grader"] == "ours"]
    y, called = ([int(row[name]) for row in told] for name in ("grade", "told"))
    figures = lines(study / "tables" / "grades.csv")[0]
    assert float(figures["accuracy"]) == pytest.approx(np.mean(np.array(y) == called), abs=1e-3)
    if len(set(called)) > 1:
        kappa = cohen_kappa_score(y, called, weights="quadratic", labels=range(4))
        assert float(figures["quadratic_kappa"]) == pytest.approx(kappa, abs=1e-3)


def test_the_same_command_again_fits_nothing(study, table, graded):
    answers = sorted(study.rglob("answers.npz"))
    assert len(answers) == 2 * len(ARMS)
    before = [path.stat().st_mtime_ns for path in answers]
    kept = (study / "tables" / "grades.csv").read_text()
    result = CliRunner().invoke(app, command(table, study, graded[1]))
    assert result.exit_code == 0, result.exception
    assert [path.stat().st_mtime_ns for path in answers] == before
    assert (study / "tables" / "grades.csv").read_text() == kept


def test_a_fit_that_is_missing_is_made_again_alone(study, table, graded):
    import shutil

    answers = sorted(study.rglob("answers.npz"))
    lost = study / "fits" / "majority" / "seed_0" / "fold_1"
    before = {path: path.stat().st_mtime_ns for path in answers}
    with np.load(lost / "answers.npz") as kept:
        told = kept["|usual"]
    shutil.rmtree(lost)
    assert CliRunner().invoke(app, command(table, study, graded[1])).exit_code == 0
    changed = [path for path, when in before.items() if path.stat().st_mtime_ns != when]
    assert changed == [lost / "answers.npz"]
    with np.load(lost / "answers.npz") as kept:
        np.testing.assert_array_equal(kept["|usual"], told)


def test_other_settings_in_the_same_folder_are_refused(study, table, graded):
    result = CliRunner().invoke(app, command(table, study, graded[1], "--folds", "3"))
    assert isinstance(result.exception, StudyError) and "folds: 2 there, 3 now" in str(result.exception)


def test_a_study_of_rules_alone_and_of_another_table_runs(table, graded, tmp_path):
    more = ("--graders", "majority,nguyen", "--also", str(table.parent / "patches.csv"))
    result = CliRunner().invoke(app, command(table, tmp_path / "s", graded[1], *more))
    assert result.exit_code == 0, result.exception
    elsewhere = lines(tmp_path / "s" / "tables" / "elsewhere.csv")
    assert [(row["on"], row["grader"]) for row in elsewhere] == [("eyes", "majority"), ("eyes", "nguyen")]
    assert int(elsewhere[0]["n"]) == len(read_table(table.parent / "patches.csv"))


def test_an_arm_without_weights_to_transfer_is_told(upstream):
    arms = [arm_of(name, TINY) for name in ("ours", "published", "no-transfer", "plain-pyramid")]
    assert _untransferred(arms, [upstream]) == ["published", "plain-pyramid"]
    taught = replace(upstream, detector=Path("detector.safetensors"))
    assert _untransferred(arms, [taught, upstream]) == ["published", "plain-pyramid"]
    assert _untransferred(arms, [taught]) == []


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--graders", "mine"], 2, "no way of grading 'mine'"),
        (["--recipe", "tinny"], 2, "did you mean 'tiny'"),
        (["--folds", "9"], 2, "6 photographs make no 9 folds"),
        (["--upstream", "none"], 2, "Give a folder that the crossing task wrote"),
        (["--bundle", "none"], 3, "none"),
        (["--also", "few.csv", "--also", "few.csv"], 2, "'few' would be the name of two"),
    ],
)
def test_wrong_calls_are_told_and_leave_with_their_code(table, graded, tmp_path, more, code, words):
    more = [str(table) if each == "few.csv" else each for each in more]
    result = CliRunner().invoke(app, command(table, tmp_path / "s", graded[1], *more))
    assert isinstance(result.exception, FundoscopeError) and words in str(result.exception)
    assert result.exception.exit_code == code


def test_a_patch_that_is_missing_is_named_and_one_that_is_broken_too(table, graded, tmp_path):
    for name, code in (("missing", 2), ("broken", 1)):
        copy = tmp_path / f"{name}.csv"
        text = [line.replace("patches/", f"{table.parent}/patches/") for line in table.read_text().splitlines()]
        if name == "broken":
            (tmp_path / "broken.png").write_bytes(b"no picture")
        text[1] = f"{name}.png,0,{text[1].split(',')[2]}"
        copy.write_text("\n".join(text) + "\n")
        result = CliRunner().invoke(app, command(copy, tmp_path / name, graded[1], "--graders", "nguyen"))
        assert isinstance(result.exception, FundoscopeError) and f"{name}.png" in str(result.exception)
        assert result.exception.exit_code == code


def test_an_upstream_that_saw_a_patch_of_another_table_stops_the_study(table, graded, tmp_path):
    upstream = tmp_path / "u"
    upstream.mkdir()
    (upstream / "maps").symlink_to(graded[1])
    (upstream / "seen.json").write_text('["other"]')
    other = tmp_path / "other.csv"
    other.write_text(f"patch,grade,photograph\n{read_table(table)[0].path},1,other\n")
    options = GradeOptions(
        table, tmp_path / "s", TINY, ("majority",), 2, also=(other,), upstream=(upstream,), bundle=str(graded[1])
    )
    with pytest.raises(LeakError, match="other was seen by every upstream"):
        run_study(options, Talk(quiet=True))
