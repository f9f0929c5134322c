"""Recipe `paper` at full size through a few steps of every part, and its networks beside the paper's repaired table 5.

    python benchmarks/paper_recipe.py [--steps 2]

MS-ROP is fitted, MN-ROP learns from it, MS-TR-ROP begins with the one and MN-TR-ROP with the other: batches of 8 and 16
of simulated photographs at 256 px, random weights where timm's cannot be fetched. Parameters and multiply-accumulates are
measured with the stock 1000-class heads at 224 px, as tables of networks have them, and with two classes at 256 px, as
they run. Writes docs/results/paper_recipe.csv.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import timm

from fundoscope.evaluation import results_table
from fundoscope.learning import SQUARE, DistillationPlan, Squares, distil, fit
from fundoscope.networks import count_parameters
from fundoscope.networks.cost import measure_cost
from fundoscope.rop.recipes import STUDENT, TEACHER, read_recipe
from fundoscope.rop.study.networks import build_network, distillation_options, fit_options
from fundoscope.simulate.infants import infant

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "paper_recipe.csv"

#: Table 5 of paper 000 as REPAIRS.md mends it: millions of parameters, thousands of millions of MACs.
STATED = {
    "resnet18": (11.69, 1.82), "densenet121": (7.98, 2.88), "efficientnet_b2": (9.20, 1.03),
    "mobilenetv1_100": (4.20, 0.57), "mobilenetv2_100": (3.50, 0.33), "MS-ROP": (26.83, 5.12), "MN-ROP": (3.50, 0.33),
}  # fmt: skip


def rows() -> list[dict[str, object]]:
    """Measured beside stated."""
    found = []
    for name in list(STATED)[:5]:
        stock = measure_cost(timm.create_model(name, pretrained=False), 224)
        found.append(_row(name, "1000 classes, 224 px", stock.parameters, stock.macs, STATED[name]))
    recipe = read_recipe("paper").changed(random_weights=True)
    for name, arm in (("MS-ROP", TEACHER), ("MN-ROP", STUDENT)):
        for size in (224, 256):
            ours = measure_cost(build_network(recipe.changed(size=size), recipe.arm(arm)), size)
            found.append(_row(name, f"2 classes, {size} px", ours.parameters, ours.macs, STATED[name]))
    return found


def _row(network: str, head: str, parameters: int, macs: int, stated: tuple[float, float]) -> dict[str, object]:
    return {
        "network": network, "head and input": head, "parameters_M": round(parameters / 1e6, 2),
        "stated_M": stated[0], "macs_G": round(macs / 1e9, 2), "stated_G": stated[1],
    }  # fmt: skip


def walk(steps: int, folder: Path) -> None:
    """A few optimiser steps of each of the four networks."""
    recipe = read_recipe("paper").changed(random_weights=True, epochs=1)
    teacher_n, student_n = 8 * steps, 16 * steps
    photographs = [infant(seed, disease=("normal", "rop")[seed % 2], size=SQUARE).pixels for seed in range(student_n)]
    from fundoscope.imaging import Photograph

    pixels = [recipe.standard.square(Photograph(p, "simulated", 0, "array"), size=SQUARE) for p in photographs]
    squares = Squares(pixels, np.arange(student_n) % 2, recipe.standard)
    nothing = np.array([], np.int64)
    teaching, studying = fit_options(recipe.teacher_fit), fit_options(recipe.student_fit)
    teacher, student = (build_network(recipe, recipe.arm(name)) for name in (TEACHER, STUDENT))
    for stage in ("ROP", "TR-ROP"):  # the second begins with the first's weights
        before = teacher.head.weight.clone(), student.head.weight.clone()
        teacher = fit(teacher, squares, np.arange(teacher_n), nothing, teaching, folder / f"MS-{stage}", 0)
        plan = DistillationPlan(teacher, squares, np.arange(student_n), nothing, folder / "answers")
        student = distil(student, plan, distillation_options(recipe), studying, folder / f"MN-{stage}", 0)
        moved = [
            float((a - b).abs().max()) for a, b in zip(before, (teacher.head.weight, student.head.weight), strict=True)
        ]
        print(
            f"MS-{stage}: {steps} steps of 8, MN-{stage}: {steps} steps of 16; heads moved by up to {moved}", flush=True
        )
    print(f"MS-ROP {count_parameters(teacher):,} and MN-ROP {count_parameters(student):,} parameters with two classes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2)
    given = parser.parse_args()
    table = rows()
    for row in table:
        print("  ".join(str(value) for value in row.values()))
    results_table(table, RESULTS)
    with tempfile.TemporaryDirectory() as folder:
        walk(given.steps, Path(folder))


if __name__ == "__main__":
    main()
