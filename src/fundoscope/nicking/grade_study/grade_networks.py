"""The network of an arm: how it is built, by which loss it learns, and its logits of patches."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fundoscope.learning.fit import Loss
from fundoscope.networks.mdtnet import MDTNet, MDTNetLogits, MDTNetOptions, mdtnet_loss
from fundoscope.networks.nick_grader import GraderOptions, NickGrader, ordinal_loss, rotate_half_turn
from fundoscope.nicking.grade_study.folds import GradeFoldData
from fundoscope.nicking.grade_study.study_arms import GradeArm


class MDTNetGrader(nn.Module):
    """MDTNet behind the interface of `NickGrader`: it looks at the patch alone, not at the vessel maps.

    In training the logits of the joined classifier and of every body come out, (N, 1 + bodies, 4), else the joined ones.
    """

    def __init__(self, options: MDTNetOptions) -> None:
        super().__init__()
        self.options, self.team = options, MDTNet(options)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 6, s, s) to logits (N, 4), in training (N, 1 + bodies, 4)."""
        patch = x[:, :3]
        if not self.training:
            return self.team(patch)
        logits = self.team.all_logits(patch)
        return torch.cat([logits.joined[None], logits.plain, logits.focal]).transpose(0, 1)

    def loss(self, logits: Tensor, grades: Tensor) -> Tensor:
        """MDTNet's loss of the logits that come out in training."""
        first = 1 + len(self.options.plain)
        joined, plain, focal = logits[:, 0], logits[:, 1:first].transpose(0, 1), logits[:, first:].transpose(0, 1)
        return mdtnet_loss(MDTNetLogits(joined, plain, focal, self.options.gammas, self.options.alpha), grades)


def build_network(arm: GradeArm, fold: GradeFoldData, seed: int) -> NickGrader | MDTNetGrader:
    """The untrained network of an arm, (N, 6, s, s) to logits. A transferred one has the upstream detector's weights,
    where the upstream has a detector.
    """
    assert arm.network is not None
    torch.manual_seed(seed)
    if arm.team:
        pretrained = arm.network.pretrained
        return MDTNetGrader(MDTNetOptions(**fold.recipe.mdtnet.model_dump(), pretrained=pretrained))
    grader = NickGrader(GraderOptions(**arm.network.model_dump()))
    if arm.transferred and fold.upstream.detector is not None:
        fold.upstream.transfer_weights(grader)
    return grader


def training_losses(network: nn.Module) -> tuple[Loss, Loss]:
    """The loss that a network learns by, and the one that chooses its epoch on inner patches."""
    if isinstance(network, MDTNetGrader):
        return network.loss, functional.cross_entropy
    assert isinstance(network, NickGrader)
    loss = ordinal_loss if network.options.head == "ordinal" else functional.cross_entropy
    return loss, loss


@torch.no_grad()
def predict_both_ways(network: nn.Module, inputs: NDArray[np.float32], batch: int) -> NDArray[np.float32]:
    """Logits (2, n, k) of inputs (n, 6, s, s) as they are and turned by half a turn; k is 4, with an ordinal head 3.

    A level vein has two ways round, and its grade is the same in both.
    """
    network.eval()
    device = next((weight.device for weight in network.parameters()), torch.device("cpu"))
    batches = (x.to(device) for x in torch.from_numpy(inputs).split(batch))
    logits = [torch.stack([network(x), network(rotate_half_turn(x))]).float().cpu() for x in batches]
    return torch.cat(logits, dim=1).numpy()
