"""Broken photographs by the thousand: every one must be read or refused by name, soon, and in little memory.

    python benchmarks/mutations.py [--count 3000] [--seed 0] [--screen]

First through `fundoscope.imaging.read`, in a process of its own: nothing but `PhotographError` may come out, no input may
take over 5 s of the processor, and the process must neither crash nor grow over 1 GiB. What was read is noted file by file, so that a run that
was stopped goes on where it was. With `--screen` the same files also go through `fundoscope rop screen`, in one call: each
must have its row in `results.csv`. Writes docs/results/mutations.csv; exit code 1 if anything failed.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import tifffile
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate

from fundoscope.errors import PhotographError
from fundoscope.imaging import read

MAX_SECONDS = 5.0
MAX_MEBIBYTES = 1024
RESULTS = Path(__file__).parent.parent / "docs" / "results" / "mutations.csv"


class Mutant(NamedTuple):
    """`data` is what was made of the file `seed` by `change`; `name` is a file name for it."""

    name: str
    seed: str
    change: str
    data: bytes


def picture(rows: int = 96, columns: int = 128) -> np.ndarray:
    """A red disc with dark branches on black, uint8 RGB: enough structure to give every encoder real work."""
    y, x = np.mgrid[:rows, :columns]
    inside = (y - rows / 2) ** 2 + (x - columns / 2) ** 2 < (0.48 * min(rows, columns)) ** 2
    wave = np.sin(x / 5 + np.sin(y / 9) * 3) + np.random.default_rng(0).normal(0, 0.2, y.shape)
    colour = np.stack([170 + 40 * wave, 90 + 30 * wave, 50 + 20 * wave], -1)
    return np.where(inside[..., None], np.clip(colour, 0, 255), 0).astype(np.uint8)


def seeds() -> dict[str, bytes]:
    """One whole file of each kind that the reader knows, by a name that ends in its suffix."""
    rgb = Image.fromarray(picture())
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = (picture().astype(np.uint16) << 4)[..., ::-1]
    return {
        "baseline.jpg": _saved(rgb, "JPEG", quality=85),
        "turned.jpg": _saved(rgb, "JPEG", quality=85, exif=turned.tobytes()),
        "progressive.jpg": _saved(rgb, "JPEG", progressive=True),
        "grey.jpg": _saved(rgb.convert("L"), "JPEG"),
        "cmyk.jpg": _saved(rgb.convert("CMYK"), "JPEG"),
        "rgb.png": _saved(rgb, "PNG"),
        "alpha.png": _saved(rgb.convert("RGBA"), "PNG"),
        "palette.png": _saved(rgb.convert("P"), "PNG", transparency=0),
        "one_bit.png": _saved(rgb.convert("1"), "PNG"),
        "deep.png": cv2.imencode(".png", deep)[1].tobytes(),
        "raw.tif": _saved(rgb, "TIFF"),
        "lzw.tif": _saved(rgb, "TIFF", compression="tiff_lzw"),
        "deflate.tif": _saved(rgb, "TIFF", compression="tiff_adobe_deflate"),
        "jpeg.tif": _saved(rgb, "TIFF", compression="jpeg"),
        "deep.tif": cv2.imencode(".tif", deep)[1].tobytes(),
        "pages.tif": _saved(rgb, "TIFF", save_all=True, append_images=[rgb.rotate(90)]),
        "float.tif": _written_tiff(picture() / np.float32(255)),
        "planes.tif": _written_tiff(deep.transpose(2, 0, 1), planarconfig="separate", compression="zlib"),
        "rgb.bmp": _saved(rgb, "BMP"),
        "palette.bmp": _saved(rgb.convert("P"), "BMP"),
        "lossy.webp": _saved(rgb, "WEBP", quality=85),
        "lossless.webp": _saved(rgb.convert("RGBA"), "WEBP", lossless=True),
        "moving.webp": _saved(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)]),
        "still.gif": _saved(rgb.convert("P"), "GIF"),
        "moving.gif": _saved(rgb, "GIF", save_all=True, append_images=[rgb.rotate(90)]),
        "boxes.jp2": _saved(rgb, "JPEG2000"),
        "bare.j2k": _saved(rgb, "JPEG2000", no_jp2=True, irreversible=True, quality_layers=[20]),
        "deep.jp2": cv2.imencode(".jp2", deep)[1].tobytes(),
        "rgb.avif": _saved(rgb, "AVIF"),
        "rgb.ppm": _saved(rgb, "PPM"),
        "native.dcm": _as_dicom(picture().tobytes(), "1.2.840.10008.1.2.1", "RGB"),
        "deflated.dcm": _as_dicom(picture().tobytes(), "1.2.840.10008.1.2.1.99", "RGB"),
        "baseline.dcm": _as_dicom([_saved(rgb, "JPEG", quality=85)] * 2, "1.2.840.10008.1.2.4.50", "YBR_FULL_422"),
        "wavelets.dcm": _as_dicom([_saved(rgb, "JPEG2000", no_jp2=True)], "1.2.840.10008.1.2.4.90", "YBR_RCT"),
        "runs.dcm": _as_dicom(_rle(picture()), "1.2.840.10008.1.2.5", "RGB"),
    }


def _as_dicom(pixels: bytes | list[bytes], syntax: str, photometric: str) -> bytes:
    """A DICOM photograph: native pixels, or a list of compressed frames."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    found = FileDataset(None, {}, file_meta=meta, preamble=bytes(128), is_implicit_VR=False)
    found.SOPClassUID, found.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1", "2.25.1"
    found.StudyInstanceUID, found.SeriesInstanceUID, found.PatientID = "2.25.2", "2.25.3", "7"
    found.PatientName, found.PatientBirthDate, found.ImageLaterality = "Li^Wei", "20260101", "R"
    found.Rows, found.Columns, found.SamplesPerPixel, found.PlanarConfiguration = 96, 128, 3, 0
    found.BitsAllocated, found.BitsStored, found.HighBit, found.PixelRepresentation = 8, 8, 7, 0
    found.PhotometricInterpretation = photometric
    if isinstance(pixels, list):
        found.NumberOfFrames = len(pixels)
        found.PixelData = encapsulate(pixels)
    else:
        found.PixelData = pixels
    found["PixelData"].VR = "OB"
    buffer = io.BytesIO()
    found.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _rle(pixels: np.ndarray) -> list[bytes]:
    """A frame in runs: a segment a colour, each byte a run of its own (PS3.5, annex G)."""
    planes = [b"".join(bytes([0, value]) for value in pixels[..., k].ravel().tolist()) for k in range(3)]
    starts = np.cumsum([64, *(len(plane) for plane in planes[:2])])
    return [np.array([3, *starts, *[0] * 12], "<u4").tobytes() + b"".join(planes)]


def _written_tiff(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, photometric="rgb", **options)
    return buffer.getvalue()


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _flip_bits(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    for at in rng.integers(0, len(data), rng.integers(1, 40)):
        data[at] ^= 1 << int(rng.integers(8))
    return data


def _flip_header(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    for at in rng.integers(0, min(200, len(data)), rng.integers(1, 6)):
        data[at] = int(rng.integers(256))
    return data


def _flip_footer(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    for at in rng.integers(max(0, len(data) - 200), len(data), rng.integers(1, 6)):
        data[at] = int(rng.integers(256))
    return data


def _cut(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    return data[: rng.integers(len(data))]


def _insert(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    at = int(rng.integers(len(data)))
    return data[:at] + bytearray(rng.bytes(int(rng.integers(1, 300)))) + data[at:]


def _drop(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    at = int(rng.integers(len(data)))
    return data[:at] + data[at + int(rng.integers(1, 300)) :]


def _blank(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    at, length = int(rng.integers(len(data))), int(rng.integers(1, 400))
    fill = bytes([int(rng.choice([0, 255]))])
    return data[:at] + bytearray(fill * min(length, len(data) - at)) + data[at + length :]


def _swap_header(data: bytearray, rng: np.random.Generator, other: bytes) -> bytearray:
    length = int(rng.integers(2, 64))
    return bytearray(other[:length]) + data[length:]


def _splice(data: bytearray, rng: np.random.Generator, other: bytes) -> bytearray:
    return data[: rng.integers(len(data))] + bytearray(other[rng.integers(len(other)) :])


def _large_number(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    at = int(rng.integers(2, min(300, len(data) - 4)))
    data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x00\x00\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x20\x00\x20"])
    return data


CHANGES: dict[str, Callable[[bytearray, np.random.Generator, bytes], bytearray]] = {
    "bits flipped": _flip_bits,
    "header rewritten": _flip_header,
    "footer rewritten": _flip_footer,
    "cut": _cut,
    "bytes inserted": _insert,
    "bytes dropped": _drop,
    "span blanked": _blank,
    "header swapped": _swap_header,
    "two files spliced": _splice,
    "number made huge": _large_number,
}


def mutants(count: int, seed: int = 0) -> Iterator[Mutant]:
    """`count` broken files, the same for the same seed: every kind of file and of change in turn."""
    rng = np.random.default_rng(seed)
    files = list(seeds().items())
    changes = list(CHANGES.items())
    for number in range(count):
        name, whole = files[number % len(files)]
        change, function = changes[(number // len(files)) % len(changes)]
        other = files[int(rng.integers(len(files)))][1]
        data = bytes(function(bytearray(whole), rng, other))
        yield Mutant(f"{number:05d}_{name}", name, change, data)


def outcome(mutant: Mutant) -> tuple[str, float, str]:
    """("read", "refused" or the name of a foreign exception), seconds of the processor, and what the error says."""
    begin = time.process_time()
    try:
        read(mutant.data, mutant.name)
        said = "read", ""
    except PhotographError as error:
        said = "refused", error.cause
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what this program looks for
        said = type(error).__name__, str(error)
    return said[0], time.process_time() - begin, said[1]


def peak_mebibytes() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def note_outcomes(count: int, seed: int, journal: Path) -> None:
    """Read the files that `journal` lacks, and append a line for each: before it is read and after."""
    begun = {line["name"] for line in _lines_of(journal)}
    with journal.open("a") as file:
        for mutant in mutants(count, seed):
            if mutant.name in begun:
                continue
            print(json.dumps({"name": mutant.name, "change": mutant.change}), file=file, flush=True)
            verdict, seconds, said = outcome(mutant)
            done = {
                "name": mutant.name,
                "verdict": verdict,
                "seconds": seconds,
                "said": said,
                "memory": peak_mebibytes(),
            }
            print(json.dumps(done), file=file, flush=True)


def _lines_of(journal: Path) -> list[dict]:
    return [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []


def through_reader(count: int, seed: int, journal: Path) -> bool:
    """Whether all files were read or refused; a process that dies or hangs on one goes on with the next."""
    command = [
        sys.executable,
        __file__,
        "--count",
        str(count),
        "--seed",
        str(seed),
        "--journal",
        str(journal),
        "--note",
    ]
    while len({line["name"] for line in _lines_of(journal) if "verdict" in line}) < count:
        reader = subprocess.Popen(command)
        seen, since = -1, time.monotonic()
        while reader.poll() is None:
            time.sleep(0.2)
            size = journal.stat().st_size if journal.exists() else 0
            if size != seen:
                seen, since = size, time.monotonic()
            elif time.monotonic() - since > 20 * MAX_SECONDS:
                reader.kill()
        if reader.returncode != 0:
            stuck = _lines_of(journal)[-1]
            verdict = {"name": stuck["name"], "verdict": f"the process ended with {reader.returncode}"}
            with journal.open("a") as file:
                print(json.dumps(verdict | {"seconds": 0.0, "said": "", "memory": 0.0}), file=file)
    changes = {line["name"]: line["change"] for line in _lines_of(journal) if "change" in line}
    done = [line for line in _lines_of(journal) if "verdict" in line]
    _write(Counter((changes[line["name"]], line["verdict"]) for line in done))
    foreign = [line for line in done if line["verdict"] not in ("read", "refused")]
    for line in foreign:
        print(f"{line['name']} ({changes[line['name']]}): {line['verdict']}: {line['said']}")
    slowest = max(done, key=lambda line: line["seconds"])
    peak = max(line["memory"] for line in done)
    print(f"{count} broken files, {len(foreign)} of them neither read nor refused")
    print(f"slowest {slowest['seconds']:.3f} s ({slowest['name']}), peak memory {peak:.0f} MiB")
    return not foreign and slowest["seconds"] < MAX_SECONDS and peak < MAX_MEBIBYTES


def _write(rows: Counter[tuple[str, str]]) -> None:
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["change", "read", "refused", "other"])
        for change in CHANGES:
            of = {verdict: n for (name, verdict), n in rows.items() if name == change}
            known = of.pop("read", 0), of.pop("refused", 0)
            writer.writerow([change, *known, sum(of.values())])


def through_screening(count: int, seed: int) -> bool:
    """Whether every broken file has its row when the command line is given all of them at once."""
    with tempfile.TemporaryDirectory() as folder:
        photographs, out = Path(folder) / "photographs", Path(folder) / "out"
        photographs.mkdir()
        for mutant in mutants(count, seed):
            (photographs / mutant.name).write_bytes(mutant.data)
        begin = time.perf_counter()
        program = [sys.executable, "-c", "from fundoscope.cli.main import run; run()"]
        command = [*program, "rop", "screen", str(photographs), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        print(f"rop screen: exit code {done.returncode}, {time.perf_counter() - begin:.0f} s")
        if not (out / "results.csv").exists():
            print(done.stderr[-2000:])
            return False
        with (out / "results.csv").open(newline="") as file:
            table = list(csv.DictReader(file))
    missing = {m.name for m in mutants(count, seed)} - {Path(row["file"]).name for row in table}
    print(f"rows {len(table)} of {count}; statuses {dict(Counter(row['status'] for row in table))}")
    return not missing and len(table) == count and done.returncode in (0, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--screen", action="store_true", help="also through the command line")
    parser.add_argument("--journal", type=Path, help="where each file is noted (default: a file among temporary ones)")
    parser.add_argument("--note", action="store_true", help=argparse.SUPPRESS)  # the process that reads
    options = parser.parse_args()
    name = f"fundoscope-mutations-{options.count}-{options.seed}.jsonl"
    journal = options.journal or Path(tempfile.gettempdir()) / name
    if options.note:
        note_outcomes(options.count, options.seed, journal)
        return 0
    good = through_reader(options.count, options.seed, journal)
    if options.screen:
        good = through_screening(options.count, options.seed) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
