"""Who writes the parts of an archive: processes on this machine, or actors of Ray on this one and others.

Both give the same rows. A worker that is killed, or that a photograph takes down with it, costs its part: that is written again,
and if it fails twice, photograph by photograph, so that the one that ends the program is a row `failed`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from fundoscope.errors import UsageError, nearest, need
from fundoscope.findings import GradedPhotograph
from fundoscope.processors import count_processors
from fundoscope.runs.archive import ArchiveCounts, ArchivePart, PartWriter, grade_path

ENGINES = ("local", "ray")

_TRIES = 2  # of a part as a whole

_writer: PartWriter | None = None  # of this worker


@dataclass(frozen=True)
class ArchiveEngine:
    """Which engine writes (`local` or `ray`), by how many workers, and the address of a Ray cluster; blank: this machine."""

    name: str = "local"
    workers: int = 0  # 0: one for each processor
    address: str = ""

    def __post_init__(self) -> None:
        """Raise `UsageError` for an engine that is not known or an address that it has no use for."""
        if self.name not in ENGINES:
            raise UsageError(f"--engine {self.name}: there is no such engine; {nearest(self.name, ENGINES)}")
        if self.address and self.name != "ray":
            raise UsageError("--address is a Ray cluster's: add --engine ray, or leave it out.")

    def write(self, writer: PartWriter, parts: Iterable[ArchivePart]) -> Iterator[ArchiveCounts]:
        """Write the parts; gives the counts of each as it is done."""
        workers = self.workers or count_processors()
        if self.name == "ray":
            need("ray", what="--engine ray", extra="cluster")
            return write_by_ray(writer, parts, workers, self.address or None)
        return write_by_processes(writer, parts, workers)


def write_by_processes(writer: PartWriter, parts: Iterable[ArchivePart], workers: int) -> Iterator[ArchiveCounts]:
    """Write parts by `workers` processes of this machine; gives the counts of each as it is done."""
    waiting, again, tries = iter(parts), deque[ArchivePart](), Counter[str]()
    while True:
        running: dict[Future[ArchiveCounts], ArchivePart] = {}
        pool = _pool(writer, workers)
        try:
            while True:
                while len(running) < 2 * workers and (part := again.popleft() if again else next(waiting, None)):
                    if tries[part.name] >= _TRIES:
                        yield writer.write_graded(part, _grade_each_alone(writer, part))
                    else:
                        running[pool.submit(_write, part)] = part
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    counts = future.result()
                    del running[future]
                    yield counts
        except BrokenProcessPool:  # a worker was killed: its part is among these
            again.extend(running.values())
            tries.update(part.name for part in running.values())
        finally:
            pool.shutdown(cancel_futures=True)


def _pool(writer: PartWriter, workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
    return ProcessPoolExecutor(workers, context, _begin_worker, (writer, workers, context.Value("i", 0)))


def _begin_worker(writer: PartWriter, workers: int, counter: Any) -> None:
    """Take a share of the processors, so that this worker's libraries start as many threads as it has, and keep the writer."""
    global _writer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with counter.get_lock():
        number, counter.value = counter.value, counter.value + 1
    _take_processors(number, workers)
    _writer = PartWriter(writer.grader, writer.folder, writer.base)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _take_processors(number: int, workers: int) -> None:
    if not hasattr(os, "sched_setaffinity"):
        return
    mine = sorted(os.sched_getaffinity(0))
    share = max(1, len(mine) // workers)
    first = number * share % len(mine)
    os.sched_setaffinity(0, mine[first : first + share])


def _write(part: ArchivePart) -> ArchiveCounts:
    assert _writer is not None
    return _writer.write(part)


def _grade_each_alone(writer: PartWriter, part: ArchivePart) -> Iterator[GradedPhotograph]:
    """Each photograph in a process that may die of it."""
    pool = _pool(writer, 1)
    try:
        for path in part.paths:
            try:
                yield pool.submit(_grade, path).result()
            except BrokenProcessPool:
                pool.shutdown()
                pool = _pool(writer, 1)
                reason = "the program was ended by it. Report this photograph to its makers."
                yield writer.grader.failed(path, reason)
    finally:
        pool.shutdown()


def _grade(path: str) -> GradedPhotograph:
    assert _writer is not None
    graded = grade_path(_writer.grader, _writer.base, path)
    return GradedPhotograph(graded.findings)  # the evidence stays here


def write_by_ray(
    writer: PartWriter, parts: Iterable[ArchivePart], workers: int, address: str | None
) -> Iterator[ArchiveCounts]:
    """Write parts by `workers` actors of Ray, on the cluster at `address` or on this machine; only paths travel.

    The archive's folder, and files that are named without an address, must be seen by every node.
    """
    import ray
    import ray.data

    begun = not ray.is_initialized()
    if begun:
        try:
            own: dict[str, Any] = (
                {"address": address} if address else {"address": "local", "num_cpus": max(workers, count_processors())}
            )
            ray.init(**own, include_dashboard=False, log_to_driver=False, configure_logging=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"--address {address}: no Ray cluster answers there ({error}). Check the address."
            ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        items = [{"first": part.first, "paths": list(part.paths)} for part in parts]
        if not items:
            return
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _RayWriter, fn_constructor_args=(writer,), batch_size=1, batch_format="numpy", compute=ray.data.ActorPoolStrategy(size=workers), num_cpus=1,
        )  # fmt: skip
        for row in dataset.iter_rows():
            yield ArchiveCounts.from_json(json.loads(row["counts"]))
    finally:
        if begun:
            ray.shutdown()


class _RayWriter:
    """An actor that holds the bundle, and writes a part for each batch."""

    def __init__(self, writer: PartWriter) -> None:
        self.writer = writer

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Counts of the parts of a batch, as JSON."""
        written = []
        for first, paths in zip(batch["first"], batch["paths"], strict=True):
            counts = self.writer.write(ArchivePart(int(first), tuple(map(str, paths))))
            written.append(json.dumps(counts.to_json()))
        return {"counts": written}
