"""Pixels: reading photographs, finding the field of view, judging quality, and the standard form networks take."""

from fundoscope.imaging.dicom_facts import DicomHeader, FramePath
from fundoscope.imaging.enhance import clahe
from fundoscope.imaging.field import Field, find_field
from fundoscope.imaging.kinds import SUFFIXES
from fundoscope.imaging.prepared import Frame, Prepared
from fundoscope.imaging.read import Photograph, Pixels, read
from fundoscope.imaging.sources import Source
from fundoscope.imaging.standard import Standard

__all__ = [
    "SUFFIXES",
    "DicomHeader",
    "Field",
    "Frame",
    "FramePath",
    "Photograph",
    "Pixels",
    "Prepared",
    "Source",
    "Standard",
    "clahe",
    "find_field",
    "read",
]
