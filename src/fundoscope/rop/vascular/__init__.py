"""The vascular index: how wide and tortuous the vessels around the disc are, as a percentile among normal photographs. No torch."""

from fundoscope.rop.vascular.index import VascularIndex, VascularReading, open_vascular_index

__all__ = ["VascularIndex", "VascularReading", "open_vascular_index"]
