from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from fundoscope.imaging import read
from fundoscope.imaging.kinds import READ

COUNT = 320  # every change of every file
MAX_SECONDS = 5.0  # of processor time, for all together a fraction of that


@pytest.fixture(scope="module")
def mutations() -> ModuleType:
    path = Path(__file__).parent.parent / "benchmarks" / "mutations.py"
    spec = importlib.util.spec_from_file_location("mutations", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutations"] = module
    spec.loader.exec_module(module)
    return module


def test_every_seed_is_whole_and_read(mutations):
    kinds = {read(data, name).format for name, data in mutations.seeds().items()}
    assert kinds == set(READ)


def test_broken_files_are_read_or_refused_and_nothing_else(mutations):
    begin = time.process_time()
    outcomes = [(mutant, *mutations.outcome(mutant)) for mutant in mutations.mutants(COUNT, seed=1)]
    foreign = [f"{m.name} ({m.change}): {verdict}: {said}" for m, verdict, _, said in outcomes]
    assert not [
        line for line, (_, verdict, _, _) in zip(foreign, outcomes, strict=True) if verdict not in ("read", "refused")
    ]
    assert {m.change for m, *_ in outcomes} == set(mutations.CHANGES)
    assert {m.seed for m, *_ in outcomes} == set(mutations.seeds())
    assert sum(verdict == "refused" for _, verdict, _, _ in outcomes) > COUNT / 4
    assert time.process_time() - begin < MAX_SECONDS


def test_no_cut_file_is_read(mutations):
    cut = [m for m in mutations.mutants(5 * COUNT, seed=2) if m.change == "cut"]
    assert len(cut) > 50
    assert not [m.name for m in cut if mutations.outcome(m)[0] != "refused"]


def test_an_exception_of_another_kind_would_be_seen(mutations, monkeypatch):
    def fails(*_: object) -> None:
        raise IndexError("out of range")

    monkeypatch.setattr(mutations, "read", fails)
    assert mutations.outcome(next(mutations.mutants(1)))[0] == "IndexError"
