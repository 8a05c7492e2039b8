"""The order of the rooms: no folder imports one above it, and no import names a script."""

from __future__ import annotations

import ast
import re

import pytest
from helpers import ROOT

BELOW = {
    "utils": (),
    "models": ("utils",),
    "faces": ("utils",),
    "config": ("utils", "models"),
    "datasets": ("utils", "config", "faces"),
    "synthetic": ("utils", "config", "datasets", "faces"),
    "training": ("utils", "models", "config", "datasets"),
    "inference": ("utils", "models", "config", "datasets", "faces"),
    "people": ("utils", "config", "datasets", "faces", "training", "inference"),
    "web": ("utils", "config", "datasets", "faces", "training", "inference", "people"),
}
OWN = {*BELOW, "tools", *(path.stem for path in ROOT.glob("*.py")), "benchmarks", "tests", "demo"}


def imports_of(path) -> set[str]:
    """Return what is imported anywhere in a file, functions included, by the first part of its name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("room", BELOW)
def test_no_room_imports_one_above_it(room):
    files = list((ROOT / room).rglob("*.py"))
    assert len(files) > 2
    for path in files:
        above = imports_of(path) & OWN - {room, *BELOW[room]}
        assert not above, f"{path.relative_to(ROOT)} imports {', '.join(above)}"


def test_the_map_names_what_is_there():
    """Every name of the README's map exists, and every folder and script is in it."""
    section = (ROOT / "README.md").read_text().split("\n## Where things are\n")[1].split("\n## ")[0]
    table = section.split("|", 1)[1]
    within = ("authors/", "demo/", "ablations/", "network.py", "networks.py")
    names = [name for name in re.findall(r"`([^`]+)`", table) if name not in within]
    mapped = {path for name in [*names, "demo"] for path in ROOT.glob(name.rstrip("/"))}
    assert all(list(ROOT.glob(name.rstrip("/"))) for name in names), names
    tracked = {ROOT / room for room in (*BELOW, "benchmarks", "tests", "docs")}
    assert tracked | {*ROOT.glob("*.py"), *ROOT.glob("*.sh")} <= mapped
    links = re.findall(r"\]\(([^)#]+\.md)", section)
    assert len(links) > 5 and all((ROOT / link).exists() for link in links)
