"""Contrast-limited adaptive histogram equalisation (CLAHE; Zuiderveld 1994) of lightness, colours kept."""

from __future__ import annotations

import cv2
import numpy as np

from fundoscope.imaging.read import Pixels


def build_tables() -> None:
    """Let OpenCV build its tables of CIE Lab: a tenth of a second, once a process, which a thread may spend beside others."""
    cv2.cvtColor(np.zeros((1, 1, 3), np.uint8), cv2.COLOR_RGB2LAB)


def clahe(pixels: Pixels, clip: float, tiles: int) -> Pixels:
    """Even out L of CIE Lab over `tiles` x `tiles` regions, histograms cut at `clip` times their mean.

    `pixels` is (rows, columns, 3), uint8, RGB; so is the answer.
    """
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    # made anew each time: it costs a microsecond, and one object must not serve two threads
    equalise = cv2.createCLAHE(clip, (tiles, tiles))
    cv2.insertChannel(equalise.apply(cv2.extractChannel(lab, 0)), lab, 0)
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)
