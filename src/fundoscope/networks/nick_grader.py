"""The grader of a nicked vein: two streams, the photograph's patch and its map of arteries and veins (paper 002).

Each stream is a body whose maps at strides 4, 8 and 16 pass squeeze-and-excitation (Hu 2018, CVPR) and a feature
pyramid; the pyramid's levels are brought to one size and added. The two streams are pooled bilinearly (Lin 2015, ICCV):
the outer product of their maps, averaged over places, its signed square root, scaled to length 1. With one stream, or
with streams side by side, the maps are averaged over places instead. The head gives one logit a grade, or one score of
how far the vein is pinched against three ascending cut points (McCullagh 1980, J R Stat Soc B 42:109).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from timm.layers import SEModule
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FeaturePyramidNetwork, SqueezeExcitation

from fundoscope.errors import UsageError
from fundoscope.networks.multiscale_bodies import LITE, build_multiscale_body
from fundoscope.networks.safpn import SAFPN, resize_maps
from fundoscope.vessels.grade_rule import GRADES

_STRIDES = (4, 8, 16)  # at a stride of 32 a patch of 128 pixels is four places wide
_LEVEL = 1  # the pyramid's level to whose size all are brought: an eighth of the patch's side
_LOGIT_SCALE = 16.0  # factor after the scaling to length 1: a head alone would take long to grow so large
_SQUEEZE = 4  # squeeze-and-excitation has this many times fewer values in its middle than maps
_EPSILON = 1e-5  # added under the square root, whose slope at 0 is infinite


@dataclass(frozen=True)
class GraderOptions:
    """What a grader is made of.

    `streams` is 1 (the patch alone) or 2. Each stream has a `body` for `build_multiscale_body`, whose first
    `frozen_stages` keep their weights, squeeze-and-excitation if `excited` (else none at all, and a body that brings its
    own is refused), and a `pyramid` of `maps` maps (`none`: the
    body's own coarsest maps, mixed to as many). `pooled` is how two streams are joined.
    """

    streams: Literal[1, 2] = 2
    body: str = LITE
    pretrained: bool = True
    frozen_stages: int = 0
    excited: bool = True
    pyramid: Literal["safpn", "fpn", "none"] = "safpn"
    maps: int = 64
    pooled: Literal["bilinear", "side by side"] = "bilinear"
    head: Literal["ordinal", "plain"] = "plain"
    dropout: float = 0.2


class NickGrader(nn.Module):
    """Patch and maps of vessels, (N, 3 + 3, s, s), to logits: of the four grades (N, 4), or with the ordinal head of
    "above 0", "above 1" and "above 2" (N, 3). With one stream the maps of vessels are ignored.
    """

    def __init__(self, options: GraderOptions = GraderOptions()) -> None:
        super().__init__()
        self.options = options
        self.streams = nn.ModuleList(Stream(options) for _ in range(options.streams))
        self.bilinear = options.streams == 2 and options.pooled == "bilinear"
        width = options.maps**2 if self.bilinear else options.maps * options.streams
        self.logit_scale = _LOGIT_SCALE if self.bilinear else 1.0
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(width, 1 if options.head == "ordinal" else GRADES)
        self.first_cut = nn.Parameter(torch.tensor(0.0))
        self.steps = nn.Parameter(torch.full((GRADES - 2,), 0.5))  # between cut points, before softplus

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 4) or (N, 3) of patches (N, 6, s, s)."""
        return self.classify(self.pool(self.stream_maps(x)))

    def stream_maps(self, x: Tensor) -> list[Tensor]:
        """The maps of each stream for its half of the input, (N, C, s / 8, s / 8); without a pyramid s / 16."""
        return [stream(half) for stream, half in zip(self.streams, x.chunk(2, dim=1), strict=False)]

    def pool(self, maps: Sequence[Tensor]) -> Tensor:
        """One vector a patch from the streams' maps (N, C, h, w): (N, C * C) of length 1, or the means (N, C a stream)."""
        if not self.bilinear:
            return torch.cat([each.mean(dim=(2, 3)) for each in maps], dim=1)
        return functional.normalize(signed_square_root(mean_outer_product(*maps)).flatten(1), dim=1)

    def classify(self, pooled: Tensor) -> Tensor:
        """Logits of pooled vectors."""
        logits = self.head(self.dropout(pooled) * self.logit_scale)
        return logits - self.cuts if self.options.head == "ordinal" else logits

    @property
    def cuts(self) -> Tensor:
        """The three ascending cut points of the ordinal head, (3,)."""
        return torch.cat([self.first_cut[None], self.first_cut + functional.softplus(self.steps).cumsum(0)])

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities of grades 0 to 3, (N, 4)."""
        if self.options.head == "plain":
            return logits.softmax(dim=1)
        above = torch.sigmoid(logits)  # (N, 3): grade above 0, 1, 2
        ends = torch.ones_like(above[:, :1])
        return torch.cat([ends, above], dim=1) - torch.cat([above, 0 * ends], dim=1)

    def activation_maps(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """How much each place of each stream speaks for a pinch, (N, h, w), 0 or more.

        This is the gradient-weighted class activation (Grad-CAM; Selvaraju 2017, ICCV) of the ordinal score, or of the
        mean grade. It is written in closed form, so that an ONNX graph can give it: the gradient by one stream's maps
        at a place is a matrix, the same for all places, times the other stream's maps there. Its mean over places
        weighs the channels.
        """
        if self.options.head == "ordinal":
            direction = self.logit_scale * self.head.weight[0]  # (width,)
        else:
            grades = torch.arange(GRADES, dtype=self.head.weight.dtype, device=self.head.weight.device)
            direction = self.logit_scale * ((grades - grades.mean()) @ self.head.weight)
        if not self.bilinear:
            shares = zip(direction.chunk(len(maps)), maps, strict=True)
            return [functional.relu(torch.einsum("c,nchw->nhw", w / m[0, 0].numel(), m)) for w, m in shares]
        first, second = maps
        product = mean_outer_product(first, second)  # (N, C, C)
        root = signed_square_root(product)
        length = root.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]
        unit = root / length
        wanted = direction.view(1, *product.shape[1:])
        along = (unit * wanted).sum(dim=(1, 2), keepdim=True)
        # derivative of the scaling to length 1, then of the square root
        matrix = (wanted - unit * along) / length * 0.5 / (product.abs() + _EPSILON).sqrt()  # (N, C, C)
        alphas = (
            torch.einsum("nij,nj->ni", matrix, second.mean((2, 3))),
            torch.einsum("nij,ni->nj", matrix, first.mean((2, 3))),
        )
        places = first.shape[2] * first.shape[3]
        return [functional.relu(torch.einsum("nc,nchw->nhw", a / places, m)) for a, m in zip(alphas, maps, strict=True)]


class Stream(nn.Module):
    """(N, 3, s, s) -> (N, maps, s / 8, s / 8), s a multiple of 32; without a pyramid s / 16."""

    def __init__(self, options: GraderOptions) -> None:
        super().__init__()
        self.body = build_multiscale_body(options.body, options.pretrained, options.frozen_stages, _STRIDES)
        own = count_excitation(self.body)
        if own and not options.excited:
            raise UsageError(
                f"'{options.body}' has {own} modules of squeeze-and-excitation of its own, and this network is to have none. "
                "Give a body without them, such as resnet50, or ask for excited = true."
            )
        # batches of patches are large enough to measure batch statistics; with ImageNet's own little is learnt
        self.body.fixed_norms = False
        self.excited = nn.ModuleList(excitation(n) if options.excited else nn.Identity() for n in self.body.channels)
        kinds = {"safpn": SAFPN, "fpn": FeaturePyramidNetwork, "none": CoarsestMaps}
        self.pyramid = kinds[options.pyramid](list(self.body.channels), options.maps)
        self.norm = nn.BatchNorm2d(options.maps)

    def forward(self, x: Tensor) -> Tensor:
        """The pyramid's levels, each brought to an eighth of the patch, added and normalised."""
        maps = self.body(x)  # "0": (N, 24, s/4, s/4), "1": (N, 40, s/8, s/8), "2": (N, 112, s/16, s/16) for Lite0
        maps = OrderedDict((name, excite(maps[name])) for name, excite in zip(maps, self.excited, strict=True))
        levels = list(self.pyramid(maps).values())  # each (N, maps, h, w)
        size = levels[min(_LEVEL, len(levels) - 1)].shape[2:]
        first, *others = (resize_maps(level, (size[0], size[1])) for level in levels)
        return functional.relu(self.norm(sum(others, first)))  # (N, maps, s/8, s/8)


def count_excitation(network: nn.Module) -> int:
    """How many modules of squeeze-and-excitation a network holds, timm's and torchvision's."""
    return sum(isinstance(module, SEModule | SqueezeExcite | SqueezeExcitation) for module in network.modules())


def excitation(channels: int) -> SqueezeExcitation:
    """Squeeze-and-excitation that begins as the identity: torchvision's, its factors between 0 and 2, at first all 1."""
    block = SqueezeExcitation(channels, channels // _SQUEEZE, scale_activation=_DoubledSigmoid)
    for values in (block.fc2.weight, block.fc2.bias):
        assert values is not None
        nn.init.zeros_(values)
    return block


class _DoubledSigmoid(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * torch.sigmoid(x)


class CoarsestMaps(nn.Module):
    """In the place of a pyramid: the body's coarsest maps, mixed to `maps` by a convolution of 1 x 1."""

    def __init__(self, channels: Sequence[int], maps: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels[-1], maps, 1)

    def forward(self, levels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One level, named "mixed"."""
        return {"mixed": self.mix(list(levels.values())[-1])}


def rotate_half_turn(planes: Tensor) -> Tensor:
    """Planes (..., h, w) rotated by 180 degrees: the vein, which patches lay level, stays level."""
    return torch.flip(planes, (-2, -1))


def ordinal_loss(logits: Tensor, grades: Tensor) -> Tensor:
    """The mean binary cross-entropy of "above 0", "above 1" and "above 2" (N, 3) against grades (N,)."""
    above = (grades[:, None] > torch.arange(GRADES - 1, device=grades.device)).to(logits.dtype)
    return functional.binary_cross_entropy_with_logits(logits, above)


def mean_outer_product(first: Tensor, second: Tensor) -> Tensor:
    """The outer product of two streams' maps (N, C, h, w), averaged over places: (N, C, C)."""
    return torch.einsum("nihw,njhw->nij", first, second) / (first.shape[2] * first.shape[3])


def signed_square_root(x: Tensor) -> Tensor:
    """The square root of the absolute value with the sign of `x`; smooth at 0."""
    return torch.sign(x) * ((x.abs() + _EPSILON).sqrt() - _EPSILON**0.5)
