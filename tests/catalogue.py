"""The texts that the page's code hands to its catalogue, read off the source."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

CALLS = {"t": 1, "tn": 2, "catalogued": 1, "static": 1, "later": 1}
"""Functions whose first arguments are texts, and how many of them."""

_STRING = r'"(?:[^"\\]|\\.)*"'
_IN_SCRIPT = re.compile(rf"\b(?:t\(\s*({_STRING})|tn\(\s*({_STRING}),\s*({_STRING}))")


def of_python(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            for text in node.args[: CALLS[node.func.id]]:
                yield from (one.value for one in _literals(text))


def _literals(node: ast.expr) -> Iterator[ast.Constant]:
    """The text itself, or both of `a if condition else b`."""
    if isinstance(node, ast.IfExp):
        yield from _literals(node.body)
        yield from _literals(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node


def of_script(source: str) -> Iterator[str]:
    for match in _IN_SCRIPT.finditer(source):
        yield from (json.loads(text) for text in match.groups() if text)


def texts(folder: Path) -> dict[str, str]:
    """Every text -> a file that has it."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        read = {".py": of_python, ".js": of_script}.get(path.suffix)
        if read:
            found |= dict.fromkeys(read(path.read_text(encoding="utf-8")), path.name)
    return found
