from __future__ import annotations

import io
import os
import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from fundoscope.errors import PhotographError
from fundoscope.imaging import Photograph, read

tifffile = pytest.importorskip("tifffile")

ROWS, COLUMNS = 72, 88


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    y, x = np.mgrid[:ROWS, :COLUMNS]
    waves = [120 + 90 * np.sin(x / 9 + y / 17), 90 + 60 * np.cos(y / 7), 60 + 50 * np.sin((x - y) / 11)]
    return np.stack(waves, -1).astype(np.uint8)


def saved(array: np.ndarray | Image.Image, kind: str, mode: str | None = None, **options: object) -> bytes:
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
    buffer = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# What an independent reader sees


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "RGB", {}),
        ("PNG", "L", {}),
        ("PNG", "1", {}),
        ("PNG", "P", {}),
        ("TIFF", "RGB", {}),
        ("TIFF", "L", {}),
        ("TIFF", "1", {}),
        ("TIFF", "P", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", "RGB", {"compression": "packbits"}),
        ("TIFF", "RGB", {"compression": "jpeg"}),
        ("TIFF", "1", {"compression": "group4"}),
        ("BMP", "RGB", {}),
        ("BMP", "L", {}),
        ("BMP", "P", {}),
        ("BMP", "1", {}),
        ("TIFF", "CMYK", {}),
    ],
)
def test_pixels_are_those_of_pillow(rgb, kind, mode, options):
    data = saved(rgb, kind, mode, **options)
    photograph = read(data)
    assert (photograph.format, photograph.n_bytes) == (kind, len(data))
    np.testing.assert_array_equal(photograph.pixels, by_pillow(data))
    if kind == "PNG" and mode == "RGB":
        np.testing.assert_array_equal(photograph.pixels, rgb)


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"quality": 90}),
        ("RGB", {"quality": 90, "subsampling": 0}),
        ("RGB", {"progressive": True}),
        ("RGB", {"quality": 90, "keep_rgb": True}),
        ("RGB", {"quality": 90, "restart_marker_rows": 1}),
        ("L", {"quality": 90}),
        ("CMYK", {"quality": 95}),
    ],
)
def test_jpeg_is_within_a_level_of_pillow(rgb, mode, options):
    data = saved(rgb, "JPEG", mode, **options)
    difference = np.abs(read(data).pixels.astype(int) - by_pillow(data))
    assert difference.max() <= 2
    assert difference.mean() < 0.1


def test_cmyk_follows_the_formula_and_adobes_inversion():
    # C, M, Y, K as shares of ink: R = (1 - C)(1 - K). Adobe's JPEG stores 255 - ink, which Pillow writes too.
    ink = np.zeros((64, 64, 4), np.uint8)
    ink[..., :] = (51, 102, 153, 64)
    expected = (1 - np.array([51, 102, 153]) / 255) * (1 - 64 / 255) * 255
    for kind, options in (("JPEG", {"quality": 100}), ("TIFF", {})):
        data = saved(Image.fromarray(ink, "CMYK"), kind, **options)
        assert kind != "JPEG" or b"Adobe" in data
        np.testing.assert_allclose(read(data).pixels[32, 32], expected, atol=2)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "deep TIFF", "deep PNG"])
def test_every_orientation_ends_upright(rgb, orientation, kind):
    wanted = by_pillow(saved(rgb, "TIFF", exif=exif(orientation)))
    if kind == "deep TIFF":
        data = tiff(rgb.astype(np.uint16) * 257, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    elif kind == "deep PNG":
        plain = cv2.imencode(".png", (rgb.astype(np.uint16) * 257)[..., ::-1])[1].tobytes()
        data = plain[:33] + png_chunk(b"eXIf", exif(orientation)[6:]) + plain[33:]
    else:
        data = saved(rgb, kind, exif=exif(orientation), **({"quality": 95} if kind == "JPEG" else {}))
    pixels = read(data).pixels
    assert pixels.shape == wanted.shape
    assert np.abs(pixels.astype(int) - wanted).mean() < (3 if kind == "JPEG" else 0.01)


def test_orientation_is_found_behind_the_pixels_of_a_png_and_in_both_byte_orders(rgb):
    plain = saved(rgb, "PNG")
    entry = {order: struct.pack(order + "HHIHH", 0x0112, 3, 1, 6, 0) for order in "<>"}
    for order, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        block = mark + struct.pack(order + "IH", 8, 1) + entry[order] + bytes(4)
        late = plain[:-12] + png_chunk(b"eXIf", block) + plain[-12:]
        np.testing.assert_array_equal(read(late).pixels, np.rot90(rgb, -1))


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=80))
def test_senseless_exif_is_upright(block):
    from fundoscope.imaging.headers import exif_orientation

    assert 1 <= exif_orientation(b"II*\0" + block) <= 8


# Sixteen bits, alpha, palettes


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("kind", ["png", "tif", "grey png", "grey tif", "lzw tif", "big-endian tif"])
def test_bits_in_use_fill_eight(rgb, bits, kind):
    full = np.clip(rgb, 0, 255).astype(np.uint16)
    full[0, 0] = 255
    stored = (full << (bits - 8)) | ((1 << (bits - 8)) - 1 if bits > 8 else 0)
    if kind.startswith("grey"):
        stored, full = stored[..., 0], np.repeat(full[..., :1], 3, -1)
    bgr = stored[..., ::-1] if stored.ndim == 3 else stored
    if kind.endswith("png"):
        data = cv2.imencode(".png", bgr)[1].tobytes()
    elif kind == "lzw tif":
        data = cv2.imencode(".tif", bgr, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes()
    else:
        photometric = "rgb" if stored.ndim == 3 else "minisblack"
        data = tiff(stored, photometric=photometric, byteorder=">" if kind.startswith("big") else "<")
    np.testing.assert_array_equal(read(data).pixels, full)
    np.testing.assert_array_equal(read(stored).pixels, full)


def test_white_is_zero_is_inverted(rgb):
    grey = rgb[..., 0]
    eight = read(tiff(255 - grey, photometric="miniswhite")).pixels
    sixteen = read(tiff((65535 - grey.astype(np.uint16) * 257), photometric="miniswhite")).pixels
    for pixels in (eight, sixteen):
        np.testing.assert_array_equal(pixels[..., 0], grey)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_separate_planes_are_read(rgb, kind):
    planes = rgb.transpose(2, 0, 1)
    stored = {"uint8": planes, "uint16": planes.astype(np.uint16) * 257, "float32": (planes / 255).astype(np.float32)}
    data = tiff(stored[kind], photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read(data).pixels, rgb)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8", "int16", "int32", "uint32", "uint64"])
def test_numbers_of_every_kind_in_a_tiff_give_their_source(rgb, kind, colours):
    source = rgb // 2 if kind == "int8" else rgb
    stored = (source / 255 if kind.startswith("f") else source).astype(kind)
    stored, photometric = (stored, "rgb") if colours == 3 else (stored[..., 1], "minisblack")
    wanted = source if colours == 3 else np.repeat(source[..., 1:2], 3, -1)
    np.testing.assert_array_equal(read(tiff(stored, photometric=photometric)).pixels, wanted)


def test_numbers_that_are_no_light_are_refused_with_the_true_reason(rgb):
    grey = {"photometric": "minisblack"}
    with pytest.raises(PhotographError, match="holds negative numbers"):
        read(tiff(rgb[..., 0].astype(np.int16) - 100, **grey))
    with pytest.raises(PhotographError, match="outside 0 to 1"):
        read(tiff(rgb[..., 0].astype(np.float32), **grey))
    with pytest.raises(PhotographError, match="16 bits in colours of the kind SEPARATED"):
        read(tiff(np.dstack([rgb, rgb[..., :1]]).astype(np.uint16), photometric="separated"))
    with pytest.raises(PhotographError, match="raw data"):
        read(tiff(rgb[..., 0].astype(np.uint16), photometric="cfa"))
    camera = io.BytesIO()
    with tifffile.TiffWriter(camera) as writer:  # a preview, and what the sensor gave in a directory below it
        writer.write(rgb[:40, :40], photometric="rgb", subfiletype=1, subifds=1)
        writer.write(rgb[..., 0].astype(np.uint16), photometric="cfa")
    with pytest.raises(PhotographError, match="raw data"):
        read(camera.getvalue())


# One pixel never sets the scale


@pytest.mark.parametrize("kind", ["array", "png", "tif", "lzw tif"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_hot_pixel_changes_no_other(rgb, kind, bits):
    full = np.kron(rgb, np.ones((4, 4, 1), np.uint16))
    stored = full << (bits - 8)
    stored[100:103, 100, 0] = 65535  # three of a hundred thousand, which is many for a sensor
    bgr = stored[..., ::-1]
    data = {
        "array": lambda: stored,
        "png": lambda: cv2.imencode(".png", bgr)[1].tobytes(),
        "tif": lambda: tiff(stored, photometric="rgb"),
        "lzw tif": lambda: cv2.imencode(".tif", bgr, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes(),
    }[kind]()
    full[100:103, 100, 0] = 255
    np.testing.assert_array_equal(read(data).pixels, full)


def test_a_dark_photograph_keeps_the_depth_that_its_file_tells(rgb):
    dark = (rgb // 8).astype(np.uint16)  # less than an eighth of the light
    for tag in (281, 341):
        data = tiff(dark << 4, photometric="rgb", extratags=[(tag, "H", 3, (4095,) * 3, True)])
        np.testing.assert_array_equal(read(data).pixels, dark)
    brightest = tiff(dark << 4, photometric="rgb", extratags=[(341, "H", 3, (500,) * 3, True)])
    assert read(brightest).pixels.max() > 2 * dark.max()  # the brightest value is no depth
    false = tiff(rgb.astype(np.uint16) << 8, photometric="rgb", extratags=[(341, "H", 3, (4095,) * 3, True)])
    np.testing.assert_array_equal(read(false).pixels, rgb)


def test_twelve_packed_bits_are_twelve_bits(rgb):
    grey = rgb[..., 0].astype(np.uint16) // 8 << 4
    pairs = grey.reshape(ROWS, -1, 2).astype(np.uint32)
    words = (pairs[..., 0] << 12 | pairs[..., 1]).astype(">u4").view(np.uint8).reshape(ROWS, -1, 4)[..., 1:]
    plain = bytearray(tiff(np.ascontiguousarray(words.reshape(ROWS, -1)), photometric="minisblack"))
    for tag, value in ((256, COLUMNS), (258, 12)):
        at = next(a for a in range(10, 400, 12) if struct.unpack_from("<H", plain, a)[0] == tag)
        struct.pack_into("<HHII", plain, at, tag, 3, 1, value)
    np.testing.assert_array_equal(read(bytes(plain)).pixels[..., 0], grey >> 4)


def pages(*pictures: tuple[np.ndarray, dict]) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for picture, options in pictures:
            writer.write(picture, photometric="rgb", metadata=None, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_of_several_pages_the_largest_is_read_and_the_others_are_named(rgb, kind):
    scaled = rgb.astype(kind) * (257 if kind is np.uint16 else 1)
    two = read(pages((scaled, {}), (scaled[::-1], {})))
    np.testing.assert_array_equal(two.pixels, rgb)
    assert two.remark.startswith("The file holds 2 pictures, of which only the first was looked at")

    turned = {"extratags": [(274, "H", 1, 6, True)]}
    behind = read(pages((scaled[:40, :40], {}), (scaled, turned), (scaled[:40], {})))
    np.testing.assert_array_equal(behind.pixels, np.rot90(rgb, -1))
    assert behind.remark.startswith("The file holds 3 pictures, of which only number 2, the largest,")

    thumbnail = read(pages((scaled[::2, ::2], {"subfiletype": 1}), (scaled, {})))
    np.testing.assert_array_equal(thumbnail.pixels, rgb)
    assert thumbnail.remark == ""  # a smaller copy of the same picture is no other
    assert read(pages((scaled, {}))).remark == ""


def test_further_pictures_in_files_of_other_kinds_are_named(rgb):
    first, second = Image.fromarray(rgb), Image.fromarray(rgb[::-1].copy())
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("MPO", {"quality": 95})):
        data = saved(first, kind, save_all=True, append_images=[second], **options)
        photograph = read(data)
        assert "holds 2 pictures, of which only the first" in photograph.remark, kind
        assert np.abs(photograph.pixels.astype(int) - rgb).mean() < 8, kind
        assert read(saved(first, "JPEG" if kind == "MPO" else kind)).remark == ""
    gain_map = saved(first, "MPO", save_all=True, append_images=[second], xmp=b"<rdf hdrgm:Version='1.0'/>")
    assert read(gain_map).remark == ""


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_further_channel_is_transparency_only_where_the_tag_says_so(rgb, kind):
    infrared = np.broadcast_to(np.arange(COLUMNS), (ROWS, COLUMNS))
    four = np.dstack([rgb, infrared]).astype(kind) * (257 if kind is np.uint16 else 1)
    for samples in (["unspecified"], []):
        untold = cv2.imencode(".tif", four[..., [2, 1, 0, 3]])[1].tobytes()
        data = tiff(four, photometric="rgb", extrasamples=samples) if samples else untold
        photograph = read(data)
        np.testing.assert_array_equal(photograph.pixels, rgb)
        assert photograph.remark.startswith("Of 4 channels only the first 3 were looked at")
    alpha = read(tiff(four, photometric="rgb", extrasamples=["unassalpha"]))
    np.testing.assert_allclose(alpha.pixels, rgb * (infrared[..., None] / 255), atol=1.01)
    multiplied = np.dstack([np.minimum(four[..., :3], four[..., 3:]), four[..., 3]])
    associated = read(tiff(multiplied, photometric="rgb", extrasamples=["assocalpha"]))
    np.testing.assert_allclose(associated.pixels, np.minimum(rgb, infrared[..., None]), atol=2)
    assert alpha.remark == associated.remark == ""
    five = tiff(np.dstack([four, four[..., 0]]), photometric="rgb", extrasamples=["unspecified"] * 2)
    np.testing.assert_array_equal(read(five).pixels, rgb)


def test_transparency_that_was_never_filled_is_ignored(rgb):
    empty = np.dstack([rgb, np.zeros(rgb.shape[:2], np.uint8)])
    bitmap = saved(empty, "BMP")
    assert Image.open(io.BytesIO(bitmap)).mode in ("RGB", "RGBA")
    for source in (bitmap, cv2.imencode(".bmp", empty[..., [2, 1, 0, 3]])[1].tobytes(), saved(empty, "PNG"), empty):
        np.testing.assert_array_equal(read(source).pixels, rgb)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "deep PNG", "deep TIFF", "array"])
def test_transparent_parts_become_black(rgb, kind):
    alpha = np.full(rgb.shape[:2], 255, np.uint8)
    alpha[:, :20], alpha[:, 20:40] = 0, 128
    rgba = np.dstack([rgb, alpha])
    if kind == "array":
        pixels = read(rgba).pixels
    elif kind == "deep PNG":
        deep = (rgba.astype(np.uint16) * 257)[..., [2, 1, 0, 3]]
        pixels = read(cv2.imencode(".png", deep)[1].tobytes()).pixels
    elif kind == "deep TIFF":
        deep = rgba.astype(np.uint16) * 257
        pixels = read(tiff(deep, photometric="rgb", extrasamples=["unassalpha"])).pixels
    else:
        pixels = read(saved(rgba, kind)).pixels
    assert not pixels[:, :20].any()
    np.testing.assert_allclose(pixels[:, 20:40], rgb[:, 20:40] * (128 / 255), atol=0.51)
    np.testing.assert_array_equal(pixels[:, 40:], rgb[:, 40:])


def test_transparent_colour_of_a_palette_and_of_a_png_become_black(rgb):
    picture = Image.fromarray(rgb).convert("P")
    pixels = read(saved(picture, "PNG", transparency=int(np.asarray(picture)[40, 50]))).pixels
    assert not pixels[np.asarray(picture) == np.asarray(picture)[40, 50]].any()
    keyed = read(saved(rgb, "PNG", transparency=tuple(int(v) for v in rgb[40, 50]))).pixels
    assert not keyed[40, 50].any()


def test_grey_with_alpha(rgb):
    grey = np.dstack([rgb[..., 0], np.where(np.arange(COLUMNS) < 30, 0, 255) * np.ones((ROWS, 1))]).astype(np.uint8)
    pixels = read(saved(Image.fromarray(grey, "LA"), "PNG")).pixels
    assert not pixels[:, :30].any()
    np.testing.assert_array_equal(pixels[:, 30:, 1], rgb[:, 30:, 0])


# Arrays


def test_arrays_of_every_kind_give_the_same(rgb):
    for array in (
        rgb,
        rgb / 255,
        (rgb / 255).astype(np.float32),
        np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]),
    ):
        np.testing.assert_array_equal(read(array).pixels, rgb)
    np.testing.assert_array_equal(read(rgb[..., 0] > 100).pixels[..., 2], (rgb[..., 0] > 100) * 255)
    np.testing.assert_array_equal(read(rgb[..., :1]).pixels, np.repeat(rgb[..., :1], 3, -1))
    assert read(rgb[::-1]).pixels.flags.c_contiguous
    assert read(rgb).format == "array"


@pytest.mark.parametrize(
    ("array", "cause"),
    [
        (np.zeros((3, 96, 96), np.uint8), "shape"),
        (np.zeros(96, np.uint16), "shape"),
        (np.zeros((96, 96, 3, 1), np.uint8), "shape"),
        (np.zeros((0, 96, 3), np.uint8), "too few"),
        (np.full((96, 96, 3), -1), "negative"),
        (np.zeros((96, 96, 3), "complex64"), "complex64"),
        (np.full((96, 96), np.nan), "outside 0 to 1"),
        (np.full((96, 96), 200.0), "outside 0 to 1"),
        (np.array([["a"] * 96] * 96), "not understood"),
        (np.zeros((8000, 8000), np.uint8), "over the limit"),
    ],
)
def test_arrays_that_are_no_photograph_are_refused(array, cause):
    with pytest.raises(PhotographError, match=cause):
        read(array)


# Broken, cut, huge


def encoded(rgb: np.ndarray) -> dict[str, bytes]:
    return {
        "baseline.jpg": saved(rgb, "JPEG", exif=exif(1)),
        "progressive.jpg": saved(rgb, "JPEG", progressive=True),
        "cmyk.jpg": saved(rgb, "JPEG", "CMYK"),
        "rgb.png": saved(rgb, "PNG"),
        "palette.png": saved(rgb, "PNG", "P"),
        "deep.png": cv2.imencode(".png", rgb.astype(np.uint16) * 257)[1].tobytes(),
        "raw.tif": saved(rgb, "TIFF"),
        "first.tif": tiff(rgb, photometric="rgb"),  # its directory stands before the pixels
        "lzw.tif": saved(rgb, "TIFF", compression="tiff_lzw"),
        "deflate.tif": tiff(rgb, photometric="rgb", compression="zlib"),
        "jpeg.tif": saved(rgb, "TIFF", compression="jpeg"),
        "deep.tif": tiff(rgb.astype(np.uint16) * 257, photometric="rgb"),
        "rgb.bmp": saved(rgb, "BMP"),
        "planes.tif": tiff(rgb.transpose(2, 0, 1) / np.float32(255), photometric="rgb", planarconfig="separate"),
        "pages.tif": pages((rgb, {}), (rgb[::-1], {})),
        "lossy.webp": saved(rgb, "WEBP"),
        "lossless.webp": saved(rgb, "WEBP", lossless=True),
        "moving.gif": saved(rgb, "GIF", save_all=True, append_images=[Image.fromarray(rgb[::-1].copy())]),
        "boxes.jp2": saved(rgb, "JPEG2000"),
        "bare.j2k": saved(rgb, "JPEG2000", no_jp2=True),
        "rgb.avif": saved(rgb, "AVIF"),
        "rgb.ppm": saved(rgb, "PPM"),
    }


KINDS = sorted(encoded(np.zeros((40, 40, 3), np.uint8)))


@pytest.mark.parametrize("kind", ["rgb.bmp", "rgb.ppm", "rgb.png", "baseline.jpg"])
def test_a_cut_file_is_refused_although_a_library_has_told_pillow_to_fill_it_up(rgb, kind, monkeypatch):
    from PIL import ImageFile

    whole = encoded(rgb).get(kind) or saved(rgb, "JPEG")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(PhotographError):
        read(whole[: len(whole) // 2], kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_file_is_never_read(rgb, kind):
    whole = encoded(rgb)[kind]
    before = read(whole).pixels
    for cut in np.unique(np.linspace(0, len(whole) - 1, 24).astype(int)):
        try:
            pixels = read(whole[:cut], kind).pixels
        except PhotographError as error:
            assert str(error).startswith(f"{kind}: ")
        else:  # only what stands behind the last pixel may be missing
            assert kind.endswith(".tif")
            np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("kind", [k for k in KINDS if k.endswith(("jpg", "png"))])
def test_bytes_after_the_end_do_not_matter(rgb, kind):
    whole = encoded(rgb)[kind]
    np.testing.assert_array_equal(read(whole + b"maker's notes\xff\xd9\0" * 50).pixels, read(whole).pixels)


def test_a_jpeg_without_its_end_mark_is_cut_short(rgb):
    with pytest.raises(PhotographError, match="cut short"):
        read(saved(rgb, "JPEG")[:-2])
    thumbnail = saved(Image.fromarray(rgb[:40, :40]), "JPEG")
    whole = saved(rgb, "JPEG")
    application = b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail  # its own end mark must not count
    np.testing.assert_array_equal(read(whole[:2] + application + whole[2:]).pixels, read(whole).pixels)
    with pytest.raises(PhotographError, match="cut short"):
        read((whole[:2] + application + whole[2:])[:-500])


@pytest.mark.parametrize("share", [0.4, 0.7, 0.9])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_cut_and_given_an_end_mark_is_not_passed_off_as_whole(rgb, share, mode):
    whole = saved(rgb, "JPEG", mode)
    with pytest.raises(PhotographError, match="filled with grey"):
        pixels = whole.index(b"\xff\xda")
        read(whole[: pixels + int(share * (len(whole) - pixels))] + b"\xff\xd9")


def test_a_photograph_on_a_grey_ground_is_whole():
    grey = np.full((100, 100, 3), 128, np.uint8)
    grey[20:60, 20:60] = (200, 90, 40)
    assert (read(saved(grey, "JPEG", quality=95)).pixels[-1, -1] == 128).all()
    assert read(np.full((64, 64), 128, np.uint8)).pixels.mean() == 128


def test_png_with_a_wrong_checksum_or_too_few_rows_is_refused(rgb):
    whole = saved(rgb, "PNG")
    at = whole.index(b"IDAT")
    with pytest.raises(PhotographError, match="checksum"):
        read(whole[: at + 50] + bytes([whole[at + 50] ^ 1]) + whole[at + 51 :])
    few = zlib.compress(bytes((COLUMNS * 3 + 1) * 10))
    with pytest.raises(PhotographError, match="broken or cut short"):
        read(whole[:33] + png_chunk(b"IDAT", few) + png_chunk(b"IEND", b""))


def test_a_tiff_that_unfolds_to_more_than_its_pixels_is_refused():
    few = tiff(np.zeros((40, 48), np.int16), photometric="minisblack", compression="zlib")
    heavy = zlib.compress(bytes(10_000_000))
    with tifffile.TiffFile(io.BytesIO(few)) as file:
        tags = file.pages[0].tags
        lengths, places = tags[279].valueoffset, tags[273].valueoffset
    data = bytearray(few + heavy)
    struct.pack_into("<I", data, lengths, len(heavy))
    struct.pack_into("<I", data, places, len(few))
    with pytest.raises(PhotographError, match="unfold to more"):
        read(bytes(data))


def bomb(kind: str, rows: int, columns: int) -> bytes:
    if kind == "PNG":
        header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0))
        pixels = png_chunk(b"IDAT", zlib.compress(bytes(1000)))
        return b"\x89PNG\r\n\x1a\n" + header + pixels + png_chunk(b"IEND", b"")
    if kind == "JPEG":
        small = saved(np.zeros((40, 40, 3), np.uint8), "JPEG")
        at = small.index(b"\xff\xc0") + 5
        return small[:at] + struct.pack(">HH", rows, columns) + small[at + 4 :]
    if kind == "TIFF":
        small = bytearray(tiff(np.zeros((40, 48), np.uint8), photometric="minisblack"))
        for tag, value in ((256, columns), (257, rows)):
            at = next(a for a in range(10, 200, 12) if struct.unpack_from("<H", small, a)[0] == tag)
            struct.pack_into("<HHII", small, at, tag, 4, 1, value)
        return bytes(small)
    small = bytearray(saved(np.zeros((40, 40, 3), np.uint8), "BMP"))
    struct.pack_into("<ii", small, 18, columns, rows)
    return bytes(small)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize(("rows", "columns"), [(60000, 60000), (65500, 65500), (10000, 10000)])
def test_bombs_are_refused_before_decoding(kind, rows, columns):
    data = bomb(kind, rows, columns)
    begin = time.process_time()
    with pytest.raises(PhotographError, match=r"over the limit|exceeds limit"):
        read(data)
    assert time.process_time() - begin < 0.5


def test_the_limit_is_the_callers(rgb):
    assert read(saved(rgb, "PNG"), max_pixels=ROWS * COLUMNS).pixels.shape == rgb.shape
    for kind in ("PNG", "JPEG", "TIFF", "BMP"):
        with pytest.raises(PhotographError, match="over the limit"):
            read(saved(rgb, kind), max_pixels=ROWS * COLUMNS - 1)
    with pytest.raises(PhotographError, match="too few"):
        read(saved(rgb[:31], "PNG"))


def test_a_jpeg_of_thousands_of_scans_is_refused(rgb):
    whole = saved(rgb, "JPEG", progressive=True)
    at = whole.rindex(b"\xff\xda")
    with pytest.raises(PhotographError, match="scans"):
        read(whole[:-2] + whole[at:-2] * 200 + whole[-2:])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"BM", b""]),
    st.binary(max_size=300),
)
def test_bytes_that_only_begin_like_a_photograph_are_refused(magic, rest):
    with pytest.raises(PhotographError):
        read(magic + rest, "noise")


# Kinds of file, told by their content


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 90}, 6),
        ("GIF", {}, 0),
        ("JPEG2000", {}, 0),
        ("JPEG2000", {"no_jp2": True}, 0),
        ("AVIF", {"quality": 95}, 4),
        ("PPM", {}, 0),
    ],
)
def test_less_common_kinds_give_their_source(rgb, kind, options, tolerance):
    source = np.asarray(Image.fromarray(rgb).convert("P").convert("RGB")) if kind == "GIF" else rgb
    picture = Image.fromarray(rgb).convert("P") if kind == "GIF" else rgb
    photograph = read(saved(picture, kind, **options))
    assert photograph.format.upper().replace(" ", "") == {"PPM": "PNM"}.get(kind, kind)
    assert np.abs(photograph.pixels.astype(int) - source).mean() <= tolerance


def test_a_kind_that_the_installed_pillow_lacks_is_said_to_be_lacking(rgb, monkeypatch):
    data = saved(rgb, "AVIF")
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF")
    with pytest.raises(PhotographError, match="does not read AVIF. Update it, or export it as"):
        read(data)
    assert read(saved(rgb, "PPM")).format == "PNM"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (bytes(128) + b"DICM" + bytes(200), "the DICOM (file is damaged|object holds no picture)"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), "is a HEIC photograph"),
        (b"%PDF-1.7\n" + bytes(200), "is a PDF document"),
        (b"PK\x03\x04" + bytes(200), "is a ZIP archive"),
        (b" <!DOCTYPE html><title>404</title>", "is a page of HTML"),
        (bytes(5000), "is a file of zeros"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"P2P network", "is not an image of a known kind"),
    ],
)
def test_a_file_of_another_kind_is_told_by_its_content(data, said):
    with pytest.raises(PhotographError, match=said):
        read(data, "left.jpg")


def test_a_jpeg_that_pillow_does_not_know_is_still_read_whole_or_refused_as_cut(rgb, capfd):
    grey = rgb.copy()
    grey[-24:] = 128
    whole = saved(grey, "JPEG", quality=95)
    length = int.from_bytes(whole[4:6], "big")
    short = whole[:4] + b"\0\x07JFIF\0" + whole[4 + length :]  # a JFIF header without its version and density
    with pytest.raises((OSError, SyntaxError)):
        Image.open(io.BytesIO(short)).load()
    assert np.abs(read(short).pixels.astype(int) - grey).mean() < 3
    assert not any(capfd.readouterr())  # decoders say nothing of their own
    at = short.index(b"\xff\xda")
    with pytest.raises(PhotographError, match="cut short"):
        read(short[: at + (len(short) - at) // 2] + b"\xff\xd9")


# Files


def test_paths_give_what_their_bytes_give(rgb, tmp_path):
    data = saved(rgb, "PNG")
    for name in ("plain.png", "no suffix", "été 眼.png", "two\nlines.png", "wrong.jpg"):
        path = tmp_path / name
        path.write_bytes(data)
        for source in (path, str(path)):
            photograph = read(source)
            assert isinstance(photograph, Photograph)
            assert photograph.name == str(path)
            np.testing.assert_array_equal(photograph.pixels, rgb)
    assert read(path, name="as given").name == "as given"
    assert read(bytearray(data)).format == read(memoryview(data)).format == "PNG"


def test_a_name_that_is_no_unicode_is_read(rgb, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.png")
    Path(path).write_bytes(saved(rgb, "PNG"))
    assert read(path).name == path


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("missing.png", "no such file"),
        ("empty.png", "empty"),
        ("text.jpg", "not an image of a known kind"),
        ("folder.png", "is a folder"),
        ("pipe.png", "not a regular file"),
        ("text.jpg/inside.png", "no such file"),
        ("null\0byte.png", "cannot be opened"),
        ("x" * 300, "cannot be opened"),
    ],
)
def test_what_is_no_photograph_is_named_with_its_cause(tmp_path, name, cause):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not a photograph")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(PhotographError, match=cause) as caught:
        read(str(tmp_path / name))
    assert caught.value.name == str(tmp_path / name)
    assert str(caught.value).endswith(".")


def test_a_blank_path_and_one_without_permission(rgb, tmp_path, monkeypatch):
    with pytest.raises(PhotographError, match="blank"):
        read("")
    path = tmp_path / "secret.png"
    path.write_bytes(saved(rgb, "PNG"))

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PhotographError, match="Permission denied"):
        read(path)


def test_pillow_keeps_its_own_limit(rgb):
    before = Image.MAX_IMAGE_PIXELS
    read(saved(rgb, "TIFF"))
    assert before == Image.MAX_IMAGE_PIXELS
