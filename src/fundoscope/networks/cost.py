"""The cost of a network: its number of weights, and the multiplications of one photograph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fundoscope.networks.classifier import count_parameters


@dataclass(frozen=True, slots=True)
class Cost:
    """`parameters` in all, and `macs`, multiply-accumulates of one photograph of `size` x `size` pixels.

    Counted are convolutions, matrix products and attention, as tables of networks usually do; a MAC is two FLOPs.
    """

    parameters: int
    macs: int
    size: int


def measure_cost(model: nn.Module, size: int) -> Cost:
    """The cost of a network with its head, for input (1, 3, `size`, `size`)."""
    counter = FlopCounterMode(display=False)
    model.eval()
    with torch.no_grad(), counter:
        model(torch.zeros(1, 3, size, size))
    return Cost(count_parameters(model), counter.get_total_flops() // 2, size)
