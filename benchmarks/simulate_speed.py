"""Photographs a second, truth included, and peak memory of `simulate` at DRIVE and RetCam size.

    python benchmarks/simulate_speed.py [PHOTOGRAPHS] [WORKERS] > simulate_speed.csv

Prints one row a run; the last column is the memory of the larger run over that of the smaller (flat: about 1).
Seconds of processor time are given beside the wall clock, because a busy machine stretches only the latter.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_CALL = """
import resource, sys
from fundoscope import simulate
write, camera, n, workers, out = sys.argv[1:]
getattr(simulate, write)(int(n), out, workers=int(workers), camera=camera)
print(max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024)
"""


def run(write: str, camera: str, n: int, workers: int) -> tuple[float, float, float]:
    """Seconds, processor seconds and the largest process's MiB."""
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        # the guard is what `multiprocessing` asks of a main script
        body = _CALL.strip().splitlines()
        script.write("\n".join([*body[:2], "if __name__ == '__main__':", *("    " + line for line in body[2:])]) + "\n")
        script.flush()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        call = [sys.executable, script.name, write, camera, str(n), str(workers), str(Path(folder) / "out")]
        answer = subprocess.run(call, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    work = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, work, float(answer.stdout)


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    print("what,camera,photographs,workers,per_second,processor_seconds_each,peak_mib,memory_ratio")
    for write, camera in (("write_adults", "drive"), ("write_infants", "retcam")):
        few, many = run(write, camera, max(1, n // 4), workers), run(write, camera, n, workers)
        figures = f"{n / many[0]:.2f},{many[1] / n:.2f},{many[2]:.0f},{many[2] / few[2]:.2f}"
        print(f"{write.removeprefix('write_')},{camera},{n},{workers},{figures}", flush=True)


if __name__ == "__main__":
    main()
