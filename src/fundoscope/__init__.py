"""Fundoscope grades retinas with little data: retinopathy of prematurity, and artery-vein nicking.

    import fundoscope
    findings = fundoscope.load("rop").screen(["eye.png"])
"""

from __future__ import annotations

__version__ = "0.1.0"
