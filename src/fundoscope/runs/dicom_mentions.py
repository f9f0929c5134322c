"""DICOM files among the photographs that are named: a mention a picture, its eye and patient from the header, DICOMDIR."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from fundoscope.errors import PhotographError, UsageError
from fundoscope.findings import Mention
from fundoscope.folders import Skipped
from fundoscope.imaging import DicomHeader
from fundoscope.imaging.dicom_header import (
    DIRECTORY_CLASS,
    load_dataset,
    may_be_dicom,
    read_dicom_header,
    text_of,
)

#: Under which DICOM objects are counted that a folder holds beside its photographs.
NO_PHOTOGRAPH = "DICOM object of another kind"


def expand_mention(mention: Mention, skipped: Skipped, searched: bool) -> Iterator[Mention]:
    """The mention of a photograph, or those of a DICOM file: one a picture, with whose eye it shows by its header.

    What a table says of infant, eye and exam stays, and `remark` says where the header has another eye. A DICOMDIR gives the
    pictures that it lists. Of a folder that was `searched`, objects that are no photographs are counted in `skipped`; what
    cannot be read keeps its mention, so that its row says why.
    """
    header = _header_of(mention.file)
    if header is None:
        yield mention
    elif header.sop_class == DIRECTORY_CLASS:
        if searched:  # its files are found by themselves
            skipped.add("DICOMDIR", mention.file)
        else:
            for listed in _listed(mention):
                yield from expand_mention(listed, skipped, searched)
    elif header.other_kind and searched:
        skipped.add(NO_PHOTOGRAPH, mention.file)
    else:
        described = _described(mention, header)
        if header.frames == 1 or header.other_kind:
            yield described
        else:
            for frame in range(1, header.frames + 1):
                yield replace(described, path=f"{mention.path}#{frame}", location=mention.file, frame=frame)


def _header_of(file: Path) -> DicomHeader | None:
    if not may_be_dicom(file):
        return None
    try:
        return read_dicom_header(file, str(file))
    except PhotographError:  # whoever reads the photograph meets it again, and makes a row of it
        return None


def _described(mention: Mention, header: DicomHeader) -> Mention:
    remark = ""
    if mention.eye and header.eye and mention.eye != header.eye:
        remark = f"The table says that it shows the {mention.eye} eye, and its header the {header.eye} one: the table was believed."
    return replace(
        mention, infant=mention.infant or header.patient or None, eye=mention.eye or header.eye or None,
        exam=mention.exam or header.exam_date or None, header=header, remark=remark,
    )  # fmt: skip


def _listed(mention: Mention) -> Iterator[Mention]:
    """The photographs that a DICOMDIR lists, in its order (PS3.3, F.3); raises `UsageError` for one that cannot be used."""
    directory = mention.file
    try:
        records = load_dataset(directory, mention.path).get("DirectoryRecordSequence") or []
        names = [
            [str(part) for part in ([file] if isinstance(file, str) else file)]
            for record in records
            if text_of(record, "DirectoryRecordType") == "IMAGE" and (file := record.get("ReferencedFileID"))
        ]
    except PhotographError as error:
        raise UsageError(str(error)) from error
    except Exception as error:
        raise UsageError(f"{mention.path}: the DICOMDIR is damaged. Name the folder in its place.") from error
    if not names:
        raise UsageError(f"{mention.path}: this DICOMDIR lists no photograph. Name the folder in its place.")
    for parts in names:
        inner = PurePosixPath(*parts)
        if inner.is_absolute() or ".." in inner.parts:
            raise UsageError(
                f"{mention.path}: lists {inner}, which lies outside its folder. Name the folder in its place."
            )
        yield Mention(str(Path(mention.path).parent / _as_written(directory.parent, inner)))


def _as_written(folder: Path, inner: PurePosixPath) -> Path:
    """A listed path as it is written on the disk: names are listed in capitals, and disks are often copied in small letters."""
    written = Path()
    for part in inner.parts:
        there = folder / written
        names = [part, part.lower(), part + ".", part.lower() + "."]
        found = next((name for name in names if (there / name).exists()), part)
        written /= found
    return written
