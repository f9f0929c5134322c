"""The floors that import-linter cannot hold: no room imports the root, and screening runs with torch blocked."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fundoscope

SOURCE = Path(fundoscope.__file__).parent
TORCH_FREE = (
    "imaging", "errors", "simulate", "datasets", "cohort", "studies", "findings", "evaluation", "reports", "bundles", "cli.main",
    "rop.screening.outputs", "rop.screening.grader", "nicking.grading.outputs", "nicking.grading.grader", "bundles.read_nicking",
)  # fmt: skip


def test_no_room_imports_the_root():
    guilty = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            root = isinstance(node, ast.ImportFrom) and node.module == "fundoscope"
            root |= isinstance(node, ast.Import) and any(name.name == "fundoscope" for name in node.names)
            if root and path.parent != SOURCE:
                guilty.append(f"{path}:{node.lineno}")
    assert guilty == []


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
    for room in ("", ".imaging", ".cohort", ".evaluation", ".reports", ".bundles", ".simulate", ".datasets"):
        module = __import__(f"fundoscope{room}", fromlist=["x"])
        assert [name for name in module.__all__ if not hasattr(module, name)] == []
