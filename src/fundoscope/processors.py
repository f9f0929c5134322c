"""How the processors of this process are shared out among the libraries that work on a photograph."""

from __future__ import annotations

import os

import cv2
from threadpoolctl import threadpool_limits


def count_processors() -> int:
    """How many processors this process may use, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and Windows


def share_processors(wanted: int) -> int:
    """Limit the threads of OpenCV and BLAS, and return how many threads a network may use.

    `wanted` threads are to work on one photograph; there are never more than processors or than OMP_NUM_THREADS says (which Ray sets
    for each of its workers), and at least one. OpenCV gets as many as the network, since the two take turns. BLAS gets one: the
    products here are small, and its waiting threads take the processors from all others. (`nicking grade` on 4 photographs of DRIVE
    beside a dozen busy processes took 9 processor-seconds with one BLAS thread and 30 with one a processor.) Both limits hold for
    the whole process.
    """
    told = os.environ.get("OMP_NUM_THREADS", "")
    threads = max(1, min(wanted, count_processors(), int(told) if told.isdecimal() else wanted))
    threadpool_limits(1, user_api="blas")
    cv2.setNumThreads(threads)
    return threads
