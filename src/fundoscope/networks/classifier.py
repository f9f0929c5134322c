"""One photograph to one decision: a convolutional body, global average pooling, one linear layer.

The head is linear and the pooling is a mean, so they can change places: the head, applied at each place, gives the class
activation map (Zhou 2016, CVPR). It is exact here: its mean over places equals the difference of the logits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """A body that maps (N, 3, S, S) to (N, C, S/32, S/32), and a head that maps the mean over places to logits."""

    def __init__(self, body: nn.Module, channels: int, classes: int = 2, dropout: float = 0.2) -> None:
        super().__init__()
        self.body = body
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, classes)
        nn.init.zeros_(self.head.bias)
        nn.init.normal_(self.head.weight, std=0.01)

    def features(self, x: Tensor) -> Tensor:
        """The last feature maps, (N, C, H, W)."""
        return self.body(x)  # (N, C, H, W)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of network input (N, 3, S, S)."""
        return self.classify(self.features(x))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (N, classes) of feature maps (N, C, H, W)."""
        pooled = features.mean(dim=(2, 3))  # (N, C)
        return self.head(self.dropout(pooled))  # (N, classes)

    def freeze_trunk(self) -> None:
        """Freeze the part of the body that a network for another question can share; some bodies have none."""
        freeze_body = getattr(self.body, "freeze_trunk", None)
        if callable(freeze_body):
            freeze_body()

    def freeze_stages(self, number: int) -> None:
        """Keep the first `number` stages of the body, or of each of its streams, as they are; some bodies have no stages."""
        freeze_body_stages(self.body, number)

    def describe_frozen(self) -> str:
        """What is kept as it is, in words, a stream's body after the other; what was asked for may not have been possible."""
        bodies: list[nn.Module] = list(getattr(self.body, "streams", [self.body]))
        return "; ".join(_describe_frozen_body(body) for body in bodies)

    def activation_map(self, x: Tensor) -> Tensor:
        """Class activation maps (N, H, W) of a two-class network, in logits; the mean over places is logit 1 minus logit 0."""
        weight, bias = self.head.weight, self.head.bias
        return torch.einsum("c,nchw->nhw", weight[1] - weight[0], self.features(x)) + bias[1] - bias[0]


def freeze_body_stages(body: nn.Module, number: int) -> None:
    """Keep the first `number` stages of a body as they are, where it has stages."""
    freeze_stages = getattr(body, "freeze_stages", None)
    if callable(freeze_stages):
        freeze_stages(number)


def _describe_frozen_body(body: nn.Module) -> str:
    kept = [not weight.requires_grad for weight in body.parameters()]
    if all(kept) or not any(kept):
        return "everything" if all(kept) else "nothing"
    stages = getattr(body, "frozen_stages", None)
    return f"stem and stages 1 to {stages}" if stages else f"{sum(kept)} of {len(kept)} tensors"


def freeze(modules: list[nn.Module]) -> None:
    """Keep these parts as they are: no gradients, and their batch statistics stay, also in training mode."""
    for module in modules:
        module.requires_grad_(False)
        module.eval()
        module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]


def count_parameters(model: nn.Module) -> int:
    """Number of weights, trainable or not."""
    return sum(parameter.numel() for parameter in model.parameters())
