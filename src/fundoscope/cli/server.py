"""`fundoscope serve` and `fundoscope server ...`: the reading room, and what its operator does beside it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fundoscope.errors import UsageError, need

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from fundoscope.server.settings import ServerSettings

audit_app = typer.Typer(no_args_is_help=True, help="Check the audit log of a reading room.")
app = typer.Typer(no_args_is_help=True, help="Look after a reading room: back it up, restore it, check its audit log.")

app.add_typer(audit_app, name="audit")

Data = Annotated[Path, typer.Option(help="Folder of the room: database, photographs, settings.toml.")]
DatabaseUrl = Annotated[
    str,
    typer.Option(
        help="URL of a PostgreSQL database; else a SQLite file in --data.",
        envvar="FUNDOSCOPE_DATABASE",
        show_envvar=True,
    ),
]
PassphraseFile = Annotated[
    Path | None, typer.Option(help="File whose first line is the passphrase; 12 characters or more.")
]
ROOM, DEMO_ROOM = Path("reading-room"), Path("demo-room")


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback only with accounts and TLS.")] = "",
    port: Annotated[
        int | None, typer.Option(help="Port; 8000 unless told otherwise, 0 for a free one.", min=0, max=65535)
    ] = None,
    data: Data = ROOM,
    database: DatabaseUrl = "",
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate with its chain, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="Private key of the certificate, PEM.")] = None,
    proxy: Annotated[
        list[str] | None, typer.Option(help="Address of a reverse proxy that does TLS; may be repeated.")
    ] = None,
    host_name: Annotated[
        list[str] | None, typer.Option(help="Name under which browsers call the room; may be repeated.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Photographs that are judged at once.", min=1)] = None,
    demo: Annotated[
        bool,
        typer.Option(
            "--demo", help="Open a room of simulated infants and adults, by itself in demo-room, to try it out."
        ),
    ] = False,
) -> None:
    """Open the reading room: a page where photographs come in, are judged, read and signed. It ends with Ctrl-C."""
    given = {
        "host": host or None, "port": port, "database": database or None, "certificate": certificate, "key": key,
        "proxies": tuple(proxy) if proxy else None, "hosts": tuple(host_name) if host_name else None, "workers": workers,
    }  # fmt: skip
    settings = _settings(DEMO_ROOM if demo and data == ROOM else data, given)
    from fundoscope.server.serving import serve_room

    def say(line: str) -> None:
        print(line, flush=True)

    if demo:
        from fundoscope.server.demo import furnish

        serve_room(settings, say, lambda room: furnish(room, say))
    else:
        serve_room(settings, say)


@app.command()
def backup(
    out: Annotated[Path, typer.Option(help="File that is made; it must not be there yet.")],
    data: Data = ROOM,
    database: DatabaseUrl = "",
    passphrase_file: PassphraseFile = None,
) -> None:
    """Copy a room into one file, while people work in it: database, photographs, pictures, settings. Prints an anchor."""
    settings = _settings(data, {"database": database or None})
    from fundoscope.cli.console import Console
    from fundoscope.errors import counted
    from fundoscope.outputs import refuse_overwriting
    from fundoscope.server.backups import take_backup

    refuse_overwriting([passphrase_file] if passphrase_file else [], [out])
    passphrase = _read_passphrase(passphrase_file)
    with Console().stages() as report:
        manifest = take_backup(settings, out, passphrase, lambda done: report("files", done, 0))
    kind = "encrypted" if passphrase else "not encrypted: keep it where only you can read it"
    print(f"{out}: {counted(len(manifest['files']), 'file')}, {kind}")
    print(f"anchor {manifest['audit']['line']} {manifest['audit']['hash']}")


@app.command()
def restore(
    backup_file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")],
    data: Annotated[Path, typer.Option(help="Folder of the new room; it must be empty, or not there yet.")],
    database: DatabaseUrl = "",
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a room of a backup, in a new folder and, with --database, in an empty PostgreSQL database."""
    settings = _settings(data, {"database": database or None})
    from fundoscope.errors import counted
    from fundoscope.server.backups import restore_backup

    manifest = restore_backup(backup_file, settings, _read_passphrase(passphrase_file))
    print(f"{data}: {counted(len(manifest['files']), 'file')} of {manifest['taken_at']}. Everybody signs in anew.")
    print(f"Open it: fundoscope serve --data {data}")


@audit_app.command()
def verify(
    data: Data = ROOM,
    database: DatabaseUrl = "",
    anchor: Annotated[
        list[str] | None, typer.Option(help="Digest that `audit anchor` printed once; may be repeated.")
    ] = None,
) -> None:
    """Read the whole audit log: exits with 1 where a line was changed, taken out or put in, or an anchor is not in it."""
    found: list[str] = []
    with _audit_session(data, database) as session:
        from fundoscope.server.services import audit

        for one in anchor or [""]:
            found += audit.find_breaks(session, one.split()[-1].lower() if one.strip() else "")
        line, digest = audit.head(session)
    for told in dict.fromkeys(found):
        print(told)
    if found:
        raise typer.Exit(1)
    print(f"whole: {line} lines, the last is {digest}")


@audit_app.command("anchor")
def print_anchor(data: Data = ROOM, database: DatabaseUrl = "") -> None:
    """Print the number and the digest of the last line. Keep it outside of the room: on paper, in another system."""
    with _audit_session(data, database) as session:
        from fundoscope.server.services import audit

        line, digest = audit.head(session)
    print(f"{line} {digest}")


@contextmanager
def _audit_session(data: Path, database: str) -> Generator[Session]:
    settings = _settings(data, {"database": database or None})
    from fundoscope.server.backups import check_room
    from fundoscope.server.private_files import private_files
    from fundoscope.server.serving import open_database

    check_room(settings)
    with private_files():
        opened = open_database(settings)
        try:
            with opened.reading() as session:
                yield session
        finally:
            opened.dispose()


def _read_passphrase(file: Path | None) -> str:
    """The first line of the file; blank without one."""
    if file is None:
        return ""
    from fundoscope.server.sealed_files import SHORTEST_PASSPHRASE

    try:
        passphrase = (file.read_text(encoding="utf-8").splitlines() or [""])[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{file}: cannot be read ({error}). Name a file whose first line is the passphrase."
        ) from error
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise UsageError(
            f"{file}: its first line has {len(passphrase)} characters. Take {SHORTEST_PASSPHRASE} or more."
        )
    return passphrase


def _settings(data: Path, given: dict[str, Any]) -> ServerSettings:
    """The settings of `data`/settings.toml, and over them what was given on the command line; None is not given."""
    need(
        "fastapi",
        "uvicorn",
        "sqlalchemy",
        "alembic",
        "argon2",
        "authlib",
        "structlog",
        what="The reading room",
        extra="serve",
    )
    from fundoscope.cli.main import is_debug
    from fundoscope.server.settings import read_settings

    if data.exists() and not data.is_dir():
        raise UsageError(f"--data {data}: is a file. Name a folder.")
    return read_settings(
        data, {name: value for name, value in given.items() if value is not None} | {"debug": is_debug()}
    )
