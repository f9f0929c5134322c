"""No command writes over a file that it reads, or over files of other origin; what cannot be written leaves nothing half."""

import contextlib
import functools
import hashlib
import json
import os
import resource
import shutil
import tempfile
from pathlib import Path

import pytest
from test_cli_screen import run

from fundoscope.cli.main import leaf_commands, places_of
from fundoscope.cohort import Cohort, Folds, make_groups
from fundoscope.errors import OutputError, UsageError
from fundoscope.outputs import (
    ANSWER_KIND,
    RUN_KIND,
    answer_folder,
    new_file,
    read_marker,
    refuse_overwriting,
    save_picture,
    written_whole,
)

RUN_FILES = ("results.csv", "results.json", "report.html", "run.json", "pictures/0001_a.jpg")
ARCHIVE_FILES = ("report.html", "run.json")
AGREEMENT_FILES = ("agreement.html", "agreement.csv", "confusion.csv", "differences.csv")
STUDY_FILES = ("study.json", "results.json", "tables/cohort.csv")

#: The files that each command may write into --out; None where it writes nothing that has a name of its own.
WRITES = {
    "rop screen": (*RUN_FILES, "eyes.csv"),
    "rop study": STUDY_FILES,
    "rop archive": ARCHIVE_FILES,
    "nicking archive": ARCHIVE_FILES,
    "rop evaluate": (
        "audit.html",
        "problems.csv",
        "photographs.parquet",
        "measures.parquet",
        "predictions.parquet",
        "results.json",
        "tables/a.csv",
        "explained/001.png",
        "figures/a.png",
        "report.html",
    ),
    "rop recalibrate": ("",),  # --out is a new folder
    "nicking grade": RUN_FILES,
    "nicking grade-patches": RUN_FILES,
    "nicking cut-patches": (
        "patches.csv",
        "contact_sheet.html",
        "results.csv",
        "results.json",
        "run.json",
        "pictures/0001_a.png",
    ),
    "nicking agreement": AGREEMENT_FILES,
    "nicking make-labels": ("crossings.json", "crossings_scaled.json", "labels.csv", "masks/a.png"),
    "nicking study-crossings": STUDY_FILES,
    "nicking study-grades": STUDY_FILES,
    "cohort audit": ("audit.html", "problems.csv"),
    "cohort agreement": AGREEMENT_FILES,
    "cohort from-folders": ("",),  # --out is the file itself
    "simulate infants": ("cohort.csv", "eyes.csv", "crossings.json", "sheet.png", "images/a.jpg", "truth/a.png"),
    "simulate adults": ("cohort.csv", "patches.csv", "crossings.csv", "images/a.jpg", "patches/a.png"),
    "forensics": ("solutions.csv", "means.csv", "report.html"),
    "dicom deidentify": ("deidentified.csv", "photographs/a.dcm"),
    "dicom echo": (),
    "dicom send": (),
    "dicom fetch": (),  # --into: what lies there stays
    "dicom listen": (),  # --into: what lies there stays
    "bundle export": ("bundle.json", "README.md", "SHA256SUMS", "quality_table.json"),
    "bundle show": (),
    "bundle selftest": (),
    "bundle verify": (),
    "doctor": (),
    "rop due": (),
    "serve": (),
    "server backup": ("",),  # --out is the file itself
    "server restore": (),
    "server audit verify": (),
    "server audit anchor": (),
}
#: The words of a call that reads `{it}`, by command and the parameter through which it reads.
CALLS = {
    ("rop screen", "photos"): "rop screen {it} --out {out} --bundle {bundle}",
    ("rop screen", "bundle"): "rop screen {other} --out {out} --bundle {folder}",
    ("rop study", "cohort"): "rop study {it} --out {out}",
    ("rop study", "recipe"): "rop study {table} --out {out} --recipe {it}",
    ("rop archive", "manifest"): "rop archive {it} --out {out} --bundle {bundle}",
    ("rop archive", "bundle"): "rop archive {manifest} --out {out} --bundle {folder}",
    ("nicking archive", "manifest"): "nicking archive {it} --out {out}",
    ("nicking archive", "bundle"): "nicking archive {manifest} --out {out} --bundle {folder}",
    ("rop evaluate", "cohort"): "rop evaluate {it} --out {out} --bundle {bundle}",
    ("rop evaluate", "bundle"): "rop evaluate {table} --out {out} --bundle {folder}",
    ("rop recalibrate", "cohort"): "rop recalibrate {it} --out {out} --bundle {bundle}",
    ("rop recalibrate", "bundle"): "rop recalibrate {table} --out {out} --bundle {folder}",
    ("nicking grade", "photos"): "nicking grade {it} --out {out}",
    ("nicking grade", "bundle"): "nicking grade {other} --out {out} --bundle {folder}",
    ("nicking grade-patches", "patches"): "nicking grade-patches {it} --out {out}",
    ("nicking grade-patches", "bundle"): "nicking grade-patches {other} --out {out} --bundle {folder}",
    ("nicking cut-patches", "photos"): "nicking cut-patches {it} --out {out}",
    ("nicking cut-patches", "bundle"): "nicking cut-patches {other} --out {out} --bundle {folder}",
    ("nicking agreement", "patch_table"): "nicking agreement {it} --out {out}",
    ("nicking agreement", "results"): "nicking agreement {readings} --out {out} --results {it}",
    ("nicking agreement", "bundle"): "nicking agreement {readings} --out {out} --bundle {folder}",
    ("nicking make-labels", "dataset_dir"): "nicking make-labels {folder} --out {out}",
    ("nicking study-crossings", "dataset_dirs"): "nicking study-crossings {table} {folder} --out {out}",
    ("nicking study-crossings", "recipe"): "nicking study-crossings {table} --out {out} --recipe {it}",
    ("nicking study-crossings", "maps"): "nicking study-crossings {table} --out {out} --maps {folder}",
    ("nicking study-grades", "patch_table"): "nicking study-grades {it} --out {out}",
    ("nicking study-grades", "recipe"): "nicking study-grades {table} --out {out} --recipe {it}",
    ("nicking study-grades", "upstream"): "nicking study-grades {table} --out {out} --upstream {folder}",
    ("nicking study-grades", "extra"): "nicking study-grades {table} --out {out} --extra {it}",
    ("nicking study-grades", "also"): "nicking study-grades {table} --out {out} --also {table} --also {it}",
    ("nicking study-grades", "bundle"): "nicking study-grades {table} --out {out} --bundle {folder}",
    ("bundle export", "bundle"): "bundle export {out} --to onnx --bundle {folder}",
    ("bundle export", "onnxruntime_web"): "bundle export {out} --to web --onnxruntime-web {it}",
    ("dicom deidentify", "photos"): "dicom deidentify {it} --out {out}",
    ("dicom deidentify", "key"): "dicom deidentify {other} --out {out} --key {it}",
    ("dicom deidentify", "table"): "dicom deidentify {other} --out {out} --table {it}",
    ("cohort audit", "table"): "cohort audit {it} --out {out}",
    ("cohort audit", "folds"): "cohort audit {table} --folds {it} --out {out}",
    ("cohort agreement", "table"): "cohort agreement {it} --out {out}",
    ("cohort agreement", "bundle"): "cohort agreement {readings} --out {out} --bundle {folder}",
    ("cohort from-folders", "folder"): "cohort from-folders {folder} --out {out}",
    ("server backup", "data"): "server backup --data {folder} --out {out}",
    ("server backup", "passphrase_file"): "server backup --data {folder} --out {out} --passphrase-file {it}",
    ("forensics", "table"): "forensics {it} --folds {folds} --out {out}",
    ("forensics", "folds"): "forensics {reported} --folds {it} --out {out}",
}
READS_ONLY = {
    "bundle selftest",
    "bundle show",
    "bundle verify",
    "dicom echo",
    "dicom send",
    "dicom fetch",
    "dicom listen",
    "doctor",
    "rop due",
    "serve",
    "server restore",
    "server audit verify",
    "server audit anchor",
}
REPORTED = "name,accuracy,precision,f1,sensitivity,specificity\nx,0.9,,,,\n"
FOLDS = "fold,part,class,n\n1,validation,positive,20\n1,validation,negative,30\n"


def test_every_command_and_every_place_it_names_has_its_case():
    """A command, or an option that names files, that is added later fails here until its cases stand above."""
    places = {(name, each) for name, command in leaf_commands().items() for each in places_of(command) if each != "out"}
    assert set(leaf_commands()) == set(WRITES)
    assert {(name, each) for name, each in places if name not in READS_ONLY} == set(CALLS)
    assert all("out" not in places_of(leaf_commands()[name]) for name in READS_ONLY)
    assert all("out" in places_of(command) for name, command in leaf_commands().items() if name not in READS_ONLY)


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else path.is_symlink()
        for path in sorted(folder.rglob("*"))
    }


def lay_same(it, place):
    """The input itself lies where the answer goes."""
    shutil.move(it, place)
    return place


def lay_symlink(it, place):
    place.symlink_to(it)
    return it


def lay_hard_link(it, place):
    os.link(it, place)
    return it


def lay_by_two_dots(it, place):
    shutil.move(it, place)
    return place.parent / ".." / place.parent.name / place.name


def lay_relative(it, place):
    shutil.move(it, place)
    return Path(os.path.relpath(place))


DISGUISES = (lay_same, lay_symlink, lay_hard_link, lay_by_two_dots, lay_relative)


def mark_as_own(out, command):
    """Markers by which all that lies in `out` is the command's own, as an earlier answer would be."""
    entries = sorted({name.partition("/")[0] for name in WRITES[command] if name})
    if command in (
        "rop screen",
        "rop archive",
        "nicking archive",
        "nicking grade",
        "nicking grade-patches",
        "nicking cut-patches",
    ):
        marker = {"kind": RUN_KIND, "grader": command, "files": list(WRITES[command][:-1]), "commands": []}
        (out / "run.json").write_text(json.dumps(marker))
        (out / ".run").mkdir()
    elif "study" in command:
        (out / "study.json").write_text(json.dumps({"commands": [command], "versions": {}}))
    else:
        marker = {"kind": ANSWER_KIND, "command": command, "entries": entries, "photographs": [], "settings": {}}
        (out / "fundoscope.json").write_text(json.dumps(marker))


def prepare(folder, parameter, command):
    """What a call needs: an input with good content, and what else the command reads."""
    photographs = [folder / f"{name}.png" for name in "abcdefghijkl"]
    for number, path in enumerate(photographs):
        path.write_text(str(number))
    table = folder / "table.csv"
    rows = "".join(f"{path},{'normal' if n % 2 else 'rop'},{n}\n" for n, path in enumerate(photographs))
    table.write_text("image,label,infant\n" + rows)
    first = "patch,photograph" if command == "nicking agreement" else "image,infant"
    word = "1" if command == "nicking agreement" else "rop"
    readings = f"{first},reader_1,reader_2\n" + "".join(
        f"{path},{n},{word},{word}\n" for n, path in enumerate(photographs)
    )
    (folder / "readings.csv").write_text(readings)
    (folder / "reported.csv").write_text(REPORTED)
    (folder / "folds.csv").write_text(FOLDS)
    source = folder / "source"
    for label in ("normal", "rop"):
        (source / label).mkdir(parents=True)
        shutil.copy(photographs[0], source / label / "photograph.png")
    for name in (
        "bundle.json",
        "images/01_test.tif",
        "mask/01_test_mask.gif",
    ):  # a bundle's folder, and a set like DRIVE
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(name)
    if command == "cohort from-folders":
        shutil.rmtree(source / "images")
        shutil.rmtree(source / "mask")
    it = folder / ("it.toml" if parameter == "recipe" else "it.csv" if command != "nicking grade-patches" else "it.png")
    content = {"forensics": REPORTED if parameter == "table" else FOLDS}.get(command, table.read_text())
    manifest = "path\n" + "".join(f"{path}\n" for path in photographs)
    (folder / "manifest.csv").write_text(manifest)
    content = manifest if command.endswith("archive") else content
    it.write_text(readings if command.endswith("agreement") else content)
    if (command, parameter) == ("cohort audit", "folds"):
        cohort = Cohort.read(table)
        it.unlink()
        Folds.make(cohort, make_groups(cohort, []), 2).write(it)
    return {"table": table, "reported": folder / "reported.csv", "folds": folder / "folds.csv", "other": photographs[1],
            "readings": folder / "readings.csv", "manifest": folder / "manifest.csv", "source": source, "it": it}  # fmt: skip


@functools.cache
def opened_once(open_bundle, name):
    return open_bundle(name)


@pytest.fixture
def quick(monkeypatch):
    """Bundles that are opened once for all calls."""
    from fundoscope.nicking.grading.grader import NickingGrader
    from fundoscope.nicking.reading.cut import PatchCutter
    from fundoscope.rop.screening.grader import RopGrader

    for grader, name in ((RopGrader, "rop"), (NickingGrader, "nicking"), (PatchCutter, "nicking")):
        monkeypatch.setattr(
            grader, "open", staticmethod(lambda *_, kind=grader.open, name=name, **__: opened_once(kind, name))
        )


@pytest.mark.parametrize(("command", "parameter"), CALLS)
def test_no_command_writes_over_what_it_reads(command, parameter, tmp_path, monkeypatch, quick):
    names = WRITES[command]
    for number, (name, owned) in enumerate((name, owned) for name in names for owned in (False, True)):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        given = prepare(folder, parameter, command)
        out = folder / "out"
        place = out / name if name else out
        place.parent.mkdir(parents=True, exist_ok=True)
        if owned and name:
            mark_as_own(out, command)
        if place.exists():
            continue  # the marker itself
        monkeypatch.chdir(folder)
        disguise = DISGUISES[number % len(DISGUISES)]
        if parameter in ("bundle", "upstream", "maps") and disguise is not lay_symlink:
            disguise = lay_hard_link
        if parameter in ("dataset_dir", "folder"):  # a photograph of the set is the file that would be written
            inner = given["source"] / ("images/01_test.tif" if parameter == "dataset_dir" else "normal/photograph.png")
            lay_same(inner, place)
            (os.link if number % 2 and "/" not in name else os.symlink)(place, inner)
        elif "{folder}" in CALLS[command, parameter] and "study" in command:
            inside = out / "inside"
            shutil.move(given["source"], inside)
            given["source"] = given["it"] = inside
        elif "{folder}" in CALLS[command, parameter]:
            given["it"] = disguise(given["source"] / "bundle.json", place)
        else:
            given["it"] = disguise(given["it"], place)
            if parameter == "recipe" and disguise in (lay_symlink, lay_hard_link):
                continue  # a study may lie beside a link to its recipe: nothing is written through it
        if disguise in (lay_symlink, lay_hard_link) and "study" in command and given["it"].parent != out:
            given["it"] = place  # in a study's folder nothing that is read may lie
        words = CALLS[command, parameter].split()
        values = {**given, "folder": given["source"], "out": out, "bundle": "rop"}
        before = digests(folder)
        done = run(*(word.format(**values) for word in words))
        assert digests(folder) == before, f"{name}, {disguise.__name__}: {done.stderr}"
        assert done.returncode == 2, f"{name}, {disguise.__name__}: {done.stderr}"
        assert "Traceback" not in done.stderr
        if "1 file of a report" in done.stderr:  # it is known as an answer, and not read
            assert parameter in ("photos", "patches") and owned
            continue
        assert str(out) in done.stderr, done.stderr
        if f"{out}: is there already" in done.stderr:  # whatever lies there
            continue
        if parameter not in ("dataset_dir", "folder") and "/" not in name:
            assert str(given["it"]) in done.stderr or str(given["source"]) in done.stderr, done.stderr


@pytest.mark.parametrize("command", [name for name in WRITES if name.startswith("simulate")])
def test_simulated_eyes_replace_nothing(command, tmp_path):
    for name in WRITES[command]:
        place = tmp_path / name.replace("/", "_") / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("mine")
        out = tmp_path / name.replace("/", "_")
        before = digests(tmp_path)
        done = run(*command.split(), "1", "--out", out, "--size", "64", "-q")
        assert done.returncode == 2 and str(out) in done.stderr, done.stderr
        assert digests(tmp_path) == before


# --- the rule


def test_files_are_compared_by_what_they_are(tmp_path):
    it = tmp_path / "it.csv"
    it.write_text("mine")
    (tmp_path / "out").mkdir()
    os.link(it, tmp_path / "out" / "hard.csv")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    for inputs, files, folders in (
        ([it], [tmp_path / "out" / "hard.csv"], []),
        ([tmp_path / "link" / "hard.csv"], [it], []),
        ([tmp_path / "out" / "missing.csv"], [tmp_path / "link" / "missing.csv"], []),
        ([tmp_path / "link" / "hard.csv"], [], [tmp_path / "out"]),
    ):
        with pytest.raises(UsageError, match="would be overwritten by"):
            refuse_overwriting(inputs, files, folders)
    refuse_overwriting([it, "x" * 5000, "a\0b"], [tmp_path / "out" / "other.csv"], [tmp_path / "elsewhere"])


def test_an_answer_replaces_its_own_earlier_one_and_nothing_else(tmp_path):
    out = tmp_path / "out"

    def answer(text, command="cohort audit", **settings):
        with answer_folder(out, command, ["a.csv", "figures"], [], settings) as part:
            (part / "a.csv").write_text(text)
            (part / "figures").mkdir()

    answer("1", table="x")
    (out / "notes.txt").write_text("mine")
    answer("2", table="x")
    assert (out / "a.csv").read_text() == "2" and sorted(path.name for path in out.iterdir()) == [
        "a.csv", "figures", "fundoscope.json", "notes.txt",
    ]  # fmt: skip
    assert read_marker(out).owns("figures") and not read_marker(out).owns("notes.txt")
    for other in ({"table": "y"}, {"command": "forensics", "table": "x"}):
        with pytest.raises(UsageError, match="holds another answer of fundoscope cohort audit"):
            answer("3", **other)
    assert (out / "a.csv").read_text() == "2"


def test_an_answer_that_fails_leaves_nothing(tmp_path):
    out = tmp_path / "new" / "out"
    with pytest.raises(ZeroDivisionError), answer_folder(out, "x", ["a.csv"]) as part:
        (part / "a.csv").write_text("half")
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == []


def test_two_answers_are_never_made_in_one_folder_at_once(tmp_path):
    second = answer_folder(tmp_path, "x", ["a"])
    with answer_folder(tmp_path, "x", ["a"]), pytest.raises(UsageError, match="another run is writing"):
        second.__enter__()


# --- what cannot be written


@contextlib.contextmanager
def small_files(size):
    """No file may grow beyond `size` bytes: what a full disk looks like from within."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full_disk_calls(tmp_path, eyes):
    """Calls of every command that writes without training, by command."""
    for label, eye in (("normal", eyes[0]), ("rop", eyes[1])):
        (tmp_path / "photographs" / label).mkdir(parents=True)
        shutil.copy(eye, tmp_path / "photographs" / label)
    table, reported, folds = (tmp_path / f"{name}.csv" for name in ("table", "reported", "folds"))
    table.write_text(f"image,label,infant\n{eyes[0]},normal,1\n{eyes[1]},rop,2\n")
    reported.write_text(REPORTED)
    folds.write_text(FOLDS)
    readings, patches = tmp_path / "readings.csv", tmp_path / "patches.csv"
    readings.write_text(f"image,reader_1,reader_2\n{eyes[0]},normal,rop\n{eyes[1]},rop,rop\n")
    patches.write_text(f"patch,photograph,reader_1,reader_2\n{eyes[0]},a,0,1\n{eyes[1]},b,2,2\n")
    return {
        "nicking cut-patches": ["nicking", "cut-patches", eyes[0], "-q", "--out"],
        "nicking agreement": ["nicking", "agreement", patches, "--without-tool", "-q", "--out"],
        "cohort agreement": ["cohort", "agreement", readings, "--without-tool", "-q", "--out"],
        "rop screen": ["rop", "screen", eyes[0], "--bundle", "rop", "-q", "--out"],
        "nicking grade": ["nicking", "grade", eyes[0], "-q", "--out"],
        "simulate infants": ["simulate", "infants", "1", "--size", "128", "-q", "--out"],
        "cohort audit": ["cohort", "audit", table, "-q", "--out"],
        "cohort from-folders": ["cohort", "from-folders", tmp_path / "photographs", "-q", "--out"],
        "forensics": ["forensics", reported, "--folds", folds, "-q", "--out"],
    }


def test_a_full_disk_is_exit_4_and_leaves_no_half_answer(tmp_path, eyes):
    for name, call in full_disk_calls(tmp_path, eyes).items():
        out = tmp_path / name.replace(" ", "-")
        with small_files(0):
            done = run(*call, out)
        assert done.returncode == 4 and "cannot be written" in done.stderr, f"{name}: {done.stderr}"
        assert "Traceback" not in done.stderr
        left = [path for path in [out, *out.rglob("*")] if path.is_file() and ".run" not in path.parts]
        assert left == [], name


def test_a_folder_without_permission_is_exit_4(eyes):
    with tempfile.TemporaryDirectory() as name:  # which root's own temporary folder would hide from others
        folder = Path(name)
        calls = full_disk_calls(folder, eyes)
        (folder / "closed").mkdir()
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.name != "closed" else 0o555)
        if os.geteuid() == 0:
            os.seteuid(65534)  # root may write everywhere
        try:
            for name in ("cohort from-folders", "forensics"):
                for place in ("closed/answer", "closed"):
                    done = run(*calls[name], folder / place)
                    expected = (
                        2 if (name, place) == ("cohort from-folders", "closed") else 4
                    )  # there is something already
                    assert done.returncode == expected and "Traceback" not in done.stderr, done.stderr
        finally:
            os.seteuid(os.getuid())
        assert list((folder / "closed").iterdir()) == []


def test_a_folder_in_the_place_of_an_answer_is_a_wrong_call(tmp_path, eyes):
    (tmp_path / "out" / "results.csv").mkdir(parents=True)
    done = run("rop", "screen", eyes[0], "--out", tmp_path / "out")
    assert done.returncode == 2 and "holds results.csv" in done.stderr
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["results.csv"]


def test_pictures_and_whole_files_are_written_or_told_of(tmp_path):
    import numpy as np

    with small_files(10), pytest.raises(OutputError, match="cannot be written"):
        save_picture(tmp_path / "a.png", np.zeros((50, 50, 3), np.uint8))
    with small_files(10), pytest.raises(OutputError), written_whole(tmp_path / "b.csv") as part:
        part.write_text("longer than ten bytes")
    assert not (tmp_path / "b.csv").exists() and not list(tmp_path.glob(".b*"))
    with written_whole(tmp_path / "b.csv", "1") as one, written_whole(tmp_path / "b.csv", "2") as other:
        one.write_text("the whole of one")
        other.write_text("the whole of the other")
    assert (tmp_path / "b.csv").read_text() == "the whole of one" and not list(tmp_path.glob(".b*"))
    (tmp_path / "gone.csv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is there already"):
        new_file(tmp_path / "gone.csv", [])
