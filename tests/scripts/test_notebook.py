"""demo.ipynb, from a fresh kernel in a copy of the repository, with fewer frames and shorter trainings."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from conftest import PATIENCE_S, ROOT, write_frames
from nbclient import NotebookClient

from make_synthetic import moving_head

# what makes it short: as it stands, and as the test has it
SHORTER = {
    "!make demo\n": "!DEMO_FRAMES=24 DEMO_TEST_FRAMES=4 make demo\n",
    "--frames 400": "--frames 48",
    "learn_person.py --work-dir": "tests/drivers/small.py learn_person 20 --work-dir",
    "learn_person.py {person}": "tests/drivers/small.py learn_person 20 {person}",
}


def copy_of_the_repository(folder: Path) -> None:
    """Copy what git knows, and what is new; the environment is a link to the one at hand."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")


@pytest.mark.slow
def test_the_notebook_runs_from_a_fresh_kernel(tmp_path):
    if not (ROOT / ".venv/bin/python").exists():
        pytest.skip("no .venv, which the notebook's cells call")
    copy_of_the_repository(tmp_path)
    write_frames(tmp_path / "web/examples/nils.mp4", [frame for frame, _ in moving_head("Nils=77", 10, seed=0)])
    notebook = nbformat.read(ROOT / "demo.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # none are committed
    sources = "".join(cell.source + "\n" for cell in notebook.cells)
    assert all(words in sources for words in SHORTER)
    for cell in notebook.cells:
        for words, shorter in SHORTER.items():
            cell.source = (cell.source + "\n").replace(words, shorter)
    os.utime(ROOT / ".venv/.ready")  # newer than the copies, or make would set it up again
    NotebookClient(notebook, timeout=PATIENCE_S, resources={"metadata": {"path": str(tmp_path)}}).execute()
    kinds = [kind for cell in notebook.cells for output in cell.get("outputs", ()) for kind in output.get("data", ())]
    assert kinds.count("image/png") >= 4 and kinds.count("image/gif") == 1 and kinds.count("text/html") == 2, kinds
    words = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "usable frames" in words and "\nerror: " not in words and "Traceback" not in words, words
    assert (tmp_path / "mira.work/driven.mp4").exists()
