"""The notebook of the documentation, run from its first cell to its last."""

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "start" / "folder-to-figures.ipynb"


def test_the_notebook_goes_from_a_folder_to_figures_and_a_page(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    work = tmp_path / "from-folder-to-figures"
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "24 photographs" in printed and "auc" in printed
    assert (work / "roc.png").stat().st_size > 5000
    assert (work / "report" / "report.html").read_text(encoding="utf-8").count("<img") >= 12
