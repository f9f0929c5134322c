"""Where the time of a run goes: stages in several threads, and what `--profile` prints of them."""

import json
import re
import subprocess
import sys
import threading
import time
import timeit

import pytest
from test_cli_screen import run

from fundoscope.stopwatch import NETWORK, PHOTOGRAPH, measured_stages, stage


def busy(seconds):
    """Work for so long by the clock of this thread's processor."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def work_on_photograph():
    with stage(PHOTOGRAPH):
        busy(0.01)
        with stage("quality"):
            busy(0.02)
            with stage("square"):
                busy(0.03)
        with stage(NETWORK):
            busy(0.04)


def test_a_stage_counts_without_those_within_it_and_threads_add_up():
    with measured_stages() as times:
        threads = [threading.Thread(target=work_on_photograph) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    wanted = {PHOTOGRAPH: 0.02, "quality": 0.04, "square": 0.06, NETWORK: 0.08}
    assert set(times.seconds) == set(wanted)
    for name, seconds in wanted.items():
        found = times.of(name)
        assert seconds <= found.processor < seconds + 0.01 and found.clock >= 0.9 * found.processor
        assert found.count == len(found.threads) == 2
    said = times.describe()
    ratio = float(re.search(r"in all .* ([\d.]+) times the network's", said)[1])
    assert abs(ratio - 2.5) < 0.2 and "of 2 threads" in said


def test_an_error_ends_its_stage_and_the_next_photograph_counts_anew():
    with measured_stages() as times:
        for _ in range(2):
            with pytest.raises(OSError, match="cut short"), stage(PHOTOGRAPH), stage("decode"):
                busy(0.005)
                raise OSError("cut short")
    assert times.of("decode").count == 2 and times.of("decode").processor >= 0.01
    assert times.of(PHOTOGRAPH).processor < 0.005


def test_where_nobody_measures_a_stage_costs_next_to_nothing_and_is_not_kept():
    with measured_stages() as times:
        pass
    assert min(timeit.repeat("with stage('decode'): pass", number=1000, repeat=20, globals=globals())) < 0.003
    assert not times.seconds and times.describe() == "no photograph was worked on"


def test_profile_prints_every_stage_and_changes_no_answer(eyes, tiny_bundle, tmp_path):
    call = ["rop", "screen", eyes[0], eyes[1], eyes[0], "--bundle", tiny_bundle, "-q", "--out"]
    plain = run(*call, tmp_path / "plain")
    profiled = run(*call, tmp_path / "profiled", "--profile")
    assert plain.stderr == "" and profiled.stdout == ""
    said = {line[:15].strip(): line.split() for line in profiled.stderr.splitlines()}
    stages = ["decode", "field", "square", "quality", "tensor", NETWORK, "explanation", PHOTOGRAPH, "in all"]
    assert set(stages) | {"idle", "writing", "waiting"} < set(said)
    assert all(float(said[name][1 + name.count(" ")]) > 0 for name in stages)
    rows = [json.loads((tmp_path / name / "results.json").read_text())["rows"] for name in ("plain", "profiled")]
    for row in (*rows[0], *rows[1]):
        del row["seconds"]
    assert rows[0] == rows[1] and len(rows[0]) == 3


def test_screening_loads_nothing_that_only_measuring_vessels_needs():
    heavy = ("scipy", "networkx", "skimage", "pandas", "PIL", "fundoscope.cohort")
    code = f"""
import sys
import fundoscope.rop.screening.grader, fundoscope.runs
print([name for name in {heavy!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
