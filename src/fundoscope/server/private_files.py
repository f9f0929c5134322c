"""Files for their owner only."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def private_files() -> Generator[None]:
    """Files that this process makes within the block are for their owner only: 0600, folders 0700."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
