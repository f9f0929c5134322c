import pytest

torch = pytest.importorskip("torch")

from fundoscope.networks.nick_grader import (
    GraderOptions,
    NickGrader,
    excitation,
    mean_outer_product,
    ordinal_loss,
    signed_square_root,
)
from fundoscope.vessels.grade_rule import GRADES

SIDE = 64
TINY = {"pretrained": False, "maps": 8, "dropout": 0.0}


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("pyramid", ["safpn", "fpn", "none"])
@pytest.mark.parametrize("head", ["ordinal", "plain"])
def test_every_part_can_be_switched_and_gives_four_probabilities(streams, pyramid, head):
    torch.manual_seed(0)
    grader = NickGrader(GraderOptions(streams=streams, pyramid=pyramid, head=head, **TINY)).eval()
    with torch.no_grad():
        logits = grader(torch.randn(2, 6, SIDE, SIDE))
        p = grader.probabilities(logits)
    assert logits.shape == (2, GRADES - (head == "ordinal")) and p.shape == (2, GRADES)
    assert (p >= 0).all()
    torch.testing.assert_close(p.sum(1), torch.ones(2))


def test_a_higher_score_is_a_higher_grade():
    grader = NickGrader(GraderOptions(**TINY, head="ordinal"))
    scores = torch.linspace(-6, 6, 9)[:, None]
    p = grader.probabilities(scores - grader.cuts)
    mean = p @ torch.arange(4.0)
    assert (mean.diff() > 0).all() and p[0].argmax() == 0 and p[-1].argmax() == 3
    assert (grader.cuts.diff() > 0).all()


def test_pooling_is_the_outer_product_of_the_streams_of_length_one():
    first, second = torch.randn(2, 3, 5, 4, 4)
    by_hand = (
        sum(torch.einsum("ni,nj->nij", first[:, :, r, c], second[:, :, r, c]) for r in range(4) for c in range(4)) / 16
    )
    torch.testing.assert_close(mean_outer_product(first, second), by_hand)
    grader = NickGrader(GraderOptions(pretrained=False, maps=5))
    pooled = grader.pool([first, second])
    torch.testing.assert_close(pooled.norm(dim=1), torch.ones(3))
    assert (torch.sign(pooled) == torch.sign(by_hand.flatten(1))).all()


def test_one_stream_does_not_look_at_the_map():
    grader = NickGrader(GraderOptions(streams=1, **TINY)).eval()
    both = torch.randn(1, 6, SIDE, SIDE)
    alone = torch.cat([both[:, :3], 0 * both[:, 3:]], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(grader(both), grader(alone))
        two = NickGrader(GraderOptions(**TINY)).eval()
        assert not torch.allclose(two(both), two(alone))


@pytest.mark.parametrize("head", ["ordinal", "plain"])
def test_evidence_in_closed_form_is_what_autograd_gives(head):
    torch.manual_seed(1)
    grader = NickGrader(GraderOptions(pretrained=False, maps=6, head=head, dropout=0.0)).double()
    maps = [torch.randn(2, 6, 5, 5, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    logits = grader.classify(grader.pool(maps))
    grades = torch.arange(4.0, dtype=torch.float64) - 1.5
    score = logits[:, 0].sum() if head == "ordinal" else (logits @ grades).sum()
    gradients = torch.autograd.grad(score, maps)
    for found, gradient, each in zip(grader.activation_maps(maps), gradients, maps, strict=True):
        alpha = gradient.mean(dim=(2, 3), keepdim=True)
        torch.testing.assert_close(found, torch.relu((alpha * each).sum(1)), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("streams", [1, 2])
def test_without_bilinear_pooling_the_evidence_is_the_class_activation(streams):
    grader = NickGrader(
        GraderOptions(streams=streams, pooled="side by side", pretrained=False, maps=6, dropout=0.0, head="ordinal")
    )
    maps = [torch.randn(2, 6, 5, 5, requires_grad=True) for _ in range(streams)]
    gradients = torch.autograd.grad(grader.classify(grader.pool(maps))[:, 0].sum(), maps)
    for found, gradient, each in zip(grader.activation_maps(maps), gradients, maps, strict=True):
        alpha = gradient.mean(dim=(2, 3), keepdim=True)
        torch.testing.assert_close(found, torch.relu((alpha * each).sum(1)))


def test_excitation_begins_as_nothing_and_weighs_maps_by_their_mean():
    excited, x = excitation(8), torch.rand(2, 8, 3, 3)
    torch.testing.assert_close(excited(x), x)
    torch.nn.init.ones_(excited.fc1.weight)
    torch.nn.init.zeros_(excited.fc1.bias)
    weights = torch.linspace(-1, 1, 8)
    excited.fc2.weight.data = weights[:, None, None, None].expand(8, 2, 1, 1).clone()
    total = x.mean((2, 3)).sum(1, keepdim=True)  # what both hidden units hold
    share = 2 * torch.sigmoid(2 * total * weights)
    torch.testing.assert_close(excited(x), x * share[:, :, None, None])


def test_the_loss_is_least_at_the_true_grade():
    grader = NickGrader(GraderOptions(**TINY, head="ordinal"))
    cuts = grader.cuts.detach()
    middles = torch.stack([cuts[0] - 2, (cuts[0] + cuts[1]) / 2, (cuts[1] + cuts[2]) / 2, cuts[2] + 2])
    for grade in range(4):
        losses = [ordinal_loss(m - cuts[None], torch.tensor([grade])) for m in middles]
        assert int(torch.stack(losses).argmin()) == grade


def test_the_root_keeps_signs_and_has_a_slope_everywhere():
    x = torch.tensor([-4.0, -1e-8, 0.0, 1e-8, 4.0], requires_grad=True)
    y = signed_square_root(x)
    torch.testing.assert_close(y[[0, 4]], torch.tensor([-2.0, 2.0]), atol=0.01, rtol=0)
    y.sum().backward()
    assert torch.isfinite(x.grad).all()
