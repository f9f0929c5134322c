"""One picture of a DICOM file to an upright array, in the colours that its bytes hold, whatever its header calls them.

Native pixels and RLE are taken apart here, JPEG and JPEG 2000 by the decoders of all photographs, JPEG-LS and lossless JPEG
of more than eight bits by GDCM. (PS3.5, 8.2 and annexes A.4, G; PS3.3, C.7.6.3; colours: ITU-T T.871, section 7.)

Cameras and gateways often write colours that the header calls by another name: then a viewer shows a green picture, or one
on a green ground. What JPEG data say of themselves is believed before the header; what then looks like no photograph is read
the other way; red and blue exchanged are refused.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fundoscope.errors import PhotographError
from fundoscope.imaging.decode import decode, decode_jpeg, import_pillow
from fundoscope.imaging.decoded import Decoded
from fundoscope.imaging.dicom_header import broken, describe_header, import_pydicom, load_dataset
from fundoscope.imaging.gdcm_child import decode_apart
from fundoscope.imaging.headers import COPY_AGAIN, check_size, jpeg_header

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"}
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_RLE = "1.2.840.10008.1.2.5"
_JPEG = {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 53, 55, 57, 70)}  # 53 and 55 are retired, and cameras write them
_JPEG_LS = {f"1.2.840.10008.1.2.4.{n}" for n in (80, 81)}
_JPEG_2000 = {f"1.2.840.10008.1.2.4.{n}" for n in (90, 91)}
_EXPORT = "Export it as JPEG, JPEG 2000, RLE or uncompressed DICOM, or as an ordinary JPEG."
_YBR = ("YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PHOTOMETRIC = ("RGB", "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", *_YBR)

Colour = str  # "RGB" or "YBR": what three stored channels are


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a header describes the numbers of its pixels."""

    rows: int
    columns: int
    samples: int
    photometric: str
    planar: int
    allocated: int
    stored: int
    high: int
    signed: bool

    @property
    def colour(self) -> Colour:
        return "YBR" if self.photometric in _YBR else "RGB"


def decode_dicom(data: bytes, name: str, max_pixels: int, least_side: int | None = None, frame: int = 0) -> Decoded:
    """Decode one picture, `frame` from 1 on, of a DICOM file; 0 is the first, and further ones are then remarked on.

    Raises `PhotographError` for what is broken, cut, too large, of another kind, or of colours that are no photograph's.
    """
    dataset = load_dataset(data, name)
    header = describe_header(dataset, name)
    if header.other_kind:
        raise PhotographError(name, f"is {header.other_kind}, no photograph of an eye", "Name the photographs.")
    try:
        layout = _layout_of(dataset, name)
        check_size(name, layout.rows, layout.columns, max_pixels)
        if frame > header.frames:
            raise PhotographError(name, f"holds {header.frames} frames, not {frame}", "Name one of these.")
        syntax = str(dataset.file_meta.get("TransferSyntaxUID", "")) if hasattr(dataset, "file_meta") else ""
        number = max(frame, 1)
        if syntax in _NATIVE or not syntax:
            found = _native(dataset, layout, number, header.frames, syntax, name)
        else:
            found = _encapsulated(dataset, layout, number, header.frames, syntax, name, max_pixels, least_side)
    except PhotographError:
        raise
    except Exception as error:  # as `load_dataset`
        raise broken(name, error) from error
    remarks = [*header.doubts, found.remark]
    if frame == 0 and header.frames > 1:
        remarks.append(f"The file holds {header.frames} frames, of which only the first was looked at.")
    return replace(found, remark=" ".join(filter(None, remarks)), header=header)


def _layout_of(dataset: Dataset, name: str) -> _Layout:
    numbers = {}
    for key, keyword in {
        "rows": "Rows", "columns": "Columns", "samples": "SamplesPerPixel", "planar": "PlanarConfiguration",
        "allocated": "BitsAllocated", "stored": "BitsStored", "high": "HighBit", "signed": "PixelRepresentation",
    }.items():  # fmt: skip
        value = dataset.get(keyword)
        numbers[key] = int(value) if isinstance(value, int) else 0
    photometric = str(dataset.get("PhotometricInterpretation") or "").strip().upper()
    if not numbers["rows"] or not numbers["columns"] or "PixelData" not in dataset:
        raise PhotographError(name, "the DICOM object holds no picture", "Name a photograph.")
    samples = numbers["samples"] = numbers["samples"] or (1 if "MONO" in photometric or "PAL" in photometric else 3)
    if photometric not in _PHOTOMETRIC:
        raise PhotographError(name, f"its colours are called '{photometric}', which is not read", _EXPORT)
    if (samples == 3) != (photometric in ("RGB", *_YBR)) or samples not in (1, 3):
        cause = f"its header contradicts itself: {samples} numbers a pixel, and colours {photometric}"
        raise PhotographError(name, cause, _EXPORT)
    if numbers["allocated"] not in (8, 16):
        raise PhotographError(name, f"its pixels have {numbers['allocated']} bits, which are not read", _EXPORT)
    if not 1 <= numbers["stored"] <= numbers["allocated"]:
        numbers["stored"] = numbers["allocated"]
    if not numbers["stored"] - 1 <= numbers["high"] < numbers["allocated"]:
        numbers["high"] = numbers["stored"] - 1
    return _Layout(**{**numbers, "signed": numbers["signed"] == 1}, photometric=photometric)


# --- native pixels and RLE


def _native(dataset: Dataset, layout: _Layout, number: int, frames: int, syntax: str, name: str) -> Decoded:
    data: Any = dataset.PixelData
    area, width = layout.rows * layout.columns, layout.allocated // 8
    remark = ""
    length = area * layout.samples * width
    if layout.photometric == "YBR_FULL_422":
        if len(data) < frames * length:
            length = area * 2 * width
        else:
            remark = "Its header says that colours are stored at half the width, and they are at the full one."
    if len(data) < frames * length:
        raise PhotographError(name, "the DICOM file is cut short: pixels are missing", COPY_AGAIN)
    if len(data) > frames * length + 1 and frames == 1:
        remark = f"Its header tells of {length} bytes of pixels, and there are {len(data)}."
    piece = data[(number - 1) * length : number * length]
    big = syntax == _BIG_ENDIAN
    if big and width == 1 and dataset["PixelData"].VR == "OW":  # bytes lie in words, and words are turned
        even = data + b"\0" * (len(data) % 2)
        turned = np.frombuffer(even, "<u2").byteswap().tobytes()
        piece = turned[(number - 1) * length : number * length]
    values = np.frombuffer(piece, f"{'>' if big else '<'}u{width}")
    if length == area * 2 * width and layout.samples == 3:
        values = _spread_422(values, layout)
    elif layout.samples == 3 and layout.planar == 1:
        values = np.moveaxis(values.reshape(3, layout.rows, layout.columns), 0, 2)
    else:
        values = values.reshape(layout.rows, layout.columns, *([3] if layout.samples == 3 else []))
    return _finish(values, layout, dataset, name, remark)


def _spread_422(values: NDArray[Any], layout: _Layout) -> NDArray[Any]:
    """Y, Y, Cb, Cr for two pixels beside each other as three channels a pixel (PS3.3, C.7.6.3.1.2)."""
    pairs = values.reshape(layout.rows, layout.columns // 2, 4)
    spread = np.empty((layout.rows, layout.columns // 2, 2, 3), values.dtype)
    spread[..., 0] = pairs[..., :2]
    spread[..., 1:] = pairs[..., None, 2:]
    return spread.reshape(layout.rows, layout.columns, 3)


def unpack_rle(frame: bytes, rows: int, columns: int, samples: int, width: int) -> NDArray[Any]:
    """The numbers of an RLE frame, (rows, columns) or (rows, columns, 3), of `width` bytes each (PS3.5, annex G).

    Raises `ValueError` where a segment is missing, or gives fewer bytes than the picture has pixels.
    """
    area = rows * columns
    (count, *offsets) = struct.unpack("<16I", frame[:64])
    if count != samples * width:
        raise ValueError(f"{count} RLE segments, not {samples * width}")
    ends = [*offsets[1:count], len(frame)]
    planes = np.empty((samples, width, area), np.uint8)
    for k in range(count):
        if not 64 <= offsets[k] <= ends[k] <= len(frame):
            raise ValueError("an RLE segment lies outside its frame")
        planes[k // width, k % width] = _unpack_bytes(frame[offsets[k] : ends[k]], area)
    values = np.ascontiguousarray(np.moveaxis(planes, 1, 2)).view(f">u{width}")[..., 0]  # the high byte comes first
    shaped = values.reshape(samples, rows, columns)
    return shaped[0] if samples == 1 else np.moveaxis(shaped, 0, 2)


def _unpack_bytes(segment: bytes, length: int) -> NDArray[np.uint8]:
    """`length` bytes of a PackBits segment; never more, however many the segment would give."""
    try:  # as one long row, since Pillow takes no run beyond the end of a row, which some encoders write
        return np.asarray(import_pillow().frombytes("L", (length, 1), segment, "packbits", "L")).ravel()
    except ValueError:  # what is left over, or missing
        return _unpack_slowly(segment, length)


def _unpack_slowly(segment: bytes, length: int) -> NDArray[np.uint8]:
    out, at, end = bytearray(), 0, len(segment)
    while at < end and len(out) < length:
        n = segment[at]
        if n < 128:
            out += segment[at + 1 : at + 2 + n]
            at += 2 + n
        elif n > 128:
            out += segment[at + 1 : at + 2] * (257 - n)
            at += 2
        else:
            at += 1
    if len(out) < length:
        raise ValueError("an RLE segment is cut short")
    return np.frombuffer(out, np.uint8, length)


def _finish(values: NDArray[Any], layout: _Layout, dataset: Dataset, name: str, remark: str) -> Decoded:
    """Numbers as they are stored to grey or RGB: bits in use, palette, white and black, colour."""
    shape = (layout.rows, layout.columns)
    shift = layout.high + 1 - layout.stored
    if values.dtype.itemsize > 1 or layout.stored < 8:
        values = values.astype(np.uint16 if layout.allocated == 16 else np.uint8, copy=False)
        if layout.signed:
            signs = (values >> layout.high) & 1
            if signs.any():
                raise PhotographError(name, "holds negative numbers", _EXPORT)
        values = (values >> shift) & ((1 << layout.stored) - 1)
    if layout.photometric == "PALETTE COLOR":
        values, bits = _by_palette(values, dataset)
        return _checked(Decoded(values, shape, bits=bits, remark=remark), name)
    if layout.photometric == "MONOCHROME1":
        values = ((1 << layout.stored) - 1) - values
    bits = layout.stored if layout.stored > 8 else None
    if layout.stored <= 8:
        values = values.astype(np.uint8, copy=False)
    if layout.samples == 1:
        return Decoded(values, shape, bits=bits, remark=remark)
    if bits is not None and layout.colour == "YBR":
        values, bits = (values >> (bits - 8)).astype(np.uint8), None
    if bits is not None:
        return _checked(Decoded(values, shape, bits=bits, remark=remark), name)
    return _choose_colours(
        Decoded(np.ascontiguousarray(values), shape, remark=remark), layout.colour, "its header", name
    )


def _by_palette(values: NDArray[Any], dataset: Dataset) -> tuple[NDArray[Any], int | None]:
    """The colours of a palette (PS3.3, C.7.6.3.1.5): entries of 16 bits are often colours of eight, in either byte."""
    from pydicom.pixels import apply_color_lut

    colours = apply_color_lut(values, dataset)[..., :3]
    if colours.dtype == np.uint8:
        return colours, None
    if int(colours.max(initial=0)) < 256:
        return colours.astype(np.uint8), None
    return colours, 16


# --- compressed pixels


def _encapsulated(
    dataset: Dataset,
    layout: _Layout,
    number: int,
    frames: int,
    syntax: str,
    name: str,
    max_pixels: int,
    least_side: int | None,
) -> Decoded:
    pydicom = import_pydicom()
    if syntax not in (_JPEG | _JPEG_LS | _JPEG_2000 | {_RLE}):
        raise PhotographError(name, f"is compressed as {pydicom.uid.UID(syntax).name}, which is not read", _EXPORT)
    tables = (dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths"))
    frame = pydicom.encaps.get_frame(
        dataset.PixelData, number - 1, number_of_frames=frames, extended_offsets=tables if all(tables) else None
    )
    if syntax == _RLE:
        values = unpack_rle(frame, layout.rows, layout.columns, layout.samples, layout.allocated // 8)
        return _finish(values, layout, dataset, name, "")
    if frame[:4] in (b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0c"):  # whichever of the two the header names
        found = _jpeg_2000(frame, layout, name, max_pixels)
    elif syntax in _JPEG_LS:
        found = _jpeg_ls(frame, dataset, layout, name, syntax)
    else:
        found = _jpeg(frame, dataset, layout, name, max_pixels, least_side, syntax)
    if found.shape != (layout.rows, layout.columns):
        told = f"Its header tells of {layout.columns}x{layout.rows} pixels, the picture in it has {found.shape[1]}x{found.shape[0]}."
        found = replace(found, remark=" ".join(filter(None, (found.remark, told))))
    return found


def _jpeg_2000(frame: bytes, layout: _Layout, name: str, max_pixels: int) -> Decoded:
    found = decode(frame, "JPEG 2000", name, max_pixels)
    if found.values.ndim == 2:
        return replace(found, values=_turned_grey(found.values, layout))
    if found.bits is not None or found.values.dtype != np.uint8:
        return _checked(replace(found, values=found.values[..., :3]), name)
    # the decoder has undone the transform that the codestream names; another one is the header's
    transformed = _names_transform(frame)
    return _choose_colours(
        replace(found, values=np.ascontiguousarray(found.values[..., :3])),
        "RGB" if transformed else layout.colour,
        "its header",
        name,
    )


def _names_transform(codestream: bytes) -> bool:
    """Whether a JPEG 2000 codestream names a transform of its components (ITU-T T.800, A.6.1)."""
    start = max(codestream.find(b"\xff\x4f\xff\x51"), 0) + 2
    while codestream[start : start + 1] == b"\xff" and codestream[start + 1] not in (0x90, 0x93):
        if codestream[start + 1] == 0x52:
            return codestream[start + 8 : start + 9] == b"\x01"
        start += 2 + int.from_bytes(codestream[start + 2 : start + 4], "big")
    return False


def _jpeg(
    frame: bytes, dataset: Dataset, layout: _Layout, name: str, max_pixels: int, least_side: int | None, syntax: str
) -> Decoded:
    """A picture that is JPEG: baseline, extended, progressive or lossless."""
    header = jpeg_header(frame, name)
    check_size(name, header.rows, header.columns, max_pixels)
    if header.bits > 8:
        return _deep(frame, dataset, layout, name, syntax, (header.bits, header.rows, header.columns, header.channels))
    if header.channels != 3:
        found = decode_jpeg(frame, name, max_pixels, least_side, turn=False)
        if header.channels != 1:
            return _checked(found, name)
        grey = found.values if found.values.ndim == 2 else found.values[..., 0]
        if layout.photometric == "PALETTE COLOR":
            return _finish(grey, layout, dataset, name, found.remark)
        return replace(found, values=_turned_grey(grey, layout))
    bare = _without_applications(frame)
    by_header = layout.colour if layout.samples == 3 else "YBR"
    if header.lossless:  # such data say nothing of their colours, whatever marks an encoder has put before them
        found = decode_jpeg(bare, name, max_pixels, None, turn=False)
        return _choose_colours(found, by_header, "its header", name)
    says = _colour_of_jpeg(frame, header.channel_names)
    first = says or by_header
    if first == ("RGB" if says == "RGB" else "YBR"):  # as decoders take it by themselves
        found = decode_jpeg(frame, name, max_pixels, least_side, turn=False)
        if not looks_misread(found.values):
            called = f"Its header calls the colours {layout.photometric}, and the JPEG data in it {first}: these were believed."
            return found if first == by_header else replace(found, remark=called)
    stored = Decoded(_stored_channels(bare, header.channel_names), (header.rows, header.columns))
    return _choose_colours(stored, first, "its JPEG data" if says else "its header", name)


def _deep(
    frame: bytes, dataset: Dataset, layout: _Layout, name: str, syntax: str, told: tuple[int, int, int, int]
) -> Decoded:
    """A picture that GDCM decodes; `told` are bits, rows, columns and channels by the JPEG data themselves."""
    bits, *shape = told
    if tuple(shape) != (layout.rows, layout.columns, layout.samples) or not 2 <= bits <= 16:
        raise PhotographError(name, "its header and the picture in it are of different sizes", _EXPORT)
    try:
        values = decode_apart(frame, layout.rows, layout.columns, layout.samples, bits, syntax)
    except ImportError as error:
        cause = "is JPEG-LS, or JPEG of more than eight bits, and python-gdcm, which reads these, is not installed"
        raise PhotographError(name, cause, "Install it with: pip install 'fundoscope[dicom]'") from error
    used = min(bits, layout.stored)  # encoders often name 16 bits of which fewer are used
    return _finish(
        values, replace(layout, stored=used, high=used - 1, allocated=8 if bits <= 8 else 16), dataset, name, ""
    )


def _jpeg_ls(frame: bytes, dataset: Dataset, layout: _Layout, name: str, syntax: str) -> Decoded:
    start = frame.find(b"\xff\xf7")
    if start < 0 or len(frame) < start + 10:
        raise PhotographError(name, "the JPEG-LS data hold no picture", COPY_AGAIN)
    told = struct.unpack(">BHHB", frame[start + 4 : start + 10])
    return _deep(frame, dataset, layout, name, syntax, told)


def _colour_of_jpeg(frame: bytes, names: bytes) -> Colour:
    """What JPEG data say of their own channels: by Adobe's mark, JFIF's, or the names R, G, B of the channels; blank if nothing."""
    at = 2
    found = ""
    while frame[at : at + 1] == b"\xff" and 0xE0 <= frame[at + 1] <= 0xEF:
        length = int.from_bytes(frame[at + 2 : at + 4], "big")
        body = frame[at + 4 : at + 2 + length]
        if frame[at + 1] == 0xEE and body[:5] == b"Adobe" and len(body) > 11:
            return "YBR" if body[11] == 1 else "RGB"
        if frame[at + 1] == 0xE0 and body[:4] == b"JFIF":
            found = "YBR"
        at += 2 + length
    return found or ("RGB" if names == b"RGB" else "")


def _without_applications(frame: bytes) -> bytes:
    """JPEG data without what programs add at their start, so that a decoder takes the channels as they are."""
    at = 2
    while frame[at : at + 1] == b"\xff" and (0xE0 <= frame[at + 1] <= 0xEF or frame[at + 1] == 0xFE):
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return frame[:2] + frame[at:]


def _stored_channels(bare: bytes, names: bytes) -> NDArray[np.uint8]:
    """The three channels of a lossy JPEG without application marks as they are stored."""
    with import_pillow().open(io.BytesIO(bare), formats=("JPEG",)) as picture:
        if names != b"RGB":
            picture.draft("YCbCr", picture.size)  # no conversion
        return np.array(picture)


def _turned_grey(values: NDArray[Any], layout: _Layout) -> NDArray[Any]:
    """Grey values, white for black where the header says so."""
    if layout.photometric != "MONOCHROME1":
        return values
    top = (1 << layout.stored) - 1 if values.dtype != np.uint8 else 255
    return (top - values).astype(values.dtype)


# --- colours


def _choose_colours(stored: Decoded, first: Colour, teller: str, name: str) -> Decoded:
    """Three stored channels as RGB, read as `first`, or the other way where only that looks like a photograph.

    `teller` is what names the colours `first`: "its header", "its JPEG data".
    """
    other = "RGB" if first == "YBR" else "YBR"
    pixels = _as_rgb(stored.values, first)
    if not looks_misread(pixels):
        return replace(stored, values=pixels)
    turned = _as_rgb(stored.values, other)
    if looks_misread(turned):
        return _checked(replace(stored, values=pixels), name)
    told = f"Its colours were read as {other}: as {first}, which {teller} calls them, they are no photograph's."
    return replace(stored, values=turned, remark=" ".join(filter(None, (stored.remark, told))))


def _as_rgb(values: NDArray[np.uint8], colour: Colour) -> NDArray[np.uint8]:
    """Channels Y, Cb, Cr of the full range as RGB (ITU-T T.871, section 7); RGB as it is."""
    if colour == "RGB":
        return np.asarray(values, np.uint8)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(values[..., (0, 2, 1)]), cv2.COLOR_YCrCb2RGB), np.uint8)


_LIT = 40  # of 255: what is darker is the surround
_GREENER = (
    1.2  # times as much green as red; in 305 photographs of nine public data sets green is at most 1.003 times red
)
_TINTS = ((0, 128, 128), (0, 135, 0))  # black that was stored as YBR and read as RGB, and the other way round
_NEAR, _SHARE = 12, 0.03  # of 255, and of all pixels


def looks_misread(pixels: NDArray[Any]) -> bool:
    """Whether a photograph in RGB, (rows, columns, 3), is green, or has a surround that is green instead of black."""
    steps = [max(1, side // 128) for side in pixels.shape[:2]]
    red, green, blue = np.moveaxis(pixels[:: steps[0], :: steps[1]], 2, 0).astype(np.int16)
    brightest = np.maximum(np.maximum(red, green), blue)
    lit = brightest >= _LIT
    black = 1 - lit.mean()
    tinted = max(
        ((abs(red - r) < _NEAR) & (abs(green - g) < _NEAR) & (abs(blue - b) < _NEAR)).mean() for r, g, b in _TINTS
    )
    if tinted > _SHARE and black < tinted:
        return True
    if not lit.any():
        return False
    r, g, b = (float(channel[lit].mean()) for channel in (red, green, blue))
    return (g > _GREENER * r and g > _GREENER * b) or b > _GREENER * r


def _checked(found: Decoded, name: str) -> Decoded:
    """The picture; raises `PhotographError` where its colours are no photograph's: green, or red and blue exchanged."""
    values = found.values
    if values.ndim == 3 and values.shape[2] == 3:
        eight = values if values.dtype == np.uint8 else values >> max((found.bits or 16) - 8, 0)
        if looks_misread(eight):
            exchanged = not looks_misread(eight[..., ::-1])
            cause = "its colours are no eye's: " + (
                "red and blue look exchanged" if exchanged else "it is green or blue"
            )
            raise PhotographError(name, cause, "Export it anew, or correct (0028,0004) in its header.")
    return found
