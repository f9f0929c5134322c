"""A bundle that maps vessels and grades nicking, read and run without torch.

The network of maps takes local contrast and gives probabilities of vessel, artery, vein and crossing. The graders, where
the bundle has some, take patches of crossings with their maps, and give probabilities of the grades and attention maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fundoscope.bundles.card import NickingCard
from fundoscope.bundles.read import Runtime, checked_bytes, load_on_runtime, locate, reopened, verify_task
from fundoscope.errors import BundleError
from fundoscope.processors import share_processors
from fundoscope.stopwatch import NETWORK, stage

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from fundoscope.bundles.openvino_session import OpenVinoSession

MAPS_FILE = "maps.fp16.onnx"  # weights kept in 16 bits, computed with in 32
GRADES_FILE = "grades.fp16.onnx"
STRIDE = 32  # the network's input has sides that are multiples of it


@dataclass(frozen=True, slots=True)
class NickingBundle:
    """Verified networks, ready to run from many threads at once; `graders` is None where the bundle grades nothing."""

    folder: Path
    card: NickingCard
    session: InferenceSession | OpenVinoSession
    graders: InferenceSession | OpenVinoSession | None = None
    runtime: Runtime = "onnxruntime"

    def __reduce__(self) -> tuple[Any, ...]:
        """A bundle travels to another process as the path of its folder."""
        text = self.card.model_dump_json()
        return reopened, (open_nicking_bundle, self.folder.resolve(), text, 2, self.runtime)

    def map_vessels(self, contrast: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (4, rows, columns) of vessel, artery, vein and crossing, 0 to 1, for local contrast (3, rows,
        columns) as `imaging.local_contrast` gives it; edges are repeated up to a multiple of the stride.
        """
        rows, columns = contrast.shape[1:]
        padded = np.pad(contrast, ((0, 0), (0, -rows % STRIDE), (0, -columns % STRIDE)), mode="edge")
        with stage(NETWORK):
            (found,) = self.session.run(["maps"], {"contrast": padded[None]})
        return np.asarray(found, np.float32)[0, :, :rows, :columns]

    def grade_patches(self, patches: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Probabilities (n, 4) of grades 0 to 3 of patches (n, 6, s, s), which are local contrast and maps; and how much
        each place of patch and maps speaks for a pinch, (n, 2, s / 8, s / 8; half of that without a pyramid).

        Raises `BundleError` where the bundle has no grader.
        """
        if self.graders is None:
            raise BundleError(f"{self.folder}: holds no network that grades. Give a bundle that has one to --bundle.")
        with stage(NETWORK):
            p, attention = self.graders.run(["probabilities", "attention"], {"patches": patches})
        return np.asarray(p, float), np.asarray(attention, np.float32)


def open_nicking_bundle(path_or_name: str | Path, threads: int = 2, runtime: Runtime = "onnxruntime") -> NickingBundle:
    """Verify a bundle of the task `nicking`, given by a shipped name or a folder, and load its networks.

    `threads` work on one photograph. Raises `BundleError` when anything is missing or changed, or for another task, and
    `MissingExtraError` where the runtime is not installed.
    """
    folder = locate(path_or_name)
    card = verify_task(folder, NickingCard)
    files = (MAPS_FILE, GRADES_FILE) if card.grades is not None else (MAPS_FILE,)
    threads = share_processors(threads)
    maps, *graders = (
        load_on_runtime(checked_bytes(folder, name, card), str(folder / name), threads, runtime) for name in files
    )
    return NickingBundle(folder, card, maps, graders[0] if graders else None, runtime)
