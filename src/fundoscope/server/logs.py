"""What the room writes down while it works: one JSON object a line, with numbers and codes, never with a name of a person.

An error is written as its kind and the lines of the program that it passed: its message could hold what somebody typed. Addresses
of pages are written as their pattern (`/exams/{exam_id}`), without the question mark and what follows it.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from typing import TextIO

import structlog

#: Loggers that tell of every step.
_TALKATIVE = (
    "alembic",
    "httpx",
    "httpx2",
    "asyncio",
    "PIL",
    "fontTools",
    "weasyprint",
    "multipart",
    "python_multipart",
)
_MOST_FRAMES = 25
_PACKAGE = Path(__file__).parents[1]

Event = MutableMapping[str, object]


def describe_frames(error: BaseException) -> list[str]:
    """The lines that an error passed, the innermost last: `server/app.py:31 create_app`."""
    frames = traceback.extract_tb(error.__traceback__)[-_MOST_FRAMES:]
    return [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]


def _short(name: str) -> str:
    path = Path(name)
    return path.relative_to(_PACKAGE).as_posix() if path.is_relative_to(_PACKAGE) else "/".join(path.parts[-2:])


def _write_error(logger: object, name: str, event: Event) -> Event:
    """Instead of a traceback with its message: kind and frames, also of the error that caused it."""
    info = event.pop("exc_info", None)
    error = (
        info[1]
        if isinstance(info, tuple)
        else info
        if isinstance(info, BaseException)
        else sys.exc_info()[1]
        if info
        else None
    )
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        event["frames"] = describe_frames(error)
        if error.__cause__ is not None:
            event["cause"] = type(error.__cause__).__name__
    return event


_SHARED: list[structlog.types.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    _write_error,
]

structlog.configure(
    processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)


def write_logs(stream: TextIO | None = None) -> None:
    """From now on write all logs of this process as JSON to `stream`, standard error where it is None."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.EventRenamer("what"),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    for talks in (root, logging.getLogger("fundoscope")):
        talks.setLevel(logging.INFO)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


def get_log(name: str) -> structlog.stdlib.BoundLogger:
    """The log of a part of the program."""
    return structlog.stdlib.get_logger(name)
