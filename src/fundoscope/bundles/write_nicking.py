"""Writing a bundle that maps vessels and grades nicking: export to ONNX with weights of 16 bits, parity, card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fundoscope.bundles.card import NickingCard
from fundoscope.bundles.folder import card_parity_lines, replace_folder, write_card_files
from fundoscope.bundles.onnx_files import copy_for_export, export_onnx
from fundoscope.bundles.read import checked_bytes, load_network
from fundoscope.bundles.read_nicking import GRADES_FILE, MAPS_FILE, STRIDE, NickingBundle
from fundoscope.errors import StudyError
from fundoscope.networks.nick_grader import NickGrader, rotate_half_turn

#: Largest difference of a probability, torch against the file, that weights of 16 bits can explain: at the worst of
#: millions of pixels, and in a grade.
TOLERANCE, GRADE_TOLERANCE = 0.05, 0.03


class ProbabilityMaps(nn.Module):
    """A network of vessel maps that gives probabilities instead of logits: (1, 3, H, W) -> (1, 4, H, W), 0 to 1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, contrast: Tensor) -> Tensor:
        """Probabilities of vessel, artery, vein and crossing."""
        return torch.sigmoid(self.network(contrast))


class GraderEnsemble(nn.Module):
    """Several graders as one: patches (n, 6, s, s) to the mean probabilities (n, 4) and the mean attention maps
    (n, 2, s / 8, s / 8; half of that without a pyramid).

    Each grader sees each patch as it is and turned by 180 degrees, and its logits are divided by its temperature.
    """

    def __init__(self, graders: Sequence[NickGrader], temperatures: Sequence[float]) -> None:
        super().__init__()
        self.graders, self.temperatures = nn.ModuleList(graders), tuple(temperatures)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and attention."""
        probabilities, attention = [], []
        for grader, temperature in zip(self.graders, self.temperatures, strict=True):
            assert isinstance(grader, NickGrader)
            for turn in (torch.nn.Identity(), rotate_half_turn):
                maps = grader.stream_maps(turn(patches))
                probabilities.append(grader.probabilities(grader.classify(grader.pool(maps)) / temperature))
                attention.append(turn(torch.stack(grader.activation_maps(maps), dim=1)))
        return torch.stack(probabilities).mean(dim=0), torch.stack(attention).mean(dim=0)


@dataclass(frozen=True, eq=False)
class GraderNetworks:
    """What grades in a bundle: networks, the temperature of each, and patches (n, 6, s, s) to check parity on."""

    networks: Sequence[NickGrader]
    temperatures: Sequence[float]
    check: NDArray[np.float32]

    @property
    def ensemble(self) -> GraderEnsemble:
        """A copy of all networks as one."""
        return copy_for_export(GraderEnsemble(self.networks, self.temperatures))


def write_nicking_bundle(
    network: nn.Module,
    card: NickingCard,
    check: Sequence[NDArray[np.float32]],
    out: Path,
    say: Callable[[str], None] = print,
    graders: GraderNetworks | None = None,
) -> Path:
    """Write the bundle of a network of vessel maps, and of graders, to the folder `out`.

    The folder is replaced in one step or left as it was. `check` are local contrasts (3, rows, columns) of real
    photographs for parity; the lines on parity go to `say` and into the card. Raises `StudyError`, with nothing
    written, where a file differs from its network by more than `TOLERANCE` or `GRADE_TOLERANCE`.
    """
    maps = copy_for_export(ProbabilityMaps(network))
    with replace_folder(out) as part:
        export_maps(maps, part / MAPS_FILE)
        parities = {"parity": _maps_difference(maps, part / MAPS_FILE, check)}
        if graders is not None:
            export_ensemble(graders.ensemble, graders.check[:2], part / GRADES_FILE)
            parities["parity_grades"] = _grades_difference(graders, part / GRADES_FILE)
        card = card.model_copy(update=parities)
        lines = card_parity_lines(card)
        for line in lines:
            say(line)
        write_card_files(card, lines, part)
    return out


def write_own_graders(
    bundle: NickingBundle, card: NickingCard, graders: GraderNetworks, out: Path, say: Callable[[str], None] = print
) -> Path:
    """Write a bundle of graders on the vessel maps of another bundle, whose file is copied byte for byte, to the folder `out`.

    `card` keeps the other one's parity of the maps. Raises `StudyError`, with nothing written, as `write_nicking_bundle`.
    """
    with replace_folder(out) as part:
        (part / MAPS_FILE).write_bytes(checked_bytes(bundle.folder, MAPS_FILE, bundle.card))
        export_ensemble(graders.ensemble, graders.check[:2], part / GRADES_FILE)
        parity = _grades_difference(graders, part / GRADES_FILE)
        card = card.model_copy(update={"parity_grades": parity})
        lines = [f"maps: those of {bundle.card.name} of {bundle.card.created}", *card_parity_lines(card)]
        for line in lines:
            say(line)
        write_card_files(card, lines, part)
    return out


def export_maps(maps: nn.Module, path: Path) -> None:
    """Write it as ONNX: `contrast` (1, 3, h, w), both multiples of the stride, to `maps` (1, 4, h, w)."""
    rows, columns = (STRIDE * torch.export.Dim(name, min=2, max=400) for name in ("h", "w"))
    example = torch.zeros(1, 3, 10 * STRIDE, 12 * STRIDE)
    export_onnx(maps, example, path, names=("contrast", "maps"), sizes={2: rows, 3: columns}, half=True)


def export_ensemble(ensemble: GraderEnsemble, example: NDArray[np.float32], path: Path) -> None:
    """Write it as ONNX: `patches` (n, 6, s, s) to `probabilities` (n, 4) and `attention` (n, 2, h, w)."""
    n = torch.export.Dim("n", min=1, max=4096)
    names = ("patches", "probabilities", "attention")
    export_onnx(ensemble, torch.from_numpy(example), path, names=names, sizes={0: n}, half=True)


@torch.no_grad()
def _maps_difference(maps: nn.Module, path: Path, check: Sequence[NDArray[np.float32]]) -> float:
    """The largest difference of a probability at any pixel, torch against the file."""
    session = load_network(path.read_bytes(), path.name)
    worst = 0.0
    for contrast in check:
        rows, columns = (side // STRIDE * STRIDE for side in contrast.shape[1:])
        whole = np.ascontiguousarray(contrast[None, :, :rows, :columns], np.float32)
        (found,) = session.run(["maps"], {"contrast": whole})
        worst = max(worst, float(np.abs(np.asarray(found) - maps(torch.from_numpy(whole)).numpy()).max()))
    return _checked(worst, TOLERANCE)


@torch.no_grad()
def _grades_difference(graders: GraderNetworks, path: Path) -> float:
    """The largest difference of a grade's probability; the attention maps must point the same way (cosine), too."""
    session = load_network(path.read_bytes(), path.name)
    p, attention = session.run(["probabilities", "attention"], {"patches": graders.check})
    trained, shown = graders.ensemble(torch.from_numpy(graders.check))
    alike = functional.cosine_similarity(torch.from_numpy(attention).flatten(2), shown.flatten(2), dim=2)
    _checked(float(1 - alike[shown.amax(dim=(2, 3)) > 0].min()) if shown.any() else 0.0, GRADE_TOLERANCE)
    return _checked(float(np.abs(p - trained.numpy()).max()), GRADE_TOLERANCE)


def _checked(difference: float, most: float) -> float:
    if not difference <= most:
        raise StudyError(
            f"the file strays from the network by {difference:.2g}, over {most:g}: no bundle was written. "
            "Look for an operation that exports differently, or weights that are not finite."
        )
    return difference
