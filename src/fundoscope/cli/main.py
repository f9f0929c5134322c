"""`fundoscope`: the entry point, and the one place where an exception becomes a message and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import typer.core

from fundoscope.cli import bundle, cohort, doctor, forensics, nicking, rop, simulate
from fundoscope.errors import FundoscopeError, OutputError, UsageError

#: Errors of the system that tell that there is no room or no right to write.
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
#: Options that name a file or a folder: an empty name would be the folder that one stands in.
_PLACES = ("--out", "--bundle", "--folds", "--maps", "--upstream")


class _Commands(typer.core.TyperGroup):
    """All commands: empty names of files and folders are refused, and Ctrl-C ends each with exit code 130."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        refuse_empty_places(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)


def refuse_empty_places(args: Sequence[str]) -> None:
    """Raise `UsageError` where an option that names a file or a folder is given an empty name."""
    for option, value in zip(args, [*args[1:], "-"], strict=True):
        if (option in _PLACES and not value.strip()) or option.rstrip() in [f"{name}=" for name in _PLACES]:
            raise UsageError(f"{option.rstrip().rstrip('=')}: is empty. Name a file or a folder.")


app = typer.Typer(
    cls=_Commands,
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
    """Run the command line; exits with the codes that docs/reference/command-line.md lists."""
    try:
        app()
    except FundoscopeError as error:
        # a reader of standard output that has left, as `head` does, needs no message
        _leave("" if isinstance(error.__cause__, BrokenPipeError) else str(error), error.exit_code)
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        _leave(str(OutputError(error.filename or "an answer", error)), OutputError.exit_code)


def _leave(message: str, code: int) -> None:
    if message:
        print(f"error: {message}", file=sys.stderr)
    if code == OutputError.exit_code:  # what standard output could not take must not be tried again at the end
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


if __name__ == "__main__":
    run()
