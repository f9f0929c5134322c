"""Bundles for other runtimes: the folder is whole, is a bundle still, and refuses what it cannot be."""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile

import pytest
from typer.testing import CliRunner

from fundoscope.bundles import export, locate, openvino_session, verify, web_files
from fundoscope.bundles.export import export_bundle
from fundoscope.bundles.golden import check_golden
from fundoscope.cli.main import app
from fundoscope.errors import BundleError, MissingExtraError, UsageError


def call(*words):
    return CliRunner().invoke(app, ["bundle", "export", *map(str, words)])


def sums_of(folder):
    lines = (folder / export.SUMS).read_text().splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The shipped grader of infants' photographs for ONNX Runtime."""
    out = tmp_path_factory.mktemp("export") / "onnx"
    result = call(out, "--to", "onnx")
    assert result.exit_code == 0 and str(out / "README.md") in result.output
    return out


def test_the_folder_holds_what_its_checksums_say_and_nothing_else(exported):
    sums = sums_of(exported)
    there = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    assert there - {export.SUMS, "fundoscope.json"} == set(sums)
    for name, digest in sums.items():
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == digest
    assert subprocess.run(["sha256sum", "-c", "--quiet", export.SUMS], cwd=exported).returncode == 0


def test_it_is_a_bundle_still_and_passes_its_golden_vectors(exported):
    assert verify(exported) == verify(locate("rop"))
    assert not check_golden(exported).faults


def test_its_pages_name_the_threshold_the_weights_and_their_licences(exported):
    card = verify(exported)
    read_me, notices = ((exported / name).read_text() for name in (export.READ_ME, export.NOTICES))
    assert "RESEARCH USE ONLY" in read_me and str(card.stages[0].operating_point.threshold) in read_me
    assert all(each.licence in notices for each in card.attributions)
    assert "Apache License" in (exported / export.LICENCE).read_text()


def test_the_grader_of_nicking_is_exported_too_but_has_no_page(tmp_path):
    assert call(tmp_path / "out", "--to", "onnx", "--bundle", "nicking", "-q").output == ""
    assert "grades.fp16.onnx" in (tmp_path / "out" / "README.md").read_text()
    result = CliRunner().invoke(app, ["bundle", "export", str(tmp_path / "web"), "--to", "web", "--bundle", "nicking"])
    assert isinstance(result.exception, UsageError) and "--to onnx or openvino" in str(result.exception)
    assert not (tmp_path / "web").exists()


def test_an_export_replaces_its_own_and_no_other(exported, tmp_path):
    out = tmp_path / "out"
    for _ in range(2):
        export_bundle(locate("rop"), out, "onnx", say=lambda line: None)
    assert sums_of(out) == sums_of(exported)
    with pytest.raises(UsageError, match="another answer"):
        export_bundle(locate("nicking"), out, "onnx")
    with pytest.raises(UsageError, match="there is no such target; did you mean 'onnx'"):
        export.check_target("onx")


def test_a_bundle_without_golden_vectors_is_refused(exported, tmp_path):
    card = verify(exported)
    files = {name: record for name, record in card.files.items() if not name.startswith("golden")}
    shutil.copytree(exported, tmp_path / "bare")
    (tmp_path / "bare" / "bundle.json").write_text(card.model_copy(update={"files": files}).sealed_json())
    with pytest.raises(BundleError, match="--add"):
        export_bundle(tmp_path / "bare", tmp_path / "out", "onnx")


# --- the browser's runtime


def archive_of(files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


@pytest.fixture
def small_runtime(monkeypatch):
    """A package of npm with other, small files."""
    files = {name: name.encode() for name in web_files.FILES}
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    monkeypatch.setattr(web_files, "FILES", sums)
    return files


def test_the_runtime_is_taken_from_a_folder_or_an_archive_and_nothing_else(small_runtime, tmp_path):
    folder, archive = tmp_path / "package", tmp_path / "package.tgz"
    (folder / "dist").mkdir(parents=True)
    for name, data in small_runtime.items():
        (folder / "dist" / name).write_bytes(data)
    archive.write_bytes(archive_of(small_runtime))
    for given in (folder, archive):
        found = web_files.read_onnxruntime_web(given, print)
        assert found == {f"ort/{name}": data for name, data in small_runtime.items()}
    name = next(iter(small_runtime))
    (folder / "dist" / name).write_bytes(b"another")
    with pytest.raises(UsageError, match=f"{name} is not that of version"):
        web_files.read_onnxruntime_web(folder, print)
    (folder / "dist" / name).unlink()
    for given, cause in (
        (folder, f"holds no {name}"),
        (tmp_path / "none", "no such file"),
        (folder / "dist", "npm pack"),
    ):
        with pytest.raises(UsageError, match=cause):
            web_files.read_onnxruntime_web(given, print)
    archive.write_bytes(b"no archive")
    with pytest.raises(UsageError, match="cannot be read as an archive"):
        web_files.read_onnxruntime_web(archive, print)


def test_what_cannot_be_downloaded_names_the_way_by_hand_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(UsageError, match="cannot be downloaded .*`npm pack"):
        export_bundle(locate("rop"), tmp_path / "out", "web", say=lambda line: None)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "file:///etc")
    with pytest.raises(UsageError, match="is no web address"):
        export_bundle(locate("rop"), tmp_path / "out", "web", say=lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_the_page_comes_with_its_modules_and_its_words_in_both_languages(small_runtime, tmp_path):
    archive = tmp_path / "package.tgz"
    archive.write_bytes(archive_of(small_runtime))
    assert call(tmp_path / "web", "--to", "web", "--onnxruntime-web", archive, "-q").exit_code == 0
    sums = sums_of(tmp_path / "web")
    assert {"index.html", "page.js", "grader.js", "ort/ort.wasm.min.mjs", "model.int8.onnx"} <= set(sums)
    words = json.loads((tmp_path / "web" / "words.json").read_text())
    assert set(words) == {"en", "zh"}
    assert all(set(words["zh"][part]) == set(words["en"][part]) for part in ("page", "reasons", "numbers"))
    assert all(words["zh"]["page"][name] != text for name, text in words["en"]["page"].items())


# --- OpenVINO


def test_without_openvino_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for words in (
        ["bundle", "selftest", "--runtime", "openvino"],
        ["bundle", "export", str(tmp_path / "o"), "--to", "openvino"],
    ):
        result = CliRunner().invoke(app, words)
        assert isinstance(result.exception, MissingExtraError) and "fundoscope[openvino]" in str(result.exception)
    result = CliRunner().invoke(app, ["rop", "screen", "a.png", "--json", "--runtime", "openvin"])
    assert isinstance(result.exception, UsageError) and "did you mean 'openvino'?" in str(result.exception)


@pytest.mark.parametrize("name", ["rop", "nicking"])
def test_openvino_gives_the_golden_answers(name, tmp_path):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    assert not check_golden(locate(name), "openvino").faults
    export_bundle(locate(name), tmp_path / "out", "openvino", say=lambda line: None)
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir() if path.suffix in (".xml", ".bin"))


def test_openvino_refuses_what_is_no_network():
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    with pytest.raises(BundleError, match="cannot be loaded by OpenVINO"):
        openvino_session.OpenVinoSession(b"no network", "x.onnx")
