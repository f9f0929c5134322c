"""How much faster the small ROP grader is than the shipped one at each size of its input, alone and from file to decision, in pairs.

    python benchmarks/nano_speed.py [--sizes 128,160,192,256] [--pairs 60]

What was learnt changes no time, so the networks of recipe `nano` are timed as ImageNet left them, in INT8. A process for each screens
the same file turn by turn, in an order that changes, each on one thread: the whole way of `rop screen`, and the bare network on one
input. The ratio to the shipped grader is taken turn by turn, of processor time, which a busy machine disturbs least, with quartiles;
milliseconds are medians. Written to docs/results/nano_speed.csv.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from screening_speed import SETS, WORKER, Worker, photographs

from fundoscope.bundles import open_bundle
from fundoscope.bundles.write import write_bundle
from fundoscope.networks.cost import measure_cost
from fundoscope.rop.recipes import STUDENT, read_recipe
from fundoscope.rop.study.networks import build_network

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "nano_speed.csv"
SHIPPED = "rop"
NETWORK = "the network alone"
#: The same, of the network alone: whatever file is named, one input is answered.
NETWORK_WORKER = (
    WORKER
    + """
import numpy
given = numpy.random.default_rng(0).normal(size=(1, 3, *2 * [bundle.card.standard.size])).astype("float32")
screen = lambda file: bundle.run(given)
"""
)


def write_untrained(size: int, out: Path) -> dict[str, Any]:
    """The bundle of recipe `nano` at this size, as ImageNet left it, in `out`; returns what it weighs."""
    recipe = read_recipe("nano").changed(size=size)
    network = build_network(recipe, recipe.arm(STUDENT)).eval()
    card = open_bundle(SHIPPED).card
    card = card.model_copy(
        update={"name": f"nano-{size}", "standard": recipe.standard, "stages": card.stages[:1], "stage2": "none", "parity_second": None}
    )  # fmt: skip
    noise = np.random.default_rng(0).normal(size=(4, 3, size, size)).astype(np.float32)
    write_bundle(network, card, noise, noise, out, keep_fp32=False, say=lambda line: None)
    return describe(str(out), measure_cost(network, size).macs, f"nano, {size} pixels")


def describe(bundle: str, macs: int, name: str) -> dict[str, Any]:
    """What a bundle's network weighs: millions of multiply-accumulates a photograph, and megabytes of its INT8 file."""
    model = open_bundle(bundle).folder / "model.int8.onnx"
    return {"grader": name, "macs_m": round(macs / 1e6), "int8_mb": round(model.stat().st_size / 1e6, 2)}


def time_turns(workers: dict[str, Worker], files: list[Path]) -> dict[str, list[float]]:
    """Seconds of processor time of each worker on each file, in an order that changes."""
    used: dict[str, list[float]] = {name: [] for name in workers}
    for worker in workers.values():
        worker.seconds(files[0])
    names = list(workers)
    for turn, file in enumerate(files):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            used[name].append(workers[name].seconds(file)[1])
    return used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="128,160,192,256", help="pixels of the input's side")
    parser.add_argument("--pairs", type=int, default=60, help="photographs of each kind that are timed")
    given = parser.parse_args()
    recipe = read_recipe("lite")
    shipped = build_network(recipe, recipe.arm(STUDENT), empty=True)
    rows = {SHIPPED: describe(SHIPPED, measure_cost(shipped, recipe.standard.size).macs, "rop, 256 pixels")}
    with tempfile.TemporaryDirectory() as scratch:
        folders = {SHIPPED: SHIPPED}
        for size in given.sizes.split(","):
            folders[size] = str(Path(scratch) / f"nano-{size}")
            rows[size] = write_untrained(int(size), Path(folders[size]))
        kinds = [(NETWORK, (640, 480), ".jpg", NETWORK_WORKER), *((kind, *how, WORKER) for kind, how in SETS.items())]
        for kind, size, suffix, script in kinds:
            workers = {name: Worker(ROOT / "src", folder, script) for name, folder in folders.items()}
            used = time_turns(workers, photographs(Path(scratch), given.pairs, size, suffix))
            for name, worker in workers.items():
                worker.close()
                ratios = [whole / own for whole, own in zip(used[SHIPPED], used[name], strict=True)]
                low, middle, high = statistics.quantiles(ratios, n=4)
                rows[name] |= {
                    f"{kind}: ms": round(statistics.median(used[name]) * 1000, 2), f"{kind}: times as fast": round(middle, 2),
                    f"{kind}: quartile 1": round(low, 2), f"{kind}: quartile 3": round(high, 2),
                }  # fmt: skip
            print(kind, {name: rows[name][f"{kind}: times as fast"] for name in rows}, flush=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["turns", *rows[SHIPPED]])
        writer.writeheader()
        writer.writerows({"turns": given.pairs, **row} for row in rows.values())


if __name__ == "__main__":
    main()
