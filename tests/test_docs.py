"""The documents: links lead somewhere, the map names every package, every route is listed, the README is short."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_layout import ROOT, arrows

DOCS = ROOT / "assets" / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted((ROOT / ".github").glob("*.md"))]
MAP = DOCS / "how-it-works.md"
OWN_PATH = re.compile(r"`((?:engine|workbench|tests|assets)/[\w./-]*)`")


def links(page: Path) -> Iterator[str]:
    """Targets of a page's links and pictures that lie in this repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    return (target.split("#")[0] for target in targets if "://" not in target and not target.startswith("#"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    assert [link for link in links(page) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_that_are_named_exist(page: Path) -> None:
    named = [path for path in OWN_PATH.findall(page.read_text()) if "NAME" not in path]
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_readme_links_every_document() -> None:
    linked = {(ROOT / link).resolve() for link in links(ROOT / "README.md")}
    assert set(DOCS.glob("*.md")) - linked == set()
    assert {ROOT / ".github" / name for name in ("CONTRIBUTING.md", "SECURITY.md")} <= linked


def test_the_readme_is_a_front_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_the_map_names_every_package() -> None:
    modules = [file for top in ("engine", "workbench") for file in (ROOT / top).rglob("__init__.py")]
    folders = {file.parent.relative_to(ROOT).as_posix() for file in modules}
    named = {path.rstrip("/") for path in OWN_PATH.findall(MAP.read_text())}
    assert folders - {"engine"} - named == set()
    assert len(folders) > 12, "the test sees nothing"


def test_the_order_of_the_packages_is_theirs() -> None:
    """Each of the engine's packages imports only from those that the sentence names before it."""
    order = re.search(r"from those before it:\s([\w,\s]+)\.", MAP.read_text())
    assert order
    names = [f"engine.{name}" for name in re.split(r",\s", order[1])]
    folders = {f"engine.{file.parent.name}" for file in (ROOT / "engine").glob("*/__init__.py")}
    assert folders | {"engine.core"} == set(names)
    graph = arrows()
    found = {name: graph.get(name, set()) & set(names) for name in names}
    assert {name: late for i, name in enumerate(names) if (late := found[name] - set(names[:i]))} == {}
    assert found["engine.launch"] == set() and found["engine.runtime"], "the test sees nothing"


@pytest.fixture(scope="module")
def app() -> Any:
    from engine.api.app import create_app
    from engine.config import EngineConfig, ServerConfig
    from engine.core import Engine

    return create_app(Engine(EngineConfig()), ServerConfig())


@pytest.mark.parametrize(("page", "table"), [(ROOT / "README.md", "overview"), (DOCS / "api.md", "listing")])
def test_the_tables_of_routes_are_those_of_the_app(app: Any, page: Path, table: str) -> None:
    """Written anew by `python -m engine.api.route_table`."""
    from engine.api import route_table

    generated = getattr(route_table, table)(app)
    marked = page.read_text().split("<!-- routes: python -m engine.api.route_table prints them -->\n")[1]
    assert marked.split("\n<!-- end -->")[0] == generated
    assert generated.count("`/v1/") + generated.count(" /v1/") > 15, "the test sees nothing"
