"""An archive: a manifest of thousands of photographs in, parquet parts out, on every core here or on a cluster.

    manifest   CSV or parquet with a column `path`: files, or addresses that fsspec reads; gone through, never held
    parts      of equal size, each named by a digest of the paths in it, written beside its place and moved there
    folder     `RunFolder`: the same command goes on where it was cut off, another bundle or option is refused

A part is done when its file is there. It is written by one worker in one go, so a worker or a program that is killed costs the
parts that were being worked on, and nothing is written twice.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import importlib.metadata
import json
import os
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fundoscope.errors import PhotographError, UsageError
from fundoscope.findings import GradedPhotograph, Grader, PhotographSource, Row, Status, exit_code
from fundoscope.outputs import PICTURES, RUN_KIND, RUN_MARKER, written_whole
from fundoscope.runs.engines import grade_isolated
from fundoscope.runs.folder import Manifest, RunFolder

if TYPE_CHECKING:
    import pyarrow as pa

PAGE = "report.html"
#: Columns after the grader's own: the row of the manifest from 1, and who answered.
ARCHIVE_COLUMNS = ("number", "bundle", "bundle_digest", "version")
PART_SIZE = 256

_TEXT = ("file", "status", "reason", "rop", "treatment_requiring", "bundle", "bundle_digest", "version")
_WHOLE_NUMBERS = ("number", "crossing", "grade")
_SUMMARY = b"fundoscope"  # key of a part's own metadata
_REASONS = 40  # kinds of reasons that a part counts


@dataclass(frozen=True, slots=True)
class ArchivePart:
    """Consecutive rows of a manifest; `first` is the number of the first of them, from 1."""

    first: int
    paths: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of its file: the order, and a digest of the paths."""
        digest = hashlib.sha256("\n".join(self.paths).encode("utf-8", "surrogateescape")).hexdigest()
        return f"part-{self.first:09d}-{digest[:16]}.parquet"


@dataclass
class ArchiveCounts:
    """What is known of finished parts: the grader's counts, statuses, and how often each reason stands there."""

    photographs: int = 0
    rows: int = 0
    seconds: float = 0.0  # of workers, not of the clock
    counts: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, other: ArchiveCounts) -> None:
        """Count another part, too."""
        self.photographs += other.photographs
        self.rows += other.rows
        self.seconds += other.seconds
        self.counts.update(other.counts)
        self.statuses.update(other.statuses)
        self.reasons.update(other.reasons)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "photographs": self.photographs, "rows": self.rows, "seconds": round(self.seconds, 3), "counts": dict(self.counts),
            "statuses": dict(self.statuses), "reasons": dict(self.reasons),
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ArchiveCounts:
        """What `to_json` wrote."""
        counters = {name: Counter(values[name]) for name in ("counts", "statuses", "reasons")}
        return cls(values["photographs"], values["rows"], values["seconds"], **counters)

    @property
    def exit_code(self) -> int:
        """0 when every photograph was read, 1 when some could not be."""
        return exit_code(map(Status, self.statuses))


@dataclass(frozen=True)
class PartWriter:
    """Grades one part after the other and writes them; travels to a worker, which opens the bundle by itself."""

    grader: Grader
    folder: Path
    base: Path  # that relative paths start from

    def write(self, part: ArchivePart) -> ArchiveCounts:
        """Grade a part, write it, and give its counts."""
        return self.write_graded(part, (grade_path(self.grader, self.base, path) for path in part.paths))

    def write_graded(self, part: ArchivePart, graded: Iterable[GradedPhotograph]) -> ArchiveCounts:
        """Write a part whose photographs are graded by somebody else; raises `OutputError` where that cannot be done."""
        start, found, rows = time.perf_counter(), ArchiveCounts(photographs=len(part.paths)), []
        identity, version = self.grader.identity, importlib.metadata.version("fundoscope")
        for number, one in enumerate(graded, part.first):
            own = [finding.as_row() for finding in one.findings]
            found.counts.update(self.grader.count(own))
            found.statuses[own[0]["status"]] += 1
            if own[0]["status"] != Status.OK:
                found.reasons[own[0]["reason"].split(".")[0][:120]] += 1
            rows += [
                {**row, "number": number, "bundle": identity.name, "bundle_digest": identity.digest, "version": version}
                for row in own
            ]
        found.reasons = Counter(dict(found.reasons.most_common(_REASONS)))
        found.rows, found.seconds = len(rows), time.perf_counter() - start
        write_parquet(self.folder / part.name, rows, self.grader.columns, found)
        return found


def grade_path(grader: Grader, base: Path, path: str) -> GradedPhotograph:
    """What the grader concludes of a file or an address; what cannot be had is a row `failed`."""
    try:
        source = fetch(path, base)
    except PhotographError as error:
        return grader.failed(path, f"{error.cause}. {error.remedy}")
    return grade_isolated(grader, source, path)


def fetch(path: str, base: Path) -> PhotographSource:
    """A local file's place, or the bytes of an address such as `s3://...`, by fsspec; `PhotographError` where it cannot be had."""
    if "://" not in path:
        return base / path
    import fsspec

    try:
        with fsspec.open(path, "rb") as file:
            return file.read()
    except Exception as error:  # every file system has errors of its own
        raise PhotographError(
            path, f"cannot be fetched ({type(error).__name__}: {error})", "Check the address and who may read it."
        ) from error


# --- the manifest


def read_manifest_paths(manifest: Path) -> Iterator[str]:
    """The paths of a manifest, a row after the other, never all at once.

    Raises `UsageError` for a file that is no table, one without a column `path`, and a row without a path.
    """
    paths = _parquet_paths(manifest) if manifest.suffix.lower() == ".parquet" else _csv_paths(manifest)
    number = 0
    for number, path in enumerate(paths, 1):
        if not path:
            raise UsageError(f"{manifest}: row {number} has no path. Fill it in, or take the row out.")
        yield path
    if number == 0:
        raise UsageError(f"{manifest}: the manifest has no rows. Write a row for each photograph, with its path.")


def _csv_paths(manifest: Path) -> Iterator[str]:
    try:
        with manifest.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = csv.reader(file)
            header = [title.strip().lower() for title in next(rows, [])]
            at = _column(manifest, header)
            for row in rows:
                if row:
                    yield row[at].strip() if at < len(row) else ""
    except (OSError, csv.Error) as error:
        raise UsageError(
            f"{manifest}: cannot be read ({error}). Give a CSV or parquet file with a column path."
        ) from error


def _parquet_paths(manifest: Path) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(manifest) as file:
            title = file.schema_arrow.names[_column(manifest, [name.lower() for name in file.schema_arrow.names])]
            for batch in file.iter_batches(batch_size=4096, columns=[title]):
                yield from ("" if value is None else str(value).strip() for value in batch.column(0).to_pylist())
    except (OSError, pa.ArrowException) as error:
        raise UsageError(
            f"{manifest}: cannot be read ({error}). Give a CSV or parquet file with a column path."
        ) from error


def _column(manifest: Path, header: Sequence[str]) -> int:
    if "path" not in header:
        seen = ", ".join(header[:8]) or "nothing"
        raise UsageError(
            f"{manifest}: there is no column 'path'; its header reads {seen}. Name the column of paths 'path'."
        )
    return list(header).index("path")


def plan_parts(manifest: Path, size: int = PART_SIZE) -> Iterator[ArchivePart]:
    """The parts of a manifest in their order, `size` photographs each; the last one holds the rest."""
    first = 1
    for paths in _batched(read_manifest_paths(manifest), size):
        yield ArchivePart(first, paths)
        first += len(paths)


# --- parquet


def parquet_schema(columns: Sequence[str]) -> pa.Schema:
    """Types of the columns of a part: text, whole numbers, numbers; all may be blank."""
    import pyarrow as pa

    def kind(column: str) -> pa.DataType:
        return pa.string() if column in _TEXT else pa.int64() if column in _WHOLE_NUMBERS else pa.float64()

    return pa.schema([(column, kind(column)) for column in (*columns, *ARCHIVE_COLUMNS)])


def write_parquet(place: Path, rows: Sequence[Row], columns: Sequence[str], counts: ArchiveCounts) -> None:
    """Write a part beside its place, flush it to the disk, and move it there; `OutputError` where it cannot be written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = parquet_schema(columns).with_metadata({_SUMMARY: json.dumps(counts.to_json()).encode()})
    text = [name for name in schema.names if name in _TEXT]
    plain = [{**row, **{name: _encodable(row.get(name)) for name in text}} for row in rows]
    # a part that was given out twice may be written by two workers at once
    with written_whole(place, str(os.getpid())) as beside, beside.open("wb") as file:
        pq.write_table(pa.Table.from_pylist(plain, schema=schema), file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())


def _encodable(value: Any) -> Any:
    """Text that UTF-8 can hold: bytes of a name that are none are spelled out."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def read_counts(place: Path) -> ArchiveCounts | None:
    """The counts of a finished part; None where there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return ArchiveCounts.from_json(json.loads((pq.read_schema(place).metadata or {})[_SUMMARY]))
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return None


# --- the archive


@dataclass(frozen=True)
class Archive:
    """The folder of an archive while it is worked on; `finished` are the counts of the parts that lie there, by their names."""

    manifest: Path
    run: RunFolder
    size: int
    parts: int  # in all
    photographs: int
    finished: dict[str, ArchiveCounts]

    def remaining(self) -> Iterator[ArchivePart]:
        """Parts that are still to be written."""
        return (part for part in plan_parts(self.manifest, self.size) if part.name not in self.finished)


@contextmanager
def open_archive(
    manifest: Path, out: Path, grader: Grader, command: str, size: int, replace: bool, others: Sequence[Path] = ()
) -> Generator[Archive]:
    """A context with the archive in `out`, begun now or gone on with, and locked for the block.

    Raises `UsageError` for a manifest that cannot be used, and where `out` holds another run: of another manifest, bundle,
    option or version; with `replace` that run's files are removed first.
    """
    names, photographs, digest = [], 0, hashlib.sha256()
    for part in plan_parts(manifest, size):
        names.append(part.name)
        photographs += len(part.paths)
        digest.update(part.name.encode())
    identity = grader.identity
    values: Manifest = {
        "kind": RUN_KIND,
        "fundoscope": importlib.metadata.version("fundoscope"),
        "grader": f"{grader.name.split()[0]} archive",
        "bundle": {"name": identity.name, "made": identity.made, "digest": identity.digest},
        "options": {**grader.options, "part-size": size},
        "photographs": {"count": photographs, "digest": digest.hexdigest()[:16]},
        "skipped": {},
        "files": [*names, PAGE, RUN_MARKER],
        "commands": [command],
        "started": datetime.datetime.now().astimezone().isoformat(timespec="minutes"),
        "finished": False,
    }
    with RunFolder.open(out, values, [manifest, *others], replace) as run:
        for left in out.glob(".part-*.parquet.*"):  # of a worker that was killed
            left.unlink(missing_ok=True)
        finished = {name: counts for name in names if (counts := read_counts(out / name)) is not None}
        try:
            yield Archive(manifest, run, size, len(names), photographs, finished)
        finally:
            with suppress(OSError):
                (out / PICTURES).rmdir()  # an archive has none


def _batched(items: Iterable[str], size: int) -> Iterator[tuple[str, ...]]:
    items = iter(items)
    while batch := tuple(islice(items, size)):
        yield batch
