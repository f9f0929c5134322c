"""What import-linter cannot hold: names with one meaning, no circles, screening with torch blocked, a door that is whole."""

import ast
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

import fundoscope

SOURCE = Path(fundoscope.__file__).parent
TORCH_FREE = (
    "imaging", "errors", "simulate", "datasets", "cohort", "guidelines", "studies", "findings", "evaluation", "reports", "runs", "dicom", "bundles",
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


def can_never_fail(test):
    """Why a condition holds whatever the program does, or a part of it that an `and` joins; blank where it may fail."""
    made = (ast.Tuple, ast.List, ast.Dict, ast.Set, ast.GeneratorExp, ast.Lambda, ast.JoinedStr)
    if isinstance(test, made) or (isinstance(test, ast.Constant) and test.value):
        return "a constant, or something that is made here and counts as true"
    if isinstance(test, ast.IfExp):
        return can_never_fail(test.body) or can_never_fail(test.orelse)
    if isinstance(test, ast.BoolOp):
        return next((why for value in test.values if (why := can_never_fail(value))), "")
    if (
        isinstance(test, ast.Call)
        and ast.unparse(test.func) in ("all", "any")
        and isinstance(test.args[0], ast.GeneratorExp)
    ):
        return can_never_fail(test.args[0].elt)
    if isinstance(test, ast.Compare):
        sides = [test.left, *test.comparators]
        if all(isinstance(side, ast.Constant) for side in sides):
            return "constants are compared"
        plain = not any(isinstance(part, ast.Call) for part in ast.walk(test))  # two calls may give two things
        if plain and any(ast.dump(a) == ast.dump(b) for a, b in pairwise(sides)):
            return "a thing is compared with itself"
        if ast.unparse(test.left).startswith("len(") and ast.unparse(test).endswith(") >= 0"):
            return "no length is below 0"
    return ""


def test_every_assert_of_the_suite_can_fail():
    weak = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Assert) and (why := can_never_fail(node.test)):
                weak.append(f"{where}: {why}")
            silent = (ast.Pass, ast.Continue, ast.Return)
            if isinstance(node, ast.ExceptHandler) and all(
                isinstance(x, silent) and getattr(x, "value", None) is None for x in node.body
            ):
                weak.append(f"{where}: an error passes for success; use pytest.raises, or look at the error")
            over_files = isinstance(node, ast.For) and "glob(" in ast.unparse(node.iter)
            if over_files and any(isinstance(x, ast.Assert) for part in node.body for x in ast.walk(part)):
                weak.append(
                    f"{where}: asserts over files of which there may be none; name the list and assert that it is not empty"
                )
    assert weak == []


@pytest.mark.parametrize(
    "condition",
    ["True", "'text'", "(a, b)", "x if log else True", "x or True", "a == a", "a.b is a.b", "1 < 2", "len(a) >= 0",
     "(x for x in a)", "all(y == 1 for y in a) or True"],
)  # fmt: skip
def test_an_assert_that_cannot_fail_is_recognised(condition):
    assert can_never_fail(ast.parse(condition, mode="eval").body)


@pytest.mark.parametrize(
    "condition", ["f(1) == f(1)", "False", "a == b", "x or y", "x if log else y", "len(a) > 0", "0 < a < 1"]
)
def test_an_assert_that_can_fail_is_not(condition):
    assert not can_never_fail(ast.parse(condition, mode="eval").body)


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
    for room in (
        "",
        ".imaging",
        ".runs",
        ".cohort",
        ".guidelines",
        ".evaluation",
        ".reports",
        ".bundles",
        ".simulate",
        ".datasets",
        ".dicom",
    ):
        module = __import__(f"fundoscope{room}", fromlist=["x"])
        assert [name for name in module.__all__ if not hasattr(module, name)] == []
