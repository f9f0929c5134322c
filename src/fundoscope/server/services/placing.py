"""Which eye, which view, which day: guessed from the names of files and folders, and from what the camera wrote into the file.

Every guess is to be confirmed by a person; where names say two things, nothing is guessed.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

_EYES = {
    "right": {"od", "re", "r", "right", "dexter", "odx", "reye", "右", "右眼"},
    "left": {"os", "le", "l", "left", "sinister", "osx", "leye", "左", "左眼"},
}
_VIEWS = {
    "disc": {"disc", "disk", "discs", "onh", "opticdisc", "opticdisk", "papilla", "视盘", "视乳头"},
    "macula": {"macula", "macular", "mac", "fovea", "黄斑"},
    "temporal": {"temporal", "temp", "tmp", "颞侧", "颞"},
    "nasal": {"nasal", "nas", "鼻侧", "鼻"},
    "superior": {"superior", "sup", "upper", "上方", "上"},
    "inferior": {"inferior", "inf", "lower", "下方", "下"},
}
#: Single letters that mean a view only where the same name tells the eye by a word beside them: OD_T.jpg, R-N.png.
_LETTERS = {"d": "disc", "m": "macula", "t": "temporal", "n": "nasal", "s": "superior", "i": "inferior"}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[\u4e00-\u9fff]+")
_CHINESE = sorted(
    {word for words in (*_EYES.values(), *_VIEWS.values()) for word in words if ord(word[0]) > 0x2E80}, key=len
)
_DAY = re.compile(r"(?<!\d)(19\d\d|20\d\d)[-_.年]?(0?[1-9]|1[0-2])[-_.月]?(0?[1-9]|[12]\d|3[01])(?!\d)")
_EXIF_DAY = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)")
_MAKE, _MODEL, _CHANGED, _EXIF, _TAKEN = 0x010F, 0x0110, 0x0132, 0x8769, 0x9003  # tags of CIPA DC-008


@dataclass(frozen=True, slots=True)
class PlaceGuess:
    """`eye` and `view` as in `ExamPhotograph`, `day` on which it was taken; blank and None where nothing speaks for one."""

    eye: str = ""
    view: str = ""
    day: date | None = None


def guess_place(path: str) -> PlaceGuess:
    """What the path of a file tells: its own name first, and what that leaves open the folder next to it, and so on."""
    eye, view, day = "", "", None
    for name in reversed(re.split(r"[/\\]", unicodedata.normalize("NFKC", path))):
        words = _split(name if name != Path(path).name else Path(name).stem)
        found = _only(_EYES, words)
        if not view:
            letters = {_LETTERS[word] for word in words if word in _LETTERS} if found else set()
            view = _only(_VIEWS, words) or (letters.pop() if len(letters) == 1 else "")
        eye = eye or found
        day = day or _find_day(name)
    return PlaceGuess(eye, view, day)


def _split(name: str) -> set[str]:
    """The words of a name in small letters; Chinese is cut at the words that are known."""
    words: set[str] = set()
    for word in _WORD.findall(name):
        if ord(word[0]) < 0x2E80:
            words.add(word.lower())
            continue
        for known in reversed(_CHINESE):  # the longest first
            if known in word:
                words.add(known)
                word = word.replace(known, " ")
    return words


def _only(meanings: Mapping[str, set[str]], words: set[str]) -> str:
    """The one meaning that the words have; blank where they have none, or several."""
    found = [meaning for meaning, names in meanings.items() if names & words]
    return found[0] if len(found) == 1 else ""


def _find_day(name: str) -> date | None:
    """A day in a name, written 2026-02-09, 20260209 or 2026年2月9日; none before 1990 or after tomorrow."""
    for match in _DAY.finditer(name):
        try:
            day = date(*map(int, match.groups()))
        except ValueError:
            continue
        if date(1990, 1, 1) <= day <= date.today() + timedelta(days=1):
            return day
    return None


def read_exif(path: Path, kinds: list[str]) -> tuple[str, str]:
    """When a photograph was taken, YYYY-MM-DD HH:MM:SS by the camera's clock, and with which camera; blank where it does not say.

    `kinds` are Pillow's names of the formats that may be tried. Whatever is wrong with the block, it tells nothing.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings(), Image.open(path, formats=kinds) as picture:
            warnings.simplefilter("ignore")  # of a broken block
            block = picture.getexif()
            taken = str(block.get_ifd(_EXIF).get(_TAKEN) or block.get(_CHANGED) or "")
            make, model = (_clean(block.get(tag)) for tag in (_MAKE, _MODEL))
    except Exception:  # noqa: BLE001 - a parser of foreign bytes
        return "", ""
    match = _EXIF_DAY.search(taken)
    if match is None:
        moment = ""
    else:
        year, month, day, hour, minute, second = match.groups()
        moment = f"{year}-{month}-{day} {hour}:{minute}:{second}"
    return moment, model if not make or model.startswith(make) else f"{make} {model}".strip()


def _clean(value: object) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
    return "".join(letter for letter in text if unicodedata.category(letter)[0] != "C").strip()[:90]
