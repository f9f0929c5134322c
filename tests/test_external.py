"""External validation: a bundle's answers are scored as a study scores them, refusals and overlap are counted, bad calls end."""

import json
import re
import shutil
from copy import copy
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

pd = pytest.importorskip("pandas")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from fundoscope.bundles import locate, verify
from fundoscope.bundles.card import Card, DecisionThreshold, EyeDecision, Stage
from fundoscope.bundles.folder import rewrite_card
from fundoscope.bundles.training_hashes import HASHES_FILE, read_training_hashes, write_training_hashes
from fundoscope.cli.main import app
from fundoscope.cohort import Cohort, CohortRow, Folds, make_groups
from fundoscope.cohort.auditing import Audit
from fundoscope.cohort.fingerprints import apply_turn, fingerprint
from fundoscope.cohort.near_duplicates import COPY
from fundoscope.cohort.photograph_hashes import PhotographHashes
from fundoscope.errors import BundleError, FundoscopeError, UsageError
from fundoscope.evaluation import Estimate
from fundoscope.imaging import Photograph, Standard, read
from fundoscope.rop.external.evaluate import ExternalEvaluation, GradedCohort, _compare, _ends
from fundoscope.rop.study.calibrate import CalibratedPredictions
from fundoscope.rop.study.data import MEASURES, StudyData
from fundoscope.rop.study.evaluate import Evaluation
from fundoscope.rop.study.questions import ROP, rop_question
from fundoscope.rop.study.results import as_plain

INFANTS = 24
ARM = "student"


def made_up_cohort(folder):
    """24 infants with two eyes of two views, cameras A and B; no photograph is read."""
    rows = [(infant, eye) for infant in range(INFANTS) for eye in ("left", "right") for _ in range(2)]
    return Cohort(
        [
            CohortRow(
                n, f"{n}.png", folder / f"{n}.png", ("normal", "rop")[infant % 2], infant=f"i{infant}", eye=eye,
                extra={"camera": "AB"[infant // 2 % 2]},
            )
            for n, (infant, eye) in enumerate(rows)
        ],
        "made up",
    )  # fmt: skip


def answers(cohort, folds, rng):
    """The rows of a study's calibrated.parquet: every photograph tested once, each fold with a threshold of its own."""
    log_odds, frames = rng.normal(1.5 * cohort.labels - 0.7, 1), []
    for fold in folds:
        for part, precision in (("test", "torch"), ("inner", "torch"), ("test", "int8"), ("test", "fp32")):
            rows = np.array(fold.rows(part))
            values = log_odds[rows]
            frames.append(pd.DataFrame({
                "question": ROP, "arm": ARM, "seed": 0, "fold": fold.number, "part": part, "variant": "plain",
                "precision": precision, "row": rows, "logit_0": 0.0, "logit_1": values,
                "probability": 1 / (1 + np.exp(-values)), "threshold": 0.3 + 0.05 * fold.number,
            }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def card(views="mean", threshold=0.5, figures=()):
    point = DecisionThreshold(threshold=0.5, rule="r", data="d", n_positive=9, sensitivity_bound="9 of 9")
    eyes = point.model_copy(update={"threshold": threshold})
    return Card(
        name=ARM, task="rop", population="infant", recipe="tiny", seeds=(0,), commands=("c",), intended_use="tests",
        trained_on=("nothing",), never_tested_on=(), standard=Standard(size=64), figures=figures,
        stages=(Stage(name="rop", classes=("normal", "rop"), temperature=1.0, operating_point=point),),
        eyes=EyeDecision(views=views, measured=True, operating_point=eyes),
        initial_weights={"name": "random", "licence": "none"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """A study on made-up answers, and what an external validation is given of the same."""
    folder = tmp_path_factory.mktemp("made-up")
    cohort, rng = made_up_cohort(folder), np.random.default_rng(5)
    groups = make_groups(cohort)
    folds = Folds.make(cohort, groups, 5)
    n = len(cohort)
    measures = pd.DataFrame(rng.normal(size=(n, 3)), columns=["nuisance: a", "nuisance: b", "colour: red"])
    measures["nuisance: a"] += 0.5 * cohort.labels
    measures.insert(0, "quality: graded", (rng.random(n) > 0.15).astype(float))
    measures.to_parquet(folder / MEASURES)
    table = answers(cohort, folds, rng)
    data, question = StudyData(folder, Standard(size=64)), rop_question(cohort)
    plan = SimpleNamespace(
        cohort=cohort, groups=groups, folds=folds, questions=[question], question=lambda name: question,
        arms=[SimpleNamespace(name=ARM)], group_numbers=groups.numbers,
        fold_rows=[(np.array([*fold.train, *fold.inner]), np.array(fold.test)) for fold in folds],
        options=SimpleNamespace(prevalences=(0.1,), seeds=1),
        recipe=SimpleNamespace(decision=SimpleNamespace(target_sensitivity=0.9, maximum_errors=0.05)),
    )  # fmt: skip
    study = Evaluation(plan, data, CalibratedPredictions(table, 1, n))
    photographs = pd.DataFrame({"row": range(n), "image": [each.image for each in cohort], "status": "ok"})
    given = GradedCohort(
        Audit(cohort, (), ()), groups, [question], card(), photographs, CalibratedPredictions(table, 1, n), data
    )
    return study, given


@pytest.fixture(scope="module")
def external(made_up):
    """The validation of the made-up answers with the figures of its questions, which take the longest."""
    made = ExternalEvaluation(made_up[1], (0.1,), 50)
    assert made.question_results
    return made


def with_changes(external, **changes):
    """The same validation, its questions scored already, of a cohort that differs in some of what it is given."""
    changed = copy(external)
    for name in ("_eyes", "units", "seen_before", "overlap", "promised", "doubts"):
        vars(changed).pop(name, None)
    changed.given = replace(external.given, **changes)
    changed.card = changed.given.card
    return changed


def flat(values, at=""):
    """Every number of plain JSON by its place."""
    if isinstance(values, dict):
        return {k: v for name, each in values.items() for k, v in flat(each, f"{at}.{name}").items()}
    if isinstance(values, list):
        return {k: v for place, each in enumerate(values) for k, v in flat(each, f"{at}[{place}]").items()}
    return {at: values}


def test_the_studys_own_answers_give_the_studys_own_figures(made_up, external):
    """From the same table: every figure, interval, difference and baseline to 1e-9."""
    study, _ = made_up
    ours, theirs = external.question_results[0], study.question_results[0]
    for part in (
        "graders",
        "graded",
        "headline",
        "confusions",
        "calibration",
        "coverage_area",
        "n",
        "refused",
        "groups",
    ):
        found, wanted = (flat(as_plain(getattr(each, part))) for each in (ours, theirs))
        assert found.keys() == wanted.keys() and len(found) >= 1
        for name, value in wanted.items():
            same = found[name] == value if not isinstance(value, float) else abs(found[name] - value) <= 1e-9
            assert same, (part, name)
    assert ours.refused > 0
    for part in ("subgroups", "predictive_values"):
        assert flat(as_plain(getattr(external, part))) == flat(as_plain(getattr(study, part)))
    assert as_plain(external.units[0][0]) == as_plain(study.units[0][0])  # by photograph; eyes go by the card's rule


def test_eyes_are_decided_by_the_rule_of_the_card(external):
    units = {row["unit"]: row for row in copy(external).units[0]}
    assert units["eye"]["auc"].n + units["eye"]["not decided"] == 2 * INFANTS
    assert units["infant"]["auc"].n == INFANTS and units["eye, refused views counted too"]["auc"].n == 2 * INFANTS
    units = {row["unit"]: row for row in with_changes(external, card=card("any", 0.0)).units[0]}
    assert units["eye"]["sensitivity"].value == 1 and units["eye"]["specificity"].value == 0


def test_a_refusal_is_neither_a_call_nor_an_all_clear(external):
    of_rop, of_normal, _ = external.refusals
    for row in (of_rop, of_normal):
        assert row["photographs"] == sum(
            row[name] for name in ("called ROP", "not called", "refused", "could not be read")
        )
    left_out, examined, sent_home = (row["sensitivity"] for row in external.refusal_figures)
    called, refused = of_rop["called ROP"], of_rop["refused"]
    assert refused > 0 and left_out.value == pytest.approx(called / (of_rop["photographs"] - refused))
    assert examined.value == pytest.approx((called + refused) / of_rop["photographs"])
    assert sent_home.value == pytest.approx(called / of_rop["photographs"])


def test_what_the_card_promised_is_held_against_what_was_found(external):
    figure = {"low": None, "high": None, "n": 90, "on": "out of fold"}
    promises = [{"name": name, "value": value, **figure} for name, value in (("auc", 0.99), ("specificity", 0.01))]
    promised = with_changes(external, card=card(figures=promises))
    promised.training_photographs = None
    assert [row["verdict"] for row in promised.promised] == ["worse than promised", "better than promised"]
    assert any("promises auc 0.99" in doubt for doubt in promised.doubts)
    assert any("no hashes" in doubt for doubt in promised.doubts)


def test_a_sensitivity_of_one_proves_no_more_than_its_groups():
    sure = Estimate(1.0, 1.0, 1.0, 65, 15, 60)
    scored = SimpleNamespace(y=np.array([1] * 15 + [0] * 50), groups=np.array([0, *range(14), *range(14, 64)]))
    low, high = _ends("sensitivity", sure, scored)
    assert (low, high) == (pytest.approx(0.05 ** (1 / 14)), 1.0)
    assert _compare("sensitivity", (low, high), 0.908) == "not told apart"
    assert _compare("brier", (0.1, 0.2), 0.05) == "worse than promised"


def test_photographs_that_were_learnt_from_are_named_and_left_out(external):
    photographs = external.given.photographs.assign(
        seen_before=False, seen_number=None, seen_turn=None, seen_similarity=None
    )
    photographs.loc[[2, 7], ["seen_before", "seen_number", "seen_turn", "seen_similarity"]] = [True, 4, 1, 0.9]
    overlapping = with_changes(external, photographs=photographs)
    assert [row["image"] for row in overlapping.overlap.photographs] == ["2.png", "7.png"]
    counts = {row["photographs"]: row["auc"].n for row in overlapping.overlap.figures}
    graded = external.graded
    assert counts["all"] == graded.sum()
    assert counts["without those it learnt from"] == graded.sum() - graded[[2, 7]].sum()
    assert counts["without all photographs of their groups"] == graded[8:].sum()  # infants 0 and 1
    assert any("2.png, 7.png" in doubt for doubt in overlapping.doubts)
    quiet = copy(external)
    assert not quiet.overlap.photographs and not any("learnt from" in doubt for doubt in quiet.doubts)


# --- hashes


def altered(pixels, turn, tmp_path):
    """A copy that somebody else might have: turned, darker, re-encoded."""
    path = tmp_path / f"copy {turn}.jpg"
    dark = np.clip(pixels.astype(float) * 0.8 + 4, 0, 255).astype(np.uint8)
    cv2.imwrite(str(path), cv2.cvtColor(apply_turn(dark, turn), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 60])
    return fingerprint(read(path))


def test_a_hash_finds_copies_in_every_turn_and_no_other_eye(eyes, tmp_path):
    hashes = PhotographHashes.of_photographs(eyes[:3])
    for turn in (0, 3, 6):
        seen = hashes.find(altered(read(eyes[1]).pixels, turn, tmp_path))
        assert seen is not None and seen.number == 1 and seen.similarity > COPY
        assert hashes.find(altered(read(eyes[3]).pixels, turn, tmp_path)) is None
    flat_picture = fingerprint(Photograph(np.full((200, 200, 3), 90, np.uint8), "flat", 0, "array"))
    assert hashes.find(flat_picture) is None
    assert PhotographHashes.from_text([]).find(fingerprint(read(eyes[0]))) is None


def test_hashes_are_small_and_come_back_from_text(eyes):
    hashes = PhotographHashes.of_photographs(eyes[:2])
    lines = hashes.as_text()
    assert [len(line) for line in lines] == [256, 256]
    np.testing.assert_array_equal(PhotographHashes.from_text(lines).bits, hashes.bits)
    for broken in (["ab"], ["zz" * 128]):
        with pytest.raises(ValueError, match="hexadecimal|hash"):
            PhotographHashes.from_text(broken)


def test_the_correlation_of_two_fingerprints_can_be_read_from_their_hashes():
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 64, 64)).astype(np.float32)
    for wanted in (0.4, 0.66, 0.9):
        mixed = wanted * one + np.sqrt(1 - wanted**2) * other
        true = np.corrcoef(one.ravel(), mixed.ravel())[0, 1]
        seen = PhotographHashes.from_text(hash_text(one)).find(SimpleNamespace(coarse=mixed, field=True))
        found = None if seen is None else seen.similarity
        assert (found is None) == (wanted < 0.6) or abs(true - COPY) < 0.1
        assert found is None or found == pytest.approx(true, abs=0.1)


def hash_text(square):
    from fundoscope.cohort.photograph_hashes import _hash_square

    return [_hash_square(square).tobytes().hex()]


def test_a_bundle_carries_hashes_and_no_picture_and_stays_whole(eyes, tiny_bundle, tmp_path):
    bundle = shutil.copytree(tiny_bundle, tmp_path / "tiny")
    before = verify(bundle)
    assert read_training_hashes(bundle, before) is None
    hashes = PhotographHashes.of_photographs(eyes[:2])
    after = write_training_hashes(bundle, hashes)
    assert {name: after.files[name] for name in before.files if name.endswith(".onnx")} == {
        name: file for name, file in before.files.items() if name.endswith(".onnx")
    }
    known = read_training_hashes(bundle, verify(bundle))
    np.testing.assert_array_equal(known.bits, hashes.bits)
    assert rewrite_card(bundle, {"recipe": "other"}).files[HASHES_FILE] == after.files[HASHES_FILE]
    (bundle / HASHES_FILE).write_text("{}")
    with pytest.raises(BundleError, match="changed or damaged"):
        verify(bundle)


def test_the_shipped_bundle_remembers_the_photographs_that_its_card_names():
    folder = locate("rop")
    card = verify(folder)
    known = read_training_hashes(folder, card)
    named = [int(count) for count in re.findall(r"(\d+) (?:normal|ROP)\b", " ".join(card.trained_on[1:]))]
    assert known is not None and len(known) == sum(named) > 0


# --- the command


def run(*words):
    return CliRunner().invoke(app, ["rop", "evaluate", *map(str, words)])


def table_of(folder, eyes, labels):
    rows = [f"{path},{label},{'AB'[n % 2]}" for n, (path, label) in enumerate(zip(eyes, labels, strict=True))]
    table = folder / "cohort.csv"
    table.write_text("\n".join(["image,label,camera", *rows]) + "\n")
    return table


def test_four_photographs_and_a_missing_one_are_evaluated_and_counted(eyes, tiny_bundle, tmp_path):
    """Too few for an interval or a baseline: it says so, and counts what could not be read."""
    torch = pytest.importorskip("torch")
    from fundoscope.networks import build

    table = table_of(tmp_path, [*eyes, "gone.png"], ["normal", "rop", "normal", "rop", "rop"])
    done = run(
        table, "--bundle", tiny_bundle, "--out", tmp_path / "o", "--images-are-independent", "--precision", "fp32"
    )
    assert done.exit_code == 1, done.output
    results = json.loads((tmp_path / "o" / "results.json").read_text())
    assert results["sample"]["failed"] == 1 and results["questions"][0]["n"] == 4
    assert results["refusals"][0]["could not be read"] == 1 and results["overlap"]["known_photographs"] is None
    assert {row["subgroup"]: row["auc"]["n"] for row in results["subgroups"]} == {"A": 2, "B": 2}
    assert "5 folds need 5 groups of each class" in results["questions"][0]["headline"]["verdict"]
    page = (tmp_path / "o" / "report.html").read_text()
    assert "Images assumed independent" in page and "eye 1.png" in page and "carries no hashes" in page
    answers = pd.read_parquet(tmp_path / "o" / "predictions.parquet").sort_values("row")
    torch.manual_seed(1)
    network, standard = build("tiny").eval(), Standard(size=64)
    with torch.no_grad():
        logits = network(torch.from_numpy(np.stack([standard.apply(standard.prepare(path)) for path in eyes]))).numpy()
    np.testing.assert_allclose(answers[["logit_0", "logit_1"]], logits, atol=1e-4)
    again = run(table, "--bundle", tiny_bundle, "--out", tmp_path / "o", "--images-are-independent", "-q")
    assert isinstance(again.exception, UsageError) and "precision fp32 there" not in again.output
    assert "precision int8" in str(again.exception)  # another precision: another answer


@pytest.mark.parametrize(
    ("labels", "words", "says"),
    [
        (["normal"] * 4, ["--images-are-independent"], "none of 4 photographs is labelled rop"),
        (["normal", "rop"] * 2, [], "no column 'infant'"),
        (["normal", "rop"] * 2, ["--prevalence", "6"], "--prevalence 6: not shares"),
        (["normal", "rop"] * 2, ["--precision", "fp64"], "Give int8 or fp32"),
        (["normal", "rop"] * 2, ["--bundle", "nicking"], "is for the task 'nicking'"),
    ],
)
def test_a_wrong_call_names_the_input_and_the_remedy(labels, words, says, eyes, tmp_path):
    done = run(table_of(tmp_path, eyes, labels), "--out", tmp_path / "o", *words)
    assert isinstance(done.exception, FundoscopeError) and says in str(done.exception)
    assert not (tmp_path / "o").exists()


def test_the_shipped_threshold_stands_with_what_so_many_positives_can_prove(external):
    (row,) = external.question_results[0].operating_points
    assert f"{2 * INFANTS} positives of {INFANTS // 2} groups: no miss at all would prove" in row["support"]
    assert row["sensitivity"].positives == 2 * INFANTS
