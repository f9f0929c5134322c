"""Write the README's table of results, and that of docs/explanation/scale.md, from docs/results: python benchmarks/readme.py [--check]

With --check nothing is written; the exit code is 1 when a page says something else than the files do.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from fundoscope.vessels.grade_rule import GRADES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
START, END = "<!-- results: written by benchmarks/readme.py from docs/results -->", "<!-- end of results -->"

Row = dict[str, str]


def rows(name: str) -> list[Row]:
    with (RESULTS / name).open(newline="") as file:
        return list(csv.DictReader(file))


def interval(row: Row, name: str) -> str:
    if not row[f"{name}_low"]:  # too few photographs for one
        return f"{float(row[name]):.3f}"
    return f"{float(row[name]):.3f} ({float(row[f'{name}_low']):.2f} to {float(row[f'{name}_high']):.2f})"


def grader_lines() -> list[str]:
    found = {row["grader"]: row for row in rows("retcam/results_rop.csv")}
    apart = {row["grader"]: row for row in rows("retcam/differences_rop.csv")}
    controls = {row["photographs"]: row for row in rows("retcam/controls.csv")}
    int8 = {row["part"]: row for row in rows("retcam/int8.csv")}["all"]
    alike = controls["field, colour and encoding alike"]
    ours = found["student"]
    inner = inner_losses()
    shipped, losses = (
        min(inner, key=inner.__getitem__),
        " and ".join(f"{loss:.3f} {arm}" for arm, loss in inner.items()),
    )
    basis = f"{ours['n']} RetCam photographs, {ours['positives']} with ROP, {ours['groups']} groups"
    named = {
        "teacher": "teacher, three networks fused (MS-ROP)",
        "student": "student, taught by it (MN-ROP)",
        "undistilled": "the same student, taught by labels alone",
        "nuisance baseline": "nuisance baseline (file size, field shape, colour, sharpness)",
    }
    return [
        f"ROP against normal, out of fold on {basis}; five folds, mean of two seeds, 95 % intervals by group bootstrap:",
        "",
        "| | AUC | sensitivity | specificity | AUC less the student's, paired |",
        "|---|---|---|---|---|",
        *(_grader_line(told, found[name], apart.get(name)) for name, told in named.items()),
        f"| student; field, colour and encoding made alike | {interval(alike, 'auc')} | | | |",
        "",
        f"The student stands above the nuisance baseline by {interval(controls['as they are'], 'minus nuisance')} as they are, by "
        f"{interval(alike, 'minus nuisance')} made alike. **The network that ships is {shipped}**: that arm had the lower log loss on inner photographs "
        f"({losses}), and no figure tells the two apart. INT8 against fp32, {shipped} arm, one seed, on held-out photographs: AUC {float(int8['auc fp32']):.3f} "
        f"and {float(int8['auc int8']):.3f}, {int8['decisions changed']} of {int8['n']} decisions change. Trained and measured on squares as they were before "
        "straight cuts of the field were blackened ([what that moved](docs/explanation/standard.md)), and before averaged weights held the last step.",
        *camera_lines(),
        *treatment_lines(),
    ]


def inner_losses() -> dict[str, float]:
    """Log loss on inner photographs of the student, taught or taught by labels alone: the lower one ships."""
    losses = {row["network"]: float(row["log loss on inner photographs"]) for row in rows("retcam/inner.csv")}
    return {"taught": losses["student"], "untaught": losses["undistilled"]}


def camera_lines() -> list[str]:
    """The shipped network on a camera that it never saw, beside what needs no retina."""
    found = {
        row["grader"]: row
        for row in rows("external_neo/quality_gate_rop.csv") if row["photographs"] == "that screening grades"
    }  # fmt: skip
    ours, nuisance = found["rop"], found["nuisance baseline"]
    refused = {row["class"]: row for row in rows("external_neo/refusals.csv")}["all"]["refused"]
    sensitivity = interval(ours, "sensitivity")
    if ours["sensitivity_note"]:  # nothing was missed: the bootstrap cannot tell, the exact bound can
        sensitivity = f"{float(ours['sensitivity']):.3f} ({ours['sensitivity_note'].rpartition('; ')[2]})"
    return [
        "",
        f"The network that ships, on another camera (Neo, of the same release of data; {ours['n']} photographs, {ours['positives']} with ROP, "
        f"{ours['groups']} groups; {'none' if refused == '0' else refused + ' more'} refused): AUC {interval(ours, 'auc')}, "
        f"at its own threshold sensitivity {sensitivity} and specificity {interval(ours, 'specificity')}. Caution: file, field, colour and "
        f"sharpness alone reach {interval(nuisance, 'auc')} there, and no other hospital was tested.",
    ]


def _grader_line(told: str, row: Row, apart: Row | None) -> str:
    gap = interval(apart, "auc minus student") if apart else ""
    return (
        f"| {told} | {interval(row, 'auc')} | {interval(row, 'sensitivity')} | {interval(row, 'specificity')} | {gap} |"
    )


def treatment_lines() -> list[str]:
    shipped = {row["photographs"]: row for row in rows("retcam/treatment_simulated.csv")}["all"]
    study = {row["grader"]: row for row in rows("simulated_study/results_treatment.csv")}
    by_infant = {row["figure"]: row for row in rows("simulated_study/cascade.csv") if row["unit"] == "infant"}
    end, spared = (
        by_infant[name]
        for name in ("sensitivity for treatment-requiring, end to end", "specificity, all others")
    )  # fmt: skip
    beside = {row["photographs"]: row for row in rows("treatment_baseline.csv")}["all"]
    speed = {row["photographs"]: row for row in rows("two_stage_speed.csv")}["asked both questions"]
    pairs = int(speed["n"]) * int(speed["rounds"])
    told_apart = not float(speed["ratio_quartile_1"]) <= 1 <= float(speed["ratio_quartile_3"])
    return [
        "",
        "Whether treatment is required was learnt and measured on **SIMULATED** eyes only, and stays blank unless asked for with `--allow-simulated`:",
        "",
        "| SIMULATED | |",
        "|---|---|",
        f"| shipped second stage, AUC on {shipped['n']} photographs drawn afresh | {interval(shipped, 'auc')} |",
        f"| vessel width and tortuosity alone, on these {beside['n']} | {interval(beside, 'auc of vessel width and tortuosity alone')} |",
        f"| the second stage as it ships (INT8: {float(beside['auc']):.3f}) less that, paired | {interval(beside, 'auc less that of vessels')} |",
        f"| whole study on simulated infants: student | {interval(study['student'], 'auc')} |",
        f"| the same: vessel width and tortuosity alone | {interval(study['vessel width and tortuosity'], 'auc')} |",
        f"| the two stages in a row: share of treatment-requiring infants found ({end['of']} infants) | {interval(end, 'share')} |",
        f"| the same: share of the other infants not called treatment-requiring ({spared['of']} infants) | {interval(spared, 'share')} |",
        f"| time of a photograph asked both questions to one asked the first, median of {pairs} pairs and quartiles | "
        f"{speed['ratio']} ({speed['ratio_quartile_1']} to {speed['ratio_quartile_3']}){'' if told_apart else ': no cost can be told'} |",
    ]


def speed_lines() -> list[str]:
    found = {row["what"]: row for row in rows("screening_speed.csv")}
    kinds = ("640x480 PNG", "640x480 JPEG", "2000x1500 JPEG")
    compared = {kind: found[f"{kind}, file to decision, ms, against plain torch with PIL"] for kind in kinds}
    memory = found["peak MB of rop screen"]
    return [
        "",
        "| file to decision, one thread | ms | plain torch with PIL, ms | times as fast (median of pairs, quartiles) |",
        "|---|---|---|---|",
        *(
            f"| {kind} | {row['here']} | {row['other']} | {row['ratio']} ({row['ratio_quartile_1']} to {row['ratio_quartile_3']}) |"
            for kind, row in compared.items()
        ),
        "",
        f"`fundoscope --help` answers in {found['fundoscope --help, s']['here']} s; `rop screen` peaks at "
        f"{memory['here']} MB on {memory['n']} photographs, report included.",
    ]


def refusal_lines() -> list[str]:
    table = [row for row in rows("refusals.csv") if row["expects"] == "infant"]

    def told(wanted: list[Row]) -> str:
        return f"{sum(int(row['refused']) for row in wanted)} of {sum(int(row['n']) for row in wanted)}"

    good = [row for row in table if row["kind"] == "RetCam, other half"]
    spoilt = [row for row in table if row["kind"] in ("RetCam, blurred, sigma 8", "RetCam, darkened to 12 %")]
    adults = [row for row in table if row["kind"] in ("DRIVE test", "HRF", "IOSTAR")]
    other = [row for row in table if row["needed"] == ">= 0.98"]
    return [
        "",
        f"Refused as not gradable, on photographs and kinds of picture not used in building the verdict: {told(good)} good infants' photographs, "
        f"{told(spoilt)} blurred or darkened ones, {told(adults)} adults', {told(other)} pictures of other things "
        "([each kind](docs/results/refusals.csv); the weak one is oranges).",
    ]


def simulated_lines() -> list[str]:
    vessels = {row["arm"]: row for row in rows("simulated_vessels.csv") if row["scored_on"].startswith("DRIVE test")}
    rop = {(row["what"], row["photographs"]): row for row in rows("simulated_rop.csv")}
    alone, paired = (
        rop["simulated infants alone", "field and colour alike, all"],
        next(row for (what, _), row in rop.items() if what == "pretraining less none, paired"),
    )
    return [
        "",
        "What simulated eyes alone teach about real ones:",
        "",
        "| | taught by simulated eyes alone | beside |",
        "|---|---|---|",
        f"| vessels of DRIVE test, Dice | {float(vessels['simulated']['dice']):.3f} | {float(vessels['drive']['dice']):.3f} taught by DRIVE training |",
        f"| ROP on RetCam, field and colour alike, AUC, by an earlier recipe | {_short(alone, 'auc')} | "
        f"{_short(rop['nuisance baseline, out of fold', 'field and colour alike, all'], 'auc')} nuisance baseline |",
        "",
        f"Before the real photographs of a fold they added {_short(paired, 'auc')} of AUC by that earlier recipe (800 simulated photographs; the one that ships has 1200 "
        "and was not measured so; [how, and the caveats](docs/explanation/simulated-eyes.md)).",
    ]


def crossing_lines() -> list[str]:
    """Arteries, veins and crossings of photographs that took no part in training."""
    found = {(row["on"], row["what"]): row for row in rows("crossings.csv")}
    sets = ("DRIVE test", "IOSTAR, other 6")
    told = {
        "vessels, Dice": "vessels, Dice", "artery or vein right, by pixel": "artery or vein right, of labelled pixels",
        "artery or vein right, after the vote": "the same after the vote along vessels", "crossings, f1": "crossings, F1",
        "crossings of wide vessels, f1": "crossings where both vessels are 4 px wide or more, F1",
    }  # fmt: skip
    lines = [
        f"| {text} | "
        + " | ".join(interval(found[on, what], "value") if (on, what) in found else "" for on in sets)
        + " |"
        for what, text in told.items()
    ]
    return [
        "",
        "Arteries, veins and their crossings in adults' photographs, by the shipped maps, on photographs kept out (a true crossing has the artery drawn on both sides and the vein on one; "
        "other overlaps of the drawn map count neither for nor against):",
        "",
        "| | DRIVE test, 20 | IOSTAR (scanning laser), 6 |",
        "|---|---|---|",
        *lines,
    ]


def grade_lines() -> list[str]:
    """Grading, on lesions that were made; nothing while no study of grades lies there."""
    if not (RESULTS / "grades" / "grades.csv").exists():
        return []
    found = {row["grader"]: row for row in rows("grades/grades.csv")}
    differences = {row["comparison"]: row for row in rows("grades/differences.csv") if row["table"] == "own"}
    named = {
        "ours": "ours: patch and vessel map, bilinear", "baseline": "the patch alone: the paper's baseline, light body",
        "published": "the published system, light body", "ordinal-head": "that with an ordinal head", "mdtnet": "MDTNet, light", "masked": "ours with the middle blanked", "roy": "Roy's width features", "nguyen": "Nguyen's rule",
    }  # fmt: skip
    ours = found["ours"]
    return [
        "",
        f"Nicking, **on lesions that we made**: {ours['n']} pinched and sham-warped patches of {ours['groups']} real photographs, out of fold, two folds, eight epochs, one seed "
        "(no patient's nicked vein was tested). **On a test set that was not one**: of its 51 crossings, chosen by the ruler, 13 have no artery on the drawn map; crossings are now chosen by the maps "
        "and two readers ([how](docs/explanation/nicking.md)), and these figures were not measured on them yet:",
        "",
        "| | quadratic kappa | accuracy | ours less this, paired |",
        "|---|---|---|---|",
        *(
            f"| {text} | {interval(found[name], 'quadratic_kappa')} | {interval(found[name], 'accuracy')} | "
            f"{interval(differences[f'ours less {name}'], 'quadratic_kappa') if name != 'ours' else ''} |"
            for name, text in named.items()
            if name in found
        ),
        *photograph_lines(),
    ]


def photograph_lines() -> list[str]:
    """From whole photographs to grades."""
    table, unseen = rows("nicked_photographs.csv"), rows("nicked_photographs_les_av.csv")
    lines = [
        f"| {row['condition']} | {interval(row, 'found')} | {interval(row, 'graded')} | {interval(row, 'quadratic_kappa')} |"
        for row in (*table, *unseen)
    ]
    return [
        "",
        f"From whole photographs, file to grade by the shipped bundle: at {_crossings(table)} of DRIVE test and {_crossings(unseen)} of LES-AV, a camera that the bundle has never seen, the vein was given each grade, a photograph each (a grade 0 is a sham; by the second renderer it is drawn anew). DRIVE test was measured before patches were laid level by the vein's centreline:",
        "",
        "| | crossing found | graded | quadratic kappa of the graded |",
        "|---|---|---|---|",
        *lines,
    ]


def _crossings(table: list[Row]) -> str:
    return f"{int(table[0]['n']) // GRADES} crossings of {table[0]['groups']} photographs"


def _short(row: Row, name: str) -> str:
    return f"{float(row[name]):.3f} ({float(row['low']):.2f} to {float(row['high']):.2f})"


EYES, VIEWS = 1_000_000, 3  # of which scale.md tells
CORES = (2, 64, 1000)
DOLLARS = 0.04  # an hour of a rented core: an assumption of scale.md
LINK = 1.25e9  # bytes a second of a network of 10 Gbit/s
JPEG = 60_000  # bytes of a photograph of 640x480 as cameras compress it: an assumption of scale.md


def scale_lines() -> list[str]:
    """What a million eyes take: figures of archive.csv, multiplied out."""
    found = {(row["part"], row["what"]): float(row["value"]) for row in rows("archive.csv") if row["part"] == "rates"}
    peaks = {
        (row["what"].split()[-1], row["n"]): float(row["value"])
        for row in rows("archive.csv")
        if row["part"] == "memory"
    }
    rate, photographs = found["rates", "local, 2 workers"] / 2, EYES * VIEWS
    file, row = found["rates", "a photograph's file"] * 1000, found["rates", "its row in the parts"]
    hours = photographs / rate / 3600
    parts = -(-photographs // 256)
    return [
        "",
        f"| cores | time | photographs a second | read a second, files of {file / 1000:.0f} kB | the same, JPEG of {JPEG // 1000} kB | cost at ${DOLLARS} a core and hour |",
        "|---|---|---|---|---|---|",
        *(
            f"| {cores:,} | {_time(hours / cores)} | {cores * rate:,.0f} | {_bytes(cores * rate * file)} | {_bytes(cores * rate * JPEG)} | ${hours * DOLLARS:.2f} |"
            for cores in CORES
        ),
        "",
        f"Measured: {found['rates', 'local, 2 workers']:.1f} photographs a second by two processes on the two cores of this machine, {rate:.1f} a core "
        f"(one process alone, its network on both cores: {found['rates', 'local, 1 worker']:.1f}; by Ray, a core each, two workers to one {found['rates', 'ray, 2 workers to 1']:.2f}); "
        f"{hours:.1f} core hours in all.",
        "",
        "What then is the bottleneck:",
        "",
        f"- **Storage.** {photographs:,} files of {file / 1000:.0f} kB are {photographs * file / 1e12:.2f} TB (JPEG: {photographs * JPEG / 1e12:.2f} TB). One link of 10 Gbit/s carries them in "
        f"{_time(photographs * file / LINK / 3600)} (JPEG: {_time(photographs * JPEG / LINK / 3600)}), which is as fast as {LINK / file / rate:,.0f} cores grade (JPEG: {LINK / JPEG / rate:,.0f}). "
        "Beyond that, more cores wait: put the photographs on as many disks or links as there are machines.",
        f"- **Handing out.** {parts:,} parts of 256; {CORES[-1]:,} cores end {CORES[-1] * rate / 256:,.0f} of them a second. The program hands out and counts {found['rates', 'local: items that are handed out and come back']:,.0f} a second to a process, "
        f"{found['rates', 'ray: items that are handed out and come back']:,.0f} to a worker of Ray, one after the other. Parts of 2,048 (`--part-size`) need an eighth of that.",
        f"- **Parquet.** {row:.0f} bytes a photograph, {photographs * row / 1e6:,.0f} MB in all: nothing.",
        f"- **Starting.** {found['rates', 'local, 1 worker: start']:.0f} s until the first part of 20 is there, {found['rates', 'ray, 1 worker: start']:.0f} s by Ray, once a machine.",
        f"- **Memory** is none: the program peaks at {peaks['program', '1000']:.0f} MB with 1,000 photographs and {peaks['program', '100000']:.0f} MB with 100,000, its worker at {peaks['worker', '1000']:.0f} and {peaks['worker', '100000']:.0f} MB "
        "(small files, of which 3 in 40 are graded, 12 refused and 25 cannot be read).",
        *training_lines(),
    ]  # fmt: skip


def training_lines() -> list[str]:
    """Our loop beside a plain one."""
    found = {row["loop"]: row for row in rows("training_speed.csv")}
    plain = found["plain Lightning loop"]["photographs_a_processor_second"]

    def times(loop: str) -> str:
        row = found[loop]
        return (
            f"{float(row['ratio']):.2f} ({float(row['ratio_quartile_1']):.2f} to {float(row['ratio_quartile_3']):.2f})"
        )

    return [
        f"- **Training**, photographs in a second of one processor, the student of recipe `lite`: a plain Lightning loop {plain}; ours {times('ours')} times as many, {times('ours, bfloat16')} in bfloat16. As the recipe trains it, "
        f"three stages frozen, ours does {float(found['ours, stages frozen']['to_plain']):.1f} times the plain loop's, {float(found['ours, bfloat16, stages frozen']['to_plain']):.1f} in bfloat16; a plain loop with them frozen gives "
        f"{float(found['plain Lightning loop, stages frozen']['to_plain']):.1f}, so that most of this is the freezing. An epoch of distillation takes {times('distilled')} times the student's own (medians and quartiles of {found['ours']['rounds']} rounds).",
    ]  # fmt: skip


def _time(hours: float) -> str:
    return (
        f"{hours:.1f} hours"
        if hours >= 1
        else f"{60 * hours:.0f} minutes"
        if hours >= 1 / 6
        else f"{60 * hours:.1f} minutes"
    )


def _bytes(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def readme_lines() -> list[str]:
    """The README's block."""
    return [*grader_lines(), *speed_lines(), *refusal_lines(), *crossing_lines(), *grade_lines(), *simulated_lines()]


PAGES = {ROOT / "README.md": readme_lines, ROOT / "docs" / "explanation" / "scale.md": scale_lines}


def main(arguments: Sequence[str], path: Path = ROOT / "README.md") -> None:
    """Write, or check, the block of one page; a copy of one elsewhere has its name."""
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(START)
    after = rest.split(END)[1]
    body = "\n".join(next(lines for page, lines in PAGES.items() if page.name == path.name)())
    wanted = f"{before}{START}\n{body}\n{END}{after}"
    if "--check" not in arguments:
        path.write_text(wanted, encoding="utf-8")
        return
    for is_, should_be in zip_longest(text.splitlines(), wanted.splitlines(), fillvalue=""):
        if is_ != should_be:
            sys.exit(f"{path} says:\n{is_}\nand docs/results:\n{should_be}\nRun: python benchmarks/readme.py")


if __name__ == "__main__":
    for each in PAGES:
        main(sys.argv[1:], each)
