"""docs/FIDELITY.md: every row names existing code, and how it was checked."""

from __future__ import annotations

import ast
import re

from helpers import ROOT

ROW = re.compile(r"^\| (.*) \|$", re.MULTILINE)
PLACE = re.compile(r"`([\w/]+\.(?:py|sh)) (\w+)`")


def names_in(path: str) -> set[str]:
    """The functions, classes and names that a file defines at its outermost level."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".sh"):
        return set(re.findall(r"^(\w+)\(\) {", text, re.MULTILINE))
    tree = ast.parse(text)
    found = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    return found | {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets
                    if isinstance(target, ast.Name)}  # fmt: skip


def test_every_row_of_fidelity_names_a_place_and_a_check_that_are_there():
    rows = [row.split(" | ") for row in ROW.findall((ROOT / "docs/FIDELITY.md").read_text(encoding="utf-8"))]
    rows = [row for row in rows if row[-1] != "checked"]  # without the tables' headings
    assert len(rows) > 95 and {len(row) for row in rows} == {5, 7}
    for *row, code, checked in rows:
        place = PLACE.fullmatch(code)
        assert place, row
        path, name = place.groups()
        assert name in names_in(path), row
        assert checked in ("read", "measured") or all((ROOT / "tests" / name).exists() for name in checked.split(", "))
        assert all(cell.strip() for cell in row), row
