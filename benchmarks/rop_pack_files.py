"""Reads what `rop_pack.py` wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

RIDGE_SIDE = 64  # pixels of the mask that says where a simulated ridge is seen


@dataclass(frozen=True)
class PackPart:
    """Photographs (n, S, S, 3), uint8 RGB, and what is known of each, (n,): label, treatment, camera, group, fold.

    `ridges` (n, R, R) says where a simulated ridge is seen.
    """

    pixels: np.ndarray
    labels: np.ndarray
    treatment: np.ndarray
    cameras: np.ndarray
    groups: np.ndarray
    folds: np.ndarray
    ridges: np.ndarray


def read_pack(path: Path, size: int) -> dict[str, PackPart]:
    """The parts `real`, `pretraining` and `treatment`, their squares at `size` pixels."""
    with np.load(path) as pack:
        return {name: _part(pack, name, size) for name in ("real", "pretraining", "treatment")}


def _part(pack: dict[str, np.ndarray], name: str, size: int) -> PackPart:
    known = {key.partition("/")[2]: pack[key] for key in pack if key.startswith(f"{name}/")}
    files = np.split(known["bytes"], known["ends"][:-1])
    n, each = len(files), np.arange(len(files))
    bits = known.get("ridge", np.zeros((n, RIDGE_SIDE**2 // 8), np.uint8))
    return PackPart(
        np.stack([_square(file, size) for file in files]), known["labels"].astype(np.int64),
        known.get("treatment", np.full(n, -1)).astype(np.int64), known.get("cameras", np.full(n, "simulated")),
        known.get("groups", each), known.get("folds", each % 5),
        np.unpackbits(bits, axis=1).reshape(n, RIDGE_SIDE, RIDGE_SIDE),
    )  # fmt: skip


def _square(file: np.ndarray, size: int) -> np.ndarray:
    square = cv2.cvtColor(cv2.imdecode(file, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return square if square.shape[0] == size else cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
