"""Photographs with their truth, from public sets and simulated eyes, as one record for all; and the labels that
detectors of crossings are taught by.
"""

from fundoscope.datasets.coco import write_labels
from fundoscope.datasets.layouts import LAYOUTS, open_dataset
from fundoscope.datasets.map_crossings import MapCrossings, crossings_of_map
from fundoscope.datasets.record import Dataset, Record, Source, scale_of

__all__ = [
    "LAYOUTS",
    "Dataset",
    "MapCrossings",
    "Record",
    "Source",
    "crossings_of_map",
    "open_dataset",
    "scale_of",
    "write_labels",
]
