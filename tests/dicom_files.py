"""DICOM files for the tests, made by pydicom and real encoders from one simulated photograph."""

from __future__ import annotations

import io

import cv2
import numpy as np

CLASSES = {
    "op8": "1.2.840.10008.5.1.4.1.1.77.1.5.1",
    "wide": "1.2.840.10008.5.1.4.1.1.77.1.5.5",
    "capture": "1.2.840.10008.5.1.4.1.1.7",
    "photo": "1.2.840.10008.5.1.4.1.1.77.1.4",
    "many": "1.2.840.10008.5.1.4.1.1.7.4",
}
NATIVE = "1.2.840.10008.1.2.1"


def photograph(rows=120, columns=160):
    """A red disc with dark branches on black, uint8 RGB; sides are even, as halved colours need."""
    y, x = np.mgrid[:rows, :columns]
    inside = (y - rows / 2) ** 2 + (x - columns / 2) ** 2 < (0.46 * min(rows, columns)) ** 2
    wave = np.sin(x / 9 + np.sin(y / 17) * 2)
    colour = np.stack([170 + 30 * wave, 90 + 25 * wave, 50 + 15 * wave], -1)
    return np.where(inside[..., None], np.clip(colour, 0, 255), 0).astype(np.uint8)


def to_ybr(rgb):
    """Full-range YCbCr by the formula of ITU-T T.871, not by the program's library."""
    r, g, b = np.moveaxis(rgb.astype(float), -1, 0)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return np.clip(np.rint(np.stack([y, (b - y) / 1.772 + 128, (r - y) / 1.402 + 128], -1)), 0, 255).astype(np.uint8)


def dataset(kind="op8", syntax=NATIVE, rows=120, columns=160, photometric="RGB", bits=8, allocated=8, **more):
    """A header with a patient, without pixels; `more` are attributes by keyword, None leaves one out."""
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CLASSES.get(kind, kind), "2.25.1001"
    big, implicit = syntax == "1.2.840.10008.1.2.2", syntax == "1.2.840.10008.1.2"
    found = FileDataset(
        None, {}, file_meta=meta, preamble=b"\0" * 128, is_implicit_VR=implicit, is_little_endian=not big
    )
    one = photometric in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    values = {
        "SpecificCharacterSet": "ISO_IR 192", "SOPClassUID": CLASSES.get(kind, kind), "SOPInstanceUID": "2.25.1001",
        "StudyInstanceUID": "2.25.1002", "SeriesInstanceUID": "2.25.1003", "StudyID": "S1", "SeriesNumber": 1,
        "InstanceNumber": 1, "Modality": "OP", "PatientName": "Li^Wei", "PatientID": "4711", "IssuerOfPatientID": "HOSPITAL",
        "PatientBirthDate": "20260110", "PatientSex": "F", "AccessionNumber": "A-1", "StudyDate": "20260301",
        "StudyTime": "101500", "AcquisitionDateTime": "20260301101700", "ContentDate": "20260301", "ContentTime": "101700",
        "ReferringPhysicianName": "Doe^Jane", "Manufacturer": "Camera Works", "ManufacturerModelName": "Cam 3",
        "DeviceSerialNumber": "77", "ImageType": ["ORIGINAL", "PRIMARY"], "ImageLaterality": "R", "BurnedInAnnotation": "NO",
        "InstitutionName": "Hospital", "Rows": rows, "Columns": columns, "SamplesPerPixel": 1 if one else 3,
        "PhotometricInterpretation": photometric, "BitsAllocated": allocated, "BitsStored": bits, "HighBit": bits - 1,
        "PixelRepresentation": 0, "PlanarConfiguration": None if one else 0,
    } | more  # fmt: skip
    for keyword, value in values.items():
        if value is not None:
            setattr(found, keyword, value)
    return found


def encode(found, pixels=None, frames=None):
    """The bytes of the file: native `pixels`, or compressed `frames`."""
    from pydicom.encaps import encapsulate

    if frames is not None:
        found.PixelData = encapsulate(frames)
        found["PixelData"].VR = "OB"
    elif pixels is not None:
        data = pixels if isinstance(pixels, bytes) else np.ascontiguousarray(pixels).tobytes()
        found.PixelData = data + b"\0" * (len(data) % 2)
        found["PixelData"].VR = "OW" if found.BitsAllocated > 8 else "OB"
    buffer = io.BytesIO()
    found.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def jpeg(rgb, subsampling=2, quality=95):
    """Lossy JPEG data, YCbCr with a JFIF mark, by libjpeg."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", quality=quality, subsampling=subsampling)
    return out.getvalue()


def jpeg_of_channels(channels, named=b"\x01\x02\x03"):
    """JPEG data of three channels as they are, without any mark that tells their colours; `named` are their numbers."""
    from PIL import Image

    out = io.BytesIO()
    Image.frombytes("YCbCr", channels.shape[1::-1], np.ascontiguousarray(channels).tobytes()).save(
        out, "JPEG", quality=97, subsampling=0
    )
    data = out.getvalue()
    length = int.from_bytes(data[4:6], "big")
    assert data[2:4] == b"\xff\xe0"
    data = data[:2] + data[4 + length :]
    at = data.index(b"\xff\xc0")
    data = bytearray(data)
    for k, number in enumerate(named):
        data[at + 10 + 3 * k] = number
    scan = data.index(b"\xff\xda")
    for k, number in enumerate(named):
        data[scan + 5 + 2 * k] = number
    return bytes(data)


def jpeg_2000(rgb, lossless=True, mct=True):
    """A JPEG 2000 codestream by OpenJPEG."""
    from PIL import Image

    out = io.BytesIO()
    options = {} if lossless else {"irreversible": True, "quality_layers": [4]}
    Image.fromarray(rgb).save(out, "JPEG2000", no_jp2=True, mct=int(mct), **options)
    return out.getvalue()


def rle(values):
    """An RLE frame by pydicom's encoder."""
    from pydicom.pixels.encoders import RLELosslessEncoder

    samples = values.shape[2] if values.ndim == 3 else 1
    bits = 8 * values.dtype.itemsize
    return RLELosslessEncoder.encode(
        values, rows=values.shape[0], columns=values.shape[1], samples_per_pixel=samples, bits_allocated=bits, bits_stored=bits,
        pixel_representation=0, photometric_interpretation="RGB" if samples == 3 else "MONOCHROME2", number_of_frames=1,
        encoding_plugin="pydicom", **({"planar_configuration": 0} if samples == 3 else {}),
    )  # fmt: skip


def palette(rgb, bits=16):
    """Indices (rows, columns) and the attributes of a palette of 256 colours that nearly gives the photograph."""
    from PIL import Image

    small = Image.fromarray(rgb).quantize(256)
    table = np.zeros((256, 3), np.uint8)
    colours = np.array(small.getpalette(), np.uint8).reshape(-1, 3)
    table[: len(colours)] = colours
    indices = np.asarray(small)
    attributes = {}
    for k, name in enumerate(("Red", "Green", "Blue")):
        attributes[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        entries = table[:, k].astype("<u2") * 257 if bits == 16 else table[:, k]
        attributes[f"{name}PaletteColorLookupTableData"] = entries.tobytes()
    return indices, attributes, table[indices]


def grey(rgb):
    """Its grey picture."""
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


class BrightnessGrader:
    """Stands for the screening where no network is needed: suspects what is bright, and writes its DICOM answers and eyes."""

    name, noun, threads = "rop screen", "photograph", 1

    def __init__(self, dicom=True):
        from fundoscope.findings import ROP_COLUMNS, BundleIdentity

        self.dicom, self.columns = dicom, ROP_COLUMNS
        self.files = ("eyes.csv", "dicom") if dicom else ("eyes.csv",)
        self.options = {"dicom": True} if dicom else {}
        self.identity = BundleIdentity("bright", "2026-11-28", "0123456789abcdef")

    def grade_one(self, source, name):
        from fundoscope.findings import GradedPhotograph, RopFinding, Status
        from fundoscope.imaging import read

        found = read(source, name)
        p = round(float(found.pixels.mean()) / 100, 4)
        return GradedPhotograph((RopFinding(name, Status.OK, found.remark, p, p > 0.3, quality=1.0),), found.pixels)

    def failed(self, name, reason):
        from fundoscope.findings import GradedPhotograph, RopFinding, Status

        return GradedPhotograph((RopFinding(name, Status.FAILED, reason),))

    def count(self, rows):
        return {"photographs": 1}

    def open_sinks(self, folder, started, positions, skipped=""):
        from fundoscope.bundles.card import DecisionThreshold, EyeDecision
        from fundoscope.dicom import Answerer, DicomAnswers
        from fundoscope.rop.screening.dicom_answers import answer_of
        from fundoscope.rop.screening.eyes import ScreenedEyes
        from fundoscope.rop.screening.outputs import EyeTable

        point = DecisionThreshold(threshold=0.3, rule="none", data="none", n_positive=0, sensitivity_bound="none")
        eyes = EyeTable(
            folder / "eyes.csv", ScreenedEyes(EyeDecision(views="any", operating_point=point, measured=False))
        )
        if not self.dicom:
            return {"eyes.csv": eyes}
        answerer = Answerer(self.name, self.identity, "fundoscope 9", "Brightness")
        return {"eyes.csv": eyes, "dicom": DicomAnswers(folder, answerer, answer_of, lambda graded: graded.evidence)}
