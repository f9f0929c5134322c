"""The glossary and the page "where do I add": every name and file that they give exists."""

import ast
import re
from pathlib import Path

import pytest

import fundoscope

SOURCE = Path(fundoscope.__file__).parent
ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
GLOSSARY, WHERE = ((REFERENCE / f"{name}.md").read_text() for name in ("glossary", "where-to-add"))


def defined_in(path):
    """Names that a module defines or imports at its top, without importing it."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return names


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`fundoscope\.([\w.]+)`", GLOSSARY))))
def test_a_place_in_the_glossary_exists(name):
    *folders, last = name.split(".")
    folder = SOURCE.joinpath(*folders)
    module = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    is_module = (folder / last).is_dir() or (folder / last).with_suffix(".py").is_file()
    assert is_module or last in defined_in(module)


def test_no_word_is_told_twice():
    words = re.findall(r"^\| ([^|]+?) \|", GLOSSARY, re.M)
    words = [word for word in words if word not in ("word", "---")]
    assert len(words) > 60
    assert len(set(words)) == len(words)


def test_every_file_to_touch_exists():
    files = set(re.findall(r"`([\w/]+\.(?:py|toml))`", WHERE))
    assert len(files) > 15
    assert [
        f
        for f in sorted(files)
        if not ((ROOT if f.startswith(("tests", "tools", "docs", "pyproject")) else SOURCE) / f).is_file()
    ] == []
    folders = set(re.findall(r"`([\w/]+/)`", WHERE))
    assert [f for f in sorted(folders) if not (SOURCE / f).is_dir()] == []


def test_every_test_that_is_named_exists():
    written = "\n".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", WHERE))
    assert len(named) > 4
    assert [name for name in sorted(named) if f"def {name}(" not in written] == []
