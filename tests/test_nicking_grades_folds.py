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

import fundoscope
from fundoscope.errors import LeakError, UsageError
from fundoscope.networks.nick_grader import GraderOptions, NickGrader
from fundoscope.nicking.grade_study.folds import GradeFold, GradeFoldData, PatchTables, make_grade_folds
from fundoscope.nicking.grade_study.patch_table import PatchRow
from fundoscope.nicking.grade_study.prediction_table import OWN
from fundoscope.nicking.grade_study.study_arms import build_arm
from fundoscope.nicking.grade_study.transfer import Upstream, upstreams_free_of
from fundoscope.nicking.recipes.grades import read_grade_recipe

TINY = read_grade_recipe("tiny")
NUMBERS = TINY.folds


def named(upstream, name, *seen):
    return replace(upstream, name=name, seen_photographs=frozenset(seen))


def photographs(*grades, n=8):
    """Rows of `n` photographs with these grades each; no file is looked at."""
    return [
        PatchRow(Path(f"{k}_{j}.png"), grade, f"p{k}") for k in range(n) for j, grade in enumerate(grades)
    ]  # fmt: skip


# --- folds


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("k", [2, 4])
def test_no_photograph_is_in_two_parts_and_each_is_tested_once(fresh_upstream, tmp_path, k, seed):
    rows = photographs(0, 1, 2, None, n=12)
    folds = make_grade_folds(rows, [fresh_upstream], k, seed, NUMBERS, tmp_path / "folds.json")
    assert len(folds) == k and [fold.number for fold in folds] == list(range(k))
    assert Counter(name for fold in folds for name in fold.test) == Counter({f"p{n}": 1 for n in range(12)})
    for fold in folds:
        assert fold.inner and not fold.inner & fold.test
        parts = {part: fold.row_numbers(rows, part) for part in ("train", "inner", "test")}
        assert sorted(np.concatenate(list(parts.values()))) == [
            n for n, row in enumerate(rows) if row.grade is not None
        ]
        owners = [{rows[n].photograph for n in ranks} for ranks in parts.values()]
        assert all(owners) and sum(map(len, owners)) == len(set.union(*owners)) == 12


def test_seeds_have_folds_of_their_own_and_a_seed_always_the_same(fresh_upstream, tmp_path):
    rows = photographs(0, 1, 2, n=12)
    made = [make_grade_folds(rows, [fresh_upstream], 3, seed, NUMBERS, tmp_path / f"{seed}.json") for seed in (0, 1)]
    assert [fold.test for fold in made[0]] != [fold.test for fold in made[1]]
    assert make_grade_folds(rows, [fresh_upstream], 3, 0, NUMBERS, tmp_path / "0.json") == made[0]
    kept = json.loads((tmp_path / "0.json").read_text())
    assert [set(each["test"]) for each in kept] == [fold.test for fold in made[0]]
    with pytest.raises(UsageError, match="holds folds of other patches. Give another folder to --out"):
        make_grade_folds(photographs(0, 1, n=12), [fresh_upstream], 4, 0, NUMBERS, tmp_path / "0.json")


def test_grades_come_in_like_shares(fresh_upstream, tmp_path):
    rows = [PatchRow(Path(f"{k}.png"), int(k % 4 == 0), f"p{k}") for k in range(40)]
    for fold in make_grade_folds(rows, [fresh_upstream], 5, 0, NUMBERS, tmp_path / "f.json"):
        assert sum(rows[k].grade for k in fold.row_numbers(rows, "test")) == 2


def test_an_upstream_is_never_tested_on_what_it_saw(fresh_upstream, tmp_path):
    rows = photographs(0, 1, n=8)
    even, odd = (named(fresh_upstream, n, *(f"p{k}" for k in range(s, 8, 2))) for n, s in (("even", 0), ("odd", 1)))
    folds = make_grade_folds(rows, [even, odd], 4, 0, NUMBERS, tmp_path / "f.json")
    assert {fold.upstream for fold in folds} == {0, 1}
    for fold in folds:
        assert fold.test and not fold.test & (even, odd)[fold.upstream].seen_photographs
    assert set.union(*(set(fold.test) for fold in folds)) == {f"p{k}" for k in range(8)}
    with pytest.raises(LeakError, match=r"p0 was seen by every upstream \(even, all\).*Give one that has not seen it"):
        make_grade_folds(rows, [even, named(fresh_upstream, "all", "p0")], 4, 0, NUMBERS, tmp_path / "g.json")
    assert upstreams_free_of([even, odd], "p0") == (1,) and upstreams_free_of([even, odd], "new") == (0, 1)


def test_folds_go_to_upstreams_by_their_crossings_and_each_gets_one(fresh_upstream, tmp_path):
    """Of five folds two go to each of two upstreams with many crossings, and one to that with few."""
    sizes = {"a": 8, "b": 6, "c": 2}
    rows = [
        PatchRow(Path(f"{c}_{k}_{j}.png"), j, f"{c}{k}") for c, n in sizes.items() for k in range(n) for j in (0, 1)
    ]
    names = {row.photograph for row in rows}
    upstreams = [named(fresh_upstream, c, *(name for name in names if name[0] != c)) for c in sizes]
    folds = make_grade_folds(rows, upstreams, 5, 0, NUMBERS, tmp_path / "f.json")
    assert Counter(fold.upstream for fold in folds) == {0: 2, 1: 2, 2: 1}
    for fold in folds:
        assert {name[0] for name in fold.test} == {"abc"[fold.upstream]}


def test_an_inner_part_has_crossings_enough_or_there_is_no_fold(fresh_upstream, tmp_path):
    rows = [
        PatchRow(Path(f"{k:04d}_{c:02d}_{j:02d}.png"), j, f"p{k}")
        for k in range(10)
        for c in range(k + 1)
        for j in (0, 1)
    ]
    for fewest in (5, 9):
        numbers = NUMBERS.model_copy(update={"fewest_inner_crossings": fewest})
        for fold in make_grade_folds(rows, [fresh_upstream], 2, 0, numbers, tmp_path / f"{fewest}.json"):
            assert len({row.crossing for row in rows if fold.part_of(row) == "inner"}) >= fewest
    many = NUMBERS.model_copy(update={"fewest_inner_crossings": 50})
    with pytest.raises(
        UsageError, match=r"fold 0 of seed 0: each of 4 parts .* at most \d+ crossings, and 50 are needed"
    ):
        make_grade_folds(rows, [fresh_upstream], 2, 0, many, tmp_path / "many.json")


def test_too_few_photographs_or_folds_are_told(fresh_upstream, tmp_path):
    with pytest.raises(UsageError, match="3 photographs make no 4 folds. Give patches of more, or fewer folds"):
        make_grade_folds(photographs(0, 1, n=3), [fresh_upstream], 4, 0, NUMBERS, tmp_path / "f.json")
    with pytest.raises(UsageError, match="--folds 1: there are 1 upstreams in use. Give at least 2 folds"):
        make_grade_folds(photographs(0, 1), [fresh_upstream], 1, 0, NUMBERS, tmp_path / "f.json")


def test_what_trains_is_not_tested_whichever_table_it_comes_from(fresh_upstream, tmp_path):
    rows, made = photographs(0, None, n=4), GradeFold(0, 0, frozenset({"p0"}), frozenset({"p1"}))
    extra = [PatchRow("x.png", 1, name) for name in ("p0", "p1", "p2", "new")] + [PatchRow("y.png", None, "new")]
    others = {"far": [PatchRow("z.png", 2, name) for name in ("p0", "p1", "p2", "new", "seen", "unknown")]}
    fold = GradeFoldData(PatchTables(rows, extra, others), made, named(fresh_upstream, "u", "seen"), tmp_path, TINY)
    every = [*rows, *extra]
    assert [every[k].photograph for k in fold.train] == ["p2", "p3", "p2", "new"]
    assert all(fold.tables.grades[fold.train] >= 0)
    assert [rows[k].photograph for k in fold.inner] == ["p1"]
    assert [rows[k].photograph for k in fold.tested(OWN)] == ["p0"]
    assert [others["far"][k].photograph for k in fold.tested("far")] == ["p0", "unknown"]
    assert [every[k].photograph for k in fold.unlabelled] == ["p2", "p3", "new"]
    assert all(every[k].grade is None for k in fold.unlabelled)


# --- upstream


def test_an_upstreams_folder_is_read_and_a_wrong_one_is_refused(fresh_upstream, tmp_path):
    (tmp_path / "u").mkdir()
    (tmp_path / "u" / "maps").symlink_to(Path(fundoscope.__file__).parent / "shipped" / "nicking")
    with pytest.raises(UsageError, match=r"seen.json: cannot be read .*Give a folder that the crossing task wrote"):
        Upstream.read(tmp_path / "u")
    (tmp_path / "u" / "seen.json").write_text('["a", "b"]')
    found = Upstream.read(tmp_path / "u")
    assert (found.name, found.detector) == ("u", None)
    assert found.seen_photographs == {"a", "b"} | fresh_upstream.seen_photographs
    with pytest.raises(UsageError, match="has no detector.safetensors. Give another, or leave transfer out"):
        found.transfer_weights(NickGrader(GraderOptions(**TINY.network.model_dump())))


def test_a_detectors_body_and_pyramid_are_handed_down_to_both_streams(fresh_upstream, tmp_path):
    from fundoscope.networks.mask_rcnn import CrossingDetector, DetectorOptions

    torch.manual_seed(5)
    detector = CrossingDetector(DetectorOptions(pretrained=False, maps=8, hidden=8)).state_dict()
    save_file({k: v.contiguous() for k, v in detector.items()}, tmp_path / "detector.safetensors")
    given = load_file(tmp_path / "detector.safetensors")
    grader = NickGrader(GraderOptions(**build_arm("published", TINY).network.model_dump()))
    before = {name: value.clone() for name, value in grader.state_dict().items()}
    replace(fresh_upstream, detector=tmp_path / "detector.safetensors").transfer_weights(grader)
    for number in (0, 1):
        own = grader.streams[number].state_dict()
        body = [name for name in own if name.startswith("body.")]
        assert len(body) > 100
        for name in body:
            torch.testing.assert_close(own[name], given[f"backbone.{name}"])
        pyramid = {name: given.get(f"backbone.{name}") for name in own if name.startswith("pyramid.")}
        fits = {name: there is not None and there.shape == own[name].shape for name, there in pyramid.items()}
        taken = {name: fits[name] and torch.equal(own[name], pyramid[name]) for name in pyramid}
        assert taken == fits and sum(fits.values()) >= 12, "the pyramid's tensors that fit, each of them"
        assert {name.split(".")[1] for name in fits if fits[name]} == {"lateral", "squeeze", "output"}
    torch.testing.assert_close(grader.state_dict()["head.weight"], before["head.weight"])


def test_a_detector_of_another_body_is_refused_with_the_share_that_fits(fresh_upstream, tmp_path):
    grader = NickGrader(GraderOptions(**TINY.network.model_copy(update={"body": "resnet10t"}).model_dump()))
    own = grader.streams[0].state_dict()
    few = {f"backbone.{name}": value for name, value in list(own.items())[:3]}
    save_file(few, tmp_path / "detector.safetensors")
    before = {name: value.clone() for name, value in own.items()}
    upstream = replace(fresh_upstream, name="half", detector=tmp_path / "detector.safetensors")
    with pytest.raises(
        UsageError, match=rf"'half' only 3 of {len(own)} tensors \(\d\.\d% .*'resnet10t'.*leave transfer out"
    ):
        upstream.transfer_weights(grader)
    assert all(torch.equal(before[name], value) for name, value in grader.streams[0].state_dict().items())
