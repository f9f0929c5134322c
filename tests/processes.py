"""Processes that a test looks at from outside."""

import subprocess


def workers_at_work(program):
    """Processes below a program that carry out a task: its own ones, or Ray's."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    below = {program}
    for _ in range(4):  # program, raylet, worker
        below |= {int(pid) for pid, parent, _ in rows if int(parent) in below}
    at_work = ("ray::_work_in_ray", "multiprocessing.spawn")
    return [int(pid) for pid, _, text in rows if int(pid) in below and any(name in text for name in at_work)]
