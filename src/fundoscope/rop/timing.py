"""How long a training will take here, from a few steps of it."""

from __future__ import annotations

import time

import numpy as np
import torch

from fundoscope.learning import SQUARE
from fundoscope.networks import build
from fundoscope.rop.recipes import Recipe


def seconds_a_photograph(recipe: Recipe, steps: int = 2) -> float:
    """Seconds that one augmented photograph costs in training, by `steps` steps on noise after a warm-up."""
    model = build(recipe.network).train().to(memory_format=torch.channels_last)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.SGD(weights, 0.0)
    rng = np.random.default_rng(0)
    square = rng.integers(0, 255, (SQUARE, SQUARE, 3)).astype(np.uint8)
    start = 0.0
    for step in range(steps + 1):
        if step == 1:
            start = time.perf_counter()
        inputs = [
            recipe.standard.tensor(recipe.standard.enhance(recipe.fit.augment(square, rng)))
            for _ in range(recipe.fit.batch)
        ]
        loss = model(torch.from_numpy(np.stack(inputs)).to(memory_format=torch.channels_last)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return (time.perf_counter() - start) / (steps * recipe.fit.batch)
