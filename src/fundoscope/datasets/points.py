"""Marked points from MATLAB files: `*_JunctionsPos.mat` with `CrossPos`, `BiffPos` and `EndpointPos`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from fundoscope.datasets.files import match_stems
from fundoscope.datasets.record import Mask, Points
from fundoscope.errors import PhotographError

_SUFFIX = "_JunctionsPos"
_FIELDS = {"crossings": "CrossPos", "bifurcations": "BiffPos", "endpoints": "EndpointPos"}
_REACHED = 0.6  # share of the columns that the rightmost of many points reaches in the right frame
_MANY = 20


def point_files(photographs: Sequence[Path], folder: Path, may_lack: bool = False) -> dict[Path, Path]:
    """Each photograph with its `<photograph>_JunctionsPos.mat` in any folder below `folder`; errors as in `match_by_name`."""
    there = {path.stem.removesuffix(_SUFFIX): path for path in sorted(folder.rglob(f"*{_SUFFIX}.mat"))}
    return match_stems({path.stem: path for path in photographs}, there, folder, may_lack)


def read_points(path: Path, field: Mask) -> dict[str, Points]:
    """`crossings`, `bifurcations` and `endpoints`, each (n, 2), row and column, 0-based: the file's are 1-based.

    Raises `PhotographError` where the file cannot be read, lacks one of them, or its points belong to another frame: some lie
    outside the photograph, or all in its left part.
    """
    try:
        stored = loadmat(path)
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        raise PhotographError(str(path), f"cannot be read ({error})", "Copy the file again from its source.") from error
    points = {name: _points(path, stored, key) for name, key in _FIELDS.items()}
    _check_frame(path, np.vstack(list(points.values())), field)
    return points


def _points(path: Path, stored: dict[str, Points], key: str) -> Points:
    if key not in stored:
        known = ", ".join(name for name in stored if not name.startswith("__")) or "nothing"
        raise PhotographError(
            str(path), f"holds no {key}, but {known}", f"It should hold {', '.join(_FIELDS.values())}."
        )
    values = np.asarray(stored[key])
    if values.size == 0:
        return np.zeros((0, 2))
    if values.ndim != 2 or values.shape[1] != 2 or values.dtype.kind not in "iuf":
        raise PhotographError(
            str(path), f"its {key} is no list of (row, column)", "Copy the file again from its source."
        )
    return values.astype(float) - 1


def _check_frame(path: Path, points: Points, field: Mask) -> None:
    remedy = "Put the points beside the photographs that they were marked in."
    if len(points) and ((points < 0) | (points > np.array(field.shape) - 1)).any():
        raise PhotographError(str(path), f"marks places outside the photograph's {field.shape}", remedy)
    if len(points) >= _MANY and points[:, 1].max() < _REACHED * field.shape[1]:
        cause = (
            f"marks only the left {points[:, 1].max() / field.shape[1]:.0%} of the photograph: it is in another frame"
        )
        raise PhotographError(str(path), cause, remedy)
