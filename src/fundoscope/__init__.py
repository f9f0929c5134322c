"""Fundoscope grades retinas with little data: retinopathy of prematurity, and artery-vein nicking.

import fundoscope

for finding in fundoscope.load("rop").screen(["left.png", "right.png"]):
print(finding.file, finding.status, finding.p_rop)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

if TYPE_CHECKING:
    from fundoscope.nicking.grading.grader import NickingGrader
    from fundoscope.rop.screening.grader import RopGrader

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> str:
    """`__version__`, looked up when it is asked for: reading metadata would slow every command's start."""
    if name != "__version__":
        raise AttributeError(f"module 'fundoscope' has no attribute '{name}'")
    from importlib.metadata import version

    return version("fundoscope")


@overload
def load(task: Literal["rop"] = "rop", bundle: str | Path | None = None) -> RopGrader: ...


@overload
def load(task: Literal["nicking"], bundle: str | Path | None = None) -> NickingGrader: ...


def load(task: str = "rop", bundle: str | Path | None = None) -> RopGrader | NickingGrader:
    """The grader of a task, from the shipped bundle of that name or from `bundle`, a folder.

    Raises `UsageError` for an unknown task, and `BundleError` for a bundle that is missing or broken.
    """
    from fundoscope.errors import UsageError, nearest

    if task == "nicking":
        from fundoscope.nicking.grading.grader import NickingGrader

        return NickingGrader.open(bundle or task)
    if task != "rop":
        raise UsageError(f"There is no grader '{task}': {nearest(task, ['rop', 'nicking'])}")
    from fundoscope.rop.screening.grader import RopGrader

    return RopGrader.open(bundle or task)
