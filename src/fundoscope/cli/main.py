"""`fundoscope`: the entry point, and the one place where an exception becomes a message and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from fundoscope.cli import bundle, cohort, doctor, forensics, nicking, rop, simulate
from fundoscope.errors import FundoscopeError

app = typer.Typer(
    help="Grade retinas with little data: honestly evaluated, explained, small enough for the bedside. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(rop.app, name="rop")
app.add_typer(nicking.app, name="nicking")
app.add_typer(cohort.app, name="cohort")
app.add_typer(bundle.app, name="bundle")
app.add_typer(simulate.app, name="simulate")
app.command("forensics")(forensics.forensics)
app.command("doctor")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"fundoscope {version('fundoscope')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options of all commands."""


def run() -> None:
    """Run the command line; exits with 0, 1, 2 or 3 as docs/reference/command-line.md says."""
    try:
        app()
    except FundoscopeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: nothing more to say
        sys.exit(1)


if __name__ == "__main__":
    run()
