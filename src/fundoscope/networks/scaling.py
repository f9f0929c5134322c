"""The scaling of pixels to network input, and the change from one scaling to another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Scaling:
    """Input = (value - mean) / deviation for values 0 to 1, channel by channel; the default changes nothing."""

    mean: Triple = (0.0, 0.0, 0.0)
    deviation: Triple = (1.0, 1.0, 1.0)


UNIT = Scaling()


class Rescale(nn.Module):
    """(N, 3, H, W) scaled as `input_scaling` -> the same pixels scaled as `own`, so that several networks can share one input."""

    def __init__(self, input_scaling: Scaling, own: Scaling) -> None:
        super().__init__()
        there, here = torch.tensor(input_scaling.deviation), torch.tensor(own.deviation)
        self.factor: Tensor
        self.offset: Tensor
        self.register_buffer("factor", (there / here)[:, None, None], persistent=False)
        shift = (torch.tensor(input_scaling.mean) - torch.tensor(own.mean)) / here
        self.register_buffer("offset", shift[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The rescaled input."""
        return x * self.factor + self.offset


def rescale(input_scaling: Scaling, own: Scaling) -> nn.Module:
    """A `Rescale`, or the identity where both scalings are the same."""
    return nn.Identity() if input_scaling == own else Rescale(input_scaling, own)
