"""A process of its own that lets GDCM decode one picture: on some broken data GDCM ends the process that it runs in.

Takes on standard input a line of JSON (rows, columns, samples, bits, syntax) and then the compressed picture; gives its numbers
on standard output, low byte first.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
from numpy.typing import NDArray

_SECONDS = 60  # the largest picture takes two


def decode_apart(
    frame: bytes, rows: int, columns: int, samples: int, bits: int, syntax: str
) -> NDArray[np.unsignedinteger]:
    """The numbers of a JPEG-LS or lossless JPEG picture, (rows, columns) or (rows, columns, 3), as they are stored.

    Raises `ValueError` for what cannot be decoded, and `ImportError` where GDCM is not installed.
    """
    from importlib.util import find_spec

    if find_spec("gdcm") is None:
        raise ImportError("python-gdcm")
    told = json.dumps({"rows": rows, "columns": columns, "samples": samples, "bits": bits, "syntax": syntax})
    command = [sys.executable, "-P", "-m", "fundoscope.imaging.gdcm_child"]
    try:
        done = subprocess.run(command, input=told.encode() + b"\n" + frame, capture_output=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ValueError("the picture takes too long to be decoded") from error
    width = 2 if bits > 8 else 1
    if done.returncode or len(done.stdout) != rows * columns * samples * width:
        raise ValueError("the picture cannot be decoded")
    return np.frombuffer(done.stdout, f"<u{width}").reshape((rows, columns, *([3] if samples == 3 else [])))


def _decode(told: dict[str, int | str], frame: bytes) -> bytes:
    import gdcm

    for silence in (gdcm.Trace.WarningOff, gdcm.Trace.ErrorOff, gdcm.Trace.DebugOff):
        silence()
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((told["columns"], told["rows"], 1))
    image.SetDataElement(element)
    colours = gdcm.PhotometricInterpretation.RGB if told["samples"] == 3 else gdcm.PhotometricInterpretation.MONOCHROME2
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(colours))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(told["syntax"])))
    bits = int(told["bits"])
    image.SetPixelFormat(gdcm.PixelFormat(told["samples"], 16 if bits > 8 else 8, bits, bits - 1, 0))
    return image.GetBuffer().encode("utf-8", "surrogateescape")


if __name__ == "__main__":
    line, _, picture = sys.stdin.buffer.read().partition(b"\n")
    sys.stdout.buffer.write(_decode(json.loads(line), picture))
