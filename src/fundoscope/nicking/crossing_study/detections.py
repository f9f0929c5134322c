"""Files of detections: a JSON object a line, with boxes, scores and masks in COCO's run lengths. No torch.

The same form holds what a detector found and what is truly there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fundoscope.datasets import rle
from fundoscope.errors import StudyError
from fundoscope.evaluation.detection import Instances

DETECTIONS = "detections"  # the folder in a study's
STEPS = (1, 2)  # of a detector's training: whole photographs, then patches


@dataclass(frozen=True, slots=True, eq=False)
class PhotographDetections:
    """The crossings found, or truly there, in one photograph or patch, with its name and its set.

    Where they are those truly there, `photograph` names the photograph that a patch is of (else itself), `scale` is the number
    of pixels for one of DRIVE's, `window` a patch's first row, first column and side in it; `doubtful` (k, 2) are rows and
    columns at which a detection is neither right nor wrong, and `vein_widths` (n,) are in DRIVE's pixels, nan where unknown.
    """

    name: str
    dataset: str
    instances: Instances
    photograph: str = ""
    scale: float = 1.0
    window: tuple[int, int, int] | None = None
    doubtful: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    vein_widths: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


def arm_name(pyramid: str, seed: int) -> str:
    """The name of a detector's folders."""
    return f"{pyramid}-{seed}"


def write_detections(path: Path, detections: Iterable[PhotographDetections]) -> None:
    """Write one line a photograph, in one step."""
    beside = path.with_suffix(".part")
    with beside.open("w", encoding="utf-8") as file:
        for each in detections:
            boxes, scores, masks = each.instances.boxes, each.instances.scores, each.instances.masks
            runs = None if masks is None else [rle.encode(mask, (0, 0), mask.shape) for mask in masks]
            shape = None if masks is None else masks.shape[1:]
            row = {"name": each.name, "set": each.dataset, "boxes": boxes.tolist(), "scores": scores.tolist()}
            widths = [None if np.isnan(width) else width for width in each.vein_widths.tolist()]
            about = {
                "photograph": each.photograph, "scale": each.scale, "window": each.window,
                "doubtful": each.doubtful.tolist(), "vein_widths": widths,
            }  # fmt: skip
            file.write(json.dumps({**row, "shape": shape, "masks": runs, **about}) + "\n")
    beside.replace(path)


def read_detections(path: Path) -> list[PhotographDetections]:
    """The photographs of a file; `StudyError` where it cannot be read."""
    try:
        with path.open(encoding="utf-8") as file:
            return list(_parse(file))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{path}: holds no detections ({error}). Run the study's command again.") from error


def _parse(lines: Iterable[str]) -> Iterator[PhotographDetections]:
    for line in lines:
        row = json.loads(line)
        masks = None
        if row["masks"] is not None:
            decoded = [rle.decode(runs) for runs in row["masks"]]
            masks = np.array(decoded, bool).reshape(-1, *row["shape"])
        boxes = np.array(row["boxes"], float).reshape(-1, 4)
        yield PhotographDetections(
            row["name"], row["set"], Instances(boxes, np.array(row["scores"], float), masks), row["photograph"],
            row["scale"], None if row["window"] is None else tuple(row["window"]),
            np.array(row["doubtful"], float).reshape(-1, 2), np.array(row["vein_widths"], float),
        )  # fmt: skip
