import pytest
import torch

from fundoscope.errors import UsageError
from fundoscope.networks import build, count_parameters


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tiny", "tiny+tiny"])
def test_shapes_and_the_map_that_sums_to_the_decision(name):
    model = build(name, pretrained=False).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features, logits = model.features(x), model(x)
    assert features.shape[0] == 2 and features.shape[2:] == (2, 2)
    assert logits.shape == (2, 2)
    weight, bias = model.head.weight, model.head.bias
    activation = torch.einsum("c,nchw->nhw", weight[1] - weight[0], features) + bias[1] - bias[0]
    torch.testing.assert_close(activation.mean((1, 2)), logits[:, 1] - logits[:, 0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("size", "millions"), [(0, 4.652), (1, 5.416), (2, 6.092)])
def test_published_sizes(size, millions):
    # with a head of 1000 classes of 1280 features (EfficientNet-Lite's own table: 4.7, 5.4 and 6.1 M), here two classes
    with torch.device("meta"):
        model = build(f"tf_efficientnet_lite{size}", pretrained=False)
    assert count_parameters(model) == pytest.approx(millions * 1e6 - 998 * 1281, rel=1e-3)


def test_imagenet_weights_tell_a_cat_from_a_rocket():
    skimage = pytest.importorskip("skimage")
    import pathlib

    import timm

    from fundoscope.imaging import Standard, read
    from fundoscope.networks.efficientnet_lite import imagenet_weights

    network = timm.create_model("efficientnet_lite0", pretrained=False)
    network.load_state_dict(imagenet_weights(0))
    network.eval()
    folder = pathlib.Path(skimage.__file__).parent / "data"
    standard = Standard(size=256, clahe_when="never", mean=(127 / 255,) * 3, deviation=(128 / 255,) * 3)
    answers = {}
    for name in ("chelsea.png", "coffee.png"):
        x = torch.from_numpy(standard.apply(read(folder / name)))[None]
        with torch.no_grad():
            answers[name] = network(x)[0].topk(5).indices.tolist()
    assert {281, 282, 285} & set(answers["chelsea.png"])  # tabby, tiger cat, Egyptian cat
    assert {967, 968, 969, 504, 925} & set(answers["coffee.png"])  # espresso, cup, mug


def test_a_body_cut_after_five_stages_is_the_trunk_of_the_whole_one_with_a_fifth_of_its_weights():
    whole, cut = (build(name).eval() for name in ("tf_efficientnet_lite0", "tf_efficientnet_lite0_stage5"))
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps = cut.features(x)
        assert maps.shape == (2, 112, 4, 6) and torch.equal(maps, whole.body.trunk(x))  # ImageNet's weights in both
    assert count_parameters(cut) == pytest.approx(0.70e6, rel=0.01)
    assert count_parameters(whole) / count_parameters(cut) > 4.8
    cut.freeze_stages(3)
    assert cut.describe_frozen() == "stem and stages 1 to 3"
    cut.freeze_trunk()
    assert cut.describe_frozen() == "everything"  # a second question would have a head of its own only
    assert all(weight.requires_grad for weight in cut.head.parameters())


def test_frozen_stages_keep_their_statistics():
    model = build("tf_efficientnet_lite0", frozen_stages=3).train()
    before = model.body.stem[1].running_mean.clone()
    late = model.body.stages[6][0].bn1.running_mean.clone()
    model(torch.randn(2, 3, 64, 64))
    assert torch.equal(before, model.body.stem[1].running_mean)
    assert not torch.equal(late, model.body.stages[6][0].bn1.running_mean)


@pytest.mark.parametrize(
    ("name", "given", "frozen"),
    [("tf_efficientnet_lite0", {}, 0), ("tf_efficientnet_lite0+tiny", {"frozen_stages": 0}, 0),
     ("tf_efficientnet_lite0+tiny", {"frozen_stages": 5}, 5)],
)  # fmt: skip
def test_as_many_stages_are_frozen_as_is_asked_and_none_by_default(name, given, frozen):
    body = build(name, **given).body
    lite = body.streams[0] if "+" in name else body
    still = [not any(p.requires_grad for p in stage.parameters()) for stage in lite.stages]
    assert still == [number < frozen for number in range(7)]
    own = f"stem and stages 1 to {frozen}" if frozen else "nothing"
    assert build(name, **given).describe_frozen() == (f"{own}; nothing" if "+" in name else own)


def test_an_unknown_network_names_the_nearest():
    with pytest.raises(UsageError, match="resnet18"):
        build("resnet81")
