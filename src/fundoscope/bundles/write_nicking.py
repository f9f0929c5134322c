"""Writing a bundle that maps vessels and grades nicking: export to ONNX, weights in 16 bits, parity, card."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from fundoscope.bundles.card import NickingCard
from fundoscope.bundles.folder import replace_folder, write_card_files
from fundoscope.bundles.quantise import strip_metadata
from fundoscope.bundles.read import load_network
from fundoscope.bundles.read_nicking import GRADES_FILE, MAPS_FILE, STRIDE
from fundoscope.bundles.write import OPSET
from fundoscope.errors import StudyError
from fundoscope.networks.nick_grader import NickGrader, rotate_half_turn

M = TypeVar("M", bound=nn.Module)

#: Of a probability, torch against the file: what weights of 16 bits can explain at the worst of millions of pixels, and in a
#: grade.
TOLERANCE, GRADE_TOLERANCE = 0.05, 0.03
_LEAST = 64  # values of a tensor that is worth shortening


class ProbabilityMaps(nn.Module):
    """Probabilities instead of logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, contrast: Tensor) -> Tensor:
        """(1, 3, H, W) -> (1, 4, H, W), 0 to 1."""
        return torch.sigmoid(self.network(contrast))


class GraderEnsemble(nn.Module):
    """Several graders as one: patches (n, 6, s, s), seen both ways round, to the mean of their probabilities (n, 4), each at
    its temperature, and of their attention (n, 2, s / 8, s / 8; half of that without a pyramid).
    """

    def __init__(self, graders: Sequence[NickGrader], temperatures: Sequence[float]) -> None:
        super().__init__()
        self.graders, self.temperatures = nn.ModuleList(graders), tuple(temperatures)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and attention."""
        told, shown = [], []
        for grader, temperature in zip(self.graders, self.temperatures, strict=True):
            assert isinstance(grader, NickGrader)
            for way in (_as_it_is, rotate_half_turn):
                maps = grader.stream_maps(way(patches))
                told.append(grader.probabilities(grader.classify(grader.pool(maps)) / temperature))
                shown.append(way(torch.stack(grader.activation_maps(maps), dim=1)))
        return torch.stack(told).mean(dim=0), torch.stack(shown).mean(dim=0)


def _as_it_is(planes: Tensor) -> Tensor:
    return planes


@dataclass(frozen=True, eq=False)
class GraderNetworks:
    """What grades in a bundle: networks, the temperature of each, and patches (n, 6, s, s) for parity."""

    networks: Sequence[NickGrader]
    temperatures: Sequence[float]
    check: NDArray[np.float32]

    @property
    def panel(self) -> GraderEnsemble:
        """All as one."""
        return _still(GraderEnsemble(self.networks, self.temperatures))


def write_nicking_bundle(
    network: nn.Module,
    card: NickingCard,
    check: Sequence[NDArray[np.float32]],
    out: Path,
    say: Callable[[str], None] = print,
    graders: GraderNetworks | None = None,
) -> Path:
    """Write the bundle of a network of maps, and of graders, to the folder `out`, which it replaces in one step or leaves
    as it was.

    `check` are local contrasts (3, rows, columns) of real photographs for parity. Raises `StudyError`, and writes
    nothing, where a file strays from its network by more than `TOLERANCE` or `GRADE_TOLERANCE`.
    """
    answers = _still(ProbabilityMaps(network))
    with replace_folder(out) as part:
        export_maps(answers, part / MAPS_FILE)
        parity = _strayed(answers, part / MAPS_FILE, check)
        line = f"torch to ONNX with weights of 16 bits: maps differ by {parity:.1e} at most on {len(check)} photographs"
        lines, parities = [line], {"parity": parity}
        if graders is not None:
            export_panel(graders.panel, graders.check[:2], part / GRADES_FILE)
            parities["parity_grades"] = _strayed_grades(graders, part / GRADES_FILE)
            lines.append(
                f"graders: probabilities differ by {parities['parity_grades']:.1e} at most on {len(graders.check)} patches"
            )
        for each in lines:
            say(each)
        write_card_files(card.model_copy(update=parities), lines, part)
    return out


def _still(network: M) -> M:
    """A copy that is only asked."""
    return copy.deepcopy(network).to("cpu", torch.float32).to(memory_format=torch.contiguous_format).eval()


def export_maps(answers: nn.Module, path: Path) -> None:
    """Write it as ONNX: `contrast` (1, 3, h, w), both multiples of the stride, to `maps` (1, 4, h, w)."""
    rows, columns = (STRIDE * torch.export.Dim(name, min=2, max=400) for name in ("h", "w"))
    program = torch.onnx.export(
        answers, (torch.zeros(1, 3, 10 * STRIDE, 12 * STRIDE),), dynamo=True, external_data=False, verbose=False,
        input_names=["contrast"], output_names=["maps"], dynamic_shapes=({2: rows, 3: columns},), opset_version=OPSET,
    )  # fmt: skip
    assert program is not None  # dynamo=True always gives one
    onnx.save(store_in_16_bits(strip_metadata(program.model_proto)), path)


def export_panel(panel: GraderEnsemble, example: NDArray[np.float32], path: Path) -> None:
    """Write it as ONNX: `patches` (n, 6, s, s) to `probabilities` (n, 4) and `attention` (n, 2, s / 8, s / 8; half of that without a pyramid)."""
    program = torch.onnx.export(
        panel, (torch.from_numpy(example),), dynamo=True, external_data=False, verbose=False,
        input_names=["patches"], output_names=["probabilities", "attention"],
        dynamic_shapes=({0: torch.export.Dim("n", min=1, max=4096)},), opset_version=OPSET,
    )  # fmt: skip
    assert program is not None  # dynamo=True always gives one
    onnx.save(store_in_16_bits(strip_metadata(program.model_proto)), path)


def store_in_16_bits(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large weights kept in 16 bits, and cast back before they are used: half the file."""
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or np.prod(weight.dims) < _LEAST:
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), f"{name}.fp16"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.fp16"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


@torch.no_grad()
def _strayed(answers: nn.Module, path: Path, check: Sequence[NDArray[np.float32]]) -> float:
    session = load_network(path.read_bytes(), path.name)
    worst = 0.0
    for contrast in check:
        whole = contrast[None, :, : contrast.shape[1] // STRIDE * STRIDE, : contrast.shape[2] // STRIDE * STRIDE]
        whole = np.ascontiguousarray(whole, np.float32)
        (found,) = session.run(["maps"], {"contrast": whole})
        worst = max(worst, float(np.abs(np.asarray(found) - answers(torch.from_numpy(whole)).numpy()).max()))
    return _within(worst, TOLERANCE)


@torch.no_grad()
def _strayed_grades(graders: GraderNetworks, path: Path) -> float:
    session = load_network(path.read_bytes(), path.name)
    p, attention = session.run(["probabilities", "attention"], {"patches": graders.check})
    asked, shown = graders.panel(torch.from_numpy(graders.check))
    alike = functional.cosine_similarity(torch.from_numpy(attention).flatten(2), shown.flatten(2), dim=2)
    _within(float(1 - alike[shown.amax(dim=(2, 3)) > 0].min()) if shown.any() else 0.0, GRADE_TOLERANCE)
    return _within(float(np.abs(p - asked.numpy()).max()), GRADE_TOLERANCE)


def _within(worst: float, most: float) -> float:
    if not worst <= most:
        raise StudyError(f"the file strays from the network by {worst:.2g}, over {most:g}: no bundle was written.")
    return worst
