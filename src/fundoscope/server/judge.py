"""A child process that judges photographs, as its worker sees it: started when it is needed, ended when it misbehaves."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from fundoscope.server.settings import UploadLimits

COMMAND = (sys.executable, "-m", "fundoscope.server.judge_child")

_LONGEST_ANSWER = 16 << 20  # bytes: a photograph of a thousand crossings has about one million
_STEP = 1 << 16
_KEPT_VARIABLES = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "OMP_NUM_THREADS",
    "TMPDIR",
    "SYSTEMROOT",
)


class JudgeAnswer(BaseModel):
    """What the child concluded of one photograph.

    `rows` are those of `results.json`, `photograph` the row of an adult's photograph in photographs.csv (None: an infant's); `size` is (rows, columns), None where it could not be read. `pictures` names files in the
    folder of the request: "photograph", "thumbnail", "activation", and for each crossing "crossing_3", "vessels_3", "attention_3";
    "activation_place" is where the activation map lies (left, top, width, height, as shares of the photograph), "profile_3" the
    drawing of a vein's width (see `reports.profile`).
    """

    model_config = ConfigDict(extra="forbid")

    grader: str
    bundle: str
    bundle_digest: str
    version: str
    status: str
    reason: str
    rows: list[dict[str, Any]]
    photograph: dict[str, Any] | None = None
    probability: float | None = None
    suspected: bool | None = None
    size: tuple[int, int] | None = None
    pictures: dict[str, Any] = {}


class JudgeUnableError(Exception):
    """The child cannot judge any photograph: no bundle, no room on the disk. The job is tried again later."""


class JudgeDiedError(Exception):
    """The child ended, or was ended, while it worked on a photograph; the message says how, as a clause. `hung`: it took too long."""

    def __init__(self, how: str, hung: bool = False) -> None:
        super().__init__(how)
        self.hung = hung


class JudgeProcess:
    """One child process; use it from one thread at a time. `command` starts it, behind which the limits are put."""

    def __init__(self, limits: UploadLimits, command: Sequence[str] = COMMAND) -> None:
        self._limits = limits
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def judge(self, photograph: Path, name: str, task: str, folder: Path) -> JudgeAnswer:
        """Have a photograph judged; its pictures are made in `folder`, which must be there.

        Raises `JudgeDiedError` where the child crashed, took longer or more memory than it may, and `JudgeUnableError` where it
        could not begin. The next call starts a new child.
        """
        request = {"photograph": str(photograph), "name": name, "task": task, "folder": str(folder)}
        process = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(self._read_line(process, time.monotonic() + self._limits.grading_seconds))
            if "error" in answer:
                raise JudgeUnableError(answer["error"])
            return JudgeAnswer.model_validate(answer)
        except OSError as error:
            raise JudgeDiedError(self._describe_end()) from error
        except (ValueError, TypeError) as error:  # a ValidationError is a ValueError
            self.stop()
            raise JudgeDiedError("the program gave an answer that cannot be read") from error
        except JudgeDiedError:
            self.stop()
            raise

    def stop(self) -> None:
        """End the child."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        _close_pipes(process)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.stop()
        limits = [str(self._limits.grading_bytes), str(self._limits.grading_seconds)]
        self._process = subprocess.Popen(
            [*self._command, *limits],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=True,
            env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
        )  # fmt: skip
        return self._process

    def _read_line(self, process: subprocess.Popen[bytes], until: float) -> bytes:
        """One line of the child's answers; it is read as it comes, so that a child that hangs is noticed."""
        assert process.stdout is not None
        parts = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not parts.endswith(b"\n"):
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise JudgeDiedError(f"it took longer than {self._limits.grading_seconds} seconds", hung=True)
                part = os.read(process.stdout.fileno(), _STEP)
                if not part:
                    raise JudgeDiedError(self._describe_end())
                parts += part
                if len(parts) > _LONGEST_ANSWER:
                    raise JudgeDiedError("the program's answer is too long")
        return bytes(parts)

    def _describe_end(self) -> str:
        """How the child ended, as a clause; it is gone afterwards."""
        process, self._process = self._process, None
        assert process is not None
        try:
            code = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        _close_pipes(process)
        if code == -signal.SIGKILL:
            return "the system ended the program that read it, for want of memory most likely"
        if code < 0:
            return f"the program that read it crashed ({signal.Signals(-code).name})"
        return f"the program that read it ended with code {code}"


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # what was still to be written to a process that is gone
                pipe.close()
