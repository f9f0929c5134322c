"""Every exception that Fundoscope raises on purpose, in one tree.

    FundoscopeError
    ├── PhotographError     one photograph cannot be read, or is not what it should be
    ├── UsageError          the call is wrong: an unknown option, an empty folder, a bad value
    ├── CohortError         the table of photographs, its labels or its folds are wrong
    │   └── LeakError       the same eye stands on two sides of a split
    ├── ControlError        a control or a baseline cannot be made from these photographs
    ├── StudyError          a study cannot start or go on
    ├── OutputError         answers could not be written: a full disk, a folder without permission
    ├── BundleError         a bundle is missing, broken, tampered with or too new
    └── MissingExtraError   a part of the program needs packages that are not installed

Each message names the input and ends with what to do. `exit_code` is the exit code of the command line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence


class FundoscopeError(Exception):
    """Base of all; catch it to catch everything that Fundoscope raises on purpose."""

    exit_code = 1


class PhotographError(FundoscopeError):
    """A photograph that cannot be read; `name` is the file as the caller gave it, `cause` one short clause."""

    def __init__(self, name: str, cause: str, remedy: str = "Check the file and give it again.") -> None:
        super().__init__(f"{name}: {cause}. {remedy}")
        self.name = name
        self.cause = cause
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[PhotographError], tuple[str, str, str]]:
        return type(self), (self.name, self.cause, self.remedy)


class UsageError(FundoscopeError):
    """The call itself is wrong; nothing was done."""

    exit_code = 2


class CohortError(FundoscopeError):
    """The table of photographs, its labels or its folds cannot be used as they are."""

    exit_code = 2


class LeakError(CohortError):
    """The same eye, or the same photograph, stands on two sides of a split."""

    exit_code = 1


class ControlError(FundoscopeError):
    """A control or a baseline cannot be made from these photographs; a study says so in its place and goes on."""

    exit_code = 2


class StudyError(FundoscopeError):
    """A study cannot start or go on; nothing was done."""

    exit_code = 2


class BundleError(FundoscopeError):
    """A bundle is missing, broken, tampered with, or newer than this program."""

    exit_code = 3


class OutputError(FundoscopeError):
    """Answers could not be written, or not all of them; `name` is the file or folder, `cause` one short clause."""

    exit_code = 4

    def __init__(self, name: object, cause: object) -> None:
        cause = getattr(cause, "strerror", None) or cause
        super().__init__(f"{name}: cannot be written ({cause}). Free space, or give a folder that can be written.")
        self.name = str(name)
        self.cause = str(cause)

    def __reduce__(self) -> tuple[type[OutputError], tuple[str, str]]:
        return type(self), (self.name, self.cause)


class MissingExtraError(FundoscopeError):
    """A part of Fundoscope needs packages that are not installed."""

    exit_code = 2

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs packages that are not installed. Install them with: pip install 'fundoscope[{extra}]'"
        )


def nearest(word: str, known: Iterable[str]) -> str:
    """A clause that names the known word nearest to `word`, or lists all when none is near."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return (
        f"did you mean '{close[0]}'?"
        if close
        else f"there {'is only' if len(known) == 1 else 'are'} {', '.join(known)}."
    )


def plural(noun: str) -> str:
    """The plural of a regular noun: "photographs", "patches"; of a noun with a clause after it, "files of ours"."""
    head, *rest = re.split(r"( of | that )", noun, maxsplit=1)
    hisses = head.endswith(("ch", "s", "sh", "x")) and not head.endswith("epoch")
    return "".join([head + ("es" if hisses else "s"), *rest])


def counted(n: int, noun: str) -> str:
    """A number with its noun: "1 photograph", "3 patches"."""
    return f"{n} {noun if n == 1 else plural(noun)}"


def in_time(seconds: float) -> str:
    """A length of time in words: "less than a minute", "5 minutes", "2.5 hours"."""
    if seconds < 60:
        return "less than a minute"
    minutes = round(seconds / 60)
    return counted(minutes, "minute") if minutes < 90 else f"{seconds / 3600:.1f} hours"


def list_names(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are: "a, b and 3 more"."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def printable(text: object) -> str:
    """`text` with invisible characters spelled out: controls, line breaks, marks that turn the direction of writing."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def need(*modules: str, what: str, extra: str) -> None:
    """Raise `MissingExtraError` unless all these modules can be imported; nothing is imported to find out."""
    from importlib.util import find_spec

    if any(find_spec(module) is None for module in modules):
        raise MissingExtraError(what, extra)
