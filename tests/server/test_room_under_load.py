"""The benchmarks of the reading room in their short form: a real server and worker, clients beside it, kills, a full queue."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")

from fundoscope.server.scratch import clear_scratch, make_scratch

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


def test_what_a_dead_process_left_is_removed_and_what_a_living_one_makes_is_not(tmp_path):
    call = [
        sys.executable,
        "-c",
        f"from pathlib import Path; from fundoscope.server.scratch import make_scratch; make_scratch(Path({str(tmp_path)!r}))",
    ]
    subprocess.run(call, check=True)
    (dead,) = tmp_path.iterdir()
    (dead / "half").write_bytes(b"x")
    mine = make_scratch(tmp_path)
    stranger = tmp_path / f"{os.getpid()}-abc-another"
    stranger.mkdir()
    clear_scratch(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine, stranger])
    os.utime(stranger, (0, 0))
    clear_scratch(tmp_path)
    assert list(tmp_path.iterdir()) == [mine] and mine.stat().st_mode & 0o077 == 0


@pytest.fixture
def benchmark_named(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.mark.services
def test_a_killed_room_loses_nothing_that_it_accepted_and_judges_nothing_twice(benchmark_named, tmp_path):
    kills = benchmark_named("room_kills")
    photographs = benchmark_named("room_clients").make_photographs(tmp_path / "photographs", 3)
    figures = kills.kill_again_and_again(
        tmp_path / "room", photographs, kills=4, clients=4, workers=1, seconds_between=2
    )
    assert figures["photographs accepted, receipt in hand"] > 8 and figures["requests without an answer"] > 0
    for name in (
        "photographs not judged exactly once", "accepted photographs that are not there", "places where the audit chain breaks",
        "files of photographs that are not what their name says", "pictures that cannot be decoded", "files left half-made",
        "requests that failed otherwise",
    ):  # fmt: skip
        assert figures[name] == 0, (name, figures)


@pytest.mark.services
def test_an_overrun_room_tells_to_wait_and_loses_nothing_that_it_accepted(benchmark_named, tmp_path):
    load = benchmark_named("room_load")
    photographs = benchmark_named("room_clients").make_photographs(tmp_path / "photographs", 3)
    figures = load.overrun(tmp_path / "room", photographs, seconds=15, clients=8, workers=1, waiting=10)
    assert figures["overfull queue: accepted"] >= 10 and figures["overfull queue: told to wait"] > 0
    for name in (
        "of these without Retry-After", "other failures", "accepted, not judged exactly once", "judged, not accepted",
    ):  # fmt: skip
        assert figures[f"overfull queue: {name}"] == 0, (name, figures)
