import numpy as np
import pytest
import torch

from fundoscope.errors import FundoscopeError, UsageError
from fundoscope.networks import COMPARED_NETWORKS, Fused, FusionOptions, Scaling, build, count_parameters
from fundoscope.networks.timm_bodies import TimmBody, create_network


@pytest.fixture(scope="module")
def paper():
    return build("resnet18+densenet121+efficientnet_b2", pretrained=False).eval()


def test_the_papers_teacher_has_the_papers_size(paper):
    # REPAIRS.md: 26.59 M with a two-class head
    assert count_parameters(paper) == pytest.approx(26.59e6, abs=0.01e6)


@torch.no_grad()
def test_the_papers_maps(paper):
    x = torch.rand(1, 3, 256, 256)
    stacked = paper.body.stack_streams(x)
    assert stacked.shape == (1, 2944, 8, 8)
    fused = paper.features(x)
    assert fused.shape == (1, 256, 8, 8)
    # a 1x1 convolution is a matrix at each place; the ReLU behind it keeps it from folding into the head
    weight, bias = paper.body.mix.weight[:, :, 0, 0], paper.body.mix.bias
    mixed = weight @ stacked[0, :, 3, 5] + bias
    assert (mixed < 0).any()
    torch.testing.assert_close(fused[0, :, 3, 5], mixed.clamp_min(0), rtol=1e-4, atol=1e-4)
    # and the head a linear layer of the mean over places
    logits = fused.mean((2, 3)) @ paper.head.weight.T + paper.head.bias
    torch.testing.assert_close(paper(x), logits, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_without_its_relu_the_fusion_and_the_head_are_one_matrix():
    torch.manual_seed(0)
    bent, flat = (build("tiny+tiny", pretrained=False, fusion_relu=relu).eval() for relu in (True, False))
    flat.load_state_dict(bent.state_dict())
    x = torch.rand(4, 3, 64, 64)
    folded = flat.head.weight @ flat.body.mix.weight[:, :, 0, 0]
    stacked = flat.body.stack_streams(x).mean((2, 3))
    wanted = stacked @ folded.T + flat.head.weight @ flat.body.mix.bias + flat.head.bias
    torch.testing.assert_close(flat(x), wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(bent(x), wanted, rtol=1e-4, atol=1e-5)


def test_the_papers_sizes_of_comparison_networks():
    # table 5: 9.40 M and 88.12 M with 1000 classes; ResNet-RS 36.03 M
    with torch.device("meta"):
        found = {name: count_parameters(create_network(COMPARED_NETWORKS[name], False)) / 1e6
                 for name in ("halonet", "swinv2", "resnet_rs")}  # fmt: skip
    assert found == pytest.approx({"halonet": 9.404, "swinv2": 87.9, "resnet_rs": 35.7}, rel=1e-3)


@torch.no_grad()
def test_each_stream_normalises_the_shared_input_itself():
    body = TimmBody("resnet18", 64).eval()
    x = torch.rand(2, 3, 64, 64)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    own = (x - torch.tensor(mean, dtype=torch.float32)[:, None, None]) / torch.tensor(deviation)[:, None, None]
    torch.testing.assert_close(body(x), body.network.forward_features(own.float()))


@torch.no_grad()
def test_a_stream_sees_the_same_pixels_however_the_input_is_scaled():
    given = Scaling((0.5, 0.4, 0.3), (0.25, 0.2, 0.1))
    plain, scaled = TimmBody("resnet18", 64).eval(), TimmBody("resnet18", 64, input_scaling=given).eval()
    scaled.load_state_dict(plain.state_dict())
    x = torch.rand(2, 3, 64, 64)
    mean, deviation = (torch.tensor(part)[:, None, None] for part in (given.mean, given.deviation))
    torch.testing.assert_close(scaled((x - mean) / deviation), plain(x), atol=1e-4, rtol=1e-4)


def test_all_streams_learn():
    model = Fused(FusionOptions(("resnet18", "mobilenetv2_100"), maps=16, size=64))
    model(torch.rand(2, 3, 64, 64)).square().sum().backward()
    for stream in model.streams:
        assert sum(float(p.grad.abs().sum()) for p in stream.parameters() if p.grad is not None) > 0


def test_streams_of_unequal_stride_are_refused():
    with pytest.raises(UsageError, match="equal stride"):
        Fused(FusionOptions(("resnet18", "vit_small_patch16_224"), size=64))(torch.rand(1, 3, 64, 64))


def test_an_unknown_stream_names_the_nearest():
    with pytest.raises(UsageError, match="resnet18"):
        Fused(FusionOptions(("resnet81",)))


def test_weights_that_cannot_be_fetched_say_what_to_do(monkeypatch):
    import timm

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    for name in ("resnet18", "halonet_h2"):
        with pytest.raises(FundoscopeError, match="--random-weights"):
            TimmBody(name, 64, pretrained=True)


@pytest.mark.parametrize("name", sorted(COMPARED_NETWORKS))
@torch.no_grad()
def test_every_comparison_network_gives_maps_and_logits(name):
    # windowed attention needs a size that its windows divide; on "meta" shapes are computed and nothing else
    size = 128 if name in ("swinv2", "nest", "halonet") else 64
    with torch.device("meta"):
        model, x = build(name, pretrained=False, size=size).eval(), torch.rand(1, 3, size, size)
        maps, logits = model.features(x), model(x)
    assert maps.ndim == 4 and maps.shape[1] == model.head.in_features
    assert maps.shape[2] == maps.shape[3] in (size // 32, size // 16)
    assert logits.shape == (1, 2)


@torch.no_grad()
def test_tokens_of_a_transformer_lie_where_their_patches_lay():
    body = TimmBody("vit_tiny_patch16_224", 64).eval()
    x = torch.rand(1, 3, 64, 64)
    tokens = body.network.forward_features(body.rescale(x))  # a class token, then 4 x 4 patches, row by row
    maps = body(x)
    assert tokens.shape == (1, 17, 192) and maps.shape == (1, 192, 4, 4)
    assert torch.equal(maps[0, :, 2, 1], tokens[0, 1 + 2 * 4 + 1])
