"""Gradient-weighted class activation of each grade and stream, and how much of it stays where an input is changed.

An input is turned and moved, or its patch was shown in other colours; the activation is laid back over the untouched input.
Of two maps of mass 1 the share that stays is the mass of their minimum: 1 for equal ones, 0 where they do not overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from fundoscope.networks.nick_grader import NickGrader, rotate_half_turn
from fundoscope.nicking.grading.crossing_patches import INPUT_ZOOM, VEIN_WIDTH
from fundoscope.nicking.recipes.grades import ExplanationNumbers

_MAPS = 3  # the first channel of the maps in an input; they are -1 where there is no vessel, and local contrast is 0

Change = Callable[[Tensor], Tensor]


def class_activations(grader: NickGrader, x: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju 2017, ICCV) of each logit, (n, logits, streams, s, s), of inputs (n, 6, s, s): 0 or more.

    The gradient of a logit by a stream's maps, averaged over places, weighs that stream's channels.
    """
    with torch.no_grad():
        maps = grader.eval().stream_maps(x)
    maps = [each.detach().requires_grad_() for each in maps]
    with torch.enable_grad():
        every = grader.classify(grader.pool(maps)).sum(dim=0)
        slopes_of = [torch.autograd.grad(logit, maps, retain_graph=True) for logit in every]
    planes = []
    for slopes in slopes_of:
        of_logit = [(d.mean(dim=(2, 3), keepdim=True) * m).sum(dim=1).relu() for d, m in zip(slopes, maps, strict=True)]
        planes.append(torch.stack(of_logit, dim=1))
    return enlarge(torch.stack(planes, dim=1).detach(), x.shape[2:])


def enlarge(planes: Tensor, size: Sequence[int]) -> Tensor:
    """Planes (n, ..., h, w) brought to the size of the inputs."""
    flat = planes.flatten(1, -3)
    return functional.interpolate(flat, tuple(size), mode="bilinear").unflatten(1, planes.shape[1:-2])


def share_that_stays(first: Tensor, second: Tensor) -> Tensor:
    """The mass of the minimum of planes (..., h, w), each scaled to mass 1; nan where one is empty."""
    one, other = (plane / plane.sum(dim=(-2, -1), keepdim=True) for plane in (first, second))
    return torch.minimum(one, other).sum(dim=(-2, -1))


def input_changes(numbers: ExplanationNumbers) -> dict[str, tuple[Change, Change]]:
    """By name, how inputs (n, 6, s, s) are turned and moved, and how planes (n, k, s, s) are laid back."""
    shift = numbers.shift * INPUT_ZOOM * VEIN_WIDTH
    moves = {"rotation": (numbers.turn, 0.0), "translation": (0.0, shift)}
    return {
        name: (partial(_move_input, turn=turn, shift=by), partial(_move, turn=turn, shift=by, back=True))
        for name, (turn, by) in moves.items()
    }


def _move_input(x: Tensor, turn: float, shift: float) -> Tensor:
    """Inputs turned and moved; beyond their edge they are blank."""
    blank = blank_input(x)
    return _move(x - blank, turn, shift) + blank


def _move(planes: Tensor, turn: float, shift: float, back: bool = False) -> Tensor:
    """Planes (n, k, s, s) turned about their middle by degrees, or moved to the right and down by pixels; `back` undoes it.
    What comes from beyond the edge is 0.
    """
    angle, sign = torch.deg2rad(torch.tensor(-turn if back else turn)), -1.0 if back else 1.0
    by = -sign * 2 * shift / planes.shape[-1]  # in the units of the grid, whose edges are at -1 and 1
    rows = [[torch.cos(angle), -torch.sin(angle), by], [torch.sin(angle), torch.cos(angle), by]]
    matrix = torch.tensor(rows, device=planes.device)[None].expand(len(planes), -1, -1)
    grid = functional.affine_grid(matrix, list(planes.shape), align_corners=False)
    return functional.grid_sample(planes, grid, align_corners=False)


def blank_input(x: Tensor) -> Tensor:
    """Inputs of this shape in which nothing is seen: no contrast, no vessel."""
    blank = torch.zeros_like(x)
    blank[:, _MAPS:] = -1
    return blank


def stays_under_moves(grader: NickGrader, x: Tensor, before: Tensor, numbers: ExplanationNumbers) -> dict[str, Tensor]:
    """The share of each activation `before` that stays, (n, logits, streams), where inputs are turned and moved. Only what lies
    in both inputs counts.
    """
    found = {}
    for name, (change, undo) in input_changes(numbers).items():
        after = class_activations(grader, change(x))
        seen = (undo(change(torch.ones_like(x)))[:, 0] > 0.5)[:, None, None]  # (n, 1, 1, s, s)
        back = undo(after.flatten(1, 2)).unflatten(1, after.shape[1:3])
        found[name] = share_that_stays(before * seen, back * seen)
    return found


def stays_beside(x: Tensor, before: Tensor, changed: Tensor, after: Tensor) -> Tensor:
    """The share of each activation that stays, (n, logits, streams): of inputs with activations `before`, in `changed` inputs of
    the same patches with activations `after`.

    A level vein has two ways round. Where a changed patch was laid the other way, as its maps tell, its activation is turned.
    """
    straight, turned = ((x - way)[:, _MAPS:].abs().mean(dim=(1, 2, 3)) for way in (changed, rotate_half_turn(changed)))
    other_way = (turned < straight)[:, None, None, None, None]
    return share_that_stays(before, torch.where(other_way, rotate_half_turn(after), after))
