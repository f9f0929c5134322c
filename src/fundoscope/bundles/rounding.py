"""Rounding the weights of an INT8 network so that its convolutions answer as in fp32 on real photographs.

Rounding each weight to the nearest step is best only where inputs are independent. Neighbouring pixels of a retina are
nearly equal: the weights of an edge filter cancel there, but their rounding errors do not. So the error of each rounded
weight is compensated by the weights of the same filter that are not yet rounded, and at last by the bias, weighed by
the second moments of real photographs (Frantar et al. 2023, GPTQ, algorithm 1; Frantar and Alistarh 2022, eq. 4). The
file keeps its size and speed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

DAMPING = 0.01  # share of the mean second moment added to all: the authors' value; 1e-3 was worse here
MOST = 32  # photographs that moments are taken from: 2048 patches even where a map is 8 x 8

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Window:
    """The window of a convolution: its size, steps, padding and groups."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]  # top, left, bottom, right
    groups: int

    def patches(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The inputs of each output position in x (n, c, h, w), and a 1 for the bias: (groups, n * positions, d + 1)."""
        top, left, bottom, right = self.pads
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        views = np.lib.stride_tricks.sliding_window_view(x, self.kernel, axis=(2, 3))
        views = views[:, :, :: self.strides[0], :: self.strides[1]]  # (n, c, h', w', kh, kw)
        n, channels, h, w = views.shape[:4]
        split = views.reshape(n, self.groups, channels // self.groups, h, w, *self.kernel)
        rows = split.transpose(1, 0, 3, 4, 2, 5, 6).reshape(self.groups, n * h * w, -1)
        return np.concatenate([rows, np.ones_like(rows[..., :1])], axis=2)


def refine(quantised: onnx.ModelProto, fp32: onnx.ModelProto, photographs: NDArray[np.float32]) -> None:
    """Round the weights and biases of `quantised` (QDQ, in place) anew, by the inputs of its convolutions in `fp32`.

    Both hold the same nodes by name, as `quantize_static` leaves them. Scales and zero points stay.
    """
    weights = _tensors(fp32)
    stored = {tensor.name: tensor for tensor in quantised.graph.initializer}
    source = {node.name: node for node in fp32.graph.node}
    dequantised = {node.output[0]: node for node in quantised.graph.node if node.op_type == "DequantizeLinear"}
    nodes = {n.name: n for n in quantised.graph.node if _has_plain_window(n) and set(n.input) <= dequantised.keys()}
    for name, moment in second_moments(fp32, [source[name] for name in nodes], photographs).items():
        node = nodes[name]
        step, bias_step = (
            numpy_helper.to_array(stored[dequantised[node.input[i]].input[1]]).reshape(-1) for i in (1, 2)
        )
        weight, bias = (weights[source[name].input[i]] for i in (1, 2))
        integers, bias = round_filters(weight, bias, np.broadcast_to(step, len(bias)), moment)
        for i, values in ((1, integers), (2, np.round(bias / bias_step).astype(np.int32))):
            place = stored[dequantised[node.input[i]].input[0]]
            place.CopyFrom(numpy_helper.from_array(values, place.name))


def round_filters(
    weight: NDArray[np.float32], bias: NDArray[np.float32], step: NDArray[np.float32], moment: Array
) -> tuple[NDArray[np.int8], Array]:
    """Integers (out, in / groups, kh, kw), to be multiplied by `step` (out,), and the bias that suits them.

    `moment` (groups, d + 1, d + 1) is the second moment of the patches and a 1, as `second_moments` gives it.
    """
    groups, d = moment.shape[0], moment.shape[1] - 1
    left = np.concatenate([weight.reshape(groups, -1, d), bias.reshape(groups, -1, 1)], axis=2).astype(float)
    grid = step.reshape(groups, -1)
    upper = np.swapaxes(np.linalg.cholesky(np.linalg.inv(_damped(moment))), 1, 2)
    integers = np.zeros((*left.shape[:2], d))
    for j in range(d):
        integers[..., j] = np.clip(np.round(left[..., j] / grid), -127, 127)
        error = (left[..., j] - integers[..., j] * grid) / upper[:, None, j, j]
        left[..., j:] -= error[..., None] * upper[:, None, j, j:]
    return integers.reshape(weight.shape).astype(np.int8), left[..., d].reshape(-1)


def second_moments(
    fp32: onnx.ModelProto, convolutions: list[NodeProto], photographs: NDArray[np.float32]
) -> dict[str, Array]:
    """Mean outer product of the inputs of each convolution, with a 1 for the bias: name -> (groups, d + 1, d + 1)."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in fp32.graph.initializer}
    windows = {node.name: _window(node, shapes[node.input[1]]) for node in convolutions}
    chosen = photographs[:: max(1, -(-len(photographs) // MOST))]
    moments: dict[str, Array] = {}
    for seen in _inputs(fp32, convolutions, chosen):
        for node in convolutions:
            patches = windows[node.name].patches(seen[node.input[0]])
            outer = (np.swapaxes(patches, 1, 2) @ patches).astype(float) / (patches.shape[1] * len(chosen))
            moments[node.name] = moments.get(node.name, 0.0) + outer
    return moments


def _damped(moment: Array) -> Array:
    d = moment.shape[1] - 1
    diagonal = np.arange(d)
    damped = moment.copy()
    damped[:, diagonal, diagonal] += DAMPING * moment[:, diagonal, diagonal].mean(axis=1, keepdims=True) + 1e-9
    damped[:, d, d] += 1e-9
    return damped


def _inputs(
    fp32: onnx.ModelProto, convolutions: list[NodeProto], photographs: NDArray[np.float32]
) -> Iterator[Mapping[str, NDArray[np.float32]]]:
    """The inputs of the convolutions, a photograph at a time: those of all layers take tens of megabytes."""
    names = sorted({node.input[0] for node in convolutions} - {"photograph"})
    shown = onnx.ModelProto()
    shown.CopyFrom(fp32)
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    for one in photographs:
        outputs = session.run(names, {"photograph": one[None]}) if names else []
        yield {"photograph": one[None]} | {name: np.asarray(value) for name, value in zip(names, outputs, strict=True)}


def _window(node: NodeProto, shape: tuple[int, ...]) -> _Window:
    at = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    strides, pads = at.get("strides", (1, 1)), at.get("pads", (0, 0, 0, 0))
    return _Window((shape[2], shape[3]), tuple(strides), tuple(pads), at.get("group", 1))


def _has_plain_window(node: NodeProto) -> bool:
    """Whether it is a convolution with a bias and without holes; all others keep the nearest steps."""
    holes = [a.ints for a in node.attribute if a.name == "dilations"]
    return node.op_type == "Conv" and len(node.input) == 3 and all(set(ints) == {1} for ints in holes)


def _tensors(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
