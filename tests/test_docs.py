"""The documents: links lead somewhere, the map names every package, every route is listed, the README is short."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_layout import ROOT

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


def test_every_route_is_listed() -> None:
    """Paths as the routers write them, each under its method."""
    source = "".join(file.read_text() for file in sorted((ROOT / "engine" / "api").glob("*.py")))
    routes = re.findall(r'@\w+\.(get|post)\("(/[^"]+)"', source)
    page = [line for line in (DOCS / "api.md").read_text().splitlines() if line.startswith("| `")]
    listed = [(line.split("`")[1].split()[0].lower(), line) for line in page]
    missing = [
        (method, path)
        for method, path in routes
        if not any(method == verb and path.replace(":path", "") + "`" in line for verb, line in listed)
    ]
    assert missing == []
    assert len(routes) > 10, "the test sees nothing"
