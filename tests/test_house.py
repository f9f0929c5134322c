"""What import-linter cannot hold: names with one meaning, no circles, screening with torch blocked, a door that is whole."""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import fundoscope

SOURCE = Path(fundoscope.__file__).parent
TORCH_FREE = (
    "imaging", "errors", "simulate", "datasets", "cohort", "studies", "findings", "evaluation", "reports", "runs", "bundles",
    "cli.main", "rop.screening.grader", "nicking.grading.grader", "bundles.read_nicking",
)  # fmt: skip


def modules():
    """Each file of the package with its tree."""
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(SOURCE.rglob("*.py"))]


def test_no_room_imports_the_root():
    guilty = []
    for path, tree in modules():
        for node in ast.walk(tree):
            root = isinstance(node, ast.ImportFrom) and node.module == "fundoscope"
            root |= isinstance(node, ast.Import) and any(name.name == "fundoscope" for name in node.names)
            if root and path.parent != SOURCE:
                guilty.append(f"{path}:{node.lineno}")
    assert guilty == []


def test_one_public_class_name_has_one_meaning():
    defined = defaultdict(list)
    for path, tree in modules():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                defined[node.name].append(path.relative_to(SOURCE).as_posix())
    assert {name: paths for name, paths in defined.items() if len(paths) > 1} == {}


def test_no_error_is_swallowed():
    silent = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and all(isinstance(part, ast.Pass) for part in node.body)
    ]
    assert silent == []


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Block())
import fundoscope.{room}
"""


@pytest.mark.parametrize("room", TORCH_FREE)
def test_these_rooms_load_in_the_base_install(room):
    extras = ("torch", "timm", "lightning", "safetensors", "sklearn", "pandas", "pyarrow", "matplotlib", "onnx")
    script = BLOCKED.format(names=extras, room=room)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_exported_names_exist():
    for room in ("", ".imaging", ".runs", ".cohort", ".evaluation", ".reports", ".bundles", ".simulate", ".datasets"):
        module = __import__(f"fundoscope{room}", fromlist=["x"])
        assert [name for name in module.__all__ if not hasattr(module, name)] == []
