"""From a network in fp32 to one in INT8: static quantisation, calibrated on real photographs.

Activations are unsigned 8-bit integers with a zero point (a ReLU6 needs no sign). Weights are signed, symmetric, with
one scale a channel. These are what the integer instructions of processors multiply (VNNI, AMX, Arm dot product). The
layers after the last features stay in fp32: they cost next to nothing, and they make the decision.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from fundoscope.bundles.onnx_files import strip_metadata
from fundoscope.bundles.rounding import refine

_BATCH = 8  # photographs run at once while ranges are collected, to bound the memory


class _Photographs(CalibrationDataReader):
    def __init__(self, calibration: NDArray[np.float32]) -> None:
        self._batches: Iterator[NDArray[np.float32]] = (
            calibration[at : at + _BATCH] for at in range(0, len(calibration), _BATCH)
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:  # ty: ignore[incompatible-method-override]
        batch = next(self._batches, None)
        return None if batch is None else {"photograph": batch}


def quantise(fp32: Path, int8: Path, calibration: NDArray[np.float32]) -> None:
    """Write the INT8 form of the network in the file `fp32`; ranges come from `calibration` (n, 3, size, size)."""
    with tempfile.TemporaryDirectory() as scratch:
        prepared, nearest = Path(scratch) / "prepared.onnx", Path(scratch) / "nearest.onnx"
        quant_pre_process(fp32, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            nearest,
            _Photographs(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=after_features(onnx.load(prepared)),
        )
        quantised = onnx.load(nearest)
        refine(quantised, onnx.load(prepared), calibration)
    onnx.save(strip_metadata(quantised), int8)


def after_features(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes from the head's convolution to the outputs, which are left in fp32."""
    producer = {name: node for node in model.graph.node for name in node.output}
    wanted = [output.name for output in model.graph.output]
    found: dict[str, None] = {}
    while wanted:
        node = producer.get(wanted.pop())
        if node is None or node.name in found:
            continue
        found[node.name] = None
        if node.op_type != "Conv":
            wanted.extend(node.input)
    return list(found)
