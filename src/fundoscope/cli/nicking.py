"""`fundoscope nicking`: crossings of arteries and veins in adults' photographs, and their nicking."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Artery-vein crossings in adults' photographs, and their nicking.", no_args_is_help=True)


@app.callback()
def _nicking() -> None:
    """Artery-vein crossings in adults' photographs, and their nicking."""


@app.command("make-labels")
def make_labels(
    dataset_dir: Annotated[
        Path, typer.Argument(metavar="DATASET_DIR", help="A public set's folder, or one that simulate wrote.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for crossings.json, crossings_scaled.json, masks/ and labels.csv.")],
    layout: Annotated[str | None, typer.Option(help="The set's layout, where it is not recognised.")] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing but errors.")] = False,
) -> None:
    """Make the labels that detectors of crossings are taught by, in COCO's form.

    Exit codes: 0 done, 1 a file of the set is missing or broken, 2 the call is wrong.
    """
    from fundoscope.cli.talk import Talk
    from fundoscope.datasets import open_dataset, write_labels

    talk = Talk(quiet)
    dataset = open_dataset(dataset_dir, layout)
    talk.header(layout=dataset.layout, photographs=len(dataset))
    path = write_labels(dataset, out)
    talk.say(summary(path))
    print(path)


def summary(path: Path) -> str:
    """What a file of labels holds, and which photographs are not in it."""
    import json

    labels = json.loads(path.read_text(encoding="utf-8"))
    masked = sum(annotation["has_mask"] for annotation in labels["annotations"])
    without = labels["info"]["photographs_without_known_crossings"]
    told = f"{len(labels['annotations'])} crossings in {len(labels['images'])} photographs, {masked} of them with masks"
    return told + (f"; left out, since their crossings are not known: {', '.join(without)}" if without else "")
