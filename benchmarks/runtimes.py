"""What a device maker asks: time on one thread, peak memory and size of both shipped graders' networks, on each runtime.

    python benchmarks/runtimes.py [--turns 60] [--node-modules FOLDER]

Each runtime has a process of its own that holds NumPy, the runtime and one network, and nothing of Fundoscope. They answer the same golden
input turn by turn, in an order that changes; the ratio to ONNX Runtime on the shipped file is taken turn by turn, of processor time, which a busy machine
disturbs least, with quartiles. Milliseconds are medians of processor time: on a machine that does other work they are no promise, ratios are.
Memory is the process's peak resident set, and what of it was there before the network was opened. "fp32" of the ROP grader is the shipped network with its
INT8 steps taken out: weights in 32 bits, activations only cut to the ranges that the steps had. With `--node-modules` (a folder with npm's onnxruntime-web) the
WebAssembly build is timed in Node, too. What is not installed is left out and said so. Written to docs/results/runtimes.csv.
"""

from __future__ import annotations

import argparse
import csv
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from fundoscope.bundles import locate, verify
from fundoscope.bundles.golden import golden_inputs
from fundoscope.bundles.read import describe_processor

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "runtimes.csv"
COLUMNS = ("network", "runtime", "file_mb", "ms", "ratio", "ratio_quartile_1", "ratio_quartile_3", "turns",
           "peak_mb", "peak_mb_before_opening", "largest_difference", "processor")  # fmt: skip

PEAK = "int(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1]) / 1024"
WORKER = f"""
import sys, time, numpy
runtime, model, inputs = sys.argv[1:4]
feeds = dict(numpy.load(inputs))
if runtime.startswith("ONNX"):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if "exact" in runtime:
        options.add_session_config_entry("session.x64quantprecision", "1")
    before = {PEAK}
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    run = lambda: session.run(None, feeds)[0]
else:
    import openvino
    before = {PEAK}
    hints = {{"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}}
    request = openvino.Core().compile_model(model, "CPU", hints).create_infer_request()
    run = lambda: request.infer(feeds)[0]
for _ in range(3):
    answer = run()
numpy.save(sys.argv[4], answer)
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "peak":
        print(before, {PEAK}, flush=True)
        continue
    used = time.process_time()
    run()
    print(time.process_time() - used, flush=True)
"""

NODE_WORKER = """
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
const [, , modules, model, shape, input, output] = process.argv;
const ort = await import(`${modules}/onnxruntime-web/dist/ort.wasm.min.mjs`);
ort.env.wasm.numThreads = 1;
const peak = () => process.resourceUsage().maxRSS / 1024;
const before = peak();
const session = await ort.InferenceSession.create(readFileSync(model), { executionProviders: ["wasm"] });
const bytes = readFileSync(input), size = JSON.parse(shape);
const data = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
const run = () => session.run({ [session.inputNames[0]]: new ort.Tensor("float32", data, size) });
let answer;
for (let k = 0; k < 3; k++) answer = await run();
writeFileSync(output, new Uint8Array(answer[session.outputNames[0]].data.buffer));
console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  if (line === "peak") { console.log(`${before} ${peak()}`); continue; }
  const start = process.cpuUsage();
  await run();
  const { user, system } = process.cpuUsage(start);
  console.log((user + system) / 1e6);
}
"""


@dataclass
class Contender:
    """One network on one runtime in its process; `seconds` of processor time a turn."""

    network: str
    runtime: str
    model: Path
    process: subprocess.Popen[str]
    answer: Path
    seconds: list[float]

    def ask(self, word: str) -> str:
        """Send a line, and return the answer's."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


def in_32_bits(model: onnx.ModelProto) -> onnx.ModelProto:
    """An INT8 network (QDQ) without its steps: weights dequantised, an activation's step a cut to its range where it had replaced a ReLU6."""
    graph = model.graph
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    renamed: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in values:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            quantised, scale, zero = (values[name].astype(np.float32) for name in node.input)
            shape = [1] * quantised.ndim
            if scale.ndim and quantised.ndim:
                shape[axis if quantised.ndim > 1 else 0] = -1
            whole = (
                (quantised - zero.reshape(shape if zero.ndim else ())) * scale.reshape(shape if scale.ndim else ())
            ).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(whole, node.output[0]))
        elif node.op_type == "QuantizeLinear":
            producer, zero = made_by.get(node.input[0]), values[node.input[2]]
            if producer is not None and producer.op_type == "Conv" and int(zero) == 0:
                ends = [
                    numpy_helper.from_array(np.float32(end), f"{node.output[0]}_{end:g}")
                    for end in (0.0, float(values[node.input[1]]) * 255)
                ]
                graph.initializer.extend(ends)
                kept.append(
                    onnx.helper.make_node("Clip", [node.input[0], *(each.name for each in ends)], [node.output[0]])
                )
            else:
                renamed[node.output[0]] = node.input[0]
        elif node.op_type == "DequantizeLinear":
            renamed[node.output[0]] = node.input[0]
        else:
            kept.append(node)

    def last(name: str) -> str:
        while name in renamed:
            name = renamed[name]
        return name

    for node in kept:
        for at, name in enumerate(node.input):
            node.input[at] = last(name)
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    left = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(left)
    onnx.checker.check_model(model)
    return model


def networks(folder: Path) -> list[tuple[str, Path, dict[str, np.ndarray]]]:
    """Name, ONNX file and input of every network that is timed; fp32 is made in `folder`."""
    rop, nicking = locate("rop"), locate("nicking")
    tensor, crop = golden_inputs(rop)[0], golden_inputs(nicking)[0]
    onnx.save(in_32_bits(onnx.load(rop / "model.int8.onnx")), folder / "model.fp32.onnx")
    card = verify(nicking)
    side = card.grades.side  # ty: ignore[unresolved-attribute]
    patches = np.zeros((4, 6, side, side), np.float32)
    patches[:, :3, : crop.shape[1], : crop.shape[2]] = crop[:, :side, :side]
    return [
        ("rop, INT8", rop / "model.int8.onnx", {"photograph": tensor[None]}),
        ("rop, fp32", folder / "model.fp32.onnx", {"photograph": tensor[None]}),
        ("nicking, vessel maps of 512 x 512", nicking / "maps.fp16.onnx", {"contrast": np.tile(crop, (1, 4, 4))[None]}),
        ("nicking, grades of 4 patches", nicking / "grades.fp16.onnx", {"patches": patches}),
    ]


def start(
    network: str, runtime: str, model: Path, feeds: dict[str, np.ndarray], folder: Path, modules: Path | None
) -> Contender:
    """A process that has opened a network and is ready to answer."""
    stem = folder / f"{abs(hash((network, runtime))):x}"
    answer = stem.with_suffix(".npy")
    if modules is not None:
        (stem.with_suffix(".mjs")).write_text(NODE_WORKER)
        (value,) = feeds.values()
        stem.with_suffix(".raw").write_bytes(value.astype("<f4").tobytes())
        answer = stem.with_suffix(".out")
        command = [
            "node",
            stem.with_suffix(".mjs"),
            modules,
            model,
            str(list(value.shape)),
            stem.with_suffix(".raw"),
            answer,
        ]
    else:
        np.savez(stem.with_suffix(".npz"), **feeds)
        command = [sys.executable, "-c", WORKER, runtime, model, stem.with_suffix(".npz"), answer]
    process = subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise SystemExit(f"{network} does not run on {runtime}")
    return Contender(network, runtime, model, process, answer, [])


def measure(
    network: str, model: Path, feeds: dict[str, np.ndarray], turns: int, folder: Path, modules: Path | None
) -> list[dict[str, object]]:
    """Rows of one network on all runtimes; the first is ONNX Runtime, which the others are compared with."""
    runtimes = ["ONNX Runtime"]
    if "INT8" in network:
        runtimes.append("ONNX Runtime, exact sums (as without VNNI)")
    if find_spec("openvino") is not None:
        runtimes.append("OpenVINO")
    contenders = [start(network, runtime, model, feeds, folder, None) for runtime in runtimes]
    if modules is not None:
        contenders.append(start(network, "ONNX Runtime, WebAssembly in Node", model, feeds, folder, modules))
    order = list(contenders)
    for _ in range(turns):
        random.shuffle(order)
        for each in order:
            each.seconds.append(float(each.ask("run")))
    golden = np.load(contenders[0].answer)
    rows = []
    for each in contenders:
        ratios = sorted(own / first for own, first in zip(each.seconds, contenders[0].seconds, strict=True))
        low, middle, high = statistics.quantiles(ratios, n=4)
        before, peak = map(float, each.ask("peak").split())
        found = (
            np.load(each.answer)
            if each.answer.suffix == ".npy"
            else np.frombuffer(each.answer.read_bytes(), "<f4").reshape(golden.shape)
        )
        rows.append({
            "network": network, "runtime": each.runtime, "file_mb": round(model.stat().st_size / 1e6, 2),
            "ms": round(1e3 * statistics.median(each.seconds), 1), "ratio": round(middle, 2), "ratio_quartile_1": round(low, 2),
            "ratio_quartile_3": round(high, 2), "turns": turns, "peak_mb": round(peak), "peak_mb_before_opening": round(before),
            "largest_difference": f"{np.abs(found - golden).max():.2g}", "processor": describe_processor(),
        })  # fmt: skip
        each.process.kill()
        print(*rows[-1].values(), sep="  ", flush=True)
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--node-modules", type=Path)
    options = parser.parse_args()
    if find_spec("openvino") is None:
        print("OpenVINO is not installed and left out: pip install openvino")
    if options.node_modules is None or shutil.which("node") is None:
        print("Node is left out: give --node-modules, a folder with npm's onnxruntime-web")
        options.node_modules = None
    random.seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [row for each in networks(folder) for row in measure(*each, options.turns, folder, options.node_modules)]
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
