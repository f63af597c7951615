"""Each row says in a sentence what it shows."""

from __future__ import annotations

import ast
from pathlib import Path


def test_every_row_has_a_sentence_of_its_own() -> None:
    """A name alone does not tell what a row is about."""
    functions = {
        f"{path.name}: {node.name}": ast.get_docstring(node)
        for path in Path(__file__).parent.glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert len(functions) > 40
    assert [name for name, text in functions.items() if not text or not text.endswith(".")] == []
    assert len(set(functions.values())) == len(functions)
