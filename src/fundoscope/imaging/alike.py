"""Names of files that differ from a missing one in capital letters or accents only."""

from __future__ import annotations

import functools
import unicodedata
from pathlib import Path


def name_alike(path: Path) -> str:
    """A clause that names what is in the folder in place of a missing file: "; it exists as X.JPG". Blank without one."""
    try:
        while not path.parent.exists() and path.parent != path:
            path = path.parent  # the folder itself may be missing: PHOTOS for Photos
        alike = _names_in(str(path.parent), path.parent.stat().st_mtime_ns).get(_folded(path.name), path.name)
    except (OSError, ValueError):
        return ""
    if alike == path.name:
        return ""
    same = unicodedata.normalize("NFC", alike) == unicodedata.normalize("NFC", path.name)
    return "; it exists with its accents encoded in another way" if same else f"; it exists as {alike}"


@functools.lru_cache(maxsize=8)
def _names_in(folder: str, changed: int) -> dict[str, str]:
    """The names in a folder as it was when it `changed`, by their letters without capitals."""
    return {_folded(child.name): child.name for child in Path(folder).iterdir()}


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
