"""Which kinds of file are read: by their suffix when a folder is searched, by their first bytes when one is opened."""

from __future__ import annotations

#: Suffixes that folders and globs are searched for; a file named by itself may have any name.
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".tif", ".tiff", ".bmp", ".dib", ".webp", ".gif",
    ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".avif", ".ppm", ".pgm", ".pnm",
    ".dcm", ".dicom",
)  # fmt: skip

#: Kinds that are read, as they are named in a sentence.
READ = ("JPEG", "PNG", "TIFF", "BMP", "WebP", "GIF", "JPEG 2000", "AVIF", "PNM", "DICOM")

_FIRST_BYTES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",  # BigTIFF
    b"MM\x00+": "TIFF",
    b"BM": "BMP",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\xff\x4f\xff\x51": "JPEG 2000",  # a bare codestream
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"P2": "PNM",
    b"P3": "PNM",
    b"P5": "PNM",
    b"P6": "PNM",
}

_FOREIGN = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive or an office document",
    b"\x1f\x8b": "a gzip archive",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"8BPS": "a Photoshop document",
    b"\xff\x0a": "a JPEG XL image",
    b"\x00\x00\x00\x0cJXL \r\n\x87\n": "a JPEG XL image",
    b"\x1aE\xdf\xa3": "a Matroska or WebM film",
    b"\xd0\xcf\x11\xe0": "an old office document",
    b"v/1\x01": "an OpenEXR image",
    b"IIU\x00": "a camera's raw file",
    b"FUJIFILMCCD-RAW": "a camera's raw file",
    b"II\x1a\x00\x00\x00HEAPCCDR": "a camera's raw file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"<": "a page of HTML, XML or SVG",
    b"\xef\xbb\xbf<": "a page of HTML, XML or SVG",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself",
}

#: The first element of a DICOM file without a preamble: length of the group, character set, kind of image, class.
_FIRST_ELEMENTS = (
    b"\x02\x00\x00\x00",
    b"\x08\x00\x00\x00",
    b"\x08\x00\x05\x00",
    b"\x08\x00\x08\x00",
    b"\x08\x00\x16\x00",
)

_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def format_of(data: bytes) -> str | None:
    """One of `READ` by the first bytes of a file; None for anything else."""
    if is_dicom(data):
        return "DICOM"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp" and _brands(data).intersection(_AVIF_BRANDS):
        return "AVIF"
    kind = next((kind for magic, kind in _FIRST_BYTES.items() if data.startswith(magic)), None)
    return None if kind == "PNM" and data[2:3] not in (b" ", b"\t", b"\r", b"\n", b"#") else kind


def is_dicom(data: bytes) -> bool:
    """Whether a file begins as DICOM does: with a preamble, or, from old cameras, at once with its first element."""
    if data[128:132] == b"DICM":
        return True
    # without a preamble: the group's length, the character set, the kind of image or the class, with a plausible length
    return data[:4] in _FIRST_ELEMENTS and (data[4:6] in (b"UL", b"CS", b"UI", b"OB") or data[5:8] == b"\x00\x00\x00")


def foreign_kind(data: bytes) -> str:
    """What a file is that `format_of` does not know, to be said after "is "; "no image of a kind that is known" at worst."""
    if data[4:8] == b"ftyp":
        return "a HEIC photograph, which is not read" if _brands(data).intersection(_HEIF_BRANDS) else "a film"
    if not data.strip(b"\x00"):
        return "a file of zeros, as a copy that broke off leaves it"
    start = data[:64].lstrip() if data[:64].lstrip().startswith(b"<") else data
    return next((kind for magic, kind in _FOREIGN.items() if start.startswith(magic)), "not an image of a known kind")


def _brands(data: bytes) -> set[bytes]:
    """The brands that a file of ISO's base media format (ISO/IEC 14496-12) lays claim to."""
    end = min(int.from_bytes(data[:4], "big"), 256)
    return {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
