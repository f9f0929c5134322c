"""A feature pyramid that weighs its levels at every place of every photograph (SAFPN, paper 002).

A plain pyramid (Lin 2017, CVPR) adds each coarser map to the finer one with weight 1 at all places. Here each output
level is a weighted mean of all levels, brought to its size; the maps themselves decide the weights, place by place (as
in Liu 2019, arXiv 1911.09516). So a small crossing can be read from a fine map and a large one from a coarse map.
Paper 002 gives the idea and no equations; these are ours.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_SQUEEZED = 8  # maps of each level from which the weights are computed


class SAFPN(nn.Module):
    """Maps C2 to C5, finest first, (N, `channels[k]`, h_k, w_k), to as many of `out_channels` maps each, sizes kept."""

    def __init__(self, channels: Sequence[int], maps: int = 96) -> None:
        super().__init__()
        self.out_channels = maps
        levels = len(channels)
        self.lateral = nn.ModuleList(nn.Conv2d(width, maps, 1) for width in channels)
        self.squeeze = nn.ModuleList(nn.Conv2d(maps, _SQUEEZED, 1) for _ in channels)
        self.attention = nn.ModuleList(nn.Conv2d(_SQUEEZED * levels, levels, 3, padding=1) for _ in channels)
        self.output = nn.ModuleList(nn.Conv2d(maps, maps, 3, padding=1) for _ in channels)
        for layer in (*self.lateral, *self.squeeze, *self.output):
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
        for layer in self.attention:
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            nn.init.zeros_(layer.weight)  # equal weights to begin with: a plain mean
            nn.init.zeros_(layer.bias)

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The pyramid, under the names of the maps that were given."""
        return self.fuse_with_weights(maps)[0]

    def fuse_with_weights(self, maps: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The pyramid, and for each of its levels the weights (N, levels, h, w) of all levels, which sum to 1."""
        lateral = [layer(x) for layer, x in zip(self.lateral, maps.values(), strict=True)]  # (N, M, h_k, w_k)
        squeezed = [functional.relu(layer(x)) for layer, x in zip(self.squeeze, lateral, strict=True)]
        fused, weights = [], []
        for own, attention, output in zip(lateral, self.attention, self.output, strict=True):
            size = (own.shape[2], own.shape[3])
            context = torch.cat([resize_maps(x, size) for x in squeezed], dim=1)  # (N, levels * 8, h, w)
            share = attention(context).softmax(dim=1)  # (N, levels, h, w)
            mean = sum(share[:, k : k + 1] * resize_maps(x, size) for k, x in enumerate(lateral))
            fused.append(output(mean))  # (N, M, h, w)
            weights.append(share)
        return OrderedDict(zip(maps, fused, strict=True)), weights


def resize_maps(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (N, C, h, w) brought to `size`: smaller ones bilinearly; larger ones by the maximum, which keeps small things."""
    if tuple(x.shape[2:]) == size:
        return x
    if x.shape[2] > size[0]:
        return functional.adaptive_max_pool2d(x, size)
    return functional.interpolate(x, size, mode="bilinear", align_corners=False)
