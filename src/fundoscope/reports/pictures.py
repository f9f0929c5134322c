"""Photographs and overlays as files beside a report, under names that are safe on every system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from fundoscope.errors import OutputError
from fundoscope.imaging import Pixels
from fundoscope.reports.overlay import jpeg

_LONGEST_STEM = 80  # characters: with number and suffix well below the 255 bytes that file systems allow


def save_pictures(out_dir: Path, number: int, stem: str, picture: Pixels, overlay: Pixels | None = None) -> list[Path]:
    """Write `NNNN_stem.jpg` and, given an overlay, `NNNN_stem_activation.jpg` into `out_dir`; returns their paths.

    The stem is made safe (`safe_stem`); the number keeps files apart whose names repeat.
    Raises `OutputError` where the folder cannot be written.
    """
    return save_jpegs(out_dir, number, stem, encode_pictures(picture, overlay))


def encode_pictures(picture: Pixels, overlay: Pixels | None = None) -> dict[str, bytes]:
    """A photograph and its overlay as the bytes of JPEG files, by the endings of their names' stems."""
    return {"": jpeg(picture)} | ({} if overlay is None else {"_activation": jpeg(overlay)})


def save_jpegs(out_dir: Path, number: int, stem: str, jpegs: Mapping[str, bytes]) -> list[Path]:
    """The same as `save_pictures`, of pictures that are encoded already."""
    base = f"{number:04d}_{safe_stem(stem)}"
    files = {f"{base}{ending}.jpg": data for ending, data in jpegs.items()}
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (out_dir / name).unlink(missing_ok=True)  # never write through a link
            (out_dir / name).write_bytes(data)
    except OSError as error:
        raise OutputError(out_dir, error) from error
    return [out_dir / name for name in files]


def safe_stem(stem: str) -> str:
    """`stem` in at most 80 ASCII letters, digits, hyphens, underscores; "photograph" where none is left."""
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"[^A-Za-z0-9-]+", "_", plain)[:_LONGEST_STEM].strip("_-") or "photograph"
