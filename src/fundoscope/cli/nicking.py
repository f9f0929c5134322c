"""`fundoscope nicking`: crossings of arteries and veins in adults' photographs, and their nicking."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fundoscope.cli.archive import Manifest, Parts, PartSize, Workers, archive_photographs
from fundoscope.cli.options import (
    Address,
    BundleName,
    Dicom,
    Engine,
    FitThreads,
    FitWorkers,
    Json,
    Lang,
    Profile,
    Quiet,
    Replace,
    Report,
    RuntimeName,
    check_dicom,
    grade_photographs,
    profile_stages,
    refuse_inputs_in_study,
    speak,
)

app = typer.Typer(help="Artery-vein crossings in adults' photographs, and their nicking.", no_args_is_help=True)


@app.callback()
def _nicking() -> None:
    """Artery-vein crossings in adults' photographs, and their nicking."""


@app.command()
def grade(
    photos: Annotated[list[str], typer.Argument(help="Files, folders, globs, or - for a list on standard input.")],
    out: Report = None,
    json: Json = False,
    bundle: BundleName = "nicking",
    mm_per_pixel: Annotated[
        float | None,
        typer.Option(
            help="Millimetres of retina that one pixel of the photographs shows: measures in micrometres too."
        ),
    ] = None,
    dicom: Dicom = False,
    runtime: RuntimeName = "onnxruntime",
    replace: Replace = False,
    profile: Profile = False,
    lang: Lang = "en",
    quiet: Quiet = False,
) -> None:
    """Find artery-vein crossings in adults' photographs, measure and grade their nicking. Research use only.

    With --out the vessels around the disc are measured too (CRAE, CRVE, AVR): photographs.csv has a row a photograph.

    A run that was cut off goes on when the same command is given again.

    Exit codes: 0 all were read (refused ones included), 1 some could not be, 2 the call is wrong, 3 the bundle is
    missing or broken, 4 the answers could not be written.
    """
    from fundoscope.bundles.read import check_runtime
    from fundoscope.errors import UsageError
    from fundoscope.nicking.grading.grader import NickingGrader

    if mm_per_pixel is not None and not 0 < mm_per_pixel < 1:
        cause = "is no size of a pixel on the retina in millimetres"
        raise UsageError(f"--mm-per-pixel {mm_per_pixel:g}: {cause}. Give one between 0 and 1, such as 0.005.")
    if mm_per_pixel is not None and out is None:
        raise UsageError("--mm-per-pixel: measures are written into a folder. Give --out DIR too, or leave it out.")
    check_dicom(dicom, out)
    chosen = check_runtime(runtime)
    measuring = out is not None
    with speak(lang), profile_stages(profile):
        grade_photographs(
            photos,
            out,
            json,
            replace,
            quiet,
            bundle,
            lambda: NickingGrader.open(bundle, measuring, mm_per_pixel, dicom, chosen),
        )


@app.command()
def archive(
    manifest: Manifest,
    out: Parts,
    bundle: BundleName = "nicking",
    engine: Engine = "local",
    workers: Workers = 0,
    address: Address = "",
    part_size: PartSize = 256,
    replace: Replace = False,
    quiet: Quiet = False,
) -> None:
    """Grade every photograph of a manifest into parquet parts, on all cores or a Ray cluster. Research use only.

    A run that was cut off goes on when the same command is given again; nothing is written twice. Relative paths start from the
    manifest's folder.

    Exit codes: 0 all were read (refused ones included), 1 some could not be, 2 the call is wrong, 3 the bundle is missing or broken,
    4 the answers could not be written.
    """
    from fundoscope.nicking.grading.grader import NickingGrader
    from fundoscope.runs.workers import WorkEngine

    chosen = WorkEngine(engine, workers, address)
    archive_photographs(manifest, out, lambda: NickingGrader.open(bundle), bundle, chosen, part_size, replace, quiet)


@app.command("grade-patches")
def grade_patches(
    patches: Annotated[
        list[str],
        typer.Argument(help="Squares around a crossing: files, folders, globs, - for a list, or a table of patches."),
    ],
    out: Report = None,
    json: Json = False,
    bundle: BundleName = "nicking",
    replace: Replace = False,
    lang: Lang = "en",
    quiet: Quiet = False,
) -> None:
    """Grade the nicking in patches, squares centred near a crossing that span 12 widths of its vein. Research use only.

    A table of patches, as cut-patches writes it, says of each file how much it spans.
    A run that was cut off goes on when the same command is given again.

    Exit codes: 0 all were read, 1 some could not be, 2 the call is wrong, 3 the bundle is missing, broken or grades
    nothing, 4 the answers could not be written.
    """
    from fundoscope.nicking.grading.grader import NickingGrader, PatchGrader
    from fundoscope.nicking.reading.tool_grades import walk_table

    found, known = walk_table(patches) or (None, {})
    with speak(lang):
        grade_photographs(
            patches, out, json, replace, quiet, bundle,
            lambda: PatchGrader(NickingGrader.open(bundle), known), found=found,
        )  # fmt: skip


@app.command("cut-patches")
def cut_patches(
    photos: Annotated[list[str], typer.Argument(help="Files, folders, globs, or - for a list on standard input.")],
    out: Annotated[Path, typer.Option(help="Folder for patches.csv, contact_sheet.html, results.csv and pictures.")],
    per_photograph: Annotated[
        int | None, typer.Option(min=1, help="At most so many crossings of each photograph, drawn by chance.")
    ] = None,
    bundle: BundleName = "nicking",
    replace: Replace = False,
    quiet: Quiet = False,
) -> None:
    """Cut the crossings of adults' photographs out as patches, and write a table and a contact sheet for two readers.

    No grade of the tool is shown. A run that was cut off goes on when the same command is given again.

    Exit codes: 0 all were read (refused ones included), 1 some could not be, 2 the call is wrong, 3 the bundle is
    missing or broken, 4 the answers could not be written.
    """
    from fundoscope.nicking.reading.cut import TABLE, PatchCutter, refuse_losing_grades

    if replace:
        refuse_losing_grades(out)
    after = f"two readers fill in {out / TABLE}; then: fundoscope nicking agreement {out / TABLE} --out DIR"
    grade_photographs(
        photos, out, False, replace, quiet, bundle, lambda: PatchCutter.open(bundle, per_photograph), after
    )


@app.command("agreement")
def agreement(
    patch_table: Annotated[
        Path, typer.Argument(metavar="PATCHES.csv", help="The table of cut-patches, filled in by two readers.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for agreement.html, agreement.csv and what they differ on.")],
    results: Annotated[
        list[Path] | None,
        typer.Option(help="results.csv of nicking grade: the tool's grades of the photographs, not of the patches."),
    ] = None,
    without_tool: Annotated[bool, typer.Option("--without-tool", help="Compare the readers alone.")] = False,
    bundle: BundleName = "nicking",
    quiet: Quiet = False,
) -> None:
    """How far two readers of patches agree, and the tool with each: kappas with intervals, confusion, where they differ most.

    Exit codes: 0 done, 1 a patch cannot be read, 2 the call or its table is wrong, 3 the bundle is missing, broken or
    grades nothing.
    """
    from fundoscope.bundles import locate
    from fundoscope.cli.agreement import answer_agreement
    from fundoscope.cli.console import Console
    from fundoscope.errors import UsageError
    from fundoscope.nicking.grading.grader import NickingGrader
    from fundoscope.nicking.reading.agreement import (
        ReadPatches,
        ask_tool,
        describe_agreement,
        read_graded_table,
        take_results,
    )
    from fundoscope.studies import command

    if results and without_tool:
        raise UsageError("--results and --without-tool: the tool is asked or it is not. Give only one of them.")
    console, rows = Console(quiet), read_graded_table(patch_table)
    inputs = [patch_table, *(results or ()), *(row.path for row in rows)]
    if not results and not without_tool:
        inputs += locate(bundle).iterdir()
    settings = {
        "table": str(patch_table.resolve()),
        "tool": "none" if without_tool else [str(path.resolve()) for path in results] if results else bundle,
    }
    with answer_agreement(out, "nicking agreement", inputs, settings, console) as write:
        if without_tool:
            found = ReadPatches(rows, None)
        else:
            found = take_results(rows, results) if results else ask_tool(rows, NickingGrader.open(bundle), console)
        write(describe_agreement(found, patch_table, command()))


@app.command("make-labels")
def make_labels(
    dataset_dir: Annotated[
        Path, typer.Argument(metavar="DATASET_DIR", help="A public set's folder, or one that simulate wrote.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for crossings.json, crossings_scaled.json, masks/ and labels.csv.")],
    layout: Annotated[str | None, typer.Option(help="The set's layout, where it is not recognised.")] = None,
    quiet: Quiet = False,
) -> None:
    """Write the labels that detectors of crossings are trained with, in COCO's form.

    Exit codes: 0 done, 1 a file of the set is missing or broken, 2 the call is wrong.
    """
    from fundoscope.cli.console import Console
    from fundoscope.datasets import open_dataset, write_labels

    console = Console(quiet)
    dataset = open_dataset(dataset_dir, layout)
    console.header(layout=dataset.layout, photographs=len(dataset))
    path = write_labels(dataset, out)
    console.say(describe_labels(path))
    print(path)


@app.command("study-crossings")
def study_crossings(
    dataset_dirs: Annotated[
        list[Path],
        typer.Argument(metavar="DATASET_DIR...", help="Folders of public sets, or some that simulate wrote."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the study; the same command goes on where it was cut off.")],
    recipe: Annotated[
        str, typer.Option(help="paper, short, tiny, or a TOML file of your own: every number of the training.")
    ] = "paper",
    pyramids: Annotated[str, typer.Option(help="Comma-separated: safpn, fpn.")] = "safpn,fpn",
    seeds: Annotated[int, typer.Option(min=1, help="Repeats, each with its own seed.")] = 1,
    random_weights: Annotated[bool, typer.Option("--random-weights", help="Do not start from ImageNet.")] = False,
    maps: Annotated[
        Path | None, typer.Option(help="Start from a network of maps instead: a folder with maps.pt and seen.json.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Detectors that are trained at once, a process each.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Train and evaluate detectors of crossings on public sets: Mask R-CNN, with a scale-attention pyramid and without.

    A set with parts training/ and test/ is tested on the latter; of others the first by name train. The recipe short leaves
    test/ alone, and tests on photographs held out of training/.
    """
    from fundoscope.cli.console import Console
    from fundoscope.errors import UsageError, need

    refuse_inputs_in_study(out, *dataset_dirs, recipe, maps)
    need("torch", "torchvision", "timm", "matplotlib", "faster_coco_eval", what="A study", extra="train")
    from fundoscope.nicking.crossing_study.plan import CrossingOptions, Pace
    from fundoscope.nicking.crossing_study.run import run_study
    from fundoscope.nicking.recipes.crossings import read_crossing_recipe

    if maps is not None and random_weights:
        raise UsageError("--maps and --random-weights: the body starts from one of them. Give only that one.")
    chosen = read_crossing_recipe(recipe)
    if random_weights:
        chosen = chosen.with_random_weights()
    names = tuple(name.strip() for name in pyramids.split(",") if name.strip())
    options = CrossingOptions(tuple(dataset_dirs), out, chosen, names, seeds, maps, Pace(workers))
    run_study(options, Console(quiet))


@app.command("study-grades")
def study_grades(
    patch_table: Annotated[
        Path,
        typer.Argument(
            metavar="PATCH_TABLE",
            help="CSV: patch,grade,photograph, or as of cut-patches; or a folder of the 90-patch set.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the study; the same command goes on where it was cut off.")],
    graders: Annotated[
        str,
        typer.Option(help="Comma-separated; 'usual', 'rivals', 'ablation', 'all', or names as the report has them."),
    ] = "usual",
    recipe: Annotated[str, typer.Option(help="paper, lite, tiny, or a TOML file of yours.")] = "lite",
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of every network, instead of the recipe's.")] = None,
    folds: Annotated[int, typer.Option(min=2, help="Parts that are tested in turn, by photograph.")] = 4,
    seeds: Annotated[int, typer.Option(min=1, help="Repeats, each with its own folds.")] = 1,
    upstream: Annotated[
        list[Path] | None,
        typer.Option(help="A folder of the crossing task: maps, weights. May be given several times."),
    ] = None,
    extra: Annotated[list[Path] | None, typer.Option(help="A table that only trains: simulated eyes.")] = None,
    also: Annotated[list[Path] | None, typer.Option(help="A table that is only tested.")] = None,
    detection: Annotated[
        bool, typer.Option("--detection", help="Also repeat the second detection step of paper 002 on the patches.")
    ] = False,
    engine: Engine = "local",
    workers: FitWorkers = 0,
    address: Address = "",
    threads: FitThreads = 0,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Begin no further fit after so long; the same command goes on.")
    ] = None,
    export: Annotated[
        bool, typer.Option("--export", help="Also write a bundle of the best network, taught by all graded patches.")
    ] = False,
    bundle: BundleName = "nicking",
    quiet: Quiet = False,
) -> None:
    """Train and judge graders of nicking on a table of patches: ours, ours without each part, and the rivals.

    Exit codes: 0 done, 1 a patch cannot be read or was seen upstream, 2 the call or its table is wrong, 3 the bundle is
    missing or broken.
    """
    from fundoscope.cli.console import Console
    from fundoscope.errors import need

    refuse_inputs_in_study(out, patch_table, recipe, bundle, *(upstream or ()), *(extra or ()), *(also or ()))
    need("torch", "torchvision", "timm", "lightning", "matplotlib", what="A study", extra="train")
    from fundoscope.nicking.grade_study.plan import GradeOptions
    from fundoscope.nicking.grade_study.run import run_study
    from fundoscope.nicking.grade_study.study_arms import parse_grader_names
    from fundoscope.nicking.recipes.grades import read_grade_recipe
    from fundoscope.runs.workers import WorkEngine

    options = GradeOptions(
        patch_table, out, read_grade_recipe(recipe, epochs), parse_grader_names(graders), folds, seeds,
        tuple(extra or ()), tuple(also or ()), tuple(upstream or ()), bundle, detection, WorkEngine(engine, workers, address, threads), minutes, export,
    )  # fmt: skip
    run_study(options, Console(quiet))


def describe_labels(path: Path) -> str:
    """What a file of labels holds, and which photographs are not in it."""
    import json

    from fundoscope.errors import counted

    labels = json.loads(path.read_text(encoding="utf-8"))
    masked = sum(annotation["has_mask"] for annotation in labels["annotations"])
    without = labels["info"]["photographs_without_known_crossings"]
    told = f"{counted(len(labels['annotations']), 'crossing')} in {counted(len(labels['images']), 'photograph')}, {masked} of them with masks"
    return told + (f"; left out, since their crossings are not known: {', '.join(without)}" if without else "")
