"""`fundoscope serve`: what it refuses, its first link, and its end."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request

import pytest
from conftest import POSTGRESQL
from test_cli_screen import run

from fundoscope.errors import UsageError
from fundoscope.server.serving import check_reach
from fundoscope.server.settings import ServerSettings, read_settings


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"host": "0.0.0.0"}, "needs TLS"),
        ({"host": "192.0.2.7"}, "needs TLS"),
        ({"host": "0.0.0.0", "proxies": ("192.0.2.1",)}, "--host-name"),
        ({"host": "::", "proxies": ("192.0.2.1",)}, "--host-name"),
        ({"host": "room.example.org"}, "needs TLS"),
    ],
)
def test_beyond_loopback_the_room_needs_tls_or_a_proxy_and_a_name(given, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        check_reach(ServerSettings(data=tmp_path, **given))


@pytest.mark.parametrize("given", [{}, {"host": "localhost"}, {"host": "::1"}, {"host": "127.3.2.1"},
                                   {"host": "192.0.2.7", "proxies": ("192.0.2.1",)}])  # fmt: skip
def test_loopback_is_free_and_a_proxy_opens_the_rest(given, tmp_path):
    check_reach(ServerSettings(data=tmp_path, **given))


def test_a_certificate_that_is_none_is_refused(tmp_path):
    for name in ("a.pem", "b.pem"):
        (tmp_path / name).write_text("no PEM")
    with pytest.raises(UsageError, match="PEM pair"):
        check_reach(ServerSettings(data=tmp_path, certificate=tmp_path / "a.pem", key=tmp_path / "b.pem"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("idle_minuts = 5", "did you mean 'idle_minutes'"),
        ("port = 70000", "port: Input should be"),
        ("data = 'x'", "Remove the line"),
        ("idle_minutes = ", "TOML"),
        ("certificate = 'missing.pem'", "go together"),
        ("metrics_token_file = 'missing'", "missing: there is no such file"),
    ],
)
def test_a_wrong_settings_file_is_told_with_its_name_and_value(text, words, tmp_path):
    (tmp_path / "settings.toml").write_text(text)
    with pytest.raises(UsageError, match=re.escape(words)):
        read_settings(tmp_path, {})


def test_the_command_line_goes_before_the_file(tmp_path):
    (tmp_path / "settings.toml").write_text("port = 9000\nidle_minutes = 5\n[limits]\nfiles = 3\n")
    settings = read_settings(tmp_path, {"port": 9001})
    assert (settings.port, settings.idle_minutes, settings.limits.files) == (9001, 5, 3)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--host", "0.0.0.0"], "needs TLS"),
        (["--port", "70000"], "--port"),
        (["--certificate", "missing.pem"], "go together"),
        (["--database", "nonsense"], "begins with postgresql://"),
        (["--database", "postgresql://127.0.0.1:1/x"], "cannot be opened"),
        (["--database", "sqlite:////proc/x/y.sqlite"], "cannot be opened"),
    ],
)
def test_a_wrong_call_is_exit_2(words, told, tmp_path):
    done = run("serve", "--data", tmp_path / "room", *words)
    assert done.returncode == 2 and told in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(bool(POSTGRESQL), reason="changes a SQLite file")
def test_a_database_of_a_later_version_is_exit_2(tmp_path, empty_database):
    (tmp_path / "room").mkdir()
    shutil.copy(empty_database, tmp_path / "room" / "fundoscope.sqlite")
    with sqlite3.connect(tmp_path / "room" / "fundoscope.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    done = run("serve", "--data", tmp_path / "room", "--port", "0")
    assert done.returncode == 2 and "newer version" in done.stderr, done.stderr


@pytest.mark.parametrize("words", [["serve"], ["server", "backup", "--out", "x"], ["server", "audit", "verify"]])
def test_without_its_packages_the_room_names_the_extra(words, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = run(*words)
    assert done.returncode == 2 and "fundoscope[serve]" in done.stderr, done.stderr


def test_a_port_that_is_taken_is_exit_2(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("serve", "--data", tmp_path / "room", "--port", taken.getsockname()[1])
    assert done.returncode == 2 and "Take another --port" in done.stderr


def test_the_first_start_prints_a_link_and_term_closes_the_room(tmp_path):
    data = tmp_path / "room"
    command = [sys.executable, "-m", "fundoscope.cli.main", "serve", "--port", "0", "--data", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = re.search(r"http://\S+?:\d+", process.stdout.readline())[0]
            link = re.search(r"http://\S+/link/\S+", process.stdout.readline())[0]
            with urllib.request.urlopen(f"{address}/healthz") as answer:
                assert json.load(answer)["status"] == "ok"
            with urllib.request.urlopen(link) as answer:
                assert b"first administrator" in answer.read()
            for path in (data, *data.rglob("*")):
                assert path.stat().st_mode & 0o077 == 0, path
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(20) == 128 + signal.SIGTERM
        finally:
            process.kill()
        assert "Traceback" not in process.stderr.read()
