"""A process that runs beside a server, and the pipes between the two.

The server writes the settings as the first line of the process's standard input, and a byte whenever it is to wake; the end of the
pipe says that the server is gone. The process writes the numbers of exams that have changed to its standard output, a line each.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from fundoscope.server.settings import ServerSettings

_PIPED = "--piped"
_LONGEST_RESTART_SECONDS = 30.0
_log = logging.getLogger(__name__)


# --- in the process


def read_piped_settings() -> ServerSettings | None:
    """The settings that the server wrote; None for a process that was started otherwise. Ends the process where the server is gone."""
    if sys.argv[1:] != [_PIPED]:
        return None
    first = b""
    while not first.endswith(b"\n"):
        part = os.read(0, 1)  # by single bytes: what follows is for waking
        if not part:
            sys.exit()
        first += part
    return ServerSettings.model_validate(json.loads(first))


class ServerPipe:
    """What a process hears and tells: `ended` is set by SIGTERM, by SIGINT, or where `piped` at the end of standard input.

    Whatever else is printed goes to standard error from now on.
    """

    def __init__(self, piped: bool) -> None:
        self.ended = threading.Event()
        self._piped = piped
        self._answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        signal.signal(signal.SIGTERM, self._end)
        # Ctrl-C goes to the whole group: the server tells us
        signal.signal(signal.SIGINT, signal.SIG_IGN if piped else self._end)

    def listen(self, wake: Callable[[], None] = lambda: None) -> None:
        """Hear the server from now on: `wake` is called at each byte that it writes."""
        if self._piped:
            threading.Thread(target=self._listen, args=(wake,), name="pipe", daemon=True).start()

    def tell(self, exam: int) -> None:
        """Tell the server that an exam has changed."""
        if self._piped:
            with suppress(OSError, ValueError):  # whoever listened is gone
                self._answers.write(f"{exam}\n")

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.ended.set()

    def _listen(self, wake: Callable[[], None]) -> None:
        while os.read(0, 4096):
            wake()
        self.ended.set()


# --- in the server


class PipedProcess:
    """A process as the server beside it sees it: started, woken, and started again where it died.

    `module` is what runs. `on_done` is called from a thread of this object with the number of each exam that it tells.
    """

    def __init__(self, settings: ServerSettings, module: str, on_done: Callable[[int], None] = lambda _: None) -> None:
        self._settings = settings
        self._module = module
        self._on_done = on_done
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep_running, name="process", daemon=True)
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start it."""
        self._thread.start()

    def wake(self) -> None:
        """Tell it that there are new jobs."""
        process = self._process
        if process is not None and process.stdin is not None:
            with suppress(OSError, ValueError), self._lock:
                process.stdin.write(b".")
                process.stdin.flush()

    def stop(self, seconds: float = 20) -> None:
        """Let it finish what it has in hand, `seconds` at most, and end it."""
        self._stopping.set()
        process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join(seconds)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def _keep_running(self) -> None:
        wait = 1.0
        while not self._stopping.is_set():
            with subprocess.Popen(
                [sys.executable, "-m", self._module, _PIPED],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            ) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                with suppress(OSError):
                    process.stdin.write(self._settings.model_dump_json().encode() + b"\n")
                    process.stdin.flush()
                self._process = process
                for line in process.stdout:
                    wait = 1.0
                    self._on_done(int(line))
                with suppress(OSError):
                    process.stdin.close()
            if not self._stopping.wait(wait):
                _log.error("%s ended with code %s; another one starts", self._module, process.returncode)
                wait = min(2 * wait, _LONGEST_RESTART_SECONDS)
