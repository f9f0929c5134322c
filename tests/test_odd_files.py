"""Odd but valid files: each gives the pixels of its source, within what its codec may lose."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from fundoscope.imaging import read

tifffile = pytest.importorskip("tifffile")

ROWS, COLUMNS = 72, 88
JPEG, CHROMA, EXACT = 2.5, 6.0, 0.0  # mean grey levels: fine steps, shared colours, none

Odd = tuple[str, bytes, np.ndarray, float]


def picture() -> np.ndarray:
    y, x = np.mgrid[:ROWS, :COLUMNS]
    waves = [120 + 90 * np.sin(x / 19 + y / 27), 90 + 60 * np.cos(y / 17), 60 + 50 * np.sin((x - y) / 21)]
    return np.stack(waves, -1).astype(np.uint8)


RGB = picture()
GREY = np.repeat(RGB[..., :1], 3, -1)
ALPHA = np.where(np.arange(COLUMNS) < 20, 0, 255).astype(np.uint8) * np.ones((ROWS, 1), np.uint8)
OVER_BLACK = np.where(ALPHA[..., None] > 0, RGB, 0)
RGBA = np.dstack([RGB, ALPHA])
DEEP = RGB.astype(np.uint16) * 257
PALETTE = Image.fromarray(RGB).quantize(64)
PALETTE_RGB = np.asarray(PALETTE.convert("RGB"))
OTHER = Image.fromarray(RGB[::-1].copy())


def saved(array: np.ndarray | Image.Image, kind: str, mode: str | None = None, **options: object) -> bytes:
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(array: np.ndarray, photometric: str = "rgb", **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, photometric=photometric, **options)
    return buffer.getvalue()


def by_opencv(suffix: str, array: np.ndarray, *options: int) -> bytes:
    order = [2, 1, 0, 3][: array.shape[2]] if array.ndim == 3 else None
    return cv2.imencode(suffix, array if order is None else array[..., order], list(options))[1].tobytes()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(kind: bytes, body: bytes, array: np.ndarray = RGB) -> bytes:
    plain = saved(array, "PNG")
    return plain[:33] + chunk(kind, body) + plain[33:]


def interlaced_png(array: np.ndarray, colour: int, *more: bytes) -> bytes:
    """Adam7: seven passes, each a coarse picture of its own without filters."""
    rows, columns = array.shape[:2]
    bits = 8 * array.dtype.itemsize
    body = b""
    for top, left, down, right in (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):
        coarse = array[top::down, left::right]
        body += b"".join(b"\0" + row.astype(array.dtype.newbyteorder(">")).tobytes() for row in coarse)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, bits, colour, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def upright(orientation: int) -> np.ndarray:
    """What Exif's orientation asks, said in another way than the program's own."""
    turned = np.rot90(RGB, {3: 2, 4: 2, 5: -1, 6: -1, 7: 1, 8: 1}.get(orientation, 0))
    return turned[:, ::-1] if orientation in (2, 4, 5, 7) else turned


def bitmap(bits: int, body: bytes, *, top_down: bool = False, masks: tuple[int, ...] = (), packed: int = 0) -> bytes:
    colours = (
        struct.pack("<256I", *(n * 0x010101 for n in range(256)))
        if bits == 8
        else struct.pack(f"<{len(masks)}I", *masks)
    )
    start = 54 + len(colours)
    height = -ROWS if top_down else ROWS
    how = packed or (3 if masks else 0)
    information = struct.pack("<IiiHHIIiiII", 40, COLUMNS, height, 1, bits, how, len(body), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + information + colours + body


def odd_tiffs() -> Iterator[Odd]:
    grey, half = RGB[..., 0], (RGB / 255).astype(np.float16)
    yield "tiles", tiff(RGB, tile=(32, 32)), RGB, EXACT
    yield "tiles of 16 bits", tiff(DEEP, tile=(32, 48)), RGB, EXACT
    yield "strips of 7 rows", tiff(RGB, rowsperstrip=7), RGB, EXACT
    yield "planes", tiff(RGB.transpose(2, 0, 1), planarconfig="separate"), RGB, EXACT
    yield (
        "planes of 16 bits, deflated",
        tiff(DEEP.transpose(2, 0, 1), planarconfig="separate", compression="zlib"),
        RGB,
        EXACT,
    )
    yield "planes in tiles", tiff(DEEP.transpose(2, 0, 1), planarconfig="separate", tile=(16, 16)), RGB, EXACT
    yield "palette", saved(PALETTE, "TIFF"), PALETTE_RGB, EXACT
    yield "CMYK", saved(RGB, "TIFF", "CMYK"), RGB, 1.0
    yield "CIELab", saved(lab(), "TIFF"), np.asarray(lab().convert("RGB")), EXACT
    yield "LZW", saved(RGB, "TIFF", compression="tiff_lzw"), RGB, EXACT
    yield "LZW of 16 bits with differences", by_opencv(".tif", DEEP, cv2.IMWRITE_TIFF_COMPRESSION, 5), RGB, EXACT
    yield "deflate", tiff(RGB, compression="zlib"), RGB, EXACT
    yield "deflate with differences", tiff(RGB, compression="zlib", predictor=True), RGB, EXACT
    yield "PackBits", saved(RGB, "TIFF", compression="packbits"), RGB, EXACT
    yield "JPEG in TIFF, YCbCr", saved(RGB, "TIFF", compression="jpeg", quality=95), RGB, CHROMA
    yield "big-endian", tiff(RGB, byteorder=">"), RGB, EXACT
    yield "big-endian 16 bits", tiff(DEEP, byteorder=">", compression="zlib"), RGB, EXACT
    yield "BigTIFF", tiff(RGB, bigtiff=True), RGB, EXACT
    yield "big-endian BigTIFF of 16 bits", tiff(DEEP, bigtiff=True, byteorder=">"), RGB, EXACT
    yield "float", tiff(RGB / np.float32(255)), RGB, EXACT
    yield "big-endian float", tiff(RGB / np.float32(255), byteorder=">"), RGB, EXACT
    yield "half float", tiff(half[..., 0], "minisblack"), GREY, EXACT
    yield "signed 16 bits", tiff(RGB.astype(np.int16)), RGB, EXACT
    yield "32 bits", tiff(RGB.astype(np.uint32) << 24), RGB, EXACT
    yield "one bit", saved(Image.fromarray(grey > 100), "TIFF"), 255 * (GREY > 100), EXACT
    yield "fax", saved(Image.fromarray(grey > 100), "TIFF", compression="group4"), 255 * (GREY > 100), EXACT
    yield "white is zero", tiff(255 - grey, "miniswhite"), GREY, EXACT
    yield "many pages", saved(RGB, "TIFF", save_all=True, append_images=[OTHER] * 3), RGB, EXACT
    yield (
        "thumbnail first",
        saved(OTHER.resize((44, 36)), "TIFF", save_all=True, append_images=[Image.fromarray(RGB)]),
        RGB,
        EXACT,
    )
    yield "alpha", saved(RGBA, "TIFF"), OVER_BLACK, EXACT
    yield (
        "alpha of 16 bits",
        tiff(np.dstack([DEEP, ALPHA.astype(np.uint16) * 257]), extrasamples=["unassalpha"]),
        OVER_BLACK,
        1.0,
    )
    yield (
        "grey with alpha",
        saved(Image.fromarray(np.dstack([grey, ALPHA])), "TIFF"),
        np.where(ALPHA[..., None] > 0, GREY, 0),
        EXACT,
    )


def lab() -> Image.Image:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(Image.fromarray(RGB), *profiles, outputMode="LAB")


def odd_pngs() -> Iterator[Odd]:
    table = chunk(b"PLTE", bytes(PALETTE.getpalette()[: 3 * 64]))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    chromaticities = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    yield "interlaced", interlaced_png(RGB, 2), RGB, EXACT
    yield "interlaced of 16 bits", interlaced_png(DEEP, 2), RGB, EXACT
    yield "interlaced grey", interlaced_png(RGB[..., 0], 0), GREY, EXACT
    yield "interlaced palette", interlaced_png(np.asarray(PALETTE), 3, table), PALETTE_RGB, EXACT
    yield "palette", saved(PALETTE, "PNG"), PALETTE_RGB, EXACT
    hidden = int(np.asarray(PALETTE)[0, 0])
    seen = np.where((np.asarray(PALETTE) == hidden)[..., None], 0, PALETTE_RGB)
    yield "palette with a transparent colour", saved(PALETTE, "PNG", transparency=hidden), seen, EXACT
    yield "palette of 4 bits", saved(Image.fromarray(RGB).quantize(16), "PNG", bits=4), quantized(16), EXACT
    yield "palette of 2 bits", saved(Image.fromarray(RGB).quantize(4), "PNG", bits=2), quantized(4), EXACT
    yield "one bit", saved(Image.fromarray(RGB[..., 0] > 100), "PNG"), 255 * (GREY > 100), EXACT
    yield "grey", saved(RGB[..., 0], "PNG"), GREY, EXACT
    yield (
        "grey with alpha",
        saved(np.dstack([RGB[..., 0], ALPHA]), "PNG"),
        np.where(ALPHA[..., None] > 0, GREY, 0),
        EXACT,
    )
    yield "alpha", saved(RGBA, "PNG"), OVER_BLACK, EXACT
    yield "16 bits", by_opencv(".png", DEEP), RGB, EXACT
    yield "grey of 16 bits", by_opencv(".png", DEEP[..., 0]), GREY, EXACT
    yield "alpha of 16 bits", by_opencv(".png", np.dstack([DEEP, ALPHA.astype(np.uint16) * 257])), OVER_BLACK, 1.0
    yield "gamma of 1", png_with(b"gAMA", struct.pack(">I", 100000)), RGB, EXACT
    yield "chromaticities", png_with(b"cHRM", chromaticities), RGB, EXACT
    yield "colour profile", saved(RGB, "PNG", icc_profile=profile), RGB, EXACT
    yield "text", png_with(b"tEXt", b"Comment\0left eye"), RGB, EXACT
    yield "turned by Exif", png_with(b"eXIf", exif(6)[6:]), upright(6), EXACT
    yield "moving", saved(RGB, "PNG", save_all=True, append_images=[OTHER]), RGB, EXACT


def quantized(colours: int) -> np.ndarray:
    return np.asarray(Image.fromarray(RGB).quantize(colours).convert("RGB"))


def odd_jpegs() -> Iterator[Odd]:
    plain = saved(RGB, "JPEG", quality=95)
    wide = (
        struct.pack(">4sI", b"acsp", 0) * 5000
    )  # a profile of 40 kB of a colour space wider than sRGB: kept as numbers
    yield "progressive", saved(RGB, "JPEG", quality=95, progressive=True), RGB, JPEG
    yield "optimised", saved(RGB, "JPEG", quality=95, optimize=True), RGB, JPEG
    yield "CMYK by Adobe", saved(RGB, "JPEG", "CMYK", quality=98), RGB, JPEG
    yield "grey", saved(RGB[..., 0], "JPEG", quality=95), GREY, JPEG
    for sharing in ("4:4:4", "4:2:2", "4:2:0", "4:1:1"):
        yield f"colours {sharing}", saved(RGB, "JPEG", quality=95, subsampling=sharing), RGB, CHROMA
    yield "RGB without conversion", saved(RGB, "JPEG", quality=95, keep_rgb=True), RGB, JPEG
    yield "restart marks by rows", saved(RGB, "JPEG", quality=95, restart_marker_rows=1), RGB, JPEG
    yield "restart marks by blocks", saved(RGB, "JPEG", quality=95, restart_marker_blocks=2), RGB, JPEG
    for orientation in range(1, 9):
        yield (
            f"Exif orientation {orientation}",
            saved(RGB, "JPEG", quality=95, exif=exif(orientation)),
            upright(orientation),
            JPEG,
        )
    yield "two pictures", saved(RGB, "MPO", quality=95, save_all=True, append_images=[OTHER]), RGB, JPEG
    yield "garbage behind its end", plain + b"\0" * 999 + b"\xff\xd8garbage", RGB, JPEG
    yield "large profile", saved(RGB, "JPEG", quality=95, icc_profile=wide), RGB, JPEG
    yield "comment", saved(RGB, "JPEG", quality=95, comment=b"OD, 35 weeks"), RGB, JPEG
    yield "fill bytes before a mark", plain[:2] + b"\xff" * 9 + plain[2:], RGB, JPEG
    yield "without JFIF header", plain[:2] + plain[4 + int.from_bytes(plain[4:6], "big") :], RGB, JPEG


def odd_others() -> Iterator[Odd]:
    rows = b"".join(row[:, ::-1].tobytes() for row in RGB)
    thin = (
        (RGB[..., 0].astype("<u2") >> 3 << 11) | (RGB[..., 1].astype("<u2") >> 2 << 5) | RGB[..., 2].astype("<u2") >> 3
    )
    runs = b"".join(b"".join(bytes([1, v]) for v in row) + b"\0\0" for row in RGB[::-1, :, 0]) + b"\0\1"
    four = np.dstack([RGB[..., ::-1], np.zeros((ROWS, COLUMNS), np.uint8)])
    text = " ".join(map(str, RGB.ravel())).encode()
    yield "WebP", saved(RGB, "WEBP", quality=95), RGB, CHROMA
    yield "WebP without loss", saved(RGB, "WEBP", lossless=True), RGB, EXACT
    yield "WebP with alpha", saved(RGBA, "WEBP", lossless=True), OVER_BLACK, EXACT
    yield "WebP, moving", saved(RGB, "WEBP", lossless=True, save_all=True, append_images=[OTHER]), RGB, EXACT
    yield "WebP turned by Exif", saved(RGB, "WEBP", lossless=True, exif=exif(8)), upright(8), EXACT
    yield "GIF", saved(PALETTE, "GIF", interlace=0), PALETTE_RGB, EXACT
    yield "GIF, interlaced", saved(PALETTE, "GIF", interlace=1), PALETTE_RGB, EXACT
    yield "GIF, moving", saved(PALETTE, "GIF", save_all=True, append_images=[OTHER.quantize(64)]), PALETTE_RGB, EXACT
    yield "JP2", saved(RGB, "JPEG2000"), RGB, EXACT
    yield "J2K", saved(RGB, "JPEG2000", no_jp2=True), RGB, EXACT
    yield "JP2 with loss", saved(RGB, "JPEG2000", irreversible=True, quality_layers=[10]), RGB, JPEG
    yield "JP2 in tiles", saved(RGB, "JPEG2000", tile_size=(40, 40)), RGB, EXACT
    yield "JP2, grey", saved(RGB[..., 0], "JPEG2000"), GREY, EXACT
    yield "JP2 with alpha", saved(RGBA, "JPEG2000"), OVER_BLACK, EXACT
    yield "JP2 of 16 bits", by_opencv(".jp2", DEEP, cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000), RGB, 1.0
    yield "JP2, grey of 16 bits", saved(Image.fromarray(DEEP[..., 0]), "JPEG2000"), GREY, EXACT
    yield "AVIF", saved(RGB, "AVIF", quality=95), RGB, CHROMA
    yield "AVIF with alpha", saved(RGBA, "AVIF", quality=100), OVER_BLACK, CHROMA
    yield "BMP of 16 bits", bitmap(16, thin[::-1].tobytes(), masks=(0xF800, 0x07E0, 0x001F)), RGB, 4.0
    yield "BMP of 32 bits, nothing in the fourth", bitmap(32, four[::-1].tobytes()), RGB, EXACT
    yield "BMP, upper row first", bitmap(24, rows, top_down=True), RGB, EXACT
    yield "BMP, runs of grey", bitmap(8, runs, packed=1), GREY, EXACT
    yield "BMP, palette", saved(PALETTE, "BMP"), PALETTE_RGB, EXACT
    yield "BMP, one bit", saved(Image.fromarray(RGB[..., 0] > 100), "BMP"), 255 * (GREY > 100), EXACT
    yield "PPM", saved(RGB, "PPM"), RGB, EXACT
    yield "PPM as text, with a remark", b"P3 # eye\n%d %d\n255\n" % (COLUMNS, ROWS) + text, RGB, EXACT
    yield "PGM", saved(RGB[..., 0], "PPM"), GREY, EXACT
    yield (
        "PGM of 12 bits",
        b"P5 %d %d 4095\n" % (COLUMNS, ROWS) + (DEEP[..., 0] >> 4).astype(">u2").tobytes(),
        GREY,
        1.0,
    )


ODD = {
    f"{family}: {name}": (data, wanted, tolerance)
    for family, files in (("TIFF", odd_tiffs), ("PNG", odd_pngs), ("JPEG", odd_jpegs), ("others", odd_others))
    for name, data, wanted, tolerance in files()
}


@pytest.mark.parametrize("name", ODD)
def test_a_valid_file_gives_the_pixels_of_its_source(name):
    data, wanted, tolerance = ODD[name]
    photograph = read(data, name)
    assert photograph.pixels.shape == wanted.shape
    assert photograph.shape == wanted.shape[:2]
    assert np.abs(photograph.pixels.astype(int) - wanted).mean() <= tolerance


def test_a_wrong_source_would_be_seen():
    assert len(ODD) >= 60
    for data, wanted, tolerance in ODD.values():
        assert np.abs(read(data).pixels.astype(int) - wanted[::-1]).mean() > max(1, tolerance)
