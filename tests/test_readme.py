"""README and the files of docs/results say the same: `benchmarks/readme.py --check`, as the test command runs it."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def readme():
    spec = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_say_what_the_results_say(readme):
    for page in readme.PAGES:
        readme.main(["--check"], page)


def figures(text, readme):
    """Where the numbers of the block of results stand."""
    start = text.index(readme.START) + len(readme.START)
    return [found.span() for found in re.finditer(r"\d+\.\d+", text[start : text.index(readme.END)])], start


def test_any_changed_figure_of_the_block_is_found(readme, tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    places, start = figures(text, readme)
    assert len(places) > 100
    copy = tmp_path / "README.md"
    for _, end in places[::25]:
        last = str((int(text[start + end - 1]) + 1) % 10)
        copy.write_text(text[: start + end - 1] + last + text[start + end :], encoding="utf-8")
        with pytest.raises(SystemExit, match="Run: python benchmarks/readme.py"):
            readme.main(["--check"], copy)
    readme.main([], copy)
    assert copy.read_text(encoding="utf-8") == text
