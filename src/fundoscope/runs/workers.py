"""Workers who carry out one piece of work after the other: processes of this machine, or tasks of Ray on this one and others.

Archives and studies go through the one loop here. A worker may be killed, or die of its work: what it was at is given to
another one, and after `TRIES` times it comes back without a result. Nothing but the work's description travels to a worker,
and its result back: what is large is read and written by the worker, in files that every machine sees at the same place.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import socket
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from fundoscope.errors import UsageError, nearest, need
from fundoscope.processors import count_processors

ENGINES = ("local", "ray")
#: How often workers may be lost over an item before it comes back without a result.
TRIES = 2

T = TypeVar("T")
R = TypeVar("R")

#: What tells the machines and users of a cluster from others; `ray get-auth-token --generate` makes it.
_RAY_TOKEN = Path.home() / ".ray" / "auth_token"
_STORE = 256 * 2**20  # bytes of Ray's memory on this machine: descriptions of work, no pixels


@dataclass(frozen=True, slots=True)
class WorkItem(Generic[T]):
    """A task for one worker, under a `key`; it begins when the items of the keys `after`, which come before it, are done."""

    key: str
    task: T
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkEngine:
    """Which engine carries out work (`local` or `ray`), by how many workers, and the address of a Ray cluster; blank: this machine.

    With 0 `workers` there are as many as there are processors for; `threads` are those of a worker, 0 where the work itself knows.
    """

    name: str = "local"
    workers: int = 0
    address: str = ""
    threads: int = 0

    def __post_init__(self) -> None:
        """Raise `UsageError` for an engine that is not known or an address that it has no use for."""
        if self.name not in ENGINES:
            raise UsageError(f"--engine {self.name}: there is no such engine; {nearest(self.name, ENGINES)}")
        if self.address and self.name != "ray":
            raise UsageError("--address is a Ray cluster's: add --engine ray, or leave it out.")
        if self.name == "ray":
            need("ray", what="--engine ray", extra="cluster")

    @property
    def here(self) -> bool:
        """Whether a study's fits are carried out in this process, one after the other."""
        return self.name == "local" and self.workers < 2

    @property
    def processes(self) -> int:
        """How many processes of this machine may do what a study does here in any case, such as drawing patches."""
        return max(1, min(self.workers, count_processors()) if self.name == "ray" else self.workers)

    def threads_each(self, here: int) -> int:
        """Threads of each worker of a study, equal shares of the `here` ones of this process if nothing else was asked for; 0 for
        fits in this process, whose threads stay as they are.
        """
        return 0 if self.here else self.threads or max(1, here // max(1, self.workers))

    def carry_out(
        self, work: Callable[[T], R], items: Iterable[WorkItem[T]], processors: int = 1
    ) -> Iterator[tuple[WorkItem[T], R | None]]:
        """`work` of each item's task, on `processors` each; gives each item and its result as it is done, None where workers
        were lost over it `TRIES` times. `work` is sent to a worker once; items are drawn when a worker is free. What `work` raises
        is raised here.
        """
        start = self._start_ray if self.name == "ray" else self._start_processes
        source, held = iter(items), list[WorkItem[T]]()
        pending, lost, running = set[str](), Counter[str](), dict[Future[R], WorkItem[T]]()

        def draw() -> WorkItem[T] | None:
            for item in held:
                if pending.isdisjoint(item.after):
                    held.remove(item)
                    return item
            for item in source:
                pending.add(item.key)
                if pending.isdisjoint(item.after):
                    return item
                held.append(item)
            return None

        with start(work, processors) as pool:
            while True:
                while len(running) < pool.workers and (item := draw()) is not None:
                    running[pool.submit(item.task)] = item
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    item, result = running.pop(future), None
                    try:
                        result = pool.result(future)
                    except _WorkerLostError:
                        lost[item.key] += 1
                        if lost[item.key] < TRIES:
                            held.insert(0, item)
                            continue
                    pending.discard(item.key)
                    yield item, result

    @contextmanager
    def _start_processes(self, work: Callable[[Any], Any], _: int) -> Generator[_Processes]:
        pool = _Processes(work, self.workers or count_processors())
        try:
            yield pool
        finally:
            pool.executor.shutdown(cancel_futures=True)

    @contextmanager
    def _start_ray(self, work: Callable[[Any], Any], processors: int) -> Generator[_RayTasks]:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # which would tell its makers
        os.environ.setdefault("RAY_worker_niceness", "0")  # 15 is Ray's own: beside other programs a third of the speed
        if self.address and _RAY_TOKEN.exists():  # which Ray shows to a cluster only when told so
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        import ray

        logging.getLogger("ray").setLevel(logging.ERROR)  # after the import, which sets it
        begun = not ray.is_initialized()
        if begun:
            here = max(self.workers * processors, count_processors())
            own: dict[str, Any] = (
                {"address": self.address}
                if self.address
                else {"address": "local", "num_cpus": here, "object_store_memory": _STORE, "include_dashboard": False}
            )
            host, _, port = self.address.removeprefix("ray://").rpartition(":")
            try:
                if host and port.isdecimal():  # Ray itself asks for minutes before it gives up
                    socket.create_connection((host, int(port)), timeout=10).close()
                ray.init(**own, log_to_driver=False, configure_logging=False)
            except (OSError, ValueError, RuntimeError) as error:
                raise UsageError(
                    f"--address {self.address}: no Ray cluster answers there ({error}). Check the address, and that {_RAY_TOKEN} is the "
                    "cluster's own where it has one."
                ) from error
        try:
            yield _RayTasks(work, self.workers, processors)
        finally:
            if begun:
                ray.shutdown()


class _WorkerLostError(Exception):
    """The worker was ended before its work was."""


class _Pool(Protocol):
    """Workers that hold the work: at most `workers` tasks are with them at a time."""

    workers: int

    def submit(self, task: Any) -> Future[Any]: ...

    def result(self, future: Future[Any]) -> Any:
        """What the work gave, or what it raised; `_WorkerLostError` where its worker is gone."""
        ...


class _Processes:
    """Processes of this machine, each with its share of the processors; when one is killed all are begun anew."""

    def __init__(self, work: Callable[[Any], Any], workers: int) -> None:
        self.workers, self.work = workers, pickle.dumps(work)
        self.executor = self._begin()

    def _begin(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # a fork would copy threads' locks
        arguments = (self.work, self.workers, context.Value("i", 0))
        return ProcessPoolExecutor(self.workers, context, _begin_process, arguments)

    def submit(self, task: Any) -> Future[Any]:
        try:
            return self.executor.submit(_work_here, task)
        except BrokenProcessPool:
            self.executor.shutdown()
            self.executor = self._begin()
            return self.executor.submit(_work_here, task)

    def result(self, future: Future[Any]) -> Any:
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise _WorkerLostError from error


_work: Callable[[Any], Any] | None = None  # of this worker
_work_key = ""  # which of Ray's it is


def _begin_process(work: bytes, workers: int, counter: Any) -> None:
    """Take a share of the processors, so that this worker's libraries start as many threads as it has, then read the work."""
    global _work
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with counter.get_lock():
        number, counter.value = counter.value, counter.value + 1
    _take_processors(number, workers)
    _work = pickle.loads(work)


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


def _work_here(task: Any) -> Any:
    assert _work is not None
    return _work(task)


class _RayTasks:
    """Tasks of Ray on `processors` each, and on a GPU each where the cluster has any; Ray chooses the machine.

    A worker of Ray reads the work when its first task comes, and keeps it. Nothing is tried again by Ray itself.
    """

    def __init__(self, work: Callable[[Any], Any], workers: int, processors: int) -> None:
        import ray

        there = ray.cluster_resources()
        self.workers = workers or max(1, int(there.get("CPU", 1)) // processors)
        self._kept = ray.put((Path.cwd(), pickle.dumps(work)))
        self._task = ray.remote(num_cpus=processors, num_gpus=1 if there.get("GPU", 0) >= 1 else 0, max_retries=0)(
            _work_in_ray
        )

    def submit(self, task: Any) -> Future[Any]:
        return self._task.remote([self._kept], task).future()

    def result(self, future: Future[Any]) -> Any:
        from ray import exceptions

        try:
            return future.result()
        except exceptions.RayTaskError as error:
            raise error.cause from error
        except exceptions.RayError as error:
            raise _WorkerLostError from error


def _work_in_ray(kept: list[Any], task: Any) -> Any:
    """Carry out a task by the work that lies in Ray's memory; relative paths are those of the program that began it."""
    global _work, _work_key
    if _work is None or _work_key != kept[0].hex():
        import ray

        folder, work = ray.get(kept[0])
        with suppress(OSError):  # a machine on which everything is named by whole paths
            os.chdir(folder)
        _work, _work_key = pickle.loads(work), kept[0].hex()
    return _work(task)
