"""Writing the bundle of a classifier: export to ONNX, quantise, prove that the files answer as the network does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fundoscope.bundles.card import Card, Parity, Stage
from fundoscope.bundles.folder import card_parity_lines, replace_folder, write_card_files
from fundoscope.bundles.onnx_files import copy_for_export, export_onnx
from fundoscope.bundles.quantise import quantise
from fundoscope.bundles.read import OUTPUTS, load_network, run_outputs
from fundoscope.errors import StudyError, UsageError

FP32_TOLERANCE = 1e-4  # largest difference of a logit, torch against ONNX, that rounding can explain

FP32_FILE, INT8_FILE = "model.fp32.onnx", "model.int8.onnx"

Photographs = NDArray[np.float32]  # (n, 3, size, size), network input
Logits = NDArray[np.float32]  # (n, 2)


class ExportedClassifiers(nn.Module):
    """A classifier, or two, as a bundle runs them: photograph (n, 3, s, s) to logits (n, 2) and activation (n, h, w) each.

    A classifier has `features(x)`, (n, c, h, w), and a linear `head` after global average pooling. Head and pooling are
    both linear, so they may change places: the head as a convolution of 1 x 1 gives a map of each logit, and the mean of
    the map is the logit (class activation mapping, Zhou et al. 2016, eq. 2). The activation is the difference of the two
    maps; its mean is logit 1 minus logit 0. Where a second classifier shares the trunk of the first, the trunk runs once.
    Raises `UsageError` for a head that is not linear with two outputs.
    """

    def __init__(self, classifier: nn.Module, second: nn.Module | None = None) -> None:
        super().__init__()
        classifiers = [classifier, *([] if second is None else [second])]
        self.shared = second is not None and _share_a_trunk(classifier, second)
        self.classifiers = nn.ModuleList(classifiers)
        self.maps = nn.ModuleList(_as_convolution(each) for each in classifiers)

    def forward(self, photograph: Tensor) -> tuple[Tensor, ...]:
        """Logits and activation of each classifier, in logits."""
        outputs: list[Tensor] = []
        for features, maps in zip(self._features(photograph), self.maps, strict=True):
            logits = maps(features)  # (n, 2, h, w)
            outputs += [logits.mean((2, 3)), logits[:, 1] - logits[:, 0]]
        return tuple(outputs)

    def _features(self, photograph: Tensor) -> list[Tensor]:
        if not self.shared:
            return [cast(Callable[[Tensor], Tensor], each.features)(photograph) for each in self.classifiers]
        bodies = [cast(Any, each.body) for each in self.classifiers]
        trunk = bodies[0].trunk(photograph)
        return [body.tail(trunk) for body in bodies]


def _as_convolution(classifier: nn.Module) -> nn.Conv2d:
    head = getattr(classifier, "head", None)
    if not isinstance(head, nn.Linear) or head.out_features != 2:
        raise UsageError(
            f"{type(classifier).__name__} cannot be exported: its head is {head}. "
            "Give a classifier with `features` and a linear `head` of two outputs."
        )
    maps = nn.Conv2d(head.in_features, 2, 1)
    bias = torch.zeros(2) if head.bias is None else head.bias.detach()
    maps.load_state_dict({"weight": head.weight.detach()[:, :, None, None], "bias": bias})
    return maps


@torch.no_grad()
def _share_a_trunk(first: nn.Module, second: nn.Module) -> bool:
    """Whether both bodies begin with the very same trunk."""
    bodies = [cast(Any, getattr(each, "body", None)) for each in (first, second)]
    if not all(hasattr(body, "trunk") for body in bodies):
        return False
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return bool(torch.equal(*(body.eval().trunk(x) for body in bodies)))


def write_bundle(
    model: nn.Module | Sequence[nn.Module],
    card: Card,
    calibration: Photographs | Iterable[Photographs],
    check: Photographs,
    out: Path,
    labels: NDArray[np.integer] | None = None,
    keep_fp32: bool = True,
    say: Callable[[str], None] = print,
) -> Path:
    """Write the bundle of `model` to the folder `out`, which it replaces in one step or leaves as it was.

    `model` is a classifier as `ExportedClassifiers` takes it, or one for each stage of the card; it is copied, not
    changed. `card` comes without parity and files. `calibration` is inner data, in one array or in batches. `check` are
    real photographs for parity, with their `labels` (0 or 1) if AUC is to be compared. The lines on parity go to `say`
    and into the card. Raises `UsageError` for arrays without photographs, and `StudyError`, with nothing written, when
    ONNX in fp32 differs from torch by more than `FP32_TOLERANCE` in a logit.
    """
    calibration = _photographs(calibration, "calibration")
    check = _photographs(check, "the parity check")
    network = copy_for_export(ExportedClassifiers(*([model] if isinstance(model, nn.Module) else model)))
    with replace_folder(out) as part:
        export(network, card.standard.size, part / FP32_FILE)
        fp32 = _logits(part / FP32_FILE, check)
        worst = _largest_differences(network, fp32, check)
        quantise(part / FP32_FILE, part / INT8_FILE, calibration)
        int8 = _logits(part / INT8_FILE, check)
        each_stage = zip(card.stages, worst, fp32, int8, (labels, None), strict=False)
        parities = [_parity(*stage) for stage in each_stage]
        card = card.model_copy(update=dict(zip(("parity", "parity_second"), parities, strict=False)))
        lines = card_parity_lines(card)
        for line in lines:
            say(line)
        if not keep_fp32:
            (part / FP32_FILE).unlink()
        write_card_files(card, lines, part)
    return out


def export(network: ExportedClassifiers, size: int, path: Path) -> None:
    """Write a network as ONNX: `photograph` (n, 3, s, s) to the outputs of `read.OUTPUTS`."""
    outputs = [name for stage in OUTPUTS[: len(network.classifiers)] for name in stage]
    example = torch.zeros(2, 3, size, size)  # two, since the exporter takes a batch of one for a constant
    export_onnx(network.eval(), example, path, names=("photograph", *outputs), sizes={0: torch.export.Dim("n")})


def _photographs(given: Photographs | Iterable[Photographs], purpose: str) -> Photographs:
    array = given if isinstance(given, np.ndarray) else np.concatenate(list(given))
    if array.ndim != 4 or not len(array):
        raise UsageError(
            f"an array of shape {array.shape} holds no photographs for {purpose}. Give (n, 3, s, s), n > 0."
        )
    return array.astype(np.float32, copy=False)


def _logits(path: Path, check: Photographs) -> list[Logits]:
    """The file's logits of each stage, a photograph at a time."""
    network = load_network(path.read_bytes(), path.name)
    names = [output.name for output in network.get_outputs() if output.name.endswith("logits")]
    answers = [run_outputs(network, names, one[None]) for one in check]
    return [np.concatenate(stage) for stage in zip(*answers, strict=True)]


@torch.no_grad()
def _largest_differences(network: ExportedClassifiers, fp32: list[Logits], check: Photographs) -> list[float]:
    """The largest difference of a logit, torch against ONNX, of each stage; `StudyError` where rounding cannot explain it."""
    singles = [torch.from_numpy(one[None]) for one in check]
    worst = []
    for classifier, found in zip(network.classifiers, fp32, strict=True):
        trained = np.concatenate([classifier(one).numpy() for one in singles])
        worst.append(float(np.abs(trained - found).max()))
    if not max(worst) <= FP32_TOLERANCE:
        raise StudyError(
            f"ONNX in fp32 strays from torch by {max(worst):.2g} in a logit, over {FP32_TOLERANCE:g}: no bundle "
            "was written. Look for an operation that exports differently, or weights that are not finite."
        )
    return worst


def _parity(stage: Stage, worst: float, fp32: Logits, int8: Logits, labels: NDArray[np.integer] | None) -> Parity:
    p, q = stage.probabilities(fp32), stage.probabilities(int8)
    both_classes = labels is not None and len(np.unique(labels)) > 1
    return Parity(
        n_photographs=len(fp32),
        fp32_max_abs_logit=worst,
        int8_max_abs_logit=float(np.abs(int8 - fp32).max()),
        int8_mean_abs_logit=float(np.abs(int8 - fp32).mean()),
        int8_flips=int((stage.decisions(p) != stage.decisions(q)).sum()),
        int8_auc_change=_auc(int8, labels) - _auc(fp32, labels) if both_classes else None,
    )


def _auc(logits: Logits, labels: NDArray[np.integer] | None) -> float:
    """Area under the ROC curve as the share of pairs in the right order, ties half (Hanley, McNeil 1982).

    Written out here, since bundles stand below `evaluation`.
    """
    margin = logits[:, 1] - logits[:, 0]
    ahead = margin[labels == 1][:, None] - margin[labels == 0]
    return float((ahead > 0).mean() + 0.5 * (ahead == 0).mean())
