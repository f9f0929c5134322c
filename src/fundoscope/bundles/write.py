"""Writing a bundle: export to ONNX, quantise, prove that it answers as the network does, describe it."""

from __future__ import annotations

import copy
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from torch import Tensor, nn

from fundoscope.bundles.card import Card, FileRecord, Parity, Stage
from fundoscope.bundles.quantise import bare, quantise
from fundoscope.bundles.read import CARD_FILE, load_network
from fundoscope.errors import StudyError, UsageError

FP32_TOLERANCE = 1e-4  # largest difference of a logit, torch against ONNX, that rounding can explain
OPSET = 18  # what torch's exporter speaks natively; read by every ONNX Runtime since 1.14

FP32_FILE, INT8_FILE, CARD_PAGE = "model.fp32.onnx", "model.int8.onnx", "card.md"

Photographs = NDArray[np.float32]  # (n, 3, size, size), network input
Logits = NDArray[np.float32]  # (n, 2)


class Exportable(nn.Module):
    """A classifier as a bundle runs it: photograph (n, 3, s, s) to logits (n, 2), activation (n, h, w).

    The classifier has `features(x)`, (n, c, h, w), and `head`, linear, after global average pooling. Head and
    pooling are both linear, so they may change places: the head as a convolution of 1 x 1 gives a map of each
    logit, whose mean is the logit (class activation mapping, Zhou et al. 2016, eq. 2). The activation is the
    difference of the two maps; hence its mean is logit 1 minus logit 0.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        head = getattr(classifier, "head", None)
        if not isinstance(head, nn.Linear) or head.out_features != 2:
            raise UsageError(
                f"{type(classifier).__name__} cannot be exported: its head is {head}. "
                "Give a classifier with `features` and a linear `head` of two outputs."
            )
        self.classifier = classifier  # registered, so that its weights are exported
        self.features = cast(Callable[[Tensor], Tensor], classifier.features)
        self.maps = nn.Conv2d(head.in_features, 2, 1)
        bias = torch.zeros(2) if head.bias is None else head.bias.detach()
        self.maps.load_state_dict({"weight": head.weight.detach()[:, :, None, None], "bias": bias})

    def forward(self, photograph: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and activation, both in logits."""
        maps = self.maps(self.features(photograph))  # (n, 2, h, w)
        return maps.mean((2, 3)), maps[:, 1] - maps[:, 0]


def write_bundle(
    model: nn.Module,
    card: Card,
    calibration: Photographs | Iterable[Photographs],
    check: Photographs,
    out: Path,
    labels: NDArray[np.integer] | None = None,
    keep_fp32: bool = True,
    say: Callable[[str], None] = print,
) -> Path:
    """Write the bundle of `model` to the folder `out`, which it replaces in one step or leaves as it was.

    `model` is a classifier as `Exportable` takes it; it is copied, not changed. `card` comes without parity
    and files. `calibration` is inner data, in one array or in batches; `check` real photographs for parity,
    with their `labels` (0 or 1) if AUC is to be compared. Parity is told to `say` and kept in the card.
    Raises StudyError, and writes nothing, when ONNX in fp32 strays from torch by more than `FP32_TOLERANCE`.
    """
    calibration = _photographs(calibration, "calibration")
    check = _photographs(check, "the parity check")
    classifier = _plain_copy(model)
    part = _fresh(out)
    try:
        export(classifier, card.standard.size, part / FP32_FILE)
        fp32 = _logits(part / FP32_FILE, check)
        worst = _strayed(classifier, fp32, check)
        quantise(part / FP32_FILE, part / INT8_FILE, calibration)
        parity = _parity(card.stages[0], worst, fp32, _logits(part / INT8_FILE, check), labels)
        for line in parity_lines(parity):
            say(line)
        if not keep_fp32:
            (part / FP32_FILE).unlink()
        _describe(card.model_copy(update={"parity": parity}), part)
        _move(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out


def _plain_copy(model: nn.Module) -> nn.Module:
    """The model on the processor, in fp32, in the memory layout that ONNX has, and at rest."""
    return copy.deepcopy(model).to("cpu", torch.float32).to(memory_format=torch.contiguous_format).eval()


def export(classifier: nn.Module, size: int, path: Path) -> None:
    """Write a classifier as ONNX: `photograph` (n, 3, s, s) to `logits` (n, 2), `activation` (n, h, w)."""
    example = torch.zeros(2, 3, size, size)  # two, since the exporter takes a batch of one for a constant
    program = torch.onnx.export(
        Exportable(classifier).eval(),
        (example,),
        dynamo=True,
        external_data=False,
        input_names=["photograph"],
        output_names=["logits", "activation"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None  # dynamo=True always gives one
    onnx.save(bare(program.model_proto), path)


def _photographs(given: Photographs | Iterable[Photographs], what: str) -> Photographs:
    array = given if isinstance(given, np.ndarray) else np.concatenate(list(given))
    if array.ndim != 4 or not len(array):
        raise UsageError(f"an array of shape {array.shape} holds no photographs for {what}. Give (n, 3, s, s), n > 0.")
    return array.astype(np.float32, copy=False)


def _strayed(classifier: nn.Module, fp32: Logits, check: Photographs) -> float:
    """The largest difference of a logit, torch against ONNX; StudyError where it is not rounding."""
    with torch.no_grad():
        trained = np.concatenate([classifier(torch.from_numpy(one[None])).numpy() for one in check])
    worst = float(np.abs(trained - fp32).max())
    if not worst <= FP32_TOLERANCE:
        raise StudyError(
            f"ONNX in fp32 strays from torch by {worst:.2g} in a logit, over {FP32_TOLERANCE:g}: no bundle "
            "was written. Look for an operation that exports differently, or weights that are not finite."
        )
    return worst


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


def _logits(path: Path, check: Photographs) -> Logits:
    network = load_network(path.read_bytes(), path.name)
    return np.concatenate([network.run(["logits"], {"photograph": one[None]})[0] for one in check])


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


def _describe(card: Card, part: Path) -> None:
    """Write `card.md` and `bundle.json` beside the networks, with the checksum of every file."""
    networks = {path.name: _record(path) for path in sorted(part.glob("*.onnx"))}
    page = part / CARD_PAGE
    page.write_text(render(card.model_copy(update={"files": networks})), encoding="utf-8")
    card = card.model_copy(update={"files": {CARD_PAGE: _record(page), **networks}})
    (part / CARD_FILE).write_text(card.sealed_json(), encoding="utf-8")


def render(card: Card) -> str:
    """The card as Markdown, for a person."""
    loader = PackageLoader("fundoscope.bundles", ".")
    page = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["mb"] = lambda count: f"{count / 1e6:.1f} MB"
    lines = parity_lines(card.parity) if card.parity else []
    return page.get_template("card.md.jinja").render(card=card, stage=card.stages[0], parity=lines)


def _record(path: Path) -> FileRecord:
    data = path.read_bytes()
    return FileRecord(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def _fresh(out: Path) -> Path:
    """An empty folder beside `out`; what an interrupted earlier run left there is put right first."""
    part, old = out.with_name(f".{out.name}.part"), out.with_name(f".{out.name}.old")
    if old.exists() and not out.exists():
        old.replace(out)  # killed between the two moves of `_move`
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    return part


def _move(part: Path, out: Path) -> None:
    """Put a finished folder into the place of `out`: everything is on the disk before the name is."""
    for path in (*part.iterdir(), part):
        _sync(path)
    old = out.with_name(f".{out.name}.old")
    if out.exists():
        out.replace(old)  # a folder that is not empty cannot be replaced, only moved away
    try:
        part.replace(out)
    except OSError:
        if old.exists():
            old.replace(out)
        raise
    _sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
