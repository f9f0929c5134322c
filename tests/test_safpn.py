import pytest

torch = pytest.importorskip("torch")
from collections import OrderedDict

from torch.nn import functional

from fundoscope.networks.safpn import SAFPN

CHANNELS = (4, 6, 8, 8)


def levels(n=2, size=(64, 96)):
    torch.manual_seed(0)
    maps = [torch.randn(n, c, size[0] // s, size[1] // s) for c, s in zip(CHANNELS, (4, 8, 16, 32), strict=True)]
    return OrderedDict((str(k), x) for k, x in enumerate(maps))


def stirred(maps=16):
    """A pyramid whose attention is no longer the plain mean that it begins as."""
    torch.manual_seed(1)
    pyramid = SAFPN(CHANNELS, maps)
    for layer in pyramid.attention:
        torch.nn.init.normal_(layer.weight, std=0.2)
    return pyramid


def test_it_gives_a_level_for_each_and_weights_that_sum_to_one():
    pyramid = stirred()
    out, weights = pyramid.fuse_with_weights(levels())
    assert list(out) == ["0", "1", "2", "3"]
    assert [tuple(x.shape) for x in out.values()] == [(2, 16, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
    for x, share in zip(out.values(), weights, strict=True):
        assert share.shape == (2, 4, *x.shape[2:])
        torch.testing.assert_close(share.sum(dim=1), torch.ones_like(share[:, 0]))
    for x, y in zip(out.values(), pyramid(levels()).values(), strict=True):
        torch.testing.assert_close(x, y)


def test_it_begins_as_a_plain_mean():
    torch.manual_seed(0)
    pyramid, maps = SAFPN(CHANNELS, 16), levels()
    out, weights = pyramid.fuse_with_weights(maps)
    assert all((share == 0.25).all() for share in weights)
    lateral = [layer(x) for layer, x in zip(pyramid.lateral, maps.values(), strict=True)]
    size = lateral[0].shape[2:]
    mean = sum(functional.interpolate(x, size, mode="bilinear", align_corners=False) for x in lateral) / 4
    torch.testing.assert_close(out["0"], pyramid.output[0](mean))


def test_weights_are_of_the_photograph_and_of_the_place():
    pyramid, maps = stirred(), levels()
    changed = OrderedDict((name, x.clone()) for name, x in maps.items())
    changed["0"][1, :, 8, 12] += 5
    before, after = (pyramid.fuse_with_weights(each)[1] for each in (maps, changed))
    moved = (before[0] - after[0]).abs().amax(dim=1)
    assert moved[0].max() == 0  # the other photograph
    assert moved[1, 8, 12] > 1e-3
    moved[1, 7:10, 11:14] = 0
    assert moved.max() == 0  # the other places
    assert before[0].std(dim=(2, 3)).min() > 1e-3


def scene(n, generator):
    """Crossings seen by one level each, small ones by the finest and large ones by the third; the other levels answer too,
    but with what has nothing to do with it. Gives the maps, the truth at the finest places, and which are large.
    """
    large = torch.rand(n, generator=generator) < 0.5
    value = torch.randn(n, generator=generator)
    fine, coarse = torch.zeros(n, 2, 16, 16), torch.zeros(n, 2, 4, 4)
    for maps, seen in ((fine, ~large), (coarse, large)):
        size = maps.shape[2]
        noise = torch.randn(n, size, size, generator=generator)
        maps[:, 0] = torch.where(seen[:, None, None], value[:, None, None], noise)
        maps[:, 1] = seen[:, None, None].float()  # how strongly it is seen
    maps = OrderedDict([("0", fine), ("1", torch.zeros(n, 2, 8, 8)), ("2", coarse), ("3", torch.zeros(n, 2, 2, 2))])
    return maps, value, large


def test_taught_it_reads_small_crossings_from_the_fine_map_and_large_ones_from_the_coarse_map():
    torch.manual_seed(0)
    pyramid, head = SAFPN((2, 2, 2, 2), 8), torch.nn.Conv2d(8, 1, 1)
    optimiser = torch.optim.Adam([*pyramid.parameters(), *head.parameters()], 2e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        maps, value, _ = scene(16, generator)
        loss = functional.mse_loss(head(pyramid(maps)["0"]), value[:, None, None, None].expand(-1, 1, 16, 16))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    maps, _, large = scene(64, generator)
    with torch.no_grad():
        shares = pyramid.fuse_with_weights(maps)[1][0].mean(dim=(2, 3))  # (64, levels), of the finest output
    assert shares[~large, 0].mean() > shares[large, 0].mean() + 0.2
    assert shares[large, 2].mean() > shares[~large, 2].mean() + 0.2


def test_gradients_reach_every_level_and_the_attention():
    pyramid = stirred()
    sum(x.square().mean() for x in pyramid(levels()).values()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in pyramid.parameters())
