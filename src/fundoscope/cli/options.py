"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Report = Annotated[Path | None, typer.Option(help="Folder for results.csv, results.json, report.html and pictures.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a row on standard output.")]
BundleName = Annotated[str, typer.Option(help="A bundle's folder, or the name of a shipped one.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")]


def check_answer(out: Path | None, json: bool) -> None:
    """Raise `UsageError` unless the answer goes somewhere."""
    from fundoscope.errors import UsageError

    if out is None and not json:
        raise UsageError("Say where the answer shall go: --out DIR, --json, or both.")
