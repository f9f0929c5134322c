"""Archives: a manifest in, parquet parts out; the same rows as `rop screen`, whatever is killed on the way."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from types import MappingProxyType

import pytest

pytest.importorskip("pyarrow", reason="the extra analysis is not installed")

import pyarrow as pa
import pyarrow.parquet as pq
from processes import workers_at_work
from typer.testing import CliRunner

from fundoscope.cli.main import app
from fundoscope.errors import FundoscopeError, UsageError
from fundoscope.findings import BundleIdentity, GradedPhotograph, RopFinding, Status
from fundoscope.runs.archive import ArchiveCounts, ArchivePart, PartWriter, plan_parts, read_counts
from fundoscope.runs.archive_engines import write_parts
from fundoscope.runs.workers import WorkEngine
from fundoscope.simulate import write_infants


class KillingGrader:
    """A grader in whose hands a photograph named poison ends the whole program."""

    name, noun, columns = "rop screen", "photograph", ("file", "status", "reason")
    options = MappingProxyType({})
    identity = BundleIdentity("none", "2026-01-01", "0")

    def grade_one(self, source, name):
        if "poison" in name:
            os.kill(os.getpid(), signal.SIGKILL)
        return GradedPhotograph((RopFinding(name, Status.OK),))

    def failed(self, name, reason):
        return GradedPhotograph((RopFinding(name, Status.FAILED, reason),))

    def count(self, rows):
        return {status: int(rows[0]["status"] == status) for status in ("ok", "failed")}


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive") / "eyes"
    write_infants(2, folder, seed=2, size=160)
    return folder


@pytest.fixture(scope="module")
def manifest(eyes):
    """Every photograph three times, one that is missing, and one by its address."""
    photographs = sorted((eyes / "images").iterdir())
    paths = [f"images/{each.name}" for each in photographs] * 3 + ["images/missing.png", photographs[0].as_uri()]
    place = eyes / "manifest.csv"
    place.write_text("site,Path\n" + "".join(f"a,{path}\n" for path in paths))
    return place


def call(*words):
    result = CliRunner().invoke(app, list(map(str, words)))
    if isinstance(result.exception, FundoscopeError):
        return result.exception.exit_code, str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def rows_of(folder):
    tables = [pq.read_table(part) for part in sorted(folder.glob("part-*.parquet"))]
    return pa.concat_tables(tables).to_pylist()


def without_time(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_an_archive_gives_the_rows_of_rop_screen(manifest, eyes, tiny_bundle, tmp_path):
    code, said = call(
        "rop", "archive", manifest, "--out", tmp_path / "a", "--bundle", tiny_bundle, "--part-size", 5, "--workers", 2
    )
    assert code == 1, said  # one photograph is missing
    rows = rows_of(tmp_path / "a")
    assert [row["number"] for row in rows] == list(range(1, len(rows) + 1))
    assert {row["bundle"] for row in rows} == {"tiny"} and all(row["version"] and row["bundle_digest"] for row in rows)
    photographs = sorted((eyes / "images").iterdir())
    call("rop", "screen", *photographs, "--out", tmp_path / "s", "--bundle", tiny_bundle)
    with (tmp_path / "s" / "results.csv").open() as file:
        for screened, row in zip(csv.DictReader(file), rows, strict=False):
            assert row["status"] == screened["status"] and row["reason"] == screened["reason"]
            assert (
                screened["p_rop"] == ("" if row["p_rop"] is None else f"{row['p_rop']:g}")
                or float(screened["p_rop"]) == row["p_rop"]
            )
    assert rows[-2]["status"] == "failed" and "no such file" in rows[-2]["reason"]
    assert without_time([rows[-1]])[0]["p_rop"] == rows[0]["p_rop"]
    marker = json.loads((tmp_path / "a" / "run.json").read_text())
    assert marker["finished"] and sum(name.startswith("part-") for name in marker["files"]) == -(-len(rows) // 5)
    page = (tmp_path / "a" / "report.html").read_text()
    assert "Research use only" in page and "there is no such file" in page
    assert not (tmp_path / "a" / "pictures").exists()


def test_going_on_writes_only_what_is_missing(manifest, tiny_bundle, tmp_path):
    words = [
        "rop",
        "archive",
        manifest,
        "--out",
        tmp_path / "a",
        "--bundle",
        tiny_bundle,
        "--part-size",
        7,
        "--workers",
        1,
    ]
    call(*words)
    before = rows_of(tmp_path / "a")
    parts = sorted((tmp_path / "a").glob("part-*.parquet"))
    parts[1].unlink()
    (tmp_path / "a" / f".{parts[1].name}.123.part").write_bytes(b"half")  # what a killed worker leaves
    times = {part: part.stat().st_mtime_ns for part in parts if part.exists()}
    code, said = call(*words)
    assert code == 1 and "kept from an earlier run" in said
    assert without_time(rows_of(tmp_path / "a")) == without_time(before)
    assert all(part.stat().st_mtime_ns == stamp for part, stamp in times.items())
    assert not list((tmp_path / "a").glob(".part*"))


def test_another_bundle_part_size_or_manifest_is_refused_and_replace_begins_anew(manifest, tiny_bundle, tmp_path):
    words = ["rop", "archive", manifest, "--out", tmp_path / "a", "--part-size", 50, "--workers", 1]
    call(*words, "--bundle", tiny_bundle)
    for other in (words, [*words[:-3], 60, "--bundle", tiny_bundle]):
        code, said = call(*other)
        assert code == 2 and "holds another run" in said
    code, _ = call(*words[:-3], 60, "--bundle", tiny_bundle, "--replace")
    assert code == 1 and len(list((tmp_path / "a").glob("part-*"))) == 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "report.html").write_text("mine")
    code, said = call(
        "rop", "archive", manifest, "--out", tmp_path / "other", "--bundle", tiny_bundle, "--part-size", 50
    )
    assert code == 2 and (tmp_path / "other" / "report.html").read_text() == "mine", said


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("image\na.png\n", "no column 'path'"),
        ("path\n", "has no rows"),
        ("path,x\na.png,1\n,2\n", "row 2 has no path"),
        ("", "no column 'path'"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_told_before_anything_is_written(tmp_path, text, fault):
    (tmp_path / "m.csv").write_text(text)
    code, said = call("rop", "archive", tmp_path / "m.csv", "--out", tmp_path / "a")
    assert code == 2 and fault in said and not (tmp_path / "a").exists()


def test_a_parquet_manifest_is_the_same_as_a_csv(tmp_path):
    (tmp_path / "m.csv").write_text("path\na.png\nb ä.png\nc.png\n", encoding="utf-8")
    pq.write_table(pa.table({"x": [1, 2, 3], "path": ["a.png", "b ä.png", "c.png"]}), tmp_path / "m.parquet")
    parts = [[part.name for part in plan_parts(tmp_path / name, 2)] for name in ("m.csv", "m.parquet")]
    assert parts[0] == parts[1] and len(parts[0]) == 2
    with pytest.raises(UsageError, match="cannot be read"):
        (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
        list(plan_parts(tmp_path / "broken.parquet"))


def test_a_photograph_that_ends_the_program_is_a_row_and_its_neighbours_are_graded(tmp_path):
    paths = [f"{number}.png" for number in range(11)]
    paths[4] = "poison.png"
    (tmp_path / "m.csv").write_text("path\n" + "".join(f"{path}\n" for path in paths))
    writer = PartWriter(KillingGrader(), tmp_path, tmp_path)
    total = ArchiveCounts()
    for counts in write_parts(WorkEngine(workers=1), writer, plan_parts(tmp_path / "m.csv", 3)):
        total.add(counts)
    rows = rows_of(tmp_path)
    assert [row["file"] for row in rows] == paths and total.photographs == 11
    assert [row["file"] for row in rows if row["status"] == "failed"] == ["poison.png"]
    assert "ended by it" in next(row["reason"] for row in rows if row["status"] == "failed")


def test_a_part_without_its_summary_is_no_finished_part(tmp_path):
    part = ArchivePart(1, ("a.png",))
    assert read_counts(tmp_path / part.name) is None
    pq.write_table(pa.table({"file": ["a.png"]}), tmp_path / part.name)
    assert read_counts(tmp_path / part.name) is None


def test_an_archive_that_is_killed_goes_on_and_ends_with_the_same_rows(manifest, tiny_bundle, tmp_path):
    words = [
        sys.executable, "-m", "fundoscope", "rop", "archive", str(manifest), "--out", str(tmp_path / "a"), "--bundle", str(tiny_bundle),
        "--part-size", "3", "--workers", "1",
    ]  # fmt: skip
    running = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    for _ in range(600):
        if list((tmp_path / "a").glob("part-*.parquet")) or running.poll() is not None:
            break
        time.sleep(0.02)
    running.kill()
    running.wait()
    assert subprocess.run(words, stderr=subprocess.DEVNULL).returncode == 1
    numbers = [row["number"] for row in rows_of(tmp_path / "a")]
    assert (
        numbers == list(range(1, len(numbers) + 1))
        and json.loads((tmp_path / "a" / "run.json").read_text())["finished"]
    )


@pytest.mark.services
def test_ray_gives_the_same_rows_also_where_a_worker_is_killed(manifest, tiny_bundle, tmp_path):
    pytest.importorskip("ray", reason="the extra cluster is not installed")
    slow = tmp_path / "manifest.csv"  # 60 times as many, so that there is something to kill in mid-run
    paths = [line.split(",")[1] for line in manifest.read_text().splitlines()[1:]]
    whole = [path if "://" in path else str(manifest.parent / path) for path in paths]
    slow.write_text("path\n" + "\n".join(whole * 60) + "\n")
    words = ["rop", "archive", slow, "--bundle", tiny_bundle, "--part-size", 20, "--workers", 2]
    call(*words, "--out", tmp_path / "local")
    command = [sys.executable, "-m", "fundoscope", *map(str, words), "--out", str(tmp_path / "ray"), "--engine", "ray"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while running.poll() is None and len(list((tmp_path / "ray").glob("part-*.parquet"))) < 3:
        time.sleep(0.05)
    killed = workers_at_work(running.pid)[0]
    os.kill(killed, signal.SIGKILL)
    assert running.wait() == 1, running.stderr.read()  # one photograph is missing
    assert without_time(rows_of(tmp_path / "ray")) == without_time(rows_of(tmp_path / "local"))
