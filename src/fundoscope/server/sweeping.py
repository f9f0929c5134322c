"""Files that no row names: what a server that was killed between a file and its row has left in the room's folders.

When a room opens they are moved into folders `.swept` beside them, and removed there a month later. Nothing is removed at once: where
a room was opened with the wrong database, the next opening with the right one brings its files back.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from fundoscope.server.database import Database
from fundoscope.server.models import ExamPhotograph, Grading, SignedReport
from fundoscope.server.services.judging import picture_place
from fundoscope.server.settings import ServerSettings

SWEPT = ".swept"  # within the folders of photographs and of pictures
#: What is younger may be about to get its row.
YOUNG_SECONDS = 3600
#: How long a file stays in `.swept` before it is removed.
KEPT_SECONDS = 30 * 24 * 3600
_OURS = re.compile(r"[0-9a-f]{2}|reports")  # folders within those of photographs and pictures


@dataclass
class SweptFiles:
    """How many files were moved out, brought back since a row names them, and removed after a month."""

    moved: int = 0
    returned: int = 0
    removed: int = 0


def sweep_files(settings: ServerSettings, database: Database) -> SweptFiles:
    """Move away the files of photographs, pictures and reports that no row names and that are older than an hour.

    An upload that finds its very file there touches it, and keeps it so.
    """
    swept = SweptFiles()
    with database.reading() as session:
        for top in (settings.photographs, settings.pictures):
            aside = top / SWEPT
            for name in sorted({*_find_folders(top), *_find_folders(aside)}):
                named = _find_named(session, settings, top, name)
                for file in _list_files(top / name) - named:
                    swept.moved += _move_aside(top / name / file, aside / name / file)
                for file in _list_files(aside / name):
                    place, left = top / name / file, aside / name / file
                    if file in named and not place.exists():
                        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                        left.replace(place)
                        swept.returned += 1
                    elif _age_of(left) > KEPT_SECONDS:
                        left.unlink()
                        swept.removed += 1
    return swept


def _find_folders(top: Path) -> Iterator[str]:
    for each in top.iterdir() if top.is_dir() else ():
        if _OURS.fullmatch(each.name) and each.is_dir():
            yield each.name


def _list_files(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {each.name for each in entries if each.is_file(follow_symlinks=False)}


def _find_named(session: Session, settings: ServerSettings, top: Path, folder: str) -> set[str]:
    """The names of files in a folder that rows name."""
    if folder == "reports":
        return {Path(file).name for file in session.scalars(select(SignedReport.file))}
    of_folder = ExamPhotograph.digest.startswith(folder)
    if top == settings.photographs:
        return set(session.scalars(select(ExamPhotograph.digest).where(of_folder)))
    made = select(ExamPhotograph.digest, Grading.bundle_digest, Grading.pictures).join(Grading).where(of_folder)
    return {
        picture_place(settings, digest, bundle, file).name
        for digest, bundle, pictures in session.execute(made)
        for file in pictures.values()
        if isinstance(file, str)
    }


def _age_of(file: Path) -> float:
    return time.time() - file.stat().st_mtime


def _move_aside(file: Path, aside: Path) -> bool:
    """Move an old file away; False where it is young, or was touched by somebody who counts on it meanwhile."""
    if _age_of(file) <= YOUNG_SECONDS:
        return False
    aside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.replace(aside)
    if _age_of(aside) <= YOUNG_SECONDS:
        aside.replace(file)
        return False
    os.utime(aside)  # its month begins
    return True
