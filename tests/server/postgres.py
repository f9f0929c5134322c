"""PostgreSQL for the tests: a server of its own in a temporary folder, on loopback only, gone when the work is done.

    python tests/server/postgres.py COMMAND...     run a command with FUNDOSCOPE_TEST_DATABASE set to a new, empty database

Debian's package `postgresql` is enough; no cluster of the system is touched. As root the server runs as the user `postgres`, since
PostgreSQL refuses to run as root. Exit status is that of the command; 77 where PostgreSQL is not installed.
"""

import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MISSING = 77  # exit status: a test that was left out
VARIABLE = "FUNDOSCOPE_TEST_DATABASE"
#: A database that is thrown away need not survive a loss of power.
SETTINGS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": "50"}


def find_programs():
    """The folder of `initdb` and `postgres`, the newest version's; None where PostgreSQL is not installed."""
    folders = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(re.sub(r"\D", "", path.parent.name))
    )
    on_path = [Path(found).resolve().parent] if (found := shutil.which("initdb")) else []
    return next((folder for folder in [*folders[::-1], *on_path] if (folder / "postgres").exists()), None)


@contextlib.contextmanager
def running_postgresql():
    """The URL of an empty database `room` of a new server; the server ends and its folder goes with the block."""
    programs = find_programs()
    if programs is None:
        raise FileNotFoundError("PostgreSQL is not installed. Install Debian's package postgresql.")
    folder = Path(tempfile.mkdtemp(prefix="fundoscope-postgres-"))
    password = secrets.token_urlsafe(24)
    (folder / "password").write_text(password)
    account = {}
    if os.geteuid() == 0:
        entry = pwd.getpwnam("postgres")
        account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        for path in (folder, folder / "password"):
            os.chown(path, entry.pw_uid, entry.pw_gid)
    server = None
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `timeout` leaves no server behind
    try:
        make = [
            programs / "initdb",
            "-D",
            folder / "data",
            "-U",
            "room",
            "-E",
            "UTF8",
            "--locale=C",
            "-A",
            "scram-sha-256",
        ]
        plain = {"cwd": folder, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"}, **account}
        subprocess.run(
            [*make, f"--pwfile={folder / 'password'}", "--no-sync"], check=True, stdout=subprocess.DEVNULL, **plain
        )
        port = find_port()
        options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        run = [programs / "postgres", "-D", folder / "data", "-h", "127.0.0.1", "-p", str(port), "-k", folder, *options]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(run, stdout=log, stderr=log, start_new_session=True, **plain)
        url = f"postgresql://room:{password}@127.0.0.1:{port}/"
        create_database(url, server, folder / "log")
        yield f"{url}room"
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # end connections, then the server
            server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def find_port():
    """A port of loopback that nobody uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def create_database(url, server, log):
    """Wait for the server, and make the database `room`."""
    import psycopg

    for attempt in range(150):
        if server.poll() is not None:
            break
        try:
            with psycopg.connect(f"{url}postgres", autocommit=True) as connection:
                connection.execute("CREATE DATABASE room")
            return
        except psycopg.OperationalError:
            time.sleep(0.1 + 0.002 * attempt)
    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()[-2000:]}")


def main():
    """Run the command that the arguments name beside a server."""
    if not sys.argv[1:]:
        sys.exit(__doc__)
    try:
        with running_postgresql() as url:
            sys.exit(subprocess.run(sys.argv[1:], env={**os.environ, VARIABLE: url}).returncode)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        sys.exit(MISSING)


if __name__ == "__main__":
    main()
