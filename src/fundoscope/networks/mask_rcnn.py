"""Mask R-CNN (He 2017, ICCV) for crossings: torchvision's, around our bodies and pyramids, small enough for a CPU.

Crossings are few, of one kind and nearly of one size. So anchors are square and near that size, few boxes are sampled a
step, and heads are narrow. The input is used as given, neither resized nor normalised. A photograph without masks adds
nothing to the loss of masks, and neither does a crossing whose mask is empty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, maskrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from fundoscope.errors import UsageError, nearest
from fundoscope.networks.multiscale_bodies import LITE, STRIDES, MultiScaleBody, build_multiscale_body
from fundoscope.networks.safpn import SAFPN

#: A crossing's box (paper 002, section 5.2), as a share of the diameter of the field: 20 pixels of DRIVE's 540.
BOX = 20 / 540

#: Names of the losses that the detector gives in training mode, as torchvision calls them.
LOSSES = ("loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg")

#: Anchors of each level, as multiples of the box: a crossing's box may be scaled to its vessels, by half to threefold.
_ANCHORS = ((0.7, 1.0), (1.0, 1.4), (1.4, 2.0), (2.0, 2.8))
_CLASSES = 2  # background, crossing
_BOX_PLACES, _MASK_PLACES = 7, 14  # a box is read at 7x7 places, its mask at 14x14 and drawn at 28x28 (He 2017)

#: The smallest overlap (intersection over union) of an anchor that counts as a crossing, and the greatest of one that
#: counts as background. Anchors stand 4 pixels apart: the best may be 2 pixels off each way, which leaves 0.68 of a
#: 20-pixel box.
_ANCHOR_IOU = (0.6, 0.3)
_PROPOSALS_OVERLAP = 0.7  # of two proposals that overlap by more, the one with the higher score goes on (Ren 2015)


@dataclass(frozen=True)
class DetectorOptions:
    """What a crossing detector is made of.

    `body` is a name for `build_multiscale_body`; its first `frozen_stages` keep their weights. `maps` is the width of the
    pyramid (64 to 128), `hidden` that of the box head. `diameter`, in pixels, is that of the field in the photographs;
    it sets the size of the anchors. In each step `rpn_samples` anchors and `roi_samples` boxes are sampled from a
    photograph, at most half and a quarter of them crossings. `proposals` go from the first stage to the second. At most
    `detections` come out, without those below `minimum_confidence` and those that overlap a more confident one by more
    than `overlap` (intersection over union).
    """

    body: str = LITE
    pretrained: bool = True
    frozen_stages: int = 0
    pyramid: Literal["safpn", "fpn"] = "safpn"
    maps: int = 64
    hidden: int = 256
    diameter: float = 540.0
    rpn_samples: int = 64
    roi_samples: int = 64
    proposals: int = 300
    detections: int = 100
    overlap: float = 0.3
    minimum_confidence: float = 0.01


class BodyWithPyramid(nn.Module):
    """A body and a pyramid on it: (N, 3, H, W) -> maps "0" to "3" of `out_channels` each, at strides 4 to 32."""

    def __init__(self, body: MultiScaleBody, pyramid: nn.Module, maps: int) -> None:
        super().__init__()
        self.body, self.pyramid, self.out_channels = body, pyramid, maps

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The pyramid."""
        return self.pyramid(self.body(x))

    def weights(self, x: Tensor) -> list[Tensor]:
        """For each level of a SAFPN, finest first, the weights (N, 4, h, w) of all levels; `UsageError` for another."""
        if not isinstance(self.pyramid, SAFPN):
            raise UsageError("A plain pyramid weighs nothing. Make the detector with pyramid='safpn'.")
        return self.pyramid.fuse_with_weights(self.body(x))[1]


class CrossingHeads(RoIHeads):
    """torchvision's heads for boxes and masks, where crossings without a mask, or with an empty one, add no mask loss."""

    def check_targets(self, targets: list[dict[str, Tensor]] | None) -> None:
        """Raise `UsageError` unless each photograph has boxes and labels."""
        if targets is None or not all({"boxes", "labels"} <= set(target) for target in targets):
            raise UsageError("A target lacks `boxes` or `labels`. Give both for each photograph, empty if it has none.")

    def forward(
        self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:  # fmt: skip
        """Detections in eval mode, losses in training mode."""
        if not self.training or targets is None:
            return super().forward(features, proposals, image_shapes, targets)
        boxes, matched, labels, offsets = self.select_training_samples(proposals, targets)
        found = self.box_predictor(self.box_head(self.box_roi_pool(features, boxes, image_shapes)))
        classifier, box = fastrcnn_loss(*found, labels, offsets)
        with_mask = [_boxes_with_mask(*each) for each in zip(labels, matched, targets, strict=True)]
        boxes = [all_boxes[rows] for all_boxes, rows in zip(boxes, with_mask, strict=True)]
        matched = [numbers[rows] for numbers, rows in zip(matched, with_mask, strict=True)]
        pool, head, predictor = self.mask_roi_pool, self.mask_head, self.mask_predictor
        assert pool is not None and head is not None and predictor is not None
        masks = predictor(head(pool(features, boxes, image_shapes)))
        return [], {
            "loss_classifier": classifier,
            "loss_box_reg": box,
            "loss_mask": _mask_loss(masks, boxes, matched, targets),
        }


def _boxes_with_mask(labels: Tensor, matched: Tensor, target: dict[str, Tensor]) -> Tensor:
    """The sampled boxes of a photograph, by number, that are crossings whose mask is known and not empty."""
    crossings = torch.nonzero(labels > 0)[:, 0]
    if "masks" not in target:
        return crossings[:0]
    drawn = (target["masks"] > 0).flatten(1).any(dim=1)
    return crossings[drawn[matched[crossings]]]


def _mask_loss(logits: Tensor, boxes: list[Tensor], matched: list[Tensor], targets: list[dict[str, Tensor]]) -> Tensor:
    """The mean binary cross-entropy over the photographs with masks; 0 where there are none."""
    known = [number for number, target in enumerate(targets) if "masks" in target and len(boxes[number])]
    if not known:
        return logits.sum() * 0
    masks, labels = ([targets[number][key] for number in known] for key in ("masks", "labels"))
    return maskrcnn_loss(logits, [boxes[n] for n in known], masks, labels, [matched[n] for n in known])


class _AsGiven(GeneralizedRCNNTransform):
    """Pads photographs with zeros below and to the right to a common multiple of 32, and does nothing else."""

    def normalize(self, image: Tensor) -> Tensor:
        return image

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


class CrossingDetector(GeneralizedRCNN):
    """Mask R-CNN for one class of objects, the crossing (label 1); `body` replaces the one that the options name.

    In training mode it takes a list of photographs (3, H, W) and a list of targets, each with `boxes` (n, 4) x1 y1 x2 y2,
    `labels` (n,) and, where known, `masks` (n, H, W); it gives the losses `LOSSES`. In eval mode it takes photographs and
    gives for each its `boxes`, `labels`, `scores` and `masks` (n, 1, H, W; 0 to 1), most confident first.
    """

    def __init__(self, options: DetectorOptions = DetectorOptions(), body: MultiScaleBody | None = None) -> None:
        body = body or build_multiscale_body(options.body, options.pretrained, options.frozen_stages)
        backbone = BodyWithPyramid(body, _pyramid(options, body.channels), options.maps)
        super().__init__(backbone, _proposer(options), _heads(options), _AsGiven(1, 1, [0.0], [1.0]))

    @torch.no_grad()
    def level_weights(self, photograph: Tensor) -> list[Tensor]:
        """For each level of its SAFPN, finest first, the weights (levels, h, w) of all levels at each place."""
        backbone, padded = self.backbone, self.transform([photograph])[0].tensors
        assert isinstance(backbone, BodyWithPyramid)
        return [weights[0] for weights in backbone.weights(padded)]


def _pyramid(options: DetectorOptions, channels: tuple[int, ...]) -> nn.Module:
    kinds = {"safpn": SAFPN, "fpn": FeaturePyramidNetwork}
    if options.pyramid not in kinds:
        raise UsageError(f"There is no pyramid '{options.pyramid}': {nearest(options.pyramid, kinds)}")
    return kinds[options.pyramid](list(channels), options.maps)


def _proposer(options: DetectorOptions) -> RegionProposalNetwork:
    """The first stage: scores and shifts anchors at every place of every level, and proposes the best."""
    sizes = tuple(tuple(multiple * BOX * options.diameter for multiple in row) for row in _ANCHORS)
    number = {"training": options.proposals, "testing": options.proposals}
    return RegionProposalNetwork(
        AnchorGenerator(sizes, ((1.0,),) * len(sizes)),
        RPNHead(options.maps, len(_ANCHORS[0])),
        *_ANCHOR_IOU,
        options.rpn_samples,
        0.5,  # of the sampled anchors are crossings, if there are so many
        number,
        number,
        _PROPOSALS_OVERLAP,
    )


def _heads(options: DetectorOptions) -> CrossingHeads:
    """The second stage: classifies each proposed box, corrects it, and marks its pixels that are vessel."""
    maps, hidden, box = options.maps, options.hidden, BOX * options.diameter
    return CrossingHeads(
        _pooled(_BOX_PLACES, box), TwoMLPHead(maps * _BOX_PLACES**2, hidden), FastRCNNPredictor(hidden, _CLASSES),
        0.5, 0.5, options.roi_samples, 0.25, None,  # as in Girshick 2015: IoU of a crossing, samples, share of crossings
        options.minimum_confidence, options.overlap, options.detections,
        _pooled(_MASK_PLACES, box), MaskRCNNHeads(maps, (maps,) * 4, 1), MaskRCNNPredictor(maps, maps, _CLASSES),
    )  # fmt: skip


def _pooled(places: int, box: float) -> MultiScaleRoIAlign:
    """Pooling of boxes: from the finest maps below twice a crossing's size, from the next coarser ones at each doubling."""
    names = [str(number) for number in range(len(STRIDES))]
    finest = int(math.log2(STRIDES[0]))
    pool = MultiScaleRoIAlign(names, places, 2, canonical_scale=math.ceil(box), canonical_level=finest)
    # torchvision would guess the strides from the first photograph, and wrongly from a small one that was padded
    pool.scales = [1 / stride for stride in STRIDES]
    pool.map_levels = LevelMapper(finest, finest + len(STRIDES) - 1, pool.canonical_scale, pool.canonical_level)
    return pool
