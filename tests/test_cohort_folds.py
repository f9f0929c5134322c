from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fundoscope.cohort import Cohort, Folds, Groups, make_groups
from fundoscope.cohort.balance import deal_groups
from fundoscope.errors import CohortError, LeakError, UsageError


def cohort_of(labels, infants=None, treatments=None):
    rows = []
    for n, label in enumerate(labels):
        row = {"image": f"{n}.png", "label": label}
        if infants is not None:
            row["infant"] = str(infants[n])
        if treatments is not None:
            row["treatment_requiring"] = treatments[n]
        rows.append(row)
    return Cohort.from_rows(rows, "/nowhere")


def alone(cohort):
    return Groups(tuple(str(row) for row in range(len(cohort))), "photographs")


HALVES = cohort_of(["normal"] * 49 + ["rop"] * 49)


@st.composite
def grouped(draw):
    """Infants with several photographs of one or both classes; at least six infants hold each class."""
    sizes = [draw(st.tuples(st.integers(0, 4), st.integers(0, 4))) for _ in range(draw(st.integers(0, 20)))]
    sizes += [(draw(st.integers(1, 3)), 0) for _ in range(6)] + [(0, draw(st.integers(1, 3))) for _ in range(6)]
    labels = [w for a, b in sizes for w in ["normal"] * a + ["rop"] * b]
    infants = [n for n, (a, b) in enumerate(sizes) for _ in range(a + b)]
    order = draw(st.permutations(range(len(labels))))
    return cohort_of([labels[at] for at in order], [infants[at] for at in order])


@settings(max_examples=20, deadline=None)
@given(cohort=grouped(), k=st.integers(2, 5), seed=st.integers(0, 3))
def test_folds_of_any_infants_are_whole_and_honest(cohort, k, seed):
    folds = Folds.make(cohort, make_groups(cohort), k=k, seed=seed)
    tested = Counter(row for fold in folds for row in fold.test)
    assert tested == Counter(range(len(cohort)))
    for fold in folds:
        assert sorted(fold.test + fold.train + fold.inner) == list(range(len(cohort)))
        infants = [{cohort[row].infant for row in rows} for rows in (fold.test, fold.train, fold.inner)]
        assert not infants[0] & infants[1] and not infants[0] & infants[2] and not infants[1] & infants[2]
        for rows in (fold.test, fold.train, fold.inner):
            assert {cohort[row].label for row in rows} == {"normal", "rop"}
    assert Folds.make(cohort, make_groups(cohort), k=k, seed=seed) == folds


@pytest.mark.parametrize("k", [2, 5, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_singletons_are_shared_out_evenly(k, seed):
    folds = Folds.make(HALVES, alone(HALVES), k=k, seed=seed)
    for label in (0, 1):
        sizes = [sum(HALVES.labels[list(fold.test)] == label) for fold in folds]
        assert max(sizes) - min(sizes) <= 1
    for fold in folds:
        share = len(fold.inner) / (len(fold.inner) + len(fold.train))
        assert 0.2 <= share <= 0.25
        assert abs(HALVES.labels[list(fold.inner)].mean() - 0.5) <= 0.06


def test_seeds_differ():
    assert Folds.make(HALVES, alone(HALVES), seed=0).folds != Folds.make(HALVES, alone(HALVES), seed=1).folds


def test_treatment_is_shared_out_too():
    treatments = [""] * 20 + ["yes"] * 10 + ["no"] * 30
    cohort = cohort_of(["normal"] * 20 + ["rop"] * 40, treatments=treatments)
    folds = Folds.make(cohort, alone(cohort), k=5)
    assert {int((cohort.treatments[list(fold.test)] == 1).sum()) for fold in folds} == {2}


def test_large_and_small_groups_are_balanced_as_well_as_scikit_learn_does():
    from sklearn.model_selection import StratifiedGroupKFold

    rng = np.random.default_rng(5)
    sizes = rng.geometric(0.25, 40)
    labels = np.repeat(rng.integers(0, 2, 40), sizes)
    infants = np.repeat(np.arange(40), sizes)
    cohort = cohort_of([("normal", "rop")[label] for label in labels], infants)
    ours = [list(fold.test) for fold in Folds.make(cohort, make_groups(cohort), k=5)]
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    theirs = [test for _, test in splitter.split(labels, labels, infants)]

    def spread(parts):
        return np.std([len(rows) for rows in parts]) + np.std([labels[rows].sum() for rows in parts])

    assert spread(ours) <= 1.25 * spread(theirs) + 1


def test_deal_gives_each_part_its_share():
    counts = np.ones((100, 2))
    parts = deal_groups(counts, [0.5, 0.3, 0.2], np.random.default_rng(0))
    assert np.bincount(parts).tolist() == [50, 30, 20]


def test_too_few_groups_of_a_class_are_refused():
    cohort = cohort_of(["normal"] * 20 + ["rop"] * 12, [*range(20), *[20] * 4, *[21] * 4, *[22] * 2, *[23] * 2])
    with pytest.raises(CohortError, match=r"5 folds need 5 groups of each class, rop has 4 \(infants"):
        Folds.make(cohort, make_groups(cohort), k=5)
    assert len(Folds.make(cohort, make_groups(cohort), k=4)) == 4
    with pytest.raises(CohortError, match="normal has 0"):
        Folds.make(cohort_of(["rop"] * 9), alone(cohort_of(["rop"] * 9)), k=3)
    with pytest.raises(UsageError):
        Folds.make(HALVES, alone(HALVES), k=1)


def test_infants_and_identical_files_are_joined(tmp_path):
    for name, data in (("a", b"1"), ("b", b"2"), ("c", b"1"), ("d", b"3")):
        (tmp_path / name).write_bytes(data)
    rows = [{"image": n, "label": "rop", "infant": i} for n, i in zip("abcd", "1223", strict=True)]
    groups = make_groups(Cohort.from_rows(rows, tmp_path))
    assert groups.names == (
        "infant 1",
        "infant 1",
        "infant 1",
        "infant 3",
    )  # b and c by infant, a and c by content
    assert groups.numbers.tolist() == [0, 0, 0, 1] and len(groups) == 2
    unknown = make_groups(Cohort.from_rows([{"image": n, "label": "rop"} for n in "abcd"], tmp_path))
    assert unknown.numbers.tolist() == [0, 1, 0, 2]


@pytest.fixture
def saved(tmp_path):
    rows = [{"image": f"{n}.png", "label": ("normal", "rop")[n % 2], "infant": str(n // 2)} for n in range(40)]
    for n in range(40):
        (tmp_path / f"{n}.png").write_bytes(bytes([n]))
    cohort = Cohort.from_rows(rows, tmp_path)
    folds = Folds.make(cohort, make_groups(cohort), k=4)
    return cohort, rows, folds, folds.write(tmp_path / "folds.json")


def test_folds_read_back_as_written_and_are_never_overwritten(saved):
    cohort, _, folds, path = saved
    assert Folds.read(path, cohort) == folds
    assert folds.write(path) == path  # the same folds again
    with pytest.raises(CohortError, match="holds other folds already"):
        Folds.make(cohort, make_groups(cohort), k=4, seed=1).write(path)
    values = json.loads(path.read_text())
    test = values["folds"][0]["test"]
    assert test["images"] == [f"{row}.png" for row in test["rows"]] and values["groups"]["rule"].startswith("infants")
    assert not list(path.parent.glob("*.part"))


def changed(rows, at, **cells):
    return [row | cells if n == at else row for n, row in enumerate(rows)]


def test_a_changed_cohort_is_refused_and_what_changed_is_named(saved):
    _, rows, _, path = saved
    folder = path.parent
    for others, said in (
        (changed(rows, 3, label="normal"), "3.png: label was 'rop' and is 'normal'"),
        (changed(rows, 3, infant="99"), "3.png: infant was '1' and is '99'"),
        (rows[:-1], "39.png is gone"),
        (changed(rows, 0, image="new.png"), "0.png is gone"),
        ([*rows, {"image": "new.png", "label": "rop", "infant": "5"}], "new.png was added"),
        (rows[::-1], "another order"),
    ):
        with pytest.raises(CohortError) as caught:
            Folds.read(path, Cohort.from_rows(others, folder))
        assert said in str(caught.value)
    (folder / "7.png").write_bytes(b"other")
    with pytest.raises(CohortError, match=r"7\.png: the file's content"):
        Folds.read(path, Cohort.from_rows(rows, folder))


def tamper(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def swap(values):
    # one photograph of fold 0 changes places with one of fold 1 in every part: only the infants are parted
    a, b = values["folds"][0]["test"]["rows"][0], values["folds"][1]["test"]["rows"][0]
    for fold in values["folds"]:
        for part in fold.values():
            part["rows"] = [{a: b, b: a}.get(row, row) for row in part["rows"]]


def test_a_planted_leak_raises_and_names_the_photographs(saved):
    cohort, _, folds, path = saved
    a = folds[0].test[0]
    tamper(path, swap)
    with pytest.raises(LeakError, match=f"{cohort[a].image} \\((test|train|inner)\\)") as caught:
        Folds.read(path, cohort)
    assert caught.value.exit_code == 1
    leaking = Folds.read(path, cohort, allow_leaks=True)
    leaking.check_groups(cohort, alone(cohort))  # apart from the infants it is sound
    with pytest.raises(LeakError, match="stands on two sides of fold"):
        leaking.check_groups(cohort, make_groups(cohort))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda v: v["folds"][0]["test"]["rows"].append(v["folds"][1]["test"]["rows"][0]),
            "not tested exactly once",
        ),
        (lambda v: v["folds"][1]["train"]["rows"].pop(), "fold 1 does not hold each photograph once"),
        (lambda v: v["folds"][0]["inner"]["rows"].append(10**6), "fold 0 does not hold"),
        (lambda v: v.update(version=2), "of version 1"),
        (lambda v: v.pop("seed"), "no whole file of folds"),
        (lambda v: v["groups"]["of"].pop(), "no whole file of folds"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(saved, change, said):
    cohort, _, _, path = saved
    tamper(path, change)
    with pytest.raises(CohortError, match=said):
        Folds.read(path, cohort)


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_what_is_no_folds_file_is_refused(saved, text):
    cohort, _, _, path = saved
    path.write_text(text)
    with pytest.raises(CohortError):
        Folds.read(path, cohort)
    with pytest.raises(CohortError, match="cannot be read"):
        Folds.read(path.with_name("none.json"), cohort)


def test_the_table_adds_up(saved):
    cohort, _, folds, _ = saved
    table = folds.table(cohort)
    assert [(row["fold"], row["part"]) for row in table[:3]] == [(0, "test"), (0, "train"), (0, "inner")]
    assert sum(row["photographs"] for row in table if row["part"] == "test") == 40
    assert sum(row["infants"] for row in table if row["part"] == "test") == 20
    for row in table:
        assert row["normal"] + row["rop"] == row["photographs"] and row["infants"] == row["groups"]
    assert "40 photographs is tested exactly once, in 4 folds" in folds.check_partition()
