"""Photographs with their truth, from public sets and simulated eyes, in one form for all.

`layouts` recognises the layout of a folder and opens it; `record` holds `PhotographRecord`, the one form; one file a set
(`drive`, `rite`, `hrf`, `les_av`, `observed_vessels`, `iostar`, `junctions`, `avn`, `simulated`) lists its photographs and the files of their truth,
which `files`, `drawn_maps`, `map_crossings` and `points` find and read. `coco` writes labels for detectors of crossings, with
masks as `rle`.
"""

from fundoscope.datasets.coco import write_labels
from fundoscope.datasets.layouts import LAYOUTS, open_dataset
from fundoscope.datasets.map_crossings import MapCrossings, find_map_crossings
from fundoscope.datasets.record import Dataset, PhotographRecord, PhotographSource, drive_scale

__all__ = [
    "LAYOUTS",
    "Dataset",
    "MapCrossings",
    "PhotographRecord",
    "PhotographSource",
    "drive_scale",
    "find_map_crossings",
    "open_dataset",
    "write_labels",
]
