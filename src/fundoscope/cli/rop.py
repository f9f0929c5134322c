"""`fundoscope rop`: screen photographs, and run the study that makes a bundle."""

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
    Independent,
    Json,
    Lang,
    Prevalences,
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

app = typer.Typer(help="Retinopathy of prematurity in infants' photographs.", no_args_is_help=True)


@app.command()
def screen(
    photos: Annotated[
        list[str], typer.Argument(help="Files, folders, globs, a cohort CSV, or - for a list on standard input.")
    ],
    out: Report = None,
    json: Json = False,
    bundle: BundleName = "rop",
    allow_simulated: Annotated[
        bool, typer.Option(help="Show answers on treatment that were learnt from simulated eyes only.")
    ] = False,
    dicom: Dicom = False,
    runtime: RuntimeName = "onnxruntime",
    vessels: Annotated[
        bool, typer.Option("--vessels", help="Also measure the vessels around the disc: a second witness. Slower.")
    ] = False,
    camera: Annotated[
        str, typer.Option(help="With --vessels: the camera, retcam or neo, among whose normal photographs is compared.")
    ] = "",
    replace: Replace = False,
    profile: Profile = False,
    lang: Lang = "en",
    quiet: Quiet = False,
) -> None:
    """Screen infants' photographs for retinopathy of prematurity. Research use only.

    A run that was cut off goes on when the same command is given again.

    Exit codes: 0 all were read (refused ones included), 1 some could not be, 2 the call is wrong, 3 the bundle is
    missing or broken, 4 the answers could not be written.
    """
    from fundoscope.bundles.read import check_runtime
    from fundoscope.errors import UsageError
    from fundoscope.rop.screening.grader import RopGrader

    check_dicom(dicom, out)
    chosen = check_runtime(runtime)
    if camera and not vessels:
        raise UsageError(
            "--camera says among whose photographs vessels are compared. Give --vessels as well, or leave it out."
        )

    def open_grader() -> RopGrader:
        grader = RopGrader.open(bundle, allow_simulated, dicom, chosen, vessels=vessels, camera=camera)
        if allow_simulated and grader.bundle.card.stage2 != "simulated" and not (quiet or json):
            typer.echo(
                "--allow-simulated changes nothing: this bundle has learnt nothing from simulated eyes.", err=True
            )
        for doubt in () if quiet else grader.doubts:
            typer.echo(f"WARNING: {doubt}", err=True)
        return grader

    with speak(lang), profile_stages(profile):
        grade_photographs(photos, out, json, replace, quiet, bundle, open_grader)


@app.command()
def archive(
    manifest: Manifest,
    out: Parts,
    bundle: BundleName = "rop",
    allow_simulated: Annotated[
        bool, typer.Option(help="Give answers on treatment that were learnt from simulated eyes only.")
    ] = False,
    engine: Engine = "local",
    workers: Workers = 0,
    address: Address = "",
    part_size: PartSize = 256,
    replace: Replace = False,
    quiet: Quiet = False,
) -> None:
    """Screen every photograph of a manifest into parquet parts, on all cores or a Ray cluster. Research use only.

    A run that was cut off goes on when the same command is given again; nothing is written twice. Relative paths start from the
    manifest's folder.

    Exit codes: 0 all were read (refused ones included), 1 some could not be, 2 the call is wrong, 3 the bundle is missing or broken,
    4 the answers could not be written.
    """
    from fundoscope.rop.screening.grader import RopGrader
    from fundoscope.runs.workers import WorkEngine

    chosen = WorkEngine(engine, workers, address)
    archive_photographs(
        manifest, out, lambda: RopGrader.open(bundle, allow_simulated), bundle, chosen, part_size, replace, quiet
    )


@app.command()
def study(
    cohort: Annotated[Path, typer.Argument(help="A cohort table: image,label[,infant,...].")],
    out: Annotated[
        Path, typer.Option(help="Folder of the study; the same command again goes on where it was cut off.")
    ],
    recipe: Annotated[
        str, typer.Option(help="paper, lite, robust, nano, tiny, or a file of your own: FILE.toml.")
    ] = "lite",
    folds: Annotated[int, typer.Option(min=2, help="Outer folds.")] = 5,
    networks: Annotated[
        str,
        typer.Option(
            help="Comma-separated: teacher, student, undistilled, random, random-distilled, or any to compare."
        ),
    ] = "",
    seeds: Annotated[
        int, typer.Option(min=1, help="Repeats, each with its own seed; figures are means over them.")
    ] = 1,
    size: Annotated[
        int | None, typer.Option(min=32, help="Pixels of the input's side instead of the recipe's.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs at most instead of the recipe's.")] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Start from random weights, not from ImageNet or simulated eyes.")
    ] = False,
    prevalence: Prevalences = "",
    shuffles: Annotated[
        int, typer.Option(min=0, help="Runs of the control with shuffled labels, by a tiny network.")
    ] = 0,
    tracker: Annotated[str, typer.Option(help="csv, tensorboard or mlflow.")] = "csv",
    engine: Engine = "local",
    workers: FitWorkers = 0,
    address: Address = "",
    threads: FitThreads = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run and about how long; train nothing.")
    ] = False,
    export: Annotated[
        bool, typer.Option("--export", help="Also train one model on everything and write its bundle.")
    ] = False,
    images_are_independent: Independent = False,
    quiet: Quiet = False,
) -> None:
    """Train and judge a grader on your own photographs: nested folds, out-of-fold figures, a report, a bundle."""
    from fundoscope.cli.console import Console
    from fundoscope.errors import need

    refuse_inputs_in_study(out, cohort, recipe)
    need("torch", "lightning", "timm", "sklearn", "matplotlib", what="A study", extra="train")
    from fundoscope.rop.recipes import read_recipe
    from fundoscope.rop.study.plan import StudyOptions
    from fundoscope.rop.study.run import run_study
    from fundoscope.runs.workers import WorkEngine

    chosen = read_recipe(recipe).changed(size=size, epochs=epochs, random_weights=random_weights)
    options = StudyOptions(
        cohort=cohort, out=out, recipe=chosen, folds=folds, networks=tuple(filter(None, networks.split(","))),
        seeds=seeds, export=export, independent=images_are_independent, prevalences=_shares(prevalence),
        shuffles=shuffles, tracker=tracker, engine=WorkEngine(engine, workers, address, threads),
    )  # fmt: skip
    run_study(options, Console(quiet), dry_run=dry_run)


@app.command()
def recalibrate(
    cohort: Annotated[Path, typer.Argument(help="A labelled cohort table: image,label[,infant,...].")],
    out: Annotated[
        Path, typer.Option(help="The new bundle's folder, which must not exist; its name becomes the bundle's.")
    ],
    bundle: BundleName = "rop",
    sensitivity: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="The sensitivity that the threshold is to reach.")
    ] = 0.90,
    images_are_independent: Independent = False,
    quiet: Quiet = False,
) -> None:
    """Set a bundle's temperature and threshold anew on labelled photographs of your own; the network stays as it is.

    Says which sensitivity so few positives support, and refuses where they support too little.
    """
    from fundoscope.cli.console import Console
    from fundoscope.rop.recalibration.run import RecalibrationOptions
    from fundoscope.rop.recalibration.run import recalibrate as recalibrate_bundle
    from fundoscope.studies import command

    console = Console(quiet)
    options = RecalibrationOptions(cohort, bundle, out, sensitivity, images_are_independent, command())
    made = recalibrate_bundle(options, console)
    console.say(f"bundle '{made.name}': {out}")
    console.say(f"next: fundoscope rop screen PHOTOS --bundle {out} --out DIR")


@app.command()
def evaluate(
    cohort: Annotated[Path, typer.Argument(help="A labelled cohort table: image,label[,infant,...].")],
    out: Annotated[Path, typer.Option(help="Folder for results.json, report.html, tables/ and the audit.")],
    bundle: BundleName = "rop",
    images_are_independent: Independent = False,
    prevalence: Prevalences = "",
    allow_simulated: Annotated[
        bool, typer.Option(help="Evaluate answers on treatment that were learnt from simulated eyes only.")
    ] = False,
    precision: Annotated[
        str, typer.Option(help="int8, as screening runs it, or fp32 where the bundle has it.")
    ] = "int8",
    quiet: Quiet = False,
) -> None:
    """Tell what a bundle is worth on labelled photographs of your own: external validation, nothing is trained.

    Exit codes: 0 evaluated, 1 some photographs could not be read, 2 the call or the table is wrong, 3 the bundle is missing
    or broken, 4 the answers could not be written.
    """
    from fundoscope.cli.console import Console
    from fundoscope.errors import UsageError, need

    if precision not in ("int8", "fp32"):
        raise UsageError(f"--precision {precision}: there is no such precision. Give int8 or fp32.")
    need("pandas", "pyarrow", "sklearn", "matplotlib", what="An evaluation", extra="analysis")
    from fundoscope.rop.external.run import ExternalOptions, evaluate_bundle

    options = ExternalOptions(
        cohort, bundle, out, images_are_independent, _shares(prevalence), precision, allow_simulated
    )
    console = Console(quiet)
    results = evaluate_bundle(options, console)
    console.say(f"report: {out / 'report.html'}")
    raise typer.Exit(int(results.sample.failed > 0))


def _shares(text: str) -> tuple[float, ...]:
    from fundoscope.errors import UsageError

    try:
        shares = tuple(float(part) for part in filter(None, text.split(",")))
    except ValueError as error:
        raise UsageError(f"--prevalence {text}: not numbers. Give shares such as 0.06,0.43.") from error
    if not all(0 < share < 1 for share in shares):
        raise UsageError(f"--prevalence {text}: not shares. Give numbers between 0 and 1, such as 0.06,0.43.")
    return shares


@app.command()
def due(
    infants: Annotated[
        Path, typer.Argument(metavar="INFANTS.csv", help="A row an exam of an eye, or an infant without exams.")
    ],
    guideline: Annotated[
        str, typer.Option(help="china-2014, china-2023, uk-2022, us-2018, or a file of your own: FILE.toml.")
    ] = "china-2014",
    on: Annotated[str | None, typer.Option(metavar="DATE", help="The day, YYYY-MM-DD; today if left out.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object an infant.")] = False,
    lang: Lang = "en",
    quiet: Quiet = False,
) -> None:
    """Say who is to be examined, when next, and by which rule; the most urgent come first. Research use only.

    What the guideline does not state, or what the table leaves open, is "cannot say" and names the missing rule or cell.

    Exit codes: 0 every infant has its line, 2 the call or the table is wrong, 4 standard output could not be written.
    """
    from collections import Counter
    from datetime import date
    from json import dumps

    from fundoscope.cli.console import Console
    from fundoscope.errors import UsageError
    from fundoscope.guidelines import describe_worklist, make_worklist, parse_date, read_guideline, read_infants
    from fundoscope.guidelines.reasons import URGENCY_WORDS
    from fundoscope.languages import gettext as _
    from fundoscope.languages import ngettext

    with speak(lang):
        console = Console(quiet or json)
        rules = read_guideline(guideline)
        day = date.today() if on is None else parse_date(on, "date", "--on")
        if day is None:
            raise UsageError("--on: is empty. Give a day, such as 2024-03-05, or leave the option out for today.")
        answers = make_worklist(read_infants(infants, day), rules, day)
        if json:
            for answer in answers:
                typer.echo(dumps(answer.as_row(), ensure_ascii=False))
            return
        facts = {_("guideline"): f"{rules.name} ({_(rules.title)})", _("on"): day, _("use"): _("research use only")}
        console.header(**facts)
        typer.echo(describe_worklist(answers))
        counts = Counter(_(URGENCY_WORDS[answer.urgency]) for answer in answers)
        infants_told = ngettext("{n} infant", "{n} infants", len(answers)).format(n=len(answers))
        console.say("  ".join([infants_told, *(f"{name}: {count}" for name, count in counts.items())]))
