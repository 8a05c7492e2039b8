"""The order of the rooms: no folder imports one above it, and no import names a script."""

from __future__ import annotations

import ast

import pytest
from conftest import ROOT

BELOW = {
    "utils": (),
    "models": (),
    "config": ("utils", "models"),
    "datasets": ("utils",),
    "training": ("utils", "models", "config", "datasets"),
    "inference": ("utils", "models", "config", "datasets"),
}
OWN = {*BELOW, *(path.stem for path in ROOT.glob("*.py")), "benchmarks", "tests", "demo"}


def imports_of(path) -> set[str]:
    """What is imported anywhere in a file, functions included, by the first part of its name."""
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
