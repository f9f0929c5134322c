"""The grader of a nicked vein: two streams, the photograph's patch and its map of arteries and veins (paper 002).

Each stream is a body whose maps at strides 4, 8 and 16 pass squeeze-and-excitation (Hu 2018, CVPR) and a feature
pyramid, whose levels are brought to one size and added. The streams are pooled bilinearly (Lin 2015, ICCV): the outer
product of their maps at each place, averaged over places, its signed square root, scaled to length 1. With one stream, or
streams side by side, maps are averaged over places instead. The answer is ordinal: one score of how far the
vein is pinched, against three ascending cut points (McCullagh 1980, J R Stat Soc B 42:109); or one logit a grade.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FeaturePyramidNetwork

from fundoscope.networks.multiscale_bodies import LITE, build_multiscale_body
from fundoscope.networks.safpn import SAFPN
from fundoscope.vessels.grade_rule import GRADES

_LEVELS = 3  # maps of the body that are used: at a stride of 32 a patch is four places wide
_LEVEL = 1  # the pyramid's level to whose size all are brought: an eighth of the patch's side
_LOUD = 16.0  # times what is pooled to length 1, which a head alone would be slow to make a logit of
_SQUEEZED = 4  # times fewer values than maps in the middle of squeeze-and-excitation
_EVEN = 1e-5  # added under the square root, whose slope at 0 has no end


@dataclass(frozen=True)
class GraderOptions:
    """What a grader is made of: `streams` 1 (the patch alone) or 2, a `body` for `build_multiscale_body` each, its first
    `frozen` stages kept, `excited` by
    squeeze-and-excitation or not, a `pyramid` of `maps` maps (`none`: the body's own coarse maps, mixed to as many), and
    how two streams are `pooled`.
    """

    streams: Literal[1, 2] = 2
    body: str = LITE
    pretrained: bool = True
    frozen: int = 0
    excited: bool = True
    pyramid: Literal["safpn", "fpn", "none"] = "safpn"
    maps: int = 64
    pooled: Literal["bilinear", "side by side"] = "bilinear"
    head: Literal["ordinal", "plain"] = "plain"
    dropout: float = 0.2


class Stream(nn.Module):
    """(N, 3, s, s) -> (N, maps, s / 8, s / 8), without a pyramid s / 16, s a multiple of 32."""

    def __init__(self, options: GraderOptions) -> None:
        super().__init__()
        self.body = build_multiscale_body(options.body, options.pretrained, options.frozen, _LEVELS)
        self.body.fixed_norms = (
            False  # batches of patches are large enough; with ImageNet's statistics little is learnt
        )
        self.excited = nn.ModuleList(Excited(n) if options.excited else nn.Identity() for n in self.body.channels)
        kinds = {"safpn": SAFPN, "fpn": FeaturePyramidNetwork, "none": Mixed}
        self.pyramid = kinds[options.pyramid](list(self.body.channels), options.maps)
        self.norm = nn.BatchNorm2d(options.maps)

    def forward(self, x: Tensor) -> Tensor:
        """The pyramid's levels, each brought to an eighth of the patch, added and normalised."""
        seen = self.body(x)  # "0" to "2": strides 4, 8 and 16
        weighed = OrderedDict((name, each(seen[name])) for name, each in zip(seen, self.excited, strict=True))
        levels = list(self.pyramid(weighed).values())
        size = levels[min(_LEVEL, len(levels) - 1)].shape[2:]
        return functional.relu(
            self.norm(sum((_brought(level, size) for level in levels[1:]), _brought(levels[0], size)))
        )


class Excited(nn.Module):
    """Squeeze-and-excitation: each map is weighed, between 0 and 2, by what all say on the mean; at first by 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // _SQUEEZED, 1)
        self.excite = nn.Conv2d(channels // _SQUEEZED, channels, 1)
        nn.init.zeros_(self.excite.weight)
        assert self.excite.bias is not None
        nn.init.zeros_(self.excite.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w), weighed."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        return x * 2 * torch.sigmoid(self.excite(functional.relu(self.squeeze(mean))))


class Mixed(nn.Module):
    """No pyramid: the body's maps at stride 16, mixed by a convolution of 1 x 1."""

    def __init__(self, channels: Sequence[int], maps: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels[-1], maps, 1)

    def forward(self, levels: dict[str, Tensor]) -> dict[str, Tensor]:
        """The one level that is used."""
        return {"mixed": self.mix(list(levels.values())[-1])}


class NickGrader(nn.Module):
    """Patch and maps of vessels, (N, 3 + 3, s, s), to logits: of grades above 0, 1 and 2 (N, 3), or with the plain head of
    the four grades (N, 4).
    """

    def __init__(self, options: GraderOptions = GraderOptions()) -> None:
        super().__init__()
        self.options = options
        self.streams = nn.ModuleList(Stream(options) for _ in range(options.streams))
        self.bilinear = options.streams == 2 and options.pooled == "bilinear"
        width = options.maps**2 if self.bilinear else options.maps * options.streams
        self.logit_scale = _LOUD if self.bilinear else 1.0
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(width, 1 if options.head == "ordinal" else GRADES)
        self.first_cut = nn.Parameter(torch.tensor(0.0))
        self.steps = nn.Parameter(torch.full((GRADES - 2,), 0.5))  # between cut points, before softplus

    def forward(self, x: Tensor) -> Tensor:
        """Logits; with one stream the maps of vessels are not looked at."""
        return self.classify(self.pool(self.stream_maps(x)))

    def stream_maps(self, x: Tensor) -> list[Tensor]:
        """What each stream makes of its half of the input, (N, maps, s / 8, s / 8), without a pyramid s / 16."""
        return [stream(half) for stream, half in zip(self.streams, x.chunk(2, dim=1), strict=False)]

    def pool(self, maps: Sequence[Tensor]) -> Tensor:
        """What the streams' maps (N, C, h, w) say together: (N, C * C) of length 1, or their means (N, C a stream)."""
        if not self.bilinear:
            return torch.cat([each.mean(dim=(2, 3)) for each in maps], dim=1)
        return functional.normalize(signed_square_root(mean_outer_product(*maps)).flatten(1), dim=1)

    def classify(self, pooled: Tensor) -> Tensor:
        """Logits for what was pooled."""
        said = self.head(self.dropout(pooled) * self.logit_scale)
        return said - self.cuts if self.options.head == "ordinal" else said

    @property
    def cuts(self) -> Tensor:
        """The three ascending cut points, (3,)."""
        return torch.cat([self.first_cut[None], self.first_cut + functional.softplus(self.steps).cumsum(0)])

    def probabilities(self, logits: Tensor) -> Tensor:
        """Of grades 0 to 3, (N, 4)."""
        if self.options.head == "plain":
            return logits.softmax(dim=1)
        above = torch.sigmoid(logits)  # (N, 3): grade above 0, 1, 2
        ends = torch.ones_like(above[:, :1])
        return torch.cat([ends, above], dim=1) - torch.cat([above, 0 * ends], dim=1)

    def activation_maps(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """For each stream, how much each place speaks for a pinch, (N, h, w): the gradient-weighted class activation
        (Selvaraju 2017, ICCV) of the ordinal score, or of the mean grade, in closed form, so that an ONNX graph can give it.

        The score's gradient by the map of one stream at a place is a matrix, the same for all places, times the other stream's
        maps there; its mean over places weighs the channels.
        """
        weight = self._direction()  # (width,)
        if not self.bilinear:
            shares = zip(weight.chunk(len(maps)), maps, strict=True)
            return [functional.relu(torch.einsum("c,nchw->nhw", w / m[0, 0].numel(), m)) for w, m in shares]
        first, second = maps
        product = mean_outer_product(first, second)  # (N, C, C)
        root = signed_square_root(product)
        length = root.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]
        unit = root / length
        towards = weight.view(1, *product.shape[1:])
        along = (unit * towards).sum(dim=(1, 2), keepdim=True)
        matrix = (towards - unit * along) / length * 0.5 / (product.abs() + _EVEN).sqrt()  # (N, C, C)
        alphas = (
            torch.einsum("nij,nj->ni", matrix, second.mean((2, 3))),
            torch.einsum("nij,ni->nj", matrix, first.mean((2, 3))),
        )
        places = first.shape[2] * first.shape[3]
        return [functional.relu(torch.einsum("nc,nchw->nhw", a / places, m)) for a, m in zip(alphas, maps, strict=True)]

    def _direction(self) -> Tensor:
        """What the head weighs for a pinch."""
        if self.options.head == "ordinal":
            return self.logit_scale * self.head.weight[0]
        grades = torch.arange(GRADES, dtype=self.head.weight.dtype)
        return self.logit_scale * ((grades - grades.mean()) @ self.head.weight)


def rotate_half_turn(planes: Tensor) -> Tensor:
    """Planes (..., h, w) turned by half a turn: a vein that was laid level lies level still, and was laid either way round."""
    return torch.flip(planes, (-2, -1))


def ordinal_loss(logits: Tensor, grades: Tensor) -> Tensor:
    """Binary cross-entropy of "above 0", "above 1" and "above 2" against grades (N,), each by itself."""
    above = (grades[:, None] > torch.arange(GRADES - 1, device=grades.device)).to(logits.dtype)
    return functional.binary_cross_entropy_with_logits(logits, above)


def mean_outer_product(first: Tensor, second: Tensor) -> Tensor:
    """The mean over places of the outer product of two streams' maps, (N, C, C)."""
    return torch.einsum("nihw,njhw->nij", first, second) / (first.shape[2] * first.shape[3])


def signed_square_root(x: Tensor) -> Tensor:
    """The square root of the absolute value, with the sign; smooth at 0."""
    return torch.sign(x) * ((x.abs() + _EVEN).sqrt() - _EVEN**0.5)


def _brought(x: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(x.shape[2:]) == tuple(size):
        return x
    if x.shape[2] > size[0]:
        return functional.adaptive_max_pool2d(x, (size[0], size[1]))
    return functional.interpolate(x, (size[0], size[1]), mode="bilinear", align_corners=False)
