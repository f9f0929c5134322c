"""Masks and coloured maps from files, and the record of a photograph whose vessels were drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fundoscope.datasets.map_crossings import find_map_crossings
from fundoscope.datasets.record import Mask, PhotographRecord, PhotographSource, drive_scale
from fundoscope.errors import PhotographError
from fundoscope.imaging import Pixels, find_field, read

_ON = 127  # a channel above it is on: masks were often saved with soft or compressed edges


@dataclass(frozen=True, slots=True, eq=False)
class ColouredMap:
    """What a coloured map draws, (rows, columns) each: `artery` and `vein` both hold `crossing`, where they lie on top
    of each other; `vessel` also holds vessels of unknown kind.
    """

    artery: Mask
    vein: Mask
    crossing: Mask
    vessel: Mask


def split_colours(colours: Pixels) -> ColouredMap:
    """Kinds from the colours of RITE (Hu 2013, MICCAI): red artery, blue vein, green both, white unknown, black none.

    `colours` is (rows, columns, 3), RGB, uint8, each channel on above 127. A mixture of red with green, as the edge
    of a compressed crossing has, is artery, of blue with green vein; red with blue is unknown.
    """
    red, green, blue = np.moveaxis(colours > _ON, 2, 0)
    crossing = green & ~red & ~blue
    return ColouredMap((red & ~blue) | crossing, (blue & ~red) | crossing, crossing, red | green | blue)


def read_mask(path: Path) -> Mask:
    """(rows, columns) from a picture: true where any channel is above 127. Raises `PhotographError`."""
    return read_colours(path).max(axis=2) > _ON


def read_colours(path: Path) -> Pixels:
    """(rows, columns, 3), RGB, of a picture that may also be a GIF, as DRIVE's masks are. Raises `PhotographError`."""
    if path.suffix.lower() != ".gif":
        return read(path).pixels
    try:
        with Image.open(path, formats=("GIF",)) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        remedy = "Copy the file again from its source."
        raise PhotographError(str(path), f"cannot be read as a GIF ({error})", remedy) from error


def read_drawn(source: PhotographSource) -> PhotographRecord:
    """The record of a photograph whose truth is in the files `vessel`, `kinds` (a coloured map) and `field`, as far as
    it has them: without `field` that is found in the photograph, without `vessel` it is all that the map draws.

    Raises `PhotographError` for a file that cannot be read or has another size than the field.
    """
    files = source.files
    field = read_mask(files["field"]) if "field" in files else find_field(read(source.path).pixels).mask()
    vessel = _mask_of(files["vessel"], field) if "vessel" in files else None
    if "kinds" not in files:
        return source.record(field, vessel=vessel)
    colours = read_colours(files["kinds"])
    check_size(files["kinds"], colours, field)
    kinds = split_colours(colours)
    crossings = find_map_crossings(kinds.artery, kinds.vein, drive_scale(field))
    return source.record(
        field,
        vessel=kinds.vessel if vessel is None else vessel,
        artery=kinds.artery,
        vein=kinds.vein,
        crossing_map=kinds.crossing,
        crossings=crossings.at,
        artery_widths=crossings.artery_widths,
        vein_widths=crossings.vein_widths,
    )


def check_size(path: Path, picture: Mask | Pixels, field: Mask) -> None:
    """Raises `PhotographError` where a picture read from `path` has not the field's size."""
    if picture.shape[:2] != field.shape:
        sizes = " and ".join(f"{rows}x{columns}" for rows, columns in (picture.shape[:2], field.shape))
        cause = f"its size and that of the field of view differ: {sizes} (rows x columns)"
        raise PhotographError(str(path), cause, "Give photographs and masks of the same release.")


def _mask_of(path: Path, field: Mask) -> Mask:
    mask = read_mask(path)
    check_size(path, mask, field)
    return mask
