"""A bundle that maps vessels, read and run without torch: local contrast in, probabilities of the four kinds out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles.card import NickingCard
from fundoscope.bundles.read import checked_bytes, load_network, locate, verified

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MAPS_FILE = "maps.fp16.onnx"  # weights kept in 16 bits, computed with in 32
STRIDE = 16  # the sides of what the network is given are multiples of it


@dataclass(frozen=True, slots=True)
class MapsBundle:
    """A verified network of maps, ready to run from many threads at once."""

    folder: Path
    card: NickingCard
    session: InferenceSession

    def maps(self, contrast: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (4, rows, columns) of vessel, artery, vein and crossing, 0 to 1, for local contrast (3, rows,
        columns) as `imaging.evened` gives it; edges are repeated up to a multiple of the stride.
        """
        rows, columns = contrast.shape[1:]
        padded = np.pad(contrast, ((0, 0), (0, -rows % STRIDE), (0, -columns % STRIDE)), mode="edge")
        (found,) = self.session.run(["maps"], {"contrast": padded[None]})
        return np.asarray(found, np.float32)[0, :, :rows, :columns]


def open_maps(path_or_name: str | Path, threads: int = 2) -> MapsBundle:
    """Verify a bundle of the task `nicking`, shipped (by name) or in a folder, and load its network of maps.

    `threads` work on one photograph. Raises `BundleError` when anything is missing or changed, or for another task.
    """
    folder = locate(path_or_name)
    card = verified(folder, NickingCard)
    return MapsBundle(
        folder, card, load_network(checked_bytes(folder, MAPS_FILE, card), str(folder / MAPS_FILE), threads)
    )
