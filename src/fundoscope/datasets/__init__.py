"""Photographs with their truth, from public sets and simulated eyes, as one record for all; and the labels that
detectors of crossings are taught by.
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
