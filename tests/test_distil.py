from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fundoscope.imaging import Standard
from fundoscope.learning import Augment, FitOptions, Squares
from fundoscope.learning.distillation import (
    Distillation,
    DistillationPlan,
    HintedStudent,
    HintonLoss,
    LogitRegressionLoss,
    TeacherAnswers,
    TeacherViews,
    distil,
    distillation_batches,
    fingerprint,
)
from fundoscope.learning.fit import TrainingData, fit_batches, predict_logits
from fundoscope.learning.squares import UNLABELLED
from fundoscope.networks import build


@pytest.fixture
def views():
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 255, (48, 48, 3), dtype=np.uint8) for _ in range(6)]
    squares = Squares(pixels, np.array([0, 1, 0, 1, 0, 1]), Standard(size=32))
    return TeacherViews(squares, Augment(), 3, seed=4)


ROWS = np.arange(6)
COPIES = [(row, 0) for row in range(6)]


def targets(labels, teacher):
    return torch.cat([torch.tensor(labels, dtype=torch.float32)[:, None], teacher], dim=1)


def test_soft_targets_against_the_formula_by_hand():
    student, teacher = torch.tensor([[1.0, -2.0], [0.5, 0.25]]), torch.tensor([[3.0, 1.0], [-1.0, 2.0]])
    t, alpha = 5.0, 0.95
    p, q = np.exp(teacher.numpy() / t), np.exp(student.numpy() / t)
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    kl = (p * np.log(p / q)).sum(1).mean()
    hard = functional.cross_entropy(student, torch.tensor([0, 1])).item()
    found = HintonLoss()(student, targets([0, 1], teacher)).item()
    assert found == pytest.approx(alpha * t**2 * kl + (1 - alpha) * hard, rel=1e-5)


@pytest.mark.parametrize("loss", [HintonLoss(), LogitRegressionLoss()])
def test_the_teachers_own_answer_costs_less_than_another(loss):
    teacher = torch.tensor([[2.0, -1.0], [-1.5, 0.5]])
    right = loss(teacher.clone(), targets([0, 1], teacher))
    wrong = loss(-teacher, targets([0, 1], teacher))
    assert right < wrong


@pytest.mark.parametrize("loss", [HintonLoss(), LogitRegressionLoss()])
def test_an_unlabelled_photograph_is_learnt_from_the_teacher_alone(loss):
    teacher, student = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.3, 0.1]], requires_grad=True)
    value = loss(student, targets([UNLABELLED], teacher))
    (gradient,) = torch.autograd.grad(value, student)
    assert gradient[0, 0] < 0 < gradient[0, 1]  # towards the teacher
    at_teacher = loss(teacher.clone(), targets([UNLABELLED], teacher))
    assert at_teacher.item() == pytest.approx(0, abs=1e-6)


def test_teacher_and_student_see_the_same_view(views, tmp_path):
    teacher = build("tiny").eval()
    answers = TeacherAnswers(teacher, views, COPIES, tmp_path)
    assert np.stack(list(answers)).shape == (3, 6, 2)
    batches = distillation_batches(answers, ROWS, batch=2)
    for epoch in range(4):
        batches.sampler.set_epoch(epoch)
        for x, target in batches:
            np.testing.assert_allclose(predict_logits(teacher, x.numpy()), target[:, 1:], atol=2e-3)  # bfloat16


def test_a_teacher_with_a_larger_input_answers_the_same_views(views, tmp_path):
    teacher, larger = build("tiny").eval(), Standard(size=48)
    student, seen = build("tiny"), []
    options = FitOptions(epochs=2, patience=2, batch=2, augment=views.augment)
    plan = DistillationPlan(teacher, views.squares, ROWS, ROWS[:2], tmp_path / "answers", larger)
    student.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-1]))
    distil(student, plan, Distillation(views=3), options, tmp_path / "fit", views.seed)
    assert set(seen) == {32}  # pixels: the student's own standard
    for view in range(2):
        (kept,) = (tmp_path / "answers").glob(f"*-view-{view:03d}.npy")
        squares = replace(views.squares, standard=larger)
        inputs = np.stack([replace(views, squares=squares).input(view, row) for row in ROWS])
        assert inputs.shape[-1] == 48
        np.testing.assert_allclose(np.load(kept), predict_logits(teacher, inputs), atol=2e-3)  # bfloat16


@pytest.mark.parametrize("turned", [True, False])
def test_copies_of_the_rarer_class_are_turned_and_answered_by_themselves(views, tmp_path, turned):
    augment = Augment(0, 0, 0, 0, 0, 0, 0, 0, 0)  # so that all views of a photograph are equal, but for turns
    squares = views.squares.with_labels(np.array([0, 0, 0, 0, 0, 1]))
    views = replace(views, squares=squares, augment=augment, turned_copies=turned)
    teacher = build("tiny").eval()
    copies = views.copies(ROWS, squares.labels)
    assert copies == COPIES + [(5, copy) for copy in (1, 2, 3, 4) if turned]
    batches = distillation_batches(TeacherAnswers(teacher, views, copies, tmp_path), ROWS, batch=10)
    seen = set()
    for x, target in batches:
        np.testing.assert_allclose(predict_logits(teacher, x.numpy()), target[:, 1:], atol=2e-3)
        seen |= {one.numpy().tobytes() for one, label in zip(x, target[:, 0], strict=True) if label == 1}
    assert len(seen) == (4 if turned else 1)


def test_an_answer_is_computed_once(views, tmp_path):
    calls = []

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(1, 2)

        def forward(self, x):
            calls.append(len(x))
            return self.linear(x.mean((1, 2, 3))[:, None])

    def answered(by=views, copies=COPIES):
        return np.stack(list(TeacherAnswers(teacher, by, copies, tmp_path)))

    teacher = Counting()
    assert TeacherAnswers(teacher, views, COPIES, tmp_path)[1].shape == (6, 2)
    assert sum(calls) == 6  # the other views when they are asked for
    first = answered()
    done = len(calls)
    np.testing.assert_array_equal(answered(), first)
    assert len(calls) == done
    # another teacher, other rows and another augmentation are other answers
    with torch.no_grad():
        teacher.linear.bias += 1
    assert not np.allclose(answered(), first)
    assert len(calls) > done
    done = len(calls)
    answered(copies=COPIES[:4])
    answered(replace(views, augment=Augment(rotation=0)))
    assert len(calls) >= done + 6


def test_the_fingerprint_changes_with_any_weight():
    model = build("tiny")
    before = fingerprint(model)
    with torch.no_grad():
        model.head.bias[0] += 1e-3
    assert fingerprint(model) != before


def test_a_student_comes_near_its_teacher(views, tmp_path):
    class Teacher(nn.Module):
        """It knows how red a photograph is."""

        def forward(self, x):
            red = 8 * (x[:, 0] - x[:, 1]).mean((1, 2))
            return torch.stack([-red, red], dim=1)

        def state_dict(self, *_, **__):
            return {"": torch.zeros(1)}

    rng = np.random.default_rng(1)
    tint = np.linspace(-70, 70, 24)
    pixels = [np.clip(rng.normal(120, 20, (48, 48, 3)) + np.array([t, 0, 0]), 0, 255).astype(np.uint8) for t in tint]
    squares = Squares(pixels, np.full(24, 0), Standard(size=32, clahe_when="never"))
    views, rows, teacher = TeacherViews(squares, Augment(colour=0), 2, seed=1), np.arange(24), Teacher()
    answers = TeacherAnswers(teacher, views, views.copies(rows, squares.labels), tmp_path / "answers")
    torch.manual_seed(0)
    student = build("tiny")
    options = FitOptions(epochs=30, batch=8, learning_rate=1e-2, average=0.5)
    batches = distillation_batches(answers, rows, batch=8, labelled=False)
    student = fit_batches(student, TrainingData(batches, LogitRegressionLoss(1.0)), options, tmp_path / "fit", seed=0)
    logits = predict_logits(student, squares.inputs(rows))
    wanted = predict_logits(teacher, squares.inputs(rows))
    assert np.corrcoef(logits[:, 1] - logits[:, 0], wanted[:, 1] - wanted[:, 0])[0, 1] > 0.9


def test_a_hint_reaches_the_students_body_and_costs_less_the_nearer_the_maps():
    torch.manual_seed(3)
    hinted = HintedStudent(build("tiny"), maps=5)
    x = torch.rand(2, 3, 64, 64)
    output = hinted.train()(x)
    assert output.shape == (2, 2 + 5 * 2 * 2)
    assert hinted.eval()(x).shape == (2, 2)  # the logits alone are what stopping looks at
    how = Distillation(LogitRegressionLoss(1.0), hint=1.0)
    wanted = torch.rand(2, 20)
    target = torch.cat([torch.zeros(2, 1), output[:, :2].detach(), wanted], dim=1)
    (how.distillation_loss(output, target)).backward()  # the logits are right already: what moves the body is the hint
    assert float(hinted.student.body[0].weight.grad.abs().sum()) > 0
    near, far = (torch.cat([output[:, :2].detach(), share * wanted], dim=1) for share in (0.9, 0.5))
    assert how.distillation_loss(near, target) == pytest.approx(
        0.01, rel=1e-3
    )  # mean squared error over the maps' mean square
    assert how.distillation_loss(far, target) == pytest.approx(0.25, rel=1e-3)


def test_the_teachers_maps_are_kept_beside_its_logits(views, tmp_path):
    teacher = build("tiny+tiny").eval()
    answers = np.stack(list(TeacherAnswers(teacher, views, COPIES, tmp_path, maps=True)))
    assert answers.shape == (3, 6, 2 + 256)  # 256 maps of 1 x 1 at 32 px
    x = torch.from_numpy(np.stack([views.input(1, int(row)) for row in ROWS]))
    with torch.no_grad():
        np.testing.assert_allclose(answers[1, :, 2:], teacher.features(x).flatten(1), atol=5e-3)
        np.testing.assert_allclose(answers[1, :, :2], teacher(x), atol=5e-3)
