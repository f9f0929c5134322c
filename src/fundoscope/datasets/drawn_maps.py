"""Masks and coloured maps from picture files, and the record of a photograph whose vessels were drawn by a person."""

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
    """The masks (rows, columns) of a coloured map. `crossing` is where an artery and a vein overlap; `artery` and `vein` both
    include it; `vessel` also includes vessels that are neither artery nor vein.
    """

    artery: Mask
    vein: Mask
    crossing: Mask
    vessel: Mask


def split_colours(colours: Pixels) -> ColouredMap:
    """The masks of a map in the colours of RITE (Hu 2013, MICCAI): red artery, blue vein, green both, white unknown, black none.

    `colours` is (rows, columns, 3), RGB, uint8; a channel counts as on above 127. Mixed colours occur at the edges of
    compressed crossings: red with green is artery, blue with green is vein, red with blue is unknown.
    """
    red, green, blue = np.moveaxis(colours > _ON, 2, 0)
    crossing = green & ~red & ~blue
    return ColouredMap((red & ~blue) | crossing, (blue & ~red) | crossing, crossing, red | green | blue)


def read_mask(path: Path) -> Mask:
    """The mask (rows, columns) in a picture file: true where any channel is above 127. Raises `PhotographError`."""
    return read_colours(path).max(axis=2) > _ON


def read_colours(path: Path) -> Pixels:
    """The pixels (rows, columns, 3), RGB, of a picture file, which may be a GIF as DRIVE's masks are. Raises `PhotographError`."""
    if path.suffix.lower() != ".gif":
        return read(path).pixels
    try:
        with Image.open(path, formats=("GIF",)) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        remedy = "Copy the file again from its source."
        raise PhotographError(str(path), f"cannot be read as a GIF ({error})", remedy) from error


def read_drawn(source: PhotographSource) -> PhotographRecord:
    """The record of a photograph with the truth in its files `vessel`, `artery_vein` (a coloured map) and `field`.

    Each file may be missing: the field is then found in the photograph, and the vessels are all that the map draws. Raises `PhotographError` for a file that cannot be read or has another size than the field.
    """
    files = source.files
    field = read_mask(files["field"]) if "field" in files else find_field(read(source.path).pixels).mask()
    vessel = _mask_of(files["vessel"], field) if "vessel" in files else None
    if "artery_vein" not in files:
        return source.record(field, vessel=vessel)
    colours = read_colours(files["artery_vein"])
    check_size(files["artery_vein"], colours, field)
    maps = split_colours(colours)
    overlaps = find_map_crossings(maps.artery, maps.vein, drive_scale(field))
    crossings = overlaps[overlaps.certain]
    return source.record(
        field,
        vessel=maps.vessel if vessel is None else vessel,
        artery=maps.artery,
        vein=maps.vein,
        crossing_map=maps.crossing,
        crossings=crossings.centres,
        artery_widths=crossings.artery_widths,
        vein_widths=crossings.vein_widths,
        doubtful=overlaps[~overlaps.certain].centres,
    )


def check_size(path: Path, picture: Mask | Pixels, field: Mask) -> None:
    """Raise `PhotographError` where a picture read from `path` is not as large as the field."""
    if picture.shape[:2] != field.shape:
        sizes = " and ".join(f"{rows}x{columns}" for rows, columns in (picture.shape[:2], field.shape))
        cause = f"its size and that of the field of view differ: {sizes} (rows x columns)"
        raise PhotographError(str(path), cause, "Give photographs and masks of the same release.")


def _mask_of(path: Path, field: Mask) -> Mask:
    mask = read_mask(path)
    check_size(path, mask, field)
    return mask
