"""A whole study of both questions, and the recipe of paper 000 to the letter."""

import json
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pd = pytest.importorskip("pandas")

from test_rop_study import draw, rows_of
from test_rop_study import write_cohort as rop_cohort

from fundoscope.bundles import open_bundle
from fundoscope.cli.console import Console
from fundoscope.cohort import Cohort, Fold, Folds, audit, make_groups
from fundoscope.errors import LeakError, UsageError
from fundoscope.learning import Squares, fit
from fundoscope.learning.fit import TrainingData, fit_batches
from fundoscope.networks import COMPARED_NETWORKS, build
from fundoscope.networks.cost import measure_cost
from fundoscope.rop.recipes import ARM_NAMES, read_recipe
from fundoscope.rop.study import data
from fundoscope.rop.study.networks import (
    build_network,
    check_networks,
    distillation_options,
    fit_options,
    load_fitted_network,
    predict_rows,
)
from fundoscope.rop.study.plan import FitTask, StudyOptions
from fundoscope.rop.study.questions import TREATMENT, answerable_questions
from fundoscope.rop.study.refit import epochs_without_stopping
from fundoscope.rop.study.run import run_study
from fundoscope.rop.study.sample import check_division
from fundoscope.rop.study.train import initial_network, save_weights
from fundoscope.studies import Study

#: What screening would refuse: of an infant with ROP one eye, of one who needs treatment both.
REFUSED = ("2.png", "4.png", "5.png")


def write_cohort(folder, n=48):
    """Normal, ROP, and ROP that needs treatment, which is redder; two photographs an infant."""
    rows = ["image,label,treatment_requiring,infant,eye,exam,birth_weight,camera"]
    for number in range(n):
        infant = number // 2
        kind = ("normal", "rop", "treatment")[infant % 3]
        path = folder / f"{number}.png"
        draw(path, "normal" if kind == "normal" else "rop", number)
        if kind == "treatment":
            picture = cv2.imread(str(path))
            picture[..., 2] = np.clip(picture[..., 2] * 1.3, 0, 255)
            cv2.imwrite(str(path), picture)
        label = "normal,no" if kind == "normal" else f"rop,{'yes' if kind == 'treatment' else 'no'}"
        rows.append(f"{number}.png,{label},i{infant},{('left', 'right')[number % 2]},1,{700 + 40 * infant},A")
    table = folder / "cohort.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def study(cohort, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "s"
    torch.set_num_threads(1)
    recipe = read_recipe("tiny").changed(epochs=2)

    def judge(photograph, expects):  # as drawn they are too small for screening
        return SimpleNamespace(gradable=photograph.photograph.name not in REFUSED)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "judge_quality", judge)
        run_study(
            StudyOptions(cohort, out, recipe, folds=2, export=True, prevalences=(0.06,), shuffles=2),
            Console(quiet=True),
        )
    return out


def test_both_questions_are_answered_and_scored(study):
    for question in ("rop", "treatment"):
        graders = [row["grader"] for row in rows_of(study / f"tables/results_{question}.csv")]
        assert graders[:3] == ["teacher", "undistilled", "student"]
        differences = rows_of(study / f"tables/differences_{question}.csv")
        assert [row["grader"] for row in differences] == ["teacher", "undistilled"]
    baselines = [row["grader"] for row in rows_of(study / "tables/results_treatment.csv")][3:]
    assert baselines == ["vessel width and tortuosity", "majority class"]
    assert {row["n"] for row in rows_of(study / "tables/results_treatment.csv")} == {"32"}  # ROP only


def test_the_cascade_is_scored_by_each_unit(study):
    rows = rows_of(study / "tables/cascade.csv")
    units = list(dict.fromkeys(row["unit"] for row in rows))
    assert units == ["photograph", "eye", "exam", "infant"]
    ends = {row["unit"]: row for row in rows if row["figure"].startswith("sensitivity for treatment-requiring")}
    assert [ends[unit]["of"] for unit in units] == ["14", "14", "7", "7"]
    by_unit = {row["unit"]: row for row in rows_of(study / "tables/units_rop.csv")}
    assert [*by_unit] == [*units, "eye, refused views counted too"]
    assert [by_unit[unit]["n"] for unit in by_unit] == ["45", "45", "23", "23", "48"]
    assert [by_unit[unit]["not decided"] for unit in by_unit] == ["3", "3", "1", "1", "0"]


def test_figures_stand_with_and_without_the_photographs_that_screening_refuses(study):
    for question, n in (
        ("rop", {"all": "48", "that screening grades": "45"}),
        ("treatment", {"all": "32", "that screening grades": "29"}),
    ):
        rows = rows_of(study / f"tables/quality_gate_{question}.csv")
        assert {row["photographs"]: row["n"] for row in rows} == n and len(rows) % 2 == 0
    results = json.loads((study / "results.json").read_text())
    first = results["questions"][0]
    assert first["refused"] == 3 and first["headline"]["auc"]["n"] == 45
    assert any("would refuse 3 of 48" in line for line in results["summary"])
    card = {figure["name"]: figure["estimate"]["n"] for figure in results["card"]}
    assert card["auc"] == card["eye: sensitivity"] == 45 and card["auc with refused ones"] == 48
    assert card["infant: specificity"] == 23


def test_the_report_holds_what_the_paper_has_and_what_it_lacks(study):
    page = (study / "report.html").read_text()
    for heading in (
        "Photographs and folds", "What the networks see", "ROP without and with need of treatment", "Networks",
        "Stage 1", "Stage 2", "Without the shortcuts", "What INT8 costs", "By photograph, eye, exam and infant",
        "The cascade, end to end", "Operating points", "Abstention", "Subgroups", "Predictive values", "Shuffled labels",
        "Maps behind the answers: rop", "Maps behind the answers: treatment", "Learning", "TRIPOD", "CLAIM",
    ):  # fmt: skip
        assert heading in page, heading
    assert {path.name for path in (study / "figures").iterdir()} >= {
        "infants.png", "roc_rop.png", "roc_treatment.png", "confusion_rop.png", "confusion_treatment.png",
        "decision_rop.png", "coverage_rop.png", "learning_rop_teacher.png", "learning_treatment_student.png",
    }  # fmt: skip
    names = [row["subgroup"] for row in rows_of(study / "tables/subgroups.csv")]
    assert any("1000" in name for name in names) and "A" in names


def test_the_bundle_answers_both_questions(study):
    bundle = open_bundle(study / "bundle" / "rop-tiny")
    assert bundle.card.eyes is not None and not bundle.card.eyes.measured  # each eye is shown once
    assert bundle.card.stage2 == "real" and bundle.second.classes[1] == "treatment-requiring"
    assert {figure.name for figure in bundle.card.figures} >= {"auc", "treatment: auc"}


def test_the_second_stage_begins_where_the_first_ended(study, cohort):
    manifest = json.loads((study / "study.json").read_text())
    recipe, table = read_recipe("tiny").changed(epochs=2), Cohort.read(cohort)
    (fold, _) = Folds.read(study / "folds.json", table).folds
    where = Study(study, manifest)
    for name in ("teacher", "student"):
        first = FitTask(recipe.arm(name), "rop", 0, fold)
        begun = initial_network(replace(first, question=TREATMENT), recipe, where)
        ended = load_fitted_network(first, recipe, where)
        assert all(
            torch.equal(a, b) for a, b in zip(begun.state_dict().values(), ended.state_dict().values(), strict=True)
        )


def test_an_infant_in_two_folds_stops_the_study_by_name(study, cohort, tmp_path):
    table, folds = Cohort.read(cohort), json.loads((study / "folds.json").read_text())
    one, other = (fold["test"]["rows"][0] for fold in folds["folds"])
    for fold in folds["folds"]:
        for part in (
            "test",
            "train",
            "inner",
        ):  # the two photographs change places everywhere, their infants' others stay
            rows = sorted({one: other, other: one}.get(row, row) for row in fold[part]["rows"])
            fold[part] = {"rows": rows, "images": [table[row].image for row in rows]}
    out = tmp_path / "s"
    out.mkdir()
    (out / "study.json").write_text((study / "study.json").read_text())
    (out / "folds.json").write_text(json.dumps(folds))
    with pytest.raises(LeakError, match=rf"\b({one}|{other})\.png"):
        run_study(StudyOptions(cohort, out, read_recipe("tiny").changed(epochs=2), folds=2), Console(quiet=True))


def test_without_answers_about_treatment_it_is_not_asked_and_says_so(tmp_path):
    rows = "".join(f"{n}.png,{('normal', 'rop')[n % 2]},i{n}\n" for n in range(12))
    for number in range(12):
        draw(tmp_path / f"{number}.png", ("normal", "rop")[number % 2], number)
    (tmp_path / "cohort.csv").write_text("image,label,infant\n" + rows)
    table = Cohort.read(tmp_path / "cohort.csv")
    questions, why = answerable_questions(table, Folds.make(table, make_groups(table, audit(table).pairs), 2))
    assert [question.name for question in questions] == ["rop"] and "stage 2 was not trained" in why


def test_a_network_by_its_name_alone_goes_through_every_step(tmp_path):
    table, out, recipe = rop_cohort(tmp_path, 24), tmp_path / "s", read_recipe("tiny").changed(epochs=1)
    run_study(StudyOptions(table, out, recipe, folds=2, networks=("tiny",)), Console(quiet=True))
    assert rows_of(out / "tables/results_rop.csv")[0]["grader"] == "tiny"
    assert json.loads((out / "results.json").read_text())["exported"] == "tiny"


@pytest.mark.parametrize("name", COMPARED_NETWORKS)
def test_every_comparison_network_is_trained_and_told_apart(name, tmp_path):
    recipe = read_recipe("tiny")
    arm = recipe.arm(name)
    check_networks(recipe, [arm])
    squares = Squares([np.full((64, 64, 3), 60 * k, np.uint8) for k in range(4)], np.arange(4) % 2, recipe.standard)
    model = build_network(recipe, arm)
    before = model.head.weight.clone()
    rows, numbers = np.arange(4), recipe.student_fit.model_copy(update={"epochs": 2, "average": 0.0})
    model = fit(model, squares, rows, rows[:0], fit_options(numbers), tmp_path / "fit", seed=0)
    assert not torch.equal(before, model.head.weight) and np.isfinite(predict_rows(model, squares, rows)).all()


def test_a_fit_by_the_papers_recipe_steps_as_its_section_3_says(tmp_path):
    """Adam at a rate of .0001 with a decay of .0001, and no schedule: the paper's words (section 3), worked out by hand.

    Where gradients keep their sign and size, Adam moves a weight by the rate in each step, whatever the gradient; the decay
    joins the gradient, so it changes nothing beside a large one and moves a weight without any by the rate, towards 0.
    """
    numbers = read_recipe("paper").student_fit
    for large in (3.0, -700.0):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 1, bias=False))
        with torch.no_grad():
            model[1].weight[:] = torch.tensor([[1.0, 1.0]])
        x = torch.tensor([large, 0.0]).reshape(1, 2, 1, 1)
        batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, torch.zeros(1)))
        options = fit_options(numbers.model_copy(update={"epochs": 4}))
        found = fit_batches(
            model, TrainingData(batches, lambda out, _: out.sum()), options, tmp_path / str(large), seed=0
        )
        wanted = [1 - 4e-4 * np.sign(large), 1 - 4e-4]  # four steps, equally long: no schedule, no mean of the weights
        np.testing.assert_allclose(found[1].weight.detach()[0], wanted, atol=5e-7)


def test_the_papers_loss_is_its_equation_5_with_t_and_alpha_put_right():
    """Section 2.2.2 gives 5 and .95 to the wrong letters: a temperature of .95 and a share of 5 would reward what the teacher
    denies. With them put right the soft share is 25 x .95 = 23.75 times the divergence at a fifth of the logits.
    """
    ours = distillation_options(read_recipe("paper")).loss
    student, teacher, label = [0.4, -1.2], [2.0, -3.0], 1

    def softmax(logits, t):
        odds = np.exp(np.array(logits) / t)
        return odds / odds.sum()

    p, q = softmax(teacher, 5), softmax(student, 5)
    by_hand = 23.75 * (p * np.log(p / q)).sum() + 0.05 * -np.log(softmax(student, 1)[label])
    assert float(ours(torch.tensor([student]), torch.tensor([[label, *teacher]]))) == pytest.approx(by_hand, rel=1e-5)


def test_the_papers_input_is_scaled_to_one():
    standard = read_recipe("paper").standard
    levels = standard.tensor(np.stack([np.zeros((2, 2, 3)), np.full((2, 2, 3), 255)]).astype(np.uint8).reshape(4, 2, 3))
    assert levels.min() == 0 and levels.max() == 1


@pytest.mark.parametrize("stages", [0, 3])
def test_the_recipe_says_how_many_stages_keep_their_imagenet_weights(stages):
    lite = read_recipe("lite")
    recipe = lite.model_copy(update={"networks": lite.networks.model_copy(update={"frozen_stages": stages})})
    body = build_network(recipe, recipe.arm("undistilled")).body
    frozen = [not any(weight.requires_grad for weight in stage.parameters()) for stage in body.stages]
    assert frozen == [number < stages for number in range(7)]


def test_what_is_frozen_stays_frozen_in_the_second_stage_and_is_said(tmp_path):
    """The teacher's streams keep what ImageNet gave them when they go on to treatment; the student keeps its trunk, too."""
    recipe = read_recipe("lite").changed(pretraining=False)
    study, fold = Study.open(tmp_path / "s", {"commands": []}), Fold(0, (), (), ())
    said = {}
    for arm in map(recipe.arm, ("teacher", "student", "random")):
        first = FitTask(arm, "rop", 0, fold)
        model = initial_network(first, recipe, study)
        with study.step(first.step) as folder:
            save_weights(model, folder)
        second = initial_network(replace(first, question=TREATMENT), recipe, study)
        said[arm.name] = (model.describe_frozen(), second.describe_frozen())
        moved = [name for name, weight in second.named_parameters() if weight.requires_grad]
        assert not any("stem" in name or "stages.0." in name for name in moved) or arm.name == "random"
    kept = "; ".join(["stem and stages 1 to 3"] * 3)
    assert said == {
        "teacher": (kept, kept), "student": ("stem and stages 1 to 3", "stem and stages 1 to 5"),
        "random": ("nothing", "stem and stages 1 to 5"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("best", "epochs"), [([15, 12, 14, 13, 15], 15), ([0, 1, 0, 2, 1], 8), ([7, 7, 7], 8), ([8, 8], 9)]
)
def test_without_stopping_it_trains_for_the_median_but_at_least_half(best, epochs):
    assert epochs_without_stopping(best, 16, 0.5) == epochs


def test_checks_of_the_division_look_and_can_fail():
    good = [Fold(0, (0, 1, 2, 3), (4, 5), (6, 7)), Fold(1, (4, 5, 6, 7), (0, 1), (2, 3))]
    groups = np.arange(8) // 2
    answers = pd.DataFrame({"row": range(8), "fold": [0] * 4 + [1] * 4})
    assert [check["passed"] for check in check_division(good, groups, [("rop, tiny, seed 0", answers)])] == [True, True]
    twice = answers.assign(row=[0, 0, 2, 3, 4, 5, 6, 7])
    once, whole = check_division(good, groups, [("rop, tiny, seed 0", twice)])
    assert not once["passed"] and "photograph 1 0 times" in once["detail"] and whole["passed"]
    swapped = answers.assign(fold=[1] + [0] * 3 + [1] * 4)
    assert "learnt from" in check_division(good, groups, [("rop, tiny, seed 0", swapped)])[0]["detail"]
    parted = np.array([0, 0, 1, 1, 1, 2, 3, 3])
    once, whole = check_division(good, parted, [("rop, tiny, seed 0", answers)])
    assert not whole["passed"] and "fold 0: photograph 2" in whole["detail"] and not once["passed"]
    assert not check_division(good, groups, [])[0]["passed"]  # nothing that was tested is no proof


def test_the_study_names_what_was_frozen(study):
    networks = {row["network"]: row for row in rows_of(study / "networks.csv")}
    assert {row["frozen in stage 1"] for row in networks.values()} <= {"nothing", "nothing; nothing; nothing"}
    assert all("frozen in stage 2" in row for row in networks.values())
    fitted = json.loads((study / "fits/treatment/student/seed-0/fold-0/fit.json").read_text())
    assert fitted["frozen"] == networks["student"]["frozen in stage 2"]
    assert "frozen in stage 2" in (study / "report.html").read_text()


def test_sizes_and_costs_of_the_papers_networks():
    # table 5 states 26.83 M and 3.50 M with stock heads of 1000 classes, 1001 numbers a map: on 256 maps and on 1280
    heads = {"teacher": 256 * 998 + 998, "student": 1280 * 998 + 998}  # what two classes save
    teacher, student = read_recipe("paper").networks.teacher, read_recipe("paper").networks.student
    fused = measure_cost(build(teacher, pretrained=False), 256).parameters
    assert fused + heads["teacher"] == pytest.approx(26.83e6, abs=0.02e6)
    small, large = (measure_cost(build(student, pretrained=False, size=size), size) for size in (224, 256))
    assert small.parameters + heads["student"] == pytest.approx(3.50e6, abs=0.01e6)
    assert small.macs == pytest.approx(0.30e9, rel=0.03)
    assert large.macs / small.macs == pytest.approx((256 / 224) ** 2, rel=0.01)


def test_a_convolutions_cost_by_hand():
    network = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False)
    assert measure_cost(network, 16).macs == 3 * 5 * 9 * 16 * 16


def test_an_unknown_arm_names_the_nearest():
    recipe = read_recipe("tiny")
    with pytest.raises(UsageError, match="undistilled"):
        check_networks(recipe, [recipe.arm("undistiled")])
    assert all(read_recipe("lite").arm(name).name == name for name in ARM_NAMES)
