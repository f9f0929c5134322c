"""No file of the package imports another that leads back to it, not even by an import inside a function."""

import ast
from pathlib import Path

import networkx

import fundoscope

SOURCE = Path(fundoscope.__file__).parent


def module_name(path: Path, root: Path) -> str:
    """The dotted name of a file below `root`, a package."""
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph(root: Path, lazy_allowed: str) -> networkx.DiGraph:
    """An edge from each file to every file of the package that its import statements name.

    `from a.b import c` names the file a/b/c.py where there is one, else a/b.py or a/b/__init__.py. Imports inside
    functions count, but for the room `lazy_allowed`; imports below `if TYPE_CHECKING` count too, since a reader must
    follow them.
    """
    files = {module_name(path, root): path for path in root.rglob("*.py")}
    graph = networkx.DiGraph()
    for name, path in files.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lazy = name.split(".")[1:2] == [lazy_allowed]
        for node in tree.body if lazy else ast.walk(tree):
            named = []
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                longer = [f"{node.module}.{alias.name}" for alias in node.names]
                named = [each if each in files else node.module for each in longer]
            graph.add_edges_from((name, each) for each in named if each in files)
    return graph


def circles(root: Path, lazy_allowed: str = "cli") -> list[list[str]]:
    """The files that lead back to each other, a list a circle."""
    graph = import_graph(root, lazy_allowed)
    found = [sorted(part) for part in networkx.strongly_connected_components(graph) if len(part) > 1]
    return sorted(found + [[name] for name in networkx.nodes_with_selfloops(graph)])


def test_no_file_leads_back_to_itself():
    assert circles(SOURCE) == []


def test_a_circle_is_found_wherever_the_import_stands(tmp_path):
    room = tmp_path / "house"
    (room / "cli").mkdir(parents=True)
    (room / "__init__.py").touch()
    (room / "cli" / "__init__.py").write_text("def command():\n    from house.cli import late\n")
    (room / "cli" / "late.py").write_text("import house.cli\n")
    (room / "a.py").write_text("from house import b\n")
    (room / "b.py").write_text("import typing\nif typing.TYPE_CHECKING:\n    from house.c import C\n")
    (room / "c.py").write_text("def make():\n    from house.a import something\n")
    assert circles(room) == [["house.a", "house.b", "house.c"]]
