"""What a study of grades found, copied to docs/results/grades: python benchmarks/grades.py runs/grades

Copies the small tables of a finished study (the folder of `fundoscope nicking study-grades`), its folds, and pictures in which no
photograph shows; of the out-of-fold grades those of the arms whose curves are drawn. Then it prints the figures by which
graders are judged.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "grades"
TABLES = (
    "grades", "differences", "other_tables", "perturbed", "shams", "coverage", "by_width", "exchanged", "pointing", "deletion",
    "activation_changes", "out_of_fold",
)  # fmt: skip
PICTURES = ("roc", "pr", "coverage", "confusion_ours", "confusion_baseline", "losses_ours", "losses_baseline")
ARMS_OF_LABELS = ("ours", "pseudo", "few-labels", "few-pseudo")

Row = dict[str, str]


def copy_results(study: Path, out: Path) -> list[Path]:
    """Copy what is kept of a study to `out`, in place of what is there; returns the files."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    files = [study / "tables" / f"{name}.csv" for name in TABLES]
    files += [study / "figures" / f"{name}.png" for name in PICTURES]
    files += sorted(study.glob("folds_*.json"))
    kept = [Path(shutil.copy(path, out / path.name)) for path in files if path.exists()]
    drawn = json.loads((study / "results.json").read_text(encoding="utf-8"))["drawn"]
    predicted = read_rows(out / "out_of_fold.csv")
    with (out / "out_of_fold.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(predicted[0]))
        writer.writeheader()
        writer.writerows(row for row in predicted if row["grader"] in drawn)
    return kept


def read_rows(path: Path) -> list[Row]:
    """The rows of a table; none where a study has no such table."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def interval(row: Row, name: str) -> str:
    """Such as .84 (.80 to .88)."""
    if not row.get(name):
        return "-"
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return f"{float(row[name]):.3f}" + (f" ({float(low):.2f} to {float(high):.2f})" if low and high else "")


def list_figures(folder: Path) -> Iterator[str]:
    """The lines that are printed, from the tables in `folder`."""
    rows = {name: read_rows(folder / f"{name}.csv") for name in TABLES}
    yield from grade_lines(rows["grades"], rows["other_tables"])
    yield from (line for grader in graders_of_ours(rows["grades"]) for line in robustness_lines(rows, grader))
    yield "ours less each rival, own patches, forced on all (where confident):"
    for row in rows["differences"]:
        if row["table"] == "own":
            yield f"  {row['comparison']}: {interval(row, 'quadratic_kappa')} ({interval(row, 'kappa_covered')})"
    kappas = {row["grader"]: interval(row, "quadratic_kappa") for row in rows["grades"]}
    yield "labels: " + "; ".join(f"{arm} {kappas[arm]}" for arm in ARMS_OF_LABELS if arm in kappas)
    for row in rows["exchanged"]:
        moved = f"grades move by {interval(row, 'mean_absolute_difference')}, {interval(row, 'share_changed')} changed"
        yield f"maps exchanged, {row['grader']}: {moved}, kappa to the truth {interval(row, 'kappa_to_truth')}"
    for row in rows["deletion"]:
        falls = ", ".join(
            f"{name} {interval(row, name)}" for name in ("marked", "elsewhere", "least", "marked_less_elsewhere")
        )
        yield f"deletion, {row['grader']}: probability {interval(row, 'before')} falls by: {falls}"
    for row in rows["activation_changes"]:
        yield f"activation stays, {row['grader']}, {row['stream']}, {row['change']}: {interval(row, 'stays')}"


def graders_of_ours(grades: list[Row]) -> list[str]:
    """Ours, and its seeds together."""
    return [row["grader"] for row in grades if row["grader"].split(",")[0] == "ours"]


def grade_lines(grades: list[Row], others: list[Row]) -> Iterator[str]:
    """Kappa of each grader on the study's own patches, and of ours on the other ones."""
    yield f"{grades[0]['n']} patches, {grades[0]['crossings']} crossings, {grades[0]['groups']} photographs"
    for row in [{"table": "own"} | row for row in grades] + [
        row for row in others if row["grader"] in graders_of_ours(grades)
    ]:
        covered = f"where confident {interval(row, 'kappa_covered')}, coverage {interval(row, 'coverage')}"
        yield f"{row['table']}, {row['grader']}: kappa {interval(row, 'quadratic_kappa')}, {covered}"


def robustness_lines(rows: dict[str, list[Row]], grader: str) -> Iterator[str]:
    """The shams, perturbed patches and widths of one grader."""
    for name, key, figures in (
        ("shams", "sham", ("told_as_0", "told_as_0_covered")),
        ("perturbed", "variant", ("kappa_to_unperturbed", "kappa_to_unperturbed_covered", "kappa_to_truth")),
        ("by_width", "vein", ("quadratic_kappa", "kappa_covered")),
    ):
        for row in (row for row in rows[name] if row["grader"] == grader):
            yield f"{name}, {grader}, {row[key]}: " + ", ".join(f"{each} {interval(row, each)}" for each in figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a finished study")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    for path in copy_results(given.study, given.out):
        print(path)
    for line in list_figures(given.out):
        print(line)
    for sentence in json.loads((given.study / "results.json").read_text(encoding="utf-8"))["sentences"]:
        print(sentence)


if __name__ == "__main__":
    main()
