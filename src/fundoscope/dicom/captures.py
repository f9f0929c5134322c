"""An overlay as Secondary Capture: a picture that every viewer shows, with "research use only" in it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from fundoscope.dicom.answers import RESEARCH_USE, Concept
from fundoscope.dicom.objects import CAPTURE, AnsweredStudy, code_item, seal, source_sequence, start_object
from fundoscope.imaging import Pixels
from fundoscope.imaging.dicom_header import MANUFACTURER, text_of

_SOURCE = Concept("121322", "DCM", "Source Image for Image Processing Operation")
_BAR = 28  # pixels below the picture, for the notice
_LEAST_WIDTH = 480  # pixels: a smaller picture is enlarged, so that the notice can be read


def write_capture(study: AnsweredStudy, picture: Pixels, number: int) -> bytes:
    """The file of an overlay (rows, columns, 3), RGB; `study` holds its one photograph, `number` is its row's, from 1 on."""
    shown = stamp_notice(picture, f"{MANUFACTURER}: {RESEARCH_USE.upper()}")
    made = start_object(CAPTURE, study, number)
    source = study.sources[0]
    made.ConversionType = "WSD"
    made.ImageType = ["DERIVED", "SECONDARY", "OVERLAY"]
    burnt = text_of(source, "BurnedInAnnotation").upper()
    made.BurnedInAnnotation = burnt if burnt in ("YES", "NO") else "YES"  # what is not known is taken for the worse
    if text_of(source, "LossyImageCompression") == "01":
        made.LossyImageCompression = "01"
    made.DerivationDescription = f"Answer of {study.answerer.program}, drawn on the photograph. {RESEARCH_USE}."
    sources = source_sequence(replace(study, photographs=study.photographs[:1]))
    sources[0].PurposeOfReferenceCodeSequence = [code_item(_SOURCE)]
    made.SourceImageSequence = sources
    made.PatientOrientation = None
    eye = study.photographs[0].header.eye
    if eye:
        made.Laterality = {"right": "R", "left": "L"}[eye]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.Rows, made.Columns = shown.shape[:2]
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    data = shown.tobytes()
    made.PixelData = data + b"\0" * (len(data) % 2)
    made["PixelData"].VR = "OB"
    return seal(made, CAPTURE, study)


def stamp_notice(picture: Pixels, text: str) -> Pixels:
    """The picture with a bar below it that says `text`; what is narrow is enlarged first."""
    scale = max(1.0, _LEAST_WIDTH / picture.shape[1])
    if scale > 1:
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    bar = np.full((_BAR, picture.shape[1], 3), 32, np.uint8)
    cv2.putText(bar, text, (8, _BAR - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return np.ascontiguousarray(np.vstack([picture, bar]))
