"""Folders of files that are being made, named for the process that makes them, so that what a dead one left is known as such."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import time
from contextlib import suppress
from pathlib import Path

_OLD_SECONDS = 24 * 3600  # after which a folder of another computer counts as left behind


def make_scratch(top: Path) -> Path:
    """A new, empty folder of this process in `top`, for its owner only."""
    folder = top / f"{os.getpid()}-{secrets.token_hex(6)}-{_host()}"
    folder.mkdir(mode=0o700, parents=True)
    return folder


def clear_scratch(top: Path) -> None:
    """Remove the folders of processes that are gone: of this computer at once, of others after a day."""
    for folder in list(top.iterdir()) if top.is_dir() else ():
        process, _, rest = folder.name.partition("-")
        with suppress(OSError):
            if rest.partition("-")[2] == _host():
                if not process.isdecimal() or not _is_alive(int(process)):
                    shutil.rmtree(folder, ignore_errors=True)
            elif time.time() - folder.stat().st_mtime > _OLD_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _host() -> str:
    return "".join(letter for letter in socket.gethostname() if letter.isalnum())[:60]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
