"""Limits that a process of ours gives itself before it reads what came from elsewhere."""

from __future__ import annotations

import resource


def limit(kind: int, value: int) -> None:
    """Set a limit of this process, never above the one that it has been given."""
    _, hard = resource.getrlimit(kind)
    soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (soft, hard))
