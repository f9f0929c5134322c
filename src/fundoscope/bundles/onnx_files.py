"""Networks as ONNX files: exported from torch, with only what runs in them, and on demand with weights of 16 bits."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

OPSET = 18  # what torch's exporter speaks natively; read by every ONNX Runtime since 1.14
_SMALLEST = 64  # values of the smallest tensor that is worth storing in 16 bits


def copy_for_export(network: M) -> M:
    """A copy on the processor, in fp32, in the memory layout of ONNX, in eval mode; the network itself stays as it is."""
    return copy.deepcopy(network).to("cpu", torch.float32).to(memory_format=torch.contiguous_format).eval()


def export_onnx(
    network: nn.Module, example: Tensor, path: Path, *, names: tuple[str, ...], sizes: dict[int, Any],
    half: bool = False,
) -> None:  # fmt: skip
    """Write a network of one input as ONNX.

    `names` are those of the input and of the outputs; `sizes` are the axes of the input that may have any size, as
    `torch.export.Dim`. With `half` the weights are stored in 16 bits and computed with in 32.
    """
    program = torch.onnx.export(
        network, (example,), dynamo=True, external_data=False, verbose=False, opset_version=OPSET,
        input_names=list(names[:1]), output_names=list(names[1:]), dynamic_shapes=(sizes,),
    )  # fmt: skip
    assert program is not None  # dynamo=True always gives one
    model = strip_metadata(program.model_proto)
    onnx.save(store_in_16_bits(model) if half else model, path)


def strip_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, changed in place, without what tools noted in it: traces with paths, shapes, unused opsets."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]
    used = {node.domain for node in graph.node}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return model


def store_in_16_bits(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large weights stored in 16 bits and cast back before they are used: half the file."""
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or np.prod(weight.dims) < _SMALLEST:
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), f"{name}.fp16"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.fp16"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model
