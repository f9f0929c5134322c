"""`QualityNet`: a very small network that tells from a square whether it shows a retina, in focus, of an infant or an adult."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: What the three logits answer, in their order.
QUESTIONS = ("retina", "sharp", "infant")


class QualityNet(nn.Module):
    """Square photograph (n, 3, side, side), 0..1, to three logits (n, 3): see `QUESTIONS`.

    Depthwise separable convolutions (Howard 2017, arXiv 1704.04861), `width` channels after the stem, doubled three times.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        blocks, channels = [], width
        for out in (2 * width, 4 * width, 4 * width, 8 * width, 8 * width):
            blocks.append(separable(channels, out, stride=2 if out > channels else 1))
            channels = out
        self.body = nn.Sequential(*blocks)
        self.head = nn.Linear(2 * channels, len(QUESTIONS))

    def forward(self, x: Tensor) -> Tensor:
        """Return three logits a square."""
        x = self.body(self.stem(x * 4 - 2))  # (n, 8 width, side / 16, side / 16)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)  # the whole field, and the strongest place in it
        return self.head(pooled)


def separable(channels: int, out: int, stride: int) -> nn.Sequential:
    """Return a depthwise 3 x 3 convolution, then a pointwise one, each with batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, out, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )
