"""Saved runs: a JSON file for each, as `--output` writes it, in the user's data folder. Small blocking I/O.

A run's name is any text of one line; its file has that name, percent-encoded. Files are written atomically.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from engine.assets import data_folder
from engine.errors import BadRequest, ModelNotFound
from engine.measure.bench.files import read
from engine.measure.bench.result import Result

MAX_NAME_CHARS = 60


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A saved run in the list. started: ISO time in UTC. canary: None when nothing could be checked."""

    name: str
    started: str
    suites: tuple[str, ...]
    targets: tuple[str, ...]
    model: str
    chip: str
    num_points: int
    canary: bool | None
    stopped: bool


class Store:
    """The runs in one folder, made at the first save. folder: None for "bench" in the user's data folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or data_folder() / "bench"

    def check(self, name: str) -> None:
        """Raises BadRequest for a name that is not allowed, or is in use."""
        self._check_text(name)
        if self._file(name).exists():
            raise BadRequest(f"There is a run {name!r} already; delete it or choose another name.", param="name")

    @staticmethod
    def _check_text(name: str) -> None:
        if not name.strip() or len(name) > MAX_NAME_CHARS or not name.isprintable():
            raise BadRequest(f"A run's name is 1 to {MAX_NAME_CHARS} printable characters on one line.", param="name")

    def save(self, name: str, result: Result) -> None:
        """Save a run. Raises BadRequest when the name is in use or the folder cannot be written to."""
        self.check(name)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._folder, encoding="utf-8", delete=False) as out:
                json.dump(result.json(), out)
            os.replace(out.name, self._file(name))
        except OSError as e:
            raise BadRequest(f"The run cannot be kept in {self._folder}: {e.strerror}.", param="name") from e

    def list(self) -> tuple[StoredRun, ...]:
        """Every saved run, the newest first. Files that hold no run are skipped."""
        runs = []
        for file in self._folder.glob("*.json"):
            try:
                runs.append(_entry(unquote(file.stem), read(file)))
            except BadRequest:
                continue
        return tuple(sorted(runs, key=lambda entry: (entry.started, entry.name), reverse=True))

    def load(self, name: str) -> dict[str, Any]:
        """A run's JSON. Raises ModelNotFound(code="run_not_found") when no run has this name."""
        file = self._file(name)
        if not file.is_file():
            raise ModelNotFound(f"There is no kept run {name!r}.", code="run_not_found", param="name")
        return read(file)

    def delete(self, name: str) -> bool:
        """Delete a run. Returns False when there is none of this name."""
        file = self._file(name)
        existed = file.is_file()
        file.unlink(missing_ok=True)
        return existed

    def _file(self, name: str) -> Path:
        # quote() keeps dots, but "..", with its suffix, is still a file in the folder.
        return self._folder / f"{quote(name, safe='')}.json"


def _entry(name: str, run: dict[str, Any]) -> StoredRun:
    return StoredRun(
        name=name,
        started=str(run.get("started", "")),
        suites=tuple(run.get("suites", ())),
        targets=tuple(run.get("targets", ())),
        model=str((run.get("model") or {}).get("name", "")),
        chip=str((run.get("machine") or {}).get("chip_name", "")),
        num_points=len(run["points"]),
        canary=(run.get("canary") or {}).get("ok"),
        stopped=bool(run.get("stopped")),
    )


def table(entries: tuple[StoredRun, ...]) -> str:
    """The list for a terminal."""
    from engine.measure.bench.report import rows_to_text

    words = {True: "passed", False: "FAILED", None: "-"}
    rows = [
        (e.name, e.started, ", ".join(e.suites), ", ".join(e.targets), e.model, str(e.num_points), words[e.canary])
        for e in entries
    ]
    return rows_to_text(("name", "started", "suites", "targets", "model", "points", "canary"), rows, left=5)
