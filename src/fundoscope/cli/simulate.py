"""`fundoscope simulate`: photographs of eyes grown from rules, with exact truth beside each."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fundoscope.simulate.cohort_files import Progress as StepCallback

app = typer.Typer(no_args_is_help=True, help="Make photographs of simulated eyes with exact truth.")

Count = Annotated[int, typer.Argument(metavar="N", help="How many photographs.", min=1)]
Out = Annotated[Path, typer.Option("--out", help="Folder for images/, truth/ and the tables.")]
Seed = Annotated[int, typer.Option("--seed", help="The same seed gives the same bytes.", min=0)]
Workers = Annotated[int, typer.Option("--workers", help="Processes to use.", min=1)]
Sheet = Annotated[bool, typer.Option("--sheet", help="Also write sheet.png with up to 24 eyes.")]
CameraName = Annotated[str | None, typer.Option("--camera", help="Only this camera.")]
Size = Annotated[int | None, typer.Option("--size", help="Pixels of the longer side; else the camera's own.", min=32)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")]


@app.command()
def infants(
    n: Count,
    out: Out,
    seed: Seed = 0,
    workers: Workers = 1,
    sheet: Sheet = False,
    camera: CameraName = None,
    size: Size = None,
    quiet: Quiet = False,
) -> None:
    """Infants' eyes, healthy and with retinopathy of prematurity: several views an eye, two eyes an infant."""
    from fundoscope.simulate import write_infants

    with _progress(n, quiet) as step:
        path = write_infants(n, out, seed, workers, sheet, camera=camera, size=size, progress=step)
    print(path)


@app.command()
def adults(
    n: Count,
    out: Out,
    seed: Seed = 0,
    workers: Workers = 1,
    sheet: Sheet = False,
    camera: CameraName = None,
    size: Size = None,
    quiet: Quiet = False,
) -> None:
    """Adults' eyes: arterial and venous trees, every crossing of theirs, and its nicking."""
    from fundoscope.simulate import write_adults

    with _progress(n, quiet) as step:
        path = write_adults(n, out, seed, workers, sheet, camera=camera, size=size, progress=step)
    print(path)


@app.callback()
def _simulate() -> None:
    """Make photographs of simulated eyes with exact truth."""


@contextmanager
def _progress(n: int, quiet: bool) -> Generator[StepCallback]:
    """A bar on standard error, and at the end how fast it went."""
    import time

    from fundoscope.cli.console import Console
    from fundoscope.findings import counted

    console = Console(quiet)
    start = time.perf_counter()
    with console.stages() as step:
        yield lambda done, wanted: step("photographs", done, wanted)
    seconds = time.perf_counter() - start
    console.say(f"{counted(n, 'photograph')} in {seconds:.0f} s ({n / max(seconds, 1e-9):.1f} a second)")
