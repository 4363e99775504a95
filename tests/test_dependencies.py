"""What is imported is declared in pyproject.toml, and what is declared is imported."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import lru_cache

from tests.test_layout import ROOT, imports, sources

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = ROOT / "tests" / "constraints.txt"
OWN = {"engine", "workbench"}
OPTIONAL = {"opentelemetry": ("otel", "engine/request_log/otlp.py")}
"""A module that an extra brings: its name, and the only file that imports the module, where somebody asks for it."""

PINNED = {"mlx-lm", "mlx-vlm"}
"""The engine uses their insides, so that each release is tried before it is allowed."""


def normal(name: str) -> str:
    """A package's name as indexes compare it: https://packaging.python.org/en/latest/specifications/name-normalization/"""
    return re.sub(r"[-_.]+", "-", name).lower()


def package_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return normal(match[0])


def declared() -> set[str]:
    return {package_of(line) for line in PROJECT["dependencies"]}


def imported() -> dict[str, str]:
    """Top-level modules of other packages -> one of the files that import them."""
    optional = {(module, path) for module, (_, path) in OPTIONAL.items()}
    named = ((name.split(".")[0], path) for path, tree in sources().items() for name, _ in imports(tree))
    names = {name: path for name, path in named if (name, path) not in optional}
    return {name: path for name, path in names.items() if name not in sys.stdlib_module_names and name not in OWN}


@lru_cache(maxsize=1)
def installed() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def packages_of(module: str) -> set[str]:
    """The installed packages that bring a module: several, where they share a folder (mlx and mlx-cpu)."""
    return {normal(name) for name in installed().get(module, ())}


def undeclared(modules: dict[str, str]) -> dict[str, str]:
    return {name: path for name, path in modules.items() if not packages_of(name) & declared()}


def test_what_is_imported_is_declared() -> None:
    assert undeclared(imported()) == {}
    assert undeclared({"pytest": "engine/core.py"}) == {"pytest": "engine/core.py"}, "the test sees nothing"


def test_what_an_extra_brings_is_declared_there_and_imported_late() -> None:
    for module, (extra, path) in OPTIONAL.items():
        assert packages_of(module) & {package_of(line) for line in PROJECT["optional-dependencies"][extra]}
        assert any(name.split(".")[0] == module for name, _ in imports(sources()[path]))
        assert _at_import(path, module) == []


def _at_import(path: str, module: str) -> list[str]:
    """What of a module is imported as soon as the file is."""
    own = [node for node in sources()[path].body if isinstance(node, ast.Import | ast.ImportFrom)]
    return [name for node in own for name, _ in imports(node) if name.split(".")[0] == module]


def test_what_is_declared_is_imported() -> None:
    used = set().union(*(packages_of(name) for name in imported()))
    assert declared() - used == set()
    assert {"gradio", "opencv-python", "psutil"} <= used, "the test sees nothing"


def test_the_packages_whose_insides_are_used_are_pinned_to_what_is_installed() -> None:
    pins = {package_of(line): line for line in PROJECT["dependencies"]}
    assert {name: pins[name] for name in PINNED} == {f: f"{f}=={importlib.metadata.version(f)}" for f in PINNED}


def test_the_constraints_cover_what_is_declared() -> None:
    """Exact versions only, of every package that the project and its tests name."""
    lines = CONSTRAINTS.read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[^;\s]+", line)] == []
    named = declared() | {package_of(line) for line in PROJECT["optional-dependencies"]["dev"]}
    missing = named - {package_of(line) for line in lines}
    assert missing == set(), "run `.venv/bin/python -m pip freeze --exclude-editable > tests/constraints.txt`"
