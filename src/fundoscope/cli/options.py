"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Report = Annotated[Path | None, typer.Option(help="Folder for results.csv, results.json, report.html and pictures.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a row on standard output.")]
BundleName = Annotated[str, typer.Option(help="A bundle's folder, or the name of a shipped one.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")]
