"""One record for the photographs of all sets, and a set as a sequence whose records are read when they are needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import PhotographError, UsageError
from fundoscope.imaging import Pixels, read
from fundoscope.imaging.local_contrast import DIAMETER

Mask = NDArray[np.bool_]
Points = NDArray[np.float64]

WIDE = 4.0  # pixels at DRIVE's scale: a crossing is wide where both its vessels are at least that
_SAME = 0.03  # relative difference of size that the drawing of a field's rim makes: no difference of scale


@dataclass(frozen=True, slots=True, eq=False)
class PhotographRecord:
    """One photograph with the truth that its set gives; None where the set gives nothing.

    Masks are (rows, columns) in pixels of the file; `artery` and `vein` both include the pixels of `crossing_map`. Points are
    (n, 2), row and column, 0-based, in pixels of the file; `artery_widths` and `vein_widths` (n,) are in pixels, at the
    crossings. `doubtful` (n, 2) are places of which the set does not say whether they are crossings: what is found there is
    neither right nor wrong. `grades` are the nicking grades 0 to 3 of the crossings, or the one grade of a patch. `group`, the photograph or
    the subject, must not be split between training and test. `complete` says that no crossing is missing.
    """

    name: str
    dataset: str
    path: Path
    group: str
    field: Mask
    vessel: Mask | None = None
    artery: Mask | None = None
    vein: Mask | None = None
    crossing_map: Mask | None = None
    crossings: Points | None = None
    artery_widths: Points | None = None
    vein_widths: Points | None = None
    doubtful: Points | None = None
    grades: NDArray[np.int64] | None = None
    bifurcations: Points | None = None
    endpoints: Points | None = None
    complete: bool = True

    @property
    def pixels(self) -> Pixels:
        """The photograph (rows, columns, 3), RGB, uint8, read from the file at every call. Raises `PhotographError`."""
        pixels = read(self.path).pixels
        if pixels.shape[:2] != self.field.shape:
            cause = f"is {_size(pixels)}, but its masks are {_size(self.field)} (rows x columns)"
            raise PhotographError(str(self.path), cause, "Give photographs and masks of the same release.")
        return pixels

    @property
    def scale(self) -> float:
        """The number of pixels of the file for one of DRIVE's; 1 where the field is within 3 % of DRIVE's size."""
        return drive_scale(self.field)

    @property
    def wide(self) -> Mask | None:
        """Which crossings (n,) are wide: both vessels at least 4 px at DRIVE's scale; None where widths are unknown."""
        if self.artery_widths is None or self.vein_widths is None:
            return None
        return np.minimum(self.artery_widths, self.vein_widths) >= WIDE * self.scale


@dataclass(frozen=True, slots=True, eq=False)
class PhotographSource:
    """A photograph of a set and the files of its truth, which all existed when the set was opened.

    `reader` reads its record; nothing is read before.
    """

    name: str
    dataset: str
    path: Path
    group: str
    reader: Callable[[PhotographSource], PhotographRecord]
    files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """Set and name, as they stand in splits, tables of patches and `seen.json`."""
        return f"{self.dataset}/{self.name}"

    def record(self, field: Mask, **known: Any) -> PhotographRecord:
        """The record with this field of view; `known` holds the other fields of `PhotographRecord` by name."""
        return PhotographRecord(self.name, self.dataset, self.path, self.group, field, **known)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset(Sequence[PhotographRecord]):
    """The photographs of a folder in a known layout, in the order of their names or of the set's own table.

    Indexing reads a record anew each time, so that a set of any size fits into memory; a slice is a smaller set.
    Raises `UsageError` where two photographs share a name.
    """

    layout: str
    folder: Path
    sources: tuple[PhotographSource, ...]

    def __post_init__(self) -> None:
        twice = sorted(name for name, times in Counter(self.names).items() if times > 1)
        if twice:
            cause = f"more than one photograph is called {', '.join(twice)}"
            raise UsageError(f"{self.folder}: {cause}. Give each a name of its own, or open one part at a time.")

    @property
    def names(self) -> tuple[str, ...]:
        """The photographs' names; no file is read for it."""
        return tuple(source.name for source in self.sources)

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each photograph, which must not be split; no file is read for it."""
        return tuple(source.group for source in self.sources)

    def __len__(self) -> int:
        return len(self.sources)

    @overload
    def __getitem__(self, index: int) -> PhotographRecord: ...

    @overload
    def __getitem__(self, index: slice) -> Dataset: ...

    def __getitem__(self, index: int | slice) -> PhotographRecord | Dataset:
        if isinstance(index, slice):
            return replace(self, sources=self.sources[index])
        source = self.sources[index]
        return source.reader(source)


def drive_scale(field: Mask) -> float:
    """The number of pixels for one of DRIVE's, from the longer extent of a field mask (rows, columns).

    Cameras cut the field at two opposite sides at most, so the longer extent is its diameter. The scale is 1 within 3 % of
    DRIVE's 540 px, and for an empty field.
    """
    extents = [int(np.ptp(np.flatnonzero(field.any(axis=axis)))) + 1 for axis in (0, 1) if field.any()]
    scale = max(extents, default=DIAMETER) / DIAMETER
    return 1.0 if abs(scale - 1) <= _SAME else scale


def _size(array: NDArray[Any]) -> str:
    return f"{array.shape[0]}x{array.shape[1]}"
