"""The file that a table's cell names, although tables come from other machines.

With backslashes, as file URLs, with accents that macOS takes apart, with no-break spaces, or with names in the bytes of an older
encoding. Capital letters are never changed: that a name differs in them is told, so that the table can be corrected.
"""

from __future__ import annotations

import os
import re
import unicodedata
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote


def find_file(text: str, base: Path, encoding: str = "utf-8") -> Path:
    """The absolute path that a cell names, relative to the folder `base`: the first of its readings that exists, else the
    plain one. `encoding` is the table's.
    """
    plain = Path(os.path.normpath(base / text))
    if os.path.lexists(plain):
        return plain
    readings = [text.replace("\\", "/")]
    if text.lower().startswith("file:"):
        url = re.sub(r"^//+(localhost/)?", "/", readings[0][5:])
        readings = [unquote(url), url]
    readings.append(readings[0].replace("\u00a0", " "))
    if text.startswith("~"):
        readings.append(os.path.expanduser(text))  # noqa: PTH111 (pathlib's fails without a home)
    if encoding in ("cp1252", "unknown"):  # what is not Unicode may also be Chinese, or the bytes of the name on disk
        raw = text.encode(encoding) if encoding == "cp1252" else os.fsencode(text)
        readings.append(os.fsdecode(raw))
        with suppress(UnicodeDecodeError):
            readings.append(raw.decode("gb18030").replace("\\", "/"))
    found = [Path(os.path.normpath(base / reading)) for reading in readings]
    for path in found:
        if there := next((path for path in (path, _composed_alike(path)) if path and os.path.lexists(path)), None):
            return there
    return found[0] if "\\" in text else plain  # written on Windows: without the file, too, its parts are what is meant


def _composed_alike(path: Path) -> Path | None:
    """The path on disk whose parts are the same letters, with their accents composed or taken apart; None without one."""
    if str(path).isascii():
        return None
    place = Path(path.anchor)
    for part in path.parts[1:]:
        ways = (part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part))
        there = next((place / way for way in ways if os.path.lexists(place / way)), None)
        if there is None:
            return None
        place = there
    return place
