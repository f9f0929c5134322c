"""What JPEG, PNG and JPEG 2000 files say of themselves: size, bits, channels, orientation, and whether they are whole.

Decoders may fill what is missing from a cut file with grey and say nothing to their caller, so the marks of a
file are walked here, from the first to the last (JPEG: ITU-T T.81, annex B; PNG: W3C recommendation, 2003; JPEG 2000:
ITU-T T.800, annexes A and I; Exif: CIPA DC-008; several pictures in one JPEG: CIPA DC-007). The walk costs microseconds: it jumps from mark to mark and never looks at single pixels.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass, replace

from fundoscope.errors import PhotographError

COPY_AGAIN = "Copy it again from the camera."
MAX_PARTS = 200_000  # segments or chunks; ten times what the largest photograph we allow has
MIN_SIDE = 32  # pixels: below this nothing of a retina can be told
MAX_SCANS = 100  # of a progressive JPEG, each of which costs a pass over all pixels; encoders write 3 to 14

_START = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # any mark but stuffing (FF 00), restarts and fill bytes
_STANDALONE = {0x01, 0xD8}  # marks without a length: TEM, start of image
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_SCAN, _END, _APP1, _APP2 = 0xDA, 0xD9, 0xE1, 0xE2
_PNG_END = b"IEND"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@dataclass(frozen=True, slots=True)
class Header:
    """Facts of an encoded photograph: size in pixels as stored (before turning), bits a channel, channels.

    `orientation` is Exif's 1 to 8; `palette` is true where a pixel is an index or one colour is transparent;
    `sequential` where the last bytes of the file hold the last pixels (baseline JPEG); `end` is where its end
    mark stands; `pictures` how many it holds; `lossless` is true for the lossless kinds of JPEG; `channel_names` are the
    numbers by which a JPEG names its channels.
    """

    rows: int
    columns: int
    bits: int
    channels: int
    orientation: int = 1
    palette: bool = False
    sequential: bool = False
    end: int = 0
    pictures: int = 1
    lossless: bool = False
    channel_names: bytes = b""


def jpeg_header(data: bytes, name: str) -> Header:
    """Walk a JPEG from mark to mark; raises `PhotographError` where its end or its picture is missing."""
    at, orientation, frame, scans, pictures = 2, 1, None, 0, 1
    for _ in range(MAX_PARTS):
        mark = _START.search(data, at)
        if mark is None:
            break
        kind, at = mark.group(1)[0], mark.end()
        if kind == _END:
            facts = _jpeg_facts(frame, scans, name)
            return replace(facts, orientation=orientation, end=mark.start(), pictures=pictures)
        if kind in _STANDALONE:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or (scans and kind in _FRAMES):
            raise PhotographError(name, "the JPEG data are damaged", COPY_AGAIN)
        body = data[at + 2 : at + length]
        if kind in _FRAMES and frame is None and len(body) >= 6:
            frame = (kind, body)
        elif kind == _APP1 and body.startswith(b"Exif\x00\x00") and orientation == 1:
            orientation = exif_orientation(body[6:])
        elif kind == _APP2 and body.startswith(b"MPF\x00"):
            pictures = (
                _pictures_of(body[4:], len(data) - at - 6) if b"hdrgm:" not in data else 1
            )  # a telephone's gain map is no picture
        scans += kind == _SCAN
        at += length
    raise PhotographError(name, "the JPEG file is cut short: its end mark is missing", COPY_AGAIN)


def _pictures_of(block: bytes, room: int) -> int:
    """How many pictures of full size an index of several pictures (it begins with II or MM) lists.

    Previews do not count, nor do pictures that do not lie in the `room` bytes of the file from the index on: programs that
    rewrite the first picture leave the index as it was.
    """
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(block[:4], "<")
    try:
        (at,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, at)
        entries = (struct.unpack_from(order + "HHII", block, at + 2 + 12 * n) for n in range(count))
        length, place = next((length, place) for tag, _, length, place in entries if tag == 0xB002)
        listed = [struct.unpack_from(order + "III", block, place + 16 * n) for n in range(length // 16)]
    except (struct.error, StopIteration):
        return 1  # an index that leads out of the block, or lists nothing
    return 1 + sum(kind >> 16 & 0xFF != 1 and size + offset <= room for kind, size, offset in listed[1:])


def _jpeg_facts(frame: tuple[int, bytes] | None, scans: int, name: str) -> Header:
    if frame is None or not scans:
        raise PhotographError(name, "the JPEG file holds no picture", COPY_AGAIN)
    if scans > MAX_SCANS:
        cause = f"the JPEG file has {scans} scans, the limit is {MAX_SCANS}"
        raise PhotographError(name, cause, "Export it anew.")
    kind, body = frame
    bits, rows, columns, channels = struct.unpack(">BHHB", body[:6])
    names, lossless = body[6 : 6 + 3 * channels : 3], kind in (0xC3, 0xC7, 0xCB, 0xCF)
    sequential = kind in (0xC0, 0xC1)
    return Header(rows, columns, bits, channels, sequential=sequential, lossless=lossless, channel_names=names)


def png_header(data: bytes, name: str) -> Header:
    """Walk a PNG from chunk to chunk; raises `PhotographError` where one is cut or its checksum is wrong."""
    at, facts, orientation, keyed, pixels, pictures = 8, None, 1, False, False, 1
    for _ in range(MAX_PARTS):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            raise PhotographError(name, "the PNG file is cut short", COPY_AGAIN)
        if not kind[0] & 0x20 or kind in (b"eXIf", b"tRNS"):  # capitals mark the chunks that pixels depend on
            _check_sum(data, at, end, name)
        if kind == b"IHDR" and facts is None and length == 13:
            facts = data[at + 8 : at + 18]
        elif kind == b"eXIf":
            orientation = exif_orientation(data[at + 8 : end - 4])
        elif kind == b"acTL" and length == 8:
            pictures = int.from_bytes(data[at + 8 : at + 12], "big")
        keyed, pixels = keyed or kind == b"tRNS", pixels or kind == b"IDAT"
        if kind == _PNG_END:
            break
        at = end
    if facts is None or not pixels:
        raise PhotographError(name, "the PNG file holds no picture", COPY_AGAIN)
    columns, rows, bits, colour = struct.unpack(">IIBB", facts)
    channels = _PNG_CHANNELS.get(colour, 0)
    return Header(rows, columns, bits, channels, orientation, palette=keyed or colour == 3, pictures=pictures)


def check_gif(data: bytes, name: str) -> None:
    """Walk a GIF (CompuServe, version 89a) from block to block; raises `PhotographError` where its end mark is missing."""
    at = 13 + _colours(data[10:11])
    for _ in range(MAX_PARTS):
        mark = data[at : at + 1]
        if mark == b";":
            return
        if mark not in (b"!", b","):
            break
        at += 2 if mark == b"!" else 11 + _colours(data[at + 9 : at + 10])
        while at < len(data) and data[at]:  # blocks, each with its length before it, up to an empty one
            at += 1 + data[at]
        at += 1
    raise PhotographError(name, "the GIF file is cut short: its end mark is missing", COPY_AGAIN)


def _colours(flags: bytes) -> int:
    """Bytes of the table of colours that these flags of a GIF announce."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def jp2_header(data: bytes, name: str) -> Header:
    """Walk a JPEG 2000 file, a codestream in boxes or bare, from tile to tile; raises `PhotographError` where one is missing."""
    at = 0 if data.startswith(b"\xff\x4f") else _codestream_of(data, name)
    try:
        mark, _, _, right, lower, left, upper = struct.unpack_from(">HHHIIII", data, at + 2)
        channels, depth = struct.unpack_from(">HB", data, at + 40)
        if data[at : at + 2] != b"\xff\x4f" or mark != 0xFF51:
            raise PhotographError(name, "the JPEG 2000 data are damaged", COPY_AGAIN)
        facts = Header(lower - upper, right - left, (depth & 0x7F) + 1, channels)
        at += 2
        for _ in range(MAX_PARTS):
            mark, length = struct.unpack_from(">HH", data, at)
            if mark == 0xFF90:  # a tile: its length counts from its mark; 0: up to the end
                (length,) = struct.unpack_from(">I", data, at + 6)
                at = at + length if length else len(data.rstrip(b"\x00")) - 2
            else:
                at += 2 + length
            if data[at : at + 2] == b"\xff\xd9":
                return replace(facts, end=at)
        cause = "the JPEG 2000 data are damaged"
    except struct.error:
        cause = "the JPEG 2000 file is cut short: its end mark is missing"
    raise PhotographError(name, cause, COPY_AGAIN)


def _codestream_of(data: bytes, name: str) -> int:
    """Where in the boxes of a JP2 file its codestream begins."""
    at = 0
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        head = 16 if length == 1 else 8
        if kind == b"jp2c":
            return at + head
        length = int.from_bytes(data[at + 8 : at + 16], "big") if length == 1 else length
        if length < head:
            break
        at += length
    raise PhotographError(name, "the JPEG 2000 file holds no picture", COPY_AGAIN)


def _check_sum(data: bytes, at: int, end: int, name: str) -> None:
    if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
        raise PhotographError(name, "the PNG data are damaged: a checksum is wrong", COPY_AGAIN)


def exif_orientation(block: bytes) -> int:
    """Orientation, 1 to 8, of an Exif block (it begins with II or MM); 1 where absent or senseless."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(order + "I", block, 4)
        (count,) = struct.unpack_from(order + "H", block, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, _, short = struct.unpack_from(order + "HHIH", block, entry)
            if tag == 0x0112:
                value = short if kind == 3 else struct.unpack_from(order + "I", block, entry + 8)[0]
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1  # offsets that lead out of the block
    return 1


def check_size(name: str, rows: int, columns: int, max_pixels: int) -> None:
    """Raise `PhotographError` for more than `max_pixels` pixels, or a side of fewer than `MIN_SIDE`."""
    if rows * columns > max_pixels:
        limit = f"{max_pixels / 1e6:g} megapixels" if max_pixels >= 1e6 else f"{max_pixels} pixels"
        cause = f"{columns}x{rows} pixels are over the limit of {limit}"
        raise PhotographError(name, cause, "Export it smaller.")
    if min(rows, columns) < MIN_SIDE:
        cause = f"{columns}x{rows} pixels are too few for a photograph"
        raise PhotographError(name, cause, f"Give at least {MIN_SIDE} by {MIN_SIDE}.")
