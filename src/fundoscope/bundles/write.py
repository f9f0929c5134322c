"""Writing a bundle: export to ONNX, quantise, prove that it answers as the network does, describe it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fundoscope.bundles.card import Card, Parity, Stage
from fundoscope.bundles.folder import replace_folder, write_card_files
from fundoscope.bundles.quantise import quantise, strip_metadata
from fundoscope.bundles.read import OUTPUTS, load_network, run_outputs
from fundoscope.errors import StudyError, UsageError

FP32_TOLERANCE = 1e-4  # largest difference of a logit, torch against ONNX, that rounding can explain
OPSET = 18  # what torch's exporter speaks natively; read by every ONNX Runtime since 1.14

FP32_FILE, INT8_FILE = "model.fp32.onnx", "model.int8.onnx"

Photographs = NDArray[np.float32]  # (n, 3, size, size), network input
Logits = NDArray[np.float32]  # (n, 2)


class ExportedClassifiers(nn.Module):
    """A classifier, or two, as a bundle runs them: photograph (n, 3, s, s) to logits (n, 2), activation (n, h, w).

    A classifier has `features(x)`, (n, c, h, w), and `head`, linear, after global average pooling. Head and
    pooling are both linear, so they may change places: the head as a convolution of 1 x 1 gives a map of each
    logit, whose mean is the logit (class activation mapping, Zhou et al. 2016, eq. 2). The activation is the
    difference of the two maps; hence its mean is logit 1 minus logit 0. Where a second classifier keeps the trunk of
    the first, the trunk runs once.
    """

    def __init__(self, classifier: nn.Module, second: nn.Module | None = None) -> None:
        super().__init__()
        classifiers = [classifier, *([] if second is None else [second])]
        self.shared = second is not None and _one_trunk(classifier, second)
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
def _one_trunk(first: nn.Module, second: nn.Module) -> bool:
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

    `model` is a classifier as `ExportedClassifiers` takes it, or one a stage of the card; it is copied, not changed. `card` comes without parity
    and files. `calibration` is inner data, in one array or in batches; `check` real photographs for parity,
    with their `labels` (0 or 1) if AUC is to be compared. Parity is told to `say` and kept in the card.
    Raises StudyError, and writes nothing, when ONNX in fp32 strays from torch by more than `FP32_TOLERANCE`.
    """
    calibration = _photographs(calibration, "calibration")
    check = _photographs(check, "the parity check")
    network = _plain_copy(ExportedClassifiers(*([model] if isinstance(model, nn.Module) else model)))
    with replace_folder(out) as part:
        export(network, card.standard.size, part / FP32_FILE)
        fp32 = _logits(part / FP32_FILE, check)
        worst = _strayed(network, fp32, check)
        quantise(part / FP32_FILE, part / INT8_FILE, calibration)
        int8 = _logits(part / INT8_FILE, check)
        answers = zip(card.stages, worst, fp32, int8, (labels, None), strict=False)
        parities = [_parity(*each) for each in answers]
        lines = [line for parity in parities for line in parity_lines(parity)]
        for line in lines:
            say(line)
        if not keep_fp32:
            (part / FP32_FILE).unlink()
        found = dict(zip(("parity", "parity_second"), parities, strict=False))
        write_card_files(card.model_copy(update=found), lines, part)
    return out


def _plain_copy(model: ExportedClassifiers) -> ExportedClassifiers:
    """The model on the processor, in fp32, in the memory layout that ONNX has, and at rest."""
    return copy.deepcopy(model).to("cpu", torch.float32).to(memory_format=torch.contiguous_format).eval()


def export(network: ExportedClassifiers, size: int, path: Path) -> None:
    """Write a network as ONNX: `photograph` (n, 3, s, s) to the outputs of `read.OUTPUTS`."""
    example = torch.zeros(2, 3, size, size)  # two, since the exporter takes a batch of one for a constant
    program = torch.onnx.export(
        network.eval(),
        (example,),
        dynamo=True,
        external_data=False,
        input_names=["photograph"],
        output_names=[name for stage in OUTPUTS[: len(network.classifiers)] for name in stage],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None  # dynamo=True always gives one
    onnx.save(strip_metadata(program.model_proto), path)


def _photographs(given: Photographs | Iterable[Photographs], what: str) -> Photographs:
    array = given if isinstance(given, np.ndarray) else np.concatenate(list(given))
    if array.ndim != 4 or not len(array):
        raise UsageError(f"an array of shape {array.shape} holds no photographs for {what}. Give (n, 3, s, s), n > 0.")
    return array.astype(np.float32, copy=False)


def _strayed(network: ExportedClassifiers, fp32: list[Logits], check: Photographs) -> list[float]:
    """The largest difference of a logit, torch against ONNX, of each stage; StudyError where it is not rounding."""
    with torch.no_grad():
        trained = [np.concatenate(stage) for stage in zip(*(_asked(network, one) for one in check), strict=True)]
    worst = [float(np.abs(a - b).max()) for a, b in zip(trained, fp32, strict=True)]
    if not max(worst) <= FP32_TOLERANCE:
        raise StudyError(
            f"ONNX in fp32 strays from torch by {max(worst):.2g} in a logit, over {FP32_TOLERANCE:g}: no bundle "
            "was written. Look for an operation that exports differently, or weights that are not finite."
        )
    return worst


def _asked(network: ExportedClassifiers, one: NDArray[np.float32]) -> list[Logits]:
    return [classifier(torch.from_numpy(one[None])).numpy() for classifier in network.classifiers]


def _parity(stage: Stage, worst: float, fp32: Logits, int8: Logits, labels: NDArray[np.integer] | None) -> Parity:
    p, q = stage.probabilities(fp32), stage.probabilities(int8)
    return Parity(
        n_photographs=len(fp32),
        fp32_max_abs_logit=worst,
        int8_max_abs_logit=float(np.abs(int8 - fp32).max()),
        int8_mean_abs_logit=float(np.abs(int8 - fp32).mean()),
        int8_flips=int((stage.decisions(p) != stage.decisions(q)).sum()),
        int8_auc_change=_auc_change(fp32, int8, labels),
    )


def _logits(path: Path, check: Photographs) -> list[Logits]:
    """Logits of each stage."""
    network = load_network(path.read_bytes(), path.name)
    names = [output.name for output in network.get_outputs() if output.name.endswith("logits")]
    answers = [run_outputs(network, names, one[None]) for one in check]
    return [np.concatenate(stage) for stage in zip(*answers, strict=True)]


def _auc_change(fp32: Logits, int8: Logits, labels: NDArray[np.integer] | None) -> float | None:
    """AUC of INT8 minus AUC of fp32; None where there are no labels, or of one class only."""
    if labels is None or len(np.unique(labels)) < 2:
        return None
    return _auc(int8, labels) - _auc(fp32, labels)


def _auc(logits: Logits, labels: NDArray[np.integer]) -> float:
    """Area under the ROC curve as the share of pairs in the right order, ties half (Hanley, McNeil 1982)."""
    margin = logits[:, 1] - logits[:, 0]
    ahead = margin[labels == 1][:, None] - margin[labels == 0]
    return float((ahead > 0).mean() + 0.5 * (ahead == 0).mean())


def parity_lines(parity: Parity) -> list[str]:
    """The parity report in words, a line each."""
    n = parity.n_photographs
    lines = [
        f"parity  torch to ONNX fp32: logits differ by {parity.fp32_max_abs_logit:.1e} at most on {n} photographs",
        f"        fp32 to INT8: {parity.int8_flips} of {n} decisions change; logits differ by "
        f"{parity.int8_mean_abs_logit:.3f} on average, {parity.int8_max_abs_logit:.3f} at most",
    ]
    if parity.int8_auc_change is not None:
        lines.append(f"        fp32 to INT8: AUC changes by {parity.int8_auc_change:+.4f}")
    return lines
