"""`fundoscope`: the entry point, and the one place where an exception becomes a message and an exit code."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, get_args, get_type_hints

import typer
import typer.core
import typer.models

from fundoscope.cli import bundle, cohort, dicom, doctor, forensics, nicking, rop, server, simulate
from fundoscope.errors import FundoscopeError, OutputError, UsageError, printable
from fundoscope.outputs import cannot_write

#: Parameters that name files or folders although they are text: they may name a shipped thing, or a pattern, too.
_PLACES = ("photos", "patches", "bundle", "recipe")
#: Objects from which on Python looks for unreachable ones. The 700 by default cost a tenth of a short command's time.
_GARBAGE = 10_000
#: Exit code of an error that nobody foresaw: something failed.
_UNFORESEEN = 1


class _Commands(typer.core.TyperGroup):
    """All commands; what typer would end with a code of its own becomes a message and an exit code of ours."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, EOFError, OSError) as error:
            sys.exit(_explain(error))


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
app.add_typer(dicom.app, name="dicom")
app.add_typer(server.app, name="server")
app.command("serve")(server.serve)
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
    debug: Annotated[
        bool, typer.Option("--debug", help="Where the program fails, print the lines that its makers need.")
    ] = False,
) -> None:
    """Options of all commands."""


def leaf_commands(group: typer.Typer = app, above: str = "") -> dict[str, Callable[..., Any]]:
    """The function behind every command, by its words: "rop screen"."""
    found: dict[str, Callable[..., Any]] = {}
    for one in group.registered_commands:
        assert one.callback is not None
        found[above + (one.name or str(getattr(one.callback, "__name__", "")).replace("_", "-"))] = one.callback
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        found |= leaf_commands(inner.typer_instance, f"{above}{inner.name} ")
    return found


def places_of(command: Callable[..., Any]) -> dict[str, tuple[str, ...]]:
    """The parameters of a command that name files or folders, each with its options; an argument has none."""
    found = {}
    for name, hint in get_type_hints(command, include_extras=True).items():
        kind, *more = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        if name in _PLACES or Path in (
            kind,
            *get_args(kind),
            *(each for one in get_args(kind) for each in get_args(one)),
        ):
            info = next((one for one in more if isinstance(one, typer.models.ParameterInfo)), None)
            named = () if info is None else tuple(info.param_decls or ())
            is_option = isinstance(info, typer.models.OptionInfo)
            found[name] = (named or (f"--{name.replace('_', '-')}",)) if is_option else ()
    return found


def refuse_empty_places(args: Sequence[str]) -> None:
    """Raise `UsageError` where a file or a folder is given an empty name, which would be the folder that one stands in."""
    if all(value.strip() and not value.rstrip().endswith("=") for value in args):
        return  # as nearly always: the options of all commands need not be looked up
    places = {option for command in leaf_commands().values() for each in places_of(command).values() for option in each}
    for before, value in zip(["", *args], args, strict=False):
        option, equals, rest = value.partition("=")
        if equals and option in places and not rest.strip():
            raise UsageError(f"{option}: is empty. Name a file or a folder.")
        if not value.strip() and (before in places or not before.startswith("--")):
            what = before if before in places else "an argument"
            raise UsageError(f"{what}: is empty. Name a file or a folder.")


def run() -> None:
    """Run the command line; exits with the codes that docs/reference/command-line.md lists.

    No error reaches a person as a traceback unless `--debug` asks for it, be it from this thread or from another one.
    """
    gc.set_threshold(_GARBAGE)
    if sys.stdout is None:
        sys.stdout = _ClosedOutput()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files are not always text
            stream.reconfigure(errors="surrogateescape" if stream is sys.stdout else "backslashreplace")
    with _stopped_by_term(), _other_threads():
        try:
            refuse_empty_places(sys.argv[1:])
            app()
        except SystemExit as left:
            code = left.code
        except BaseException as error:  # noqa: BLE001 - the one place where an error ends
            code = _explain(error)
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError as error:
            code = _explain(error)
        sys.exit(code)


class _ClosedOutput(io.StringIO):
    """Stands for a standard output that was closed before the program began: an answer that goes there is an error."""

    def write(self, text: str, /) -> int:
        raise OutputError("standard output", "it is closed")


def _explain(error: BaseException) -> int:
    """Print what went wrong, and what to do; returns the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return _leave("stopped", 128 + signal.SIGINT, "")
    if isinstance(error, BrokenPipeError) or isinstance(error.__cause__, BrokenPipeError):
        return _leave("", OutputError.exit_code)  # a reader that has left, as `head` does, needs no message
    if is_debug():
        traceback.print_exception(error)
    if isinstance(error, FundoscopeError):
        return _leave(printable(error), error.exit_code)
    if cannot_write(error):
        place = getattr(error, "filename", None) or "an answer"
        return _leave(printable(OutputError(place, error)), OutputError.exit_code)
    if isinstance(error, FileNotFoundError) and not _stands_somewhere():
        told = "the folder that you stand in was removed. Change to one that is there: cd /path/to/photographs."
        return _leave(told, UsageError.exit_code)
    return _leave(_unforeseen(error), _UNFORESEEN)


def _stands_somewhere() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def is_debug() -> bool:
    return "--debug" in sys.argv[1:]


def _unforeseen(error: BaseException) -> str:
    """A line on an error that nobody foresaw."""
    told = " ".join(printable(error).split())
    kind = type(error).__name__ + (f": {told}" if told else "")
    return f"the program failed ({kind}). Run it again with 'fundoscope --debug ...' and send us the lines."


def _leave(message: str, code: int, before: str = "error: ") -> int:
    if message and sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"{before}{message}", file=sys.stderr)
    if code == OutputError.exit_code and sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):  # what it could not take must not be tried again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


@contextlib.contextmanager
def _stopped_by_term() -> Generator[None]:
    """TERM ends the program as Ctrl-C does, so that files are finished and child processes end; exit code 143."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    main = threading.current_thread() is threading.main_thread()
    before = (
        signal.signal(signal.SIGTERM, stop) if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL else None
    )
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _other_threads() -> Generator[None]:
    """An error that ends another thread, or that comes while an object is taken down, is a line and no traceback."""
    before = threading.excepthook, sys.unraisablehook

    def tell(failed: Any) -> None:
        if failed.exc_value is None or isinstance(failed.exc_value, BrokenPipeError):
            return
        if is_debug():
            traceback.print_exception(failed.exc_value)
        _leave(_unforeseen(failed.exc_value), _UNFORESEEN)

    threading.excepthook = sys.unraisablehook = tell
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = before


if __name__ == "__main__":
    run()
