"""Opening a room: what must hold before it listens, its first link, the worker beside it, and its end."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import uvicorn
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from fundoscope.errors import UsageError, counted, need
from fundoscope.server.app import create_app
from fundoscope.server.database import Database
from fundoscope.server.logs import write_logs
from fundoscope.server.private_files import private_files
from fundoscope.server.room import Room
from fundoscope.server.security.hosts import is_loopback
from fundoscope.server.services import accounts
from fundoscope.server.settings import ServerSettings
from fundoscope.server.sweeping import SWEPT, sweep_files

#: What is under way when the room closes has so long to end.
GRACE_SECONDS = 15
#: More at once are answered 503.
MOST_CONNECTIONS = 1_000


def serve_room(
    settings: ServerSettings, say: Callable[[str], None], furnish: Callable[[Room], None] | None = None
) -> None:
    """Open the room until a signal ends it. Raises `UsageError` where it must not listen as it is asked to.

    `furnish` puts simulated exams into a room on loopback before it opens.
    """
    check_reach(settings)
    if settings.has_station:
        need("pydicom", "pynetdicom", what="The receiver or the worklist of settings.toml", extra="dicom")
    if settings.receiver is not None and settings.receiver.tls is not None:
        settings.receiver.tls.server_context()
    if furnish is not None and not is_loopback(settings.host):
        raise UsageError(f"--host {settings.host}: a demonstration opens on this computer only. Leave out --host.")
    with private_files():
        room = open_room(settings)
        try:
            if furnish is not None:
                furnish(room)
            _sweep(room, say)
            with room.database.transaction() as session:
                managed = accounts.has_administrator(session)
                link = "" if managed else accounts.make_link(session, "administrator")
        finally:
            room.database.dispose()
        if not managed and not is_loopback(settings.host):
            raise UsageError(
                f"--host {settings.host}: there is no account yet, so the room opens on this computer only. "
                "Start it without --host, open the link that it prints, then start it as you did."
            )
        listener = _listen(settings)
        scheme = "http" if settings.certificate is None else "https"
        name = "127.0.0.1" if is_loopback(settings.host) else (settings.hosts or (settings.host,))[0]
        address = f"{scheme}://{name}:{listener.getsockname()[1]}"
        say(f"The reading room is open: {address}/   Research use only. It closes with Ctrl-C.")
        if link:
            say(f"There is no account yet. Open this link once, within a day: {address}/link/{link}")
        write_logs()
        config = uvicorn.Config(
            create_app(settings, with_worker=True), log_config=None, access_log=False, server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS, limit_concurrency=MOST_CONNECTIONS,
            proxy_headers=False,  # the gate reads them, of the stated proxies only
            ssl_certfile=settings.certificate, ssl_keyfile=settings.key,
        )  # fmt: skip
        uvicorn.Server(config).run(sockets=[listener])


def check_reach(settings: ServerSettings) -> None:
    """Raise `UsageError` where the room would listen beyond loopback without TLS or a stated proxy, or under no name."""
    if settings.certificate is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(settings.certificate, settings.key)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f"{settings.certificate}: cannot be used with {settings.key} ({error}). Name a PEM pair."
            ) from error
    if is_loopback(settings.host):
        return
    if settings.certificate is None and not settings.proxies:
        raise UsageError(
            f"--host {settings.host}: beyond this computer the room needs TLS. Give --certificate and --key, or name the reverse "
            "proxy that does TLS by --proxy."
        )
    if settings.host in ("0.0.0.0", "::") and not settings.hosts:
        raise UsageError(f"--host {settings.host}: name how browsers call the room: --host-name room.example.org.")


def open_room(settings: ServerSettings) -> Room:
    """The room with a database of the newest schema, and a folder that only its owner reads."""
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Room(settings, open_database(settings))


def open_database(settings: ServerSettings) -> Database:
    """The database of the settings, brought to the newest schema. Raises `UsageError` where it cannot be reached."""
    try:
        database = Database(settings.database_url)
        database.upgrade()
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        raise UsageError(
            f"The database cannot be opened ({reason}). Check --database, or the folder --data."
        ) from error
    except CommandError as error:
        raise UsageError(
            f"The database is of a newer version of this program ({error}). Install that version."
        ) from error
    return database


def _sweep(room: Room, say: Callable[[str], None]) -> None:
    """Put away what a server that was killed has left, and say so."""
    swept, where = sweep_files(room.settings, room.database), f"{SWEPT} of photographs and pictures"
    if swept.moved:
        files = counted(swept.moved, "file")
        say(f"Moved to {where}: {files} that no record names. They are removed there in a month.")
    if swept.returned:
        say(f"Came back from {where}: {counted(swept.returned, 'file')} that records name.")
    if swept.removed:
        say(f"Removed from {where} after a month: {counted(swept.removed, 'file')}.")


def _listen(settings: ServerSettings) -> socket.socket:
    """A socket that listens, so that a port that is taken is told before anything else."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        raise UsageError(
            f"--host {settings.host} --port {settings.port}: cannot be listened on ({error}). Take another --port, or 0 for a free one."
        ) from error
    return listener
