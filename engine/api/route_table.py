"""The routes as tables for people, from the app's own OpenAPI document. Tests keep README.md and api.md equal to them.

python -m engine.api.route_table prints both, the one of README.md first.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI


@dataclass(frozen=True, slots=True)
class RouteLine:
    """One method of a path. tag: whose protocol it belongs to; summary: what it answers."""

    tag: str
    method: str
    path: str
    summary: str


def route_lines(app: FastAPI) -> list[RouteLine]:
    """All that the document has, by tag and path; OpenAI's first."""
    document: dict[str, Any] = app.openapi()
    lines = [
        RouteLine(tag, method.upper(), path, operation["summary"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        for tag in operation["tags"]
    ]
    return sorted(lines, key=lambda line: (line.tag != "OpenAI", line.tag, line.path))


def overview(app: FastAPI) -> str:
    """A line for each protocol, in Markdown."""
    paths: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for line in route_lines(app):
        paths[line.tag][line.path] = None
    rows = [f"| {tag} | {', '.join(f'`{path}`' for path in of_tag)} |" for tag, of_tag in paths.items()]
    return "\n".join(["| of | routes |", "|---|---|", *rows])


def listing(app: FastAPI) -> str:
    """A line for each route, in Markdown."""
    rows = [f"| `{line.method} {line.path}` | {_plain(line.summary)} |" for line in route_lines(app)]
    return "\n".join(["| route | what it answers |", "|---|---|", *rows])


def _plain(summary: str) -> str:
    """As the rest of a sentence."""
    return summary[0].lower() + summary[1:]


def main() -> None:
    from engine.api.app import create_app
    from engine.config import EngineConfig, ServerConfig
    from engine.core import Engine

    app = create_app(Engine(EngineConfig()), ServerConfig())
    print(f"{overview(app)}\n\n{listing(app)}")


if __name__ == "__main__":
    main()
