"""`fundoscope simulate`: photographs of eyes grown from rules, with exact truth beside each."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fundoscope.simulate.cohort import Progress

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

    with _Report(out, quiet) as report:
        write_infants(n, out, seed, workers, sheet, camera=camera, size=size, progress=report.step)


class _Report:
    """Progress on standard error, and where the cohort lies on standard output."""

    def __init__(self, out: Path, quiet: bool) -> None:
        self._out = out
        self._quiet = quiet
        self._done = 0

    def __enter__(self) -> _Report:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("photographs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), disable=self._quiet)
        self._bar.start()
        self._task = self._bar.add_task("", total=None)
        self._start = time.perf_counter()
        return self

    @property
    def step(self) -> Progress:
        return self._step

    def _step(self, done: int, wanted: int) -> None:
        self._done = done
        self._bar.update(self._task, completed=done, total=wanted)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._bar.stop()
        if kind is None:
            seconds = time.perf_counter() - self._start
            if not self._quiet:
                rate = self._done / max(seconds, 1e-9)
                typer.echo(f"{self._done} photographs in {seconds:.0f} s ({rate:.1f} a second)", err=True)
            typer.echo(self._out / "cohort.csv")
