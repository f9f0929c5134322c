"""MDTNet, the team of networks that grades a crossing (arXiv 2011.03772): a rival of paper 002's.

A patch goes through several bodies. Three of different build learn by cross-entropy; some of one build learn by focal
losses (Lin 2017, ICCV, eq. 4), which weigh easy patches less and less. Their maps, averaged over places, are joined and
classified by three linear layers with nothing between them, as its authors wrote them. The authors trained the bodies
first and then kept them. Here each body learns by its own head, and the joined classifier learns beside them: its
gradient does not reach the bodies (`detached`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fundoscope.errors import UsageError
from fundoscope.networks.bodies import build_body, channels_of
from fundoscope.vessels.grade_rule import GRADES


@dataclass(frozen=True)
class MDTNetOptions:
    """Which bodies make up the team, and how they learn.

    The `plain` bodies learn by cross-entropy; one `focal_body` for each of `gammas` learns by a focal loss of that
    gamma. `alpha` weighs the grades in focal losses; its authors took (.15, .17, .23, 1) for the shares of their own
    grades. The joined classifier has layers of `hidden` values. `size` is the side of a patch. From ImageNet
    (`pretrained`), bodies of EfficientNet-Lite keep their first `frozen_stages`.
    """

    plain: tuple[str, ...] = ("resnet50", "inception_v3", "densenet121")
    focal_body: str = "densenet121"
    gammas: tuple[float, ...] = (1.0, 2.0, 3.0)  # Lin's 2, and its neighbours
    alpha: tuple[float, ...] = (1.0,) * GRADES
    hidden: tuple[int, ...] = (1024, 512)
    detached: bool = True
    pretrained: bool = True
    size: int = 128
    frozen_stages: int = 0

    def __post_init__(self) -> None:
        if not self.plain and not self.gammas:
            raise UsageError("MDTNet was given no bodies. Name one or more in `plain`, or a gamma in `gammas`.")
        if any(gamma < 0 for gamma in self.gammas):
            raise UsageError(f"A focal loss has a gamma of 0 or more, and here {self.gammas}. Give such, as (1, 2).")
        if len(self.alpha) != GRADES:
            raise UsageError(f"`alpha` is {self.alpha}. Give {GRADES} weights, one a grade.")


#: A team whose ImageNet weights come offline and which a processor trains in minutes: two builds in place of three.
LIGHT = MDTNetOptions(
    plain=("tf_efficientnet_lite0", "tf_efficientnet_lite1"),
    focal_body="tf_efficientnet_lite0", gammas=(1.0, 2.0), hidden=(256, 128), frozen_stages=3,
)  # fmt: skip


class MDTNetLogits(NamedTuple):
    """Logits of the `joined` classifier (N, 4), of each plain body (P, N, 4) and of each focal one (F, N, 4), with the
    `gammas` (F,) and the `alpha` (4,) of the focal losses.
    """

    joined: Tensor
    plain: Tensor
    focal: Tensor
    gammas: tuple[float, ...]
    alpha: tuple[float, ...]


class MDTNet(nn.Module):
    """Patches of local contrast (N, 3, s, s) -> logits of the four grades (N, 4)."""

    def __init__(self, options: MDTNetOptions = MDTNetOptions()) -> None:
        super().__init__()
        self.options = options
        names = [*options.plain, *[options.focal_body] * len(options.gammas)]
        bodies = [build_body(n, options.size, options.pretrained, frozen_stages=options.frozen_stages) for n in names]
        for body in bodies:
            if hasattr(body, "rescale"):
                body.rescale = nn.Identity()  # local contrast is scaled as ImageNet's photographs are already
        self.bodies = nn.ModuleList(bodies)
        channels = [channels_of(body) for body in bodies]
        self.heads = nn.ModuleList(nn.Linear(n, GRADES) for n in channels)
        widths = (sum(channels), *options.hidden, GRADES)
        self.joined = nn.Sequential(*(nn.Linear(before, after) for before, after in pairwise(widths)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 4) of the joined classifier."""
        return self.joined(torch.cat(self.features(x), dim=1))

    def features(self, x: Tensor) -> list[Tensor]:
        """The last maps of each body, averaged over places: (N, its channels)."""
        return [body(x).mean(dim=(2, 3)) for body in self.bodies]

    def all_logits(self, x: Tensor) -> MDTNetLogits:
        """The logits of every head, for `mdtnet_loss`."""
        features = self.features(x)
        each = [head(feature) for head, feature in zip(self.heads, features, strict=True)]
        kept = [feature.detach() if self.options.detached else feature for feature in features]
        joined = self.joined(torch.cat(kept, dim=1))  # (N, 4)
        n, none = len(self.options.plain), joined.new_zeros(0, len(x), GRADES)
        plain, focal = (torch.stack(part) if part else none for part in (each[:n], each[n:]))
        return MDTNetLogits(joined, plain, focal, self.options.gammas, self.options.alpha)


def mdtnet_loss(logits: MDTNetLogits, grades: Tensor) -> Tensor:
    """The sum of the joined classifier's cross-entropy and each body's own loss, against grades (N,)."""
    loss = functional.cross_entropy(logits.joined, grades)
    for plain in logits.plain:
        loss = loss + functional.cross_entropy(plain, grades)
    for focal, gamma in zip(logits.focal, logits.gammas, strict=True):
        loss = loss + focal_loss(focal, grades, gamma, logits.alpha)
    return loss


def focal_loss(logits: Tensor, grades: Tensor, gamma: float = 2.0, alpha: tuple[float, ...] | None = None) -> Tensor:
    """The mean of alpha (1 - p)^gamma (-log p), p the probability of the true grade (Lin 2017, eq. 5): logits (N, K)."""
    log_p = logits.log_softmax(dim=1).gather(1, grades[:, None])[:, 0]  # (N,)
    loss = -((-torch.expm1(log_p)) ** gamma) * log_p
    return (loss if alpha is None else loss * logits.new_tensor(alpha)[grades]).mean()
