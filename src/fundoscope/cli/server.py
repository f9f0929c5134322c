"""`fundoscope serve` and `fundoscope server ...`: the reading room, and what its operator does beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fundoscope.errors import UsageError, need

if TYPE_CHECKING:
    from fundoscope.server.settings import ServerSettings

app = typer.Typer(no_args_is_help=True, help="Look after a reading room: back it up, restore it, check its audit log.")

Data = Annotated[Path, typer.Option(help="Folder of the room: database, photographs, settings.toml.")]
DatabaseUrl = Annotated[
    str,
    typer.Option(
        help="URL of a PostgreSQL database; else a SQLite file in --data.",
        envvar="FUNDOSCOPE_DATABASE",
        show_envvar=True,
    ),
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
