"""`explained/`: the pictures that a page shows, and which photographs they are of.

`pictures.json` lists them: the section of the page, the PNG file beside it, the photograph's name, and short lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.imaging import Pixels
from fundoscope.outputs import save_picture
from fundoscope.rop.study.questions import Question
from fundoscope.studies import write_json

EXPLAINED, PICTURES = "explained", "pictures.json"


@dataclass(frozen=True)
class ExplainedPicture:
    """One picture: the `section` that shows it, its `pixels`, the photograph's `image`, and lines beneath it."""

    section: str
    pixels: Pixels
    image: str
    lines: tuple[str, ...]


def write_pictures(folder: Path, pictures: Iterable[ExplainedPicture]) -> None:
    """Write the pictures as PNG files into `folder`, and their list; one picture is held at a time."""
    listed = []
    for number, picture in enumerate(pictures, 1):
        file = f"{number:03d}.png"
        save_picture(folder / file, cv2.cvtColor(np.asarray(picture.pixels), cv2.COLOR_RGB2BGR))
        listed.append({"file": file, "section": picture.section, "image": picture.image, "lines": picture.lines})
    write_json(folder / PICTURES, listed)


def choose_shown(
    question: Question, y: NDArray[np.int64], p: NDArray[np.float64], threshold: NDArray[np.float64], most: int
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The places (0 to n - 1) of the photographs that are shown, with lines on each: the wrong answers first.

    Of each kind (wrong or right; truth) the `most` whose probability `p` (n,) is farthest from its `threshold` (n,).
    """
    right = (p >= threshold) == y
    for is_right in (False, True):
        for label in (1, 0):
            places = np.flatnonzero((right == is_right) & (y == label))
            for place in places[np.argsort(-np.abs(p[places] - threshold[places]))][:most].tolist():
                yield place, (question.classes[label], f"p {p[place]:.2f}", "right" if is_right else "WRONG")
