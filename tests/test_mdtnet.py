from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.nn import functional

from fundoscope.errors import UsageError
from fundoscope.networks import build_body, count_parameters
from fundoscope.networks.efficientnet_lite import LITE_SCALING
from fundoscope.networks.mdtnet import LIGHT, MDTNet, MDTNetLogits, MDTNetOptions, focal_loss, mdtnet_loss

TINY = MDTNetOptions(
    plain=("tiny", "tiny"), focal_body="tiny", gammas=(1.0, 2.0), hidden=(16, 8), pretrained=False, size=64
)
EVEN = (1.0, 1.0, 1.0, 1.0)


def patches(n=4):
    return torch.randn(n, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def net(options=TINY):
    torch.manual_seed(0)
    return MDTNet(options)


def test_all_have_a_say_and_forward_gives_the_joined_one():
    model = net().eval()
    with torch.no_grad():
        answers, logits = model.all_logits(patches()), model(patches())
    assert logits.shape == (4, 4) and answers.plain.shape == answers.focal.shape == (2, 4, 4)
    torch.testing.assert_close(answers.joined, logits)
    assert answers.gammas == (1.0, 2.0)
    assert not torch.allclose(answers.focal[0], answers.focal[1])  # bodies of their own


@pytest.mark.parametrize(("plain", "gammas"), [(("tiny",), ()), ((), (2.0,))])
def test_a_team_may_be_of_one_kind(plain, gammas):
    model = net(replace(TINY, plain=plain, gammas=gammas))
    answers = model.all_logits(patches())
    assert (len(answers.plain), len(answers.focal)) == (len(plain), len(gammas))
    assert torch.isfinite(mdtnet_loss(answers, torch.tensor([0, 1, 2, 3])))


@pytest.mark.parametrize("detached", [True, False])
def test_gradients_reach_every_weight(detached):
    model = net(replace(TINY, detached=detached)).train()
    mdtnet_loss(model.all_logits(patches()), torch.tensor([0, 1, 2, 3])).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("detached", [True, False])
def test_the_joined_classifier_pulls_at_the_bodies_only_if_asked(detached):
    model = net(replace(TINY, detached=detached)).train()
    functional.cross_entropy(model.all_logits(patches()).joined, torch.tensor([0, 1, 2, 3])).backward()
    pulled = {p.grad is not None for p in model.bodies.parameters()}
    assert pulled == {not detached}
    assert all(p.grad is not None for p in model.joined.parameters())


def test_focal_loss_by_hand():
    p = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.2, 0.4, 0.2, 0.2]])
    grades = torch.tensor([0, 1])
    # (0.3^2 x 0.356675 + 0.6^2 x 0.916291) / 2
    assert focal_loss(p.log(), grades).item() == pytest.approx(0.180983, abs=1e-6)
    weighed = focal_loss(p.log(), grades, 1.0, (0.5, 2.0, 1.0, 1.0)).item()
    assert weighed == pytest.approx((0.5 * 0.3 * 0.356675 + 2 * 0.6 * 0.916291) / 2, abs=1e-6)
    assert focal_loss(p.log(), grades, 0.0).item() == pytest.approx(functional.cross_entropy(p.log(), grades).item())


def test_a_focal_loss_stays_finite_where_a_network_is_certain():
    logits = torch.tensor([[60.0, 0, 0, 0], [0, 60.0, 0, 0]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([0, 0]), 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(30, rel=1e-4) and torch.isfinite(logits.grad).all()


def test_the_loss_is_the_sum_of_each_ones_own():
    torch.manual_seed(2)
    joined, first, second, third = torch.randn(4, 5, 4)
    grades, alpha = torch.tensor([0, 1, 2, 3, 1]), (0.15, 0.17, 0.23, 1.0)
    answers = MDTNetLogits(joined, first[None], torch.stack([second, third]), (1.0, 3.0), alpha)
    by_hand = functional.cross_entropy(joined, grades) + functional.cross_entropy(first, grades)
    by_hand += focal_loss(second, grades, 1.0, alpha) + focal_loss(third, grades, 3.0, alpha)
    torch.testing.assert_close(mdtnet_loss(answers, grades), by_hand)


def test_right_answers_cost_less_than_wrong_ones():
    grades = torch.tensor([0, 1, 2, 3])
    right = 4 * torch.eye(4)

    def cost(logits):
        return mdtnet_loss(MDTNetLogits(logits, logits[None], logits[None], (2.0,), EVEN), grades)

    assert cost(right) < cost(0 * right) < cost(right.roll(1, dims=1))


def test_the_team_is_as_large_as_its_networks():
    with torch.device("meta"):
        light = MDTNet(replace(LIGHT, pretrained=False))
        full = MDTNet(MDTNetOptions(pretrained=False))
    # stock networks less their layer of 1000 classes: ResNet50 25557032, InceptionV3 23834568, DenseNet121 7978856,
    # EfficientNet-Lite0 and 1 4652008 and 5416680
    bodies = 3 * 3_371_008 + 4_135_680
    joined = (4 * 1280 + 1) * 256 + 257 * 128 + 129 * 4
    assert count_parameters(light) == bodies + joined + 4 * (1281 * 4)
    bodies = 23_508_032 + 21_785_568 + 4 * 6_953_856
    joined = (2 * 2048 + 4 * 1024 + 1) * 1024 + 1025 * 512 + 513 * 4
    assert count_parameters(full) == bodies + joined + 2 * (2049 * 4) + 4 * (1025 * 4)


def test_local_contrast_goes_into_the_bodies_as_it_is():
    options = replace(TINY, plain=("tf_efficientnet_lite0",), gammas=())
    model = net(options).eval()
    body = build_body("tf_efficientnet_lite0", 64, pretrained=False, input_scaling=LITE_SCALING).eval()
    body.load_state_dict(model.bodies[0].state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model.features(patches())[0], body(patches()).mean(dim=(2, 3)))
    resnet = net(replace(options, plain=("resnet18",)))
    assert isinstance(resnet.bodies[0].rescale, nn.Identity)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"plain": (), "gammas": ()}, "no bodies"),
        ({"gammas": (-1.0,)}, "gamma of 0 or more"),
        ({"alpha": (1.0, 1.0)}, "4 weights"),
    ],
)
def test_options_that_will_not_do_are_refused(wrong, told):
    with pytest.raises(UsageError, match=told):
        replace(TINY, **wrong)
