"""Backups of a room: one file with its database, its photographs, its pictures and its settings, and the way back.

A backup is taken while people work. The database is copied first, as of one moment, then the files: a file is written before the row
that names it, and is never changed, so what the copy names is there. The file comes to be whole or not at all. It is a tar archive:

    settings.toml, where there is one; database.sqlite or database.dump (of pg_dump)
    photographs/..., pictures/...
    manifest.json           last: the kind of database, the revision of the schema, the head of the audit log, SHA-256 of every file
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, cast

from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import inspect, make_url, text, update
from sqlalchemy.exc import SQLAlchemyError

from fundoscope.errors import FundoscopeError, UsageError, counted
from fundoscope.outputs import new_file, written_whole
from fundoscope.server.database import Database, alembic_config
from fundoscope.server.models import SignInSession, now
from fundoscope.server.permissions import Caller, Role
from fundoscope.server.private_files import private_files
from fundoscope.server.sealed_files import SealedReader, SealedWriter, is_sealed
from fundoscope.server.services import audit
from fundoscope.server.settings import ServerSettings

FORMAT = 1
MANIFEST = "manifest.json"
SQLITE, DUMP = "database.sqlite", "database.dump"
_OPERATOR = Caller(None, "operator", Role.ADMINISTRATOR, frozenset(), via="command")
#: What may stand in a backup; nothing else is unpacked.
_NAMES = re.compile(
    r"settings\.toml|database\.(?:sqlite|dump)|manifest\.json|(?:photographs|pictures)(?:/[A-Za-z0-9_][A-Za-z0-9_. -]*)+"
)
_LARGEST_MANIFEST = 512 << 20
_BLOCK = 1 << 20

Manifest = dict[str, Any]


class BackupError(FundoscopeError):
    """A backup cannot be taken or restored; nothing was written."""


# --- taking one


def take_backup(
    settings: ServerSettings, out: Path, passphrase: str = "", follow: Callable[[int], None] = lambda _: None
) -> Manifest:
    """Write the backup of a room to `out`, encrypted where there is a passphrase; returns its manifest.

    `follow` is told the number of files that were written. Raises `UsageError` where there is no room or `out` is there already,
    `BackupError` where a file of the room is broken, `OutputError` where it cannot be written.
    """
    new_file(out, [settings.data / "fundoscope.sqlite", settings.data / "settings.toml"])
    check_room(settings)
    with private_files(), written_whole(out) as beside, beside.open("xb") as file:
        writer = SealedWriter(file, passphrase) if passphrase else file
        with tarfile.open(fileobj=cast(BinaryIO, writer), mode="w|", format=tarfile.PAX_FORMAT) as archive:
            manifest = _write_archive(settings, archive, follow)
        if passphrase:
            writer.close()
        file.flush()
        os.fsync(file.fileno())
    return manifest


def _write_archive(settings: ServerSettings, archive: tarfile.TarFile, follow: Callable[[int], None]) -> Manifest:
    files: dict[str, str] = {}

    def add(path: Path, name: str) -> None:
        if not _NAMES.fullmatch(name) or ".." in name:
            raise BackupError(f"{path}: has a name that no file of the room has. Take it out of the folder.")
        with path.open("rb") as source:
            read = _HashingReader(source)
            entry = tarfile.TarInfo(name)
            entry.size = os.fstat(source.fileno()).st_size
            entry.mode = 0o600
            archive.addfile(entry, cast(BinaryIO, read))
        files[name] = read.digest.hexdigest()
        follow(len(files))

    if (settings.data / "settings.toml").exists():
        add(settings.data / "settings.toml", "settings.toml")
    with tempfile.TemporaryDirectory(dir=settings.data, prefix=".backup-") as folder:
        copy = Path(folder) / (SQLITE if _is_sqlite(settings) else DUMP)
        facts = _copy_sqlite(settings, copy) if _is_sqlite(settings) else _dump_postgresql(settings, copy)
        add(copy, copy.name)
    for name, path in _files_of(settings):
        add(path, name)
        if name.startswith("photographs/") and files[name] != path.name:
            raise BackupError(
                f"{path}: its content is not what came in (SHA-256 {files[name]}). Bring the file back from an earlier backup."
            )
    missing = [digest for digest in facts.pop("photographs") if f"photographs/{digest[:2]}/{digest}" not in files]
    if missing:
        raise BackupError(
            f"{settings.photographs}: {counted(len(missing), 'photograph')} that the database names cannot be found, such as {missing[0]}. "
            "Bring them back from an earlier backup."
        )
    manifest = {
        "format": FORMAT,
        "fundoscope": version("fundoscope"),
        "taken_at": datetime.now(UTC).isoformat(),
    } | facts
    manifest |= {"files": files}
    content = json.dumps(manifest, indent=1).encode()
    entry = tarfile.TarInfo(MANIFEST)
    entry.size, entry.mode = len(content), 0o600
    archive.addfile(entry, io.BytesIO(content))
    return manifest


def _files_of(settings: ServerSettings) -> Iterator[tuple[str, Path]]:
    """Photographs and pictures by their names in the backup; what is only being written begins with a dot, and is left out."""
    for folder in (settings.photographs, settings.pictures):
        for path in sorted(folder.rglob("*")):
            parts = path.relative_to(folder).parts
            if path.is_file() and not path.is_symlink() and not any(part.startswith(".") for part in parts):
                yield "/".join((folder.name, *parts)), path


def _copy_sqlite(settings: ServerSettings, copy: Path) -> Manifest:
    """A copy as of one moment, by SQLite's own backup; broken pages are told."""
    path = Path(make_url(settings.database_url).database or "").absolute()
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        (verdict,) = target.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise BackupError(f"{path}: is broken ({verdict}). Restore an earlier backup.")
    return {"database": "sqlite"} | _read_facts(f"sqlite:///{copy}")


def _dump_postgresql(settings: ServerSettings, copy: Path) -> Manifest:
    """What pg_dump writes of one moment. What the manifest says is read just before, so all of it is in the dump."""
    facts = {"database": "postgresql"} | _read_facts(settings.database_url)
    _run_postgresql(settings, "pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={copy}")
    return facts


def _read_facts(url: str) -> Manifest:
    """Revision of the schema, head of the audit log, digests of all photographs."""
    database = Database(url)
    try:
        with database.reading() as session:
            revision = session.scalar(text("SELECT version_num FROM alembic_version"))
            line, digest = audit.head(session)
            photographs = sorted(set(session.scalars(text("SELECT DISTINCT digest FROM photographs"))))
    finally:
        database.dispose()
    return {"revision": revision, "audit": {"line": line, "hash": digest}, "photographs": photographs}


# --- the way back


def restore_backup(file: Path, settings: ServerSettings, passphrase: str = "") -> Manifest:
    """Make a room of a backup: the folder `settings.data` must not hold one yet, a PostgreSQL database must be empty.

    All sessions have ended in it. Raises `UsageError` for a wrong place, file or passphrase, `BackupError` for a backup that is
    broken; then nothing stays of it.
    """
    data = settings.data
    if data.exists() and any(data.iterdir()):
        raise UsageError(f"{data}: is not empty. Give a folder that is not there yet by --data.")
    if not data.parent.is_dir():
        raise UsageError(f"{data}: there is no folder {data.parent}. Make it first.")
    with private_files(), _folder_beside(data) as beside:
        manifest = _unpack(file, beside, passphrase)
        _refuse_newer(file, manifest)
        wanted = "sqlite" if _is_sqlite(settings) else "postgresql"
        if manifest["database"] != wanted:
            raise UsageError(
                f"{file}: holds a {manifest['database']} database, and cannot be restored into {wanted}. See --database."
            )
        if wanted == "sqlite":
            (beside / SQLITE).rename(beside / "fundoscope.sqlite")
            url = f"sqlite:///{beside / 'fundoscope.sqlite'}"
        else:
            url = settings.database_url
            _fill_postgresql(settings, beside / DUMP)
            (beside / DUMP).unlink()
        _end_restored_sessions(url, manifest)
        if data.exists():
            data.rmdir()
        beside.rename(data)
    return manifest


def _unpack(file: Path, folder: Path, passphrase: str) -> Manifest:
    """Unpack what the manifest lists, and only that; returns the manifest."""
    found: dict[str, str] = {}
    manifest: Manifest = {}
    try:
        with file.open("rb") as raw:
            sealed = is_sealed(raw)
            if sealed != bool(passphrase):
                told = (
                    "is encrypted. Name the file of its passphrase by --passphrase-file"
                    if sealed
                    else "is not encrypted. Leave --passphrase-file out"
                )
                raise UsageError(f"{file}: {told}.")
            source = io.BufferedReader(SealedReader(raw, passphrase), _BLOCK) if sealed else raw
            with tarfile.open(fileobj=cast(BinaryIO, source), mode="r|") as archive:
                for entry in archive:
                    content = archive.extractfile(entry) if entry.isreg() else None
                    if (
                        not _NAMES.fullmatch(entry.name)
                        or ".." in entry.name
                        or not entry.isreg()
                        or content is None
                        or entry.name in found
                    ):
                        raise BackupError(
                            f"{file}: holds '{entry.name[:100]}', which no backup does. Take another backup."
                        )
                    if entry.name == MANIFEST:
                        manifest = json.loads(content.read(_LARGEST_MANIFEST))
                        break
                    found[entry.name] = _unpack_file(cast(BinaryIO, content), folder / entry.name)
            while sealed and source.read(_BLOCK):
                continue  # to the end: a file that was cut off shows
    except FileNotFoundError:
        raise UsageError(f"{file}: there is no such file. Name a backup.") from None
    except (tarfile.TarError, EOFError, json.JSONDecodeError) as error:
        raise BackupError(f"{file}: is no backup, or is cut off ({error}). Take another backup.") from error
    if manifest.get("format") != FORMAT or manifest.get("files") != found:
        raise BackupError(f"{file}: is no whole backup: its files are not those of its manifest. Take another backup.")
    return manifest


def _unpack_file(content: BinaryIO, path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    read = _HashingReader(content)
    with path.open("xb") as target:
        shutil.copyfileobj(cast(BinaryIO, read), target, _BLOCK)
    return read.digest.hexdigest()


def _refuse_newer(file: Path, manifest: Manifest) -> None:
    try:
        ScriptDirectory.from_config(alembic_config("")).get_revision(manifest["revision"])
    except CommandError:
        raise UsageError(
            f"{file}: was taken by fundoscope {manifest['fundoscope']}, whose tables this one does not know. Install that version."
        ) from None


def _fill_postgresql(settings: ServerSettings, dump: Path) -> None:
    database = Database(settings.database_url)
    try:
        tables = inspect(database.engine).get_table_names()
    except SQLAlchemyError as error:
        raise UsageError(
            f"The database cannot be opened ({str(getattr(error, 'orig', error)).splitlines()[0]}). Check --database."
        ) from error
    finally:
        database.dispose()
    if tables:
        raise UsageError(
            f"The database is not empty: it holds the table {tables[0]}. Make a new one, and name it by --database."
        )
    _run_postgresql(
        settings,
        "pg_restore",
        "--single-transaction",
        "--exit-on-error",
        "--no-owner",
        "--no-privileges",
        str(dump),
        restore=True,
    )


def _end_restored_sessions(url: str, manifest: Manifest) -> None:
    database = Database(url)
    try:
        with database.transaction() as session:
            session.execute(update(SignInSession).where(SignInSession.ended_at.is_(None)).values(ended_at=now()))
            audit.record(
                session, _OPERATOR, "room.restore", taken_at=manifest["taken_at"], line=manifest["audit"]["line"]
            )
    finally:
        database.dispose()


# --- inside


class _HashingReader:
    """A file that is read once, and its SHA-256."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Bytes, as a file gives them."""
        content = self._file.read(size)
        self.digest.update(content)
        return content


@contextmanager
def _folder_beside(data: Path) -> Generator[Path]:
    """A folder on the same file system, to become `data`; what is left of it at the end goes."""
    beside = Path(tempfile.mkdtemp(dir=data.parent, prefix=f".{data.name}-"))
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def check_room(settings: ServerSettings) -> None:
    """Raise `UsageError` where the folder and the database are no room's."""
    if not settings.data.is_dir():
        raise UsageError(f"{settings.data}: there is no such folder. Name the folder of the room by --data.")
    database = Path(make_url(settings.database_url).database or "")
    if _is_sqlite(settings) and not database.is_file():
        raise UsageError(
            f"{settings.data}: holds no room, for {database.name} is not there. Name the folder by --data."
        )


def _is_sqlite(settings: ServerSettings) -> bool:
    return settings.database_url.startswith("sqlite")


def _run_postgresql(settings: ServerSettings, program: str, *arguments: str, restore: bool = False) -> None:
    """Run a program of PostgreSQL on the room's database; its password stands in no list of processes."""
    url = make_url(settings.database_url)
    known = {"PGHOST": url.host, "PGPORT": url.port, "PGUSER": url.username, "PGPASSWORD": url.password}
    environment = {**os.environ, **{key: str(value) for key, value in known.items() if value}}
    for option in ("sslmode", "sslrootcert"):
        if option in url.query:
            environment[f"PG{option.upper()}"] = str(url.query[option])
    name = f"--dbname={url.database}" if restore else str(url.database)
    call = [program, "--no-password", *arguments, name]
    try:
        done = subprocess.run(call, capture_output=True, text=True, check=False, env=environment)
    except FileNotFoundError:
        raise UsageError(
            f"{program} is not installed. Install PostgreSQL's client programs, of the server's version or later."
        ) from None
    if done.returncode:
        told = (done.stderr.strip().splitlines() or ["no reason was told"])[-1]
        raise BackupError(f"{program} failed: {told}. Check that its version is not older than the server's.")
