"""Backups: taken while people work, encrypted, restored to the same room, and what is refused."""

import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import tarfile
import uuid

import pytest
from conftest import POSTGRESQL
from sqlalchemy import make_url, select, text
from test_cli_screen import run

from fundoscope.errors import UsageError
from fundoscope.server import sealed_files
from fundoscope.server.app import create_app
from fundoscope.server.backups import BackupError, restore_backup, take_backup
from fundoscope.server.database import Database
from fundoscope.server.models import AuditEntry, Base, SignInSession
from fundoscope.server.sealed_files import MAGIC, PIECE, SealedReader, SealedWriter
from fundoscope.server.services import audit
from fundoscope.server.settings import ServerSettings

PASSPHRASE = "a river in the morning"
on_sqlite = pytest.mark.skipif(bool(POSTGRESQL), reason="copies a SQLite file")


@pytest.fixture(autouse=True)
def quick_key(monkeypatch):
    """A key that is quick to make, and quick to guess."""
    monkeypatch.setattr(sealed_files, "SCRYPT_COST", 2)


@pytest.fixture
def full_room(room, sign_in, make_exam, make_photograph):
    """A room with exams, photographs on the disk, a report, settings, and somebody who is signed in."""
    reader = sign_in("reader")
    exams = [make_exam(state=state) for state in ("open", "to_read", "to_read")]
    for number, exam in enumerate(exams):
        content = os.urandom(70_000 + number)
        digest = hashlib.sha256(content).hexdigest()
        make_photograph(exam, digest=digest)
        path = room.settings.photographs / digest[:2] / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (room.settings.pictures / ".aside").mkdir(parents=True)
    (room.settings.pictures / ".aside" / "half").write_text("being made")
    (room.settings.pictures / "report_1.pdf").write_bytes(b"%PDF")
    (room.settings.data / "settings.toml").write_text("idle_minutes = 7\n")
    reader.get("/v1/me")
    return room


def tables(url):
    """The rows of all tables but those that a restore changes."""
    database = Database(url)
    with database.reading() as session:
        found = {
            table.name: sorted(map(repr, session.execute(select(table)).all()))
            for table in Base.metadata.sorted_tables
            if table.name not in ("sessions", "audit_entries")
        }
        assert list(audit.find_breaks(session)) == []
    database.dispose()
    return found


def worklist(settings, sessions_from):
    """What the worklist answers to an account of the restored room."""
    from starlette.testclient import TestClient

    from fundoscope.server.models import User
    from fundoscope.server.security.cookies import PLAIN_NAME
    from fundoscope.server.services import sessions

    with TestClient(create_app(settings), "http://localhost") as client:
        database = client.app.state.room.database
        with database.transaction() as session:
            opened = sessions.open_session(session, session.get_one(User, sessions_from), "", 1)
        client.cookies.set(PLAIN_NAME, opened.token, domain="localhost.local")
        answer = client.get("/v1/exams")
        page = client.get("/")
        assert answer.status_code == 200
        anew = r'csrf" (value|content)="[\w-]+|<time datetime="[^"]*T[^"]*">[^<]*'  # tokens, and the moment of the page
        assert "N0003" in page.text
        return answer.json(), re.sub(anew, "", page.text)


@on_sqlite
@pytest.mark.parametrize("passphrase", ["", PASSPHRASE])
def test_a_restored_room_shows_the_same_worklist(full_room, tmp_path, passphrase):
    out = tmp_path / "room.backup"
    manifest = take_backup(full_room.settings, out, passphrase)
    assert out.stat().st_mode & 0o777 == 0o600 and len(manifest["files"]) == 6
    restored = ServerSettings(data=tmp_path / "restored")
    assert restore_backup(out, restored, passphrase) == manifest
    before, after = full_room.settings, restored
    assert tables(before.database_url) == tables(after.database_url)
    for name in ("photographs", "pictures", "settings.toml"):
        assert {p.relative_to(before.data): p.read_bytes() for p in (before.data / name).rglob("*") if p.is_file() and ".aside" not in p.parts} == {
            p.relative_to(after.data): p.read_bytes() for p in (after.data / name).rglob("*") if p.is_file()
        }  # fmt: skip
    assert all(path.stat().st_mode & 0o077 == 0 for path in after.data.rglob("*"))
    assert worklist(before, 1) == worklist(after, 1)
    database = Database(after.database_url)
    with database.reading() as session:
        assert not session.scalars(
            select(SignInSession).where(SignInSession.ended_at.is_(None), SignInSession.id == 1)
        ).all()
        assert "room.restore" in session.scalars(select(AuditEntry.action)).all()
        assert not list(audit.find_breaks(session, manifest["audit"]["hash"]))
    database.dispose()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@on_sqlite
def test_a_backup_is_of_one_moment_while_people_write(full_room, tmp_path, make_patient, monkeypatch):
    from fundoscope.server import backups

    walk = backups._files_of

    def walk_while_another_comes(settings):
        make_patient(code="LATE")
        yield from walk(settings)

    monkeypatch.setattr(backups, "_files_of", walk_while_another_comes)
    take_backup(full_room.settings, tmp_path / "b")
    restore_backup(tmp_path / "b", ServerSettings(data=tmp_path / "r"))
    with sqlite3.connect(tmp_path / "r" / "fundoscope.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM patients WHERE code = 'LATE'").fetchone() == (0,)


@on_sqlite
@pytest.mark.parametrize("harm", ["lost", "changed", "odd name"])
def test_a_room_with_a_broken_file_is_told_and_no_backup_is_left(full_room, tmp_path, harm):
    path = next(path for path in full_room.settings.photographs.rglob("*") if path.is_file())
    if harm == "lost":
        path.unlink()
    elif harm == "changed":
        path.write_bytes(b"x" * path.stat().st_size)
    else:
        (path.parent / "ö").write_text("")
    with pytest.raises(BackupError, match="earlier backup|Take it out"):
        take_backup(full_room.settings, tmp_path / "b")
    assert [one.name for one in tmp_path.iterdir()] == ["room"]
    assert not list(full_room.settings.data.glob(".backup-*"))


@on_sqlite
def test_what_lies_in_the_way_stays(full_room, tmp_path):
    (tmp_path / "b").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        take_backup(full_room.settings, tmp_path / "b")
    (tmp_path / "b").unlink()
    take_backup(full_room.settings, tmp_path / "b")
    with pytest.raises(UsageError, match="not empty"):
        restore_backup(tmp_path / "b", full_room.settings)
    with pytest.raises(UsageError, match="holds no room"):
        take_backup(ServerSettings(data=tmp_path), tmp_path / "c")
    with pytest.raises(UsageError, match="cannot be restored into postgresql"):
        restore_backup(tmp_path / "b", ServerSettings(data=tmp_path / "r", database="postgresql://x/y"))


@on_sqlite
@pytest.mark.parametrize("passphrase", ["", PASSPHRASE])
def test_a_backup_that_was_changed_or_cut_restores_nothing(full_room, tmp_path, passphrase):
    take_backup(full_room.settings, tmp_path / "b", passphrase)
    whole = (tmp_path / "b").read_bytes()
    spoilt = [whole[: len(whole) // 2], b"", whole[:3000], whole[:100]]
    for at in (10, len(whole) // 2, len(whole) - 20_000) if passphrase else (len(whole) // 2,):
        spoilt.append(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    spoilt += [whole[:-1], whole + b"x"] if passphrase else []
    for number, content in enumerate(spoilt):
        (tmp_path / "b").write_bytes(content)
        with pytest.raises((BackupError, UsageError)):
            restore_backup(tmp_path / "b", ServerSettings(data=tmp_path / "r"), passphrase)
        assert sorted(one.name for one in tmp_path.iterdir()) == ["b", "room"], number


@on_sqlite
def test_the_passphrase_must_be_right_and_asked_for(full_room, tmp_path):
    take_backup(full_room.settings, tmp_path / "sealed", PASSPHRASE)
    take_backup(full_room.settings, tmp_path / "open")
    place = ServerSettings(data=tmp_path / "r")
    for name, passphrase, words in (
        ("sealed", "another passphrase", "passphrase is wrong"),
        ("sealed", "", "is encrypted"),
        ("open", PASSPHRASE, "is not encrypted"),
        ("missing", "", "no such file"),
    ):
        with pytest.raises(UsageError, match=words):
            restore_backup(tmp_path / name, place, passphrase)
    assert b"fundoscope.sqlite" not in (tmp_path / "sealed").read_bytes()
    assert b"SQLite format" not in (tmp_path / "sealed").read_bytes()


@pytest.mark.parametrize(
    "entry",
    ["../evil", "/etc/evil", "photographs/../../evil", "photographs/.hidden", "other/x", "database.sqlite/x", "link"],
)
def test_an_archive_that_reaches_out_is_refused(entry, tmp_path):
    with tarfile.open(tmp_path / "b", "w") as archive:
        info = tarfile.TarInfo(entry if entry != "link" else "photographs/aa")
        if entry == "link":
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info, io.BytesIO())
    with pytest.raises(BackupError, match="which no backup does"):
        restore_backup(tmp_path / "b", ServerSettings(data=tmp_path / "r"))
    assert [one.name for one in tmp_path.iterdir()] == ["b"]


@on_sqlite
def test_a_backup_of_a_later_version_is_refused(full_room, tmp_path):
    take_backup(full_room.settings, tmp_path / "b")
    with tarfile.open(tmp_path / "b") as archive, tarfile.open(tmp_path / "later", "w") as changed:
        for entry in archive:
            content = archive.extractfile(entry).read()
            if entry.name == "manifest.json":
                content = json.dumps(json.loads(content) | {"revision": "9999", "fundoscope": "9.0"}).encode()
                entry.size = len(content)
            changed.addfile(entry, io.BytesIO(content))
    with pytest.raises(UsageError, match="fundoscope 9.0"):
        restore_backup(tmp_path / "later", ServerSettings(data=tmp_path / "r"))


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 5])
def test_sealed_content_comes_back(size):
    content = os.urandom(size)
    file = io.BytesIO()
    writer = SealedWriter(file, PASSPHRASE)
    for start in range(0, size, 50_000):
        writer.write(content[start : start + 50_000])
    writer.close()
    file.seek(0)
    assert io.BufferedReader(SealedReader(file, PASSPHRASE)).read() == content
    assert len(file.getvalue()) == len(MAGIC) + 23 + size + 16 * max(1, -(-size // PIECE))


def test_pieces_cannot_be_moved_or_left_out():
    file = io.BytesIO()
    writer = SealedWriter(file, PASSPHRASE)
    writer.write(bytes(3 * PIECE))
    writer.close()
    whole, head, step = file.getvalue(), len(MAGIC) + 23, PIECE + 16
    pieces = [whole[head + n * step : head + (n + 1) * step] for n in range(3)]
    for order in ((1, 0, 2), (0, 2), (0, 1), (0, 1, 2, 2), (0, 0, 1, 2)):
        spoilt = whole[:head] + b"".join(pieces[n] for n in order)
        with pytest.raises(UsageError, match="does not open"):
            io.BufferedReader(SealedReader(io.BytesIO(spoilt), PASSPHRASE)).read()


# --- the commands


@on_sqlite
def test_the_commands_back_up_check_and_restore(full_room, tmp_path):
    data = full_room.settings.data
    (tmp_path / "phrase").write_text(f"{PASSPHRASE}\nmore\n")
    done = run("server", "backup", "--data", data, "--out", tmp_path / "b", "--passphrase-file", tmp_path / "phrase")
    assert done.returncode == 0 and "encrypted" in done.stdout, done.stderr
    anchor = done.stdout.splitlines()[-1]
    done = run("server", "restore", tmp_path / "b", "--data", tmp_path / "r", "--passphrase-file", tmp_path / "phrase")
    assert done.returncode == 0 and "fundoscope serve --data" in done.stdout, done.stderr
    done = run("server", "audit", "verify", "--data", tmp_path / "r", "--anchor", anchor)
    assert done.returncode == 0 and done.stdout.startswith("whole: "), done.stdout
    printed = run("server", "audit", "anchor", "--data", tmp_path / "r").stdout.split()
    assert printed == [done.stdout.split()[1], done.stdout.split()[-1]]
    with sqlite3.connect(tmp_path / "r" / "fundoscope.sqlite") as connection:
        connection.execute("UPDATE audit_entries SET action = 'nothing' WHERE id = 1")
    done = run("server", "audit", "verify", "--data", tmp_path / "r", "--anchor", "f" * 64)
    assert done.returncode == 1 and "Line 1: was changed" in done.stdout and "The anchor" in done.stdout
    (tmp_path / "phrase").write_text("short")
    for words in (["backup", "--data", data, "--out", tmp_path / "c", "--passphrase-file", tmp_path / "phrase"],
                  ["backup", "--data", tmp_path / "nothing", "--out", tmp_path / "c"],
                  ["restore", tmp_path / "missing", "--data", tmp_path / "c"],
                  ["audit", "verify", "--data", tmp_path]):  # fmt: skip
        done = run("server", *words)
        assert done.returncode == 2 and "error: " in done.stderr, done.stderr
    assert not (tmp_path / "c").exists()


@pytest.mark.services
@pytest.mark.skipif(not POSTGRESQL or not shutil.which("pg_dump"), reason="needs FUNDOSCOPE_TEST_DATABASE and pg_dump")
def test_a_room_on_postgresql_comes_back(full_room, tmp_path):
    name = f"restored_{uuid.uuid4().hex[:8]}"
    url = make_url(full_room.settings.database_url).set(database=name).render_as_string(hide_password=False)
    admin = Database(POSTGRESQL)
    with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        manifest = take_backup(full_room.settings, tmp_path / "b", PASSPHRASE)
        restored = ServerSettings(data=tmp_path / "r", database=url)
        assert restore_backup(tmp_path / "b", restored, PASSPHRASE) == manifest
        assert tables(full_room.settings.database_url) == tables(url)
        assert worklist(full_room.settings, 1) == worklist(restored, 1)
        with pytest.raises(UsageError, match="not empty: it holds the table"):
            restore_backup(tmp_path / "b", ServerSettings(data=tmp_path / "again", database=url), PASSPHRASE)
    finally:
        with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()
