"""Networks on OpenVINO, an optional runtime: the same ONNX files, compiled for this processor.

OpenVINO computes floats in bfloat16 where the processor can; here it is told to keep 32 bits, so that a probability does not depend
on the machine. INT8 layers are fused otherwise than ONNX Runtime fuses them: probabilities differ in the third decimal.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import BundleError, need


class OpenVinoSession:
    """A network on OpenVINO with the methods of an ONNX Runtime session that bundles call; many threads may use it at once."""

    def __init__(self, model: bytes | Path, name: str, threads: int = 1) -> None:
        """Compile the bytes of an ONNX file, or the file of an OpenVINO model; `name` stands in messages.

        Raises `MissingExtraError` where OpenVINO is not installed, `BundleError` where it cannot load the network.
        """
        need("openvino", what="--runtime openvino", extra="openvino")
        import openvino

        core = openvino.Core()
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }  # fmt: skip
        try:
            read = core.read_model(model=model) if isinstance(model, bytes) else core.read_model(str(model))
            self._compiled = core.compile_model(read, "CPU", options)
        except RuntimeError as error:
            raise BundleError(
                f"{name} cannot be loaded by OpenVINO ({str(error).strip().splitlines()[-1][:160]}). "
                "Use another version of it, or leave --runtime out."
            ) from error
        self._own = threading.local()

    def run(
        self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]], options: object = None
    ) -> list[NDArray[Any]]:
        """The outputs of these names; all are computed."""
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        found = self._own.request.infer(dict(feeds))
        return [np.array(found[name]) for name in names]  # copied: the next photograph is written over them


def runtime_version() -> str:
    """The runtime and its version."""
    import openvino

    return f"OpenVINO {openvino.__version__.split('-')[0]}"
