"""The known layouts of public sets, and the function that opens a folder in the layout it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fundoscope.datasets.avn import avn_sources
from fundoscope.datasets.drive import drive_sources
from fundoscope.datasets.hrf import hrf_sources
from fundoscope.datasets.iostar import iostar_sources
from fundoscope.datasets.junctions import junctions_sources
from fundoscope.datasets.les_av import les_av_sources
from fundoscope.datasets.observed_vessels import chase_sources, stare_sources
from fundoscope.datasets.record import Dataset, PhotographSource
from fundoscope.datasets.rite import rite_sources
from fundoscope.datasets.simulated import simulated_sources
from fundoscope.errors import UsageError, nearest

_PARTS = ("training", "test")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a set lies in its folder, and the function that lists its sources.

    `title` is the set's name in records (the folder's name where it is blank). `signs` must exist in the folder: names of
    folders, with a slash at the end, and patterns of files.
    """

    title: str
    signs: tuple[str, ...]
    sources: Callable[[Path, str], list[PhotographSource]]

    def fits(self, folder: Path) -> bool:
        """Whether all signs are there."""
        return all((folder / s).is_dir() if s.endswith("/") else any(folder.glob(s)) for s in self.signs)

    def parts(self, folder: Path) -> list[Path]:
        """The folder itself, or those of its parts `training/` and `test/`, that have the signs."""
        return [part for part in (folder, *(folder / name for name in _PARTS)) if self.fits(part)]


#: In the order in which they are tried: a layout whose signs include those of another stands before it.
LAYOUTS = {
    "simulated": Layout("simulated", ("cohort.csv", "crossings.csv", "truth/"), simulated_sources),
    "avn": Layout("AVN patches", ("grading.txt",), avn_sources),
    "rite": Layout("RITE", ("images/", "av/", "vessel/"), rite_sources),
    "les_av_short": Layout("LES-AV", ("images/", "av/", "mask/*_mask.gif"), les_av_sources),
    "hrf": Layout("HRF", ("images/", "av/", "mask/"), hrf_sources),
    "les_av": Layout("LES-AV", ("images/", "vessel-segmentations/", "arteries-and-veins/"), les_av_sources),
    "stare": Layout("STARE", ("images/", "vessel_ah/"), stare_sources),
    "chase": Layout("CHASE_DB1", ("images/", "vessel_1/"), chase_sources),
    "junctions": Layout("", ("images/", "**/*_JunctionsPos.mat"), junctions_sources),
    "iostar": Layout("IOSTAR", ("image/", "GT/"), iostar_sources),
    "drive": Layout("DRIVE", ("images/*.tif", "mask/*_mask.gif"), drive_sources),
}


def open_dataset(folder: str | Path, layout: str | None = None) -> Dataset:
    """The set of photographs in `folder`; its layout is recognised, or named as one of `LAYOUTS`.

    A folder with parts `training/` and `test/` gives both, as "RITE training" and "RITE test". Every file of the
    truth is looked up now, and read when a record is asked for. Raises `UsageError` for a folder in no known layout,
    naming what was looked for, and `PhotographError` for files that are missing or belong to no photograph.
    """
    folder = Path(folder)
    if layout is not None and layout not in LAYOUTS:
        raise UsageError(f"'{layout}' is no known layout: {nearest(layout, LAYOUTS)}")
    tried = LAYOUTS if layout is None else {layout: LAYOUTS[layout]}
    for name, known in tried.items():
        parts = known.parts(folder)
        if parts:
            every = [source for part in parts for source in known.sources(part, _title(known, part))]
            return Dataset(name, folder, tuple(every))
    there = "holds no set in a known layout" if folder.is_dir() else "there is no such folder"
    looked = "; ".join(f"{name}: {' '.join(known.signs)}" for name, known in tried.items())
    raise UsageError(
        f"{folder}: {there}. Give the folder, or its part training/ or test/, that holds one of these ({looked})."
    )


def _title(layout: Layout, part: Path) -> str:
    title = layout.title or (part.parent if part.name in _PARTS else part).resolve().name
    return f"{title} {part.name}" if part.name in _PARTS else title
