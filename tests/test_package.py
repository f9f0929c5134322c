"""The package as a stranger gets it: sdist and wheel are built, installed and used, without this checkout."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Sdist, and the wheel that was built from it."""
    pytest.importorskip("build")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """A folder that holds the installed wheel and nothing else."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(built[1])], check=True)
    return target


def run_installed(site, *arguments, cwd):
    """The program from `site`, as its script would start it; asserts that it is not this checkout that runs."""
    code = "import fundoscope, sys; print(fundoscope.__file__, file=sys.stderr); from fundoscope.cli.main import run; run()"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert str(site) in done.stderr.splitlines()[0]
    return done


def test_every_file_of_the_source_is_in_the_wheel(built):
    source = ROOT / "src"
    wanted = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(built[1]) as wheel:
        assert wanted - set(wheel.namelist()) == set()


def test_the_sdist_holds_what_a_packager_needs(built):
    with tarfile.open(built[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "THIRD_PARTY_NOTICES.md", "CHANGELOG.md"} <= names
    assert not {name for name in names if name.startswith(("runs/", "tests/", ".venv"))}


def test_the_installed_wheel_screens_a_photograph(installed, eyes, tmp_path):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert run_installed(installed, "--version", cwd=tmp_path).stdout.strip() == f"fundoscope {version}"
    whole = run_installed(installed, "bundle", "verify", cwd=tmp_path)
    assert whole.returncode == 0 and whole.stdout.count("whole") >= 2
    screened = run_installed(installed, "rop", "screen", str(eyes[0]), "--out", "report", "-q", cwd=tmp_path)
    assert screened.returncode == 0, screened.stderr
    assert {"results.csv", "results.json", "report.html"} <= {path.name for path in (tmp_path / "report").iterdir()}


def test_a_release_is_refused_with_every_reason():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/release.py"), "9.9"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2
    for part in ("'9.9' is no version", "pyproject.toml says", "CITATION.cff", "CHANGELOG.md"):
        assert part in done.stderr
