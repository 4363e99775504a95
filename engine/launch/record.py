"""What was written for a program, and what stood there before, so that it can be taken back exactly.

One JSON file for each program, which only its user may read: settings files hold keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import BadRequest
from engine.launch.files import read_text, write_text
from engine.launch.recipe import Item, Setting, SettingsFormat

FOLDER = "mlx-workbench/launch"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file: its text before (None: there was no file), the hash of what was written, and the settings in it."""

    path: Path
    form: SettingsFormat
    before: str | None
    sha256: str
    settings: tuple[Setting, ...]

    def is_untouched(self, text: str) -> bool:
        """Whether the file is still as it was written."""
        return hash_of(text) == self.sha256


class Records:
    """The records of a user, in a folder for the state of programs."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        state = environment.get("XDG_STATE_HOME")
        home = Path(environment["HOME"]) if environment.get("HOME") else Path.home()
        self.folder = (Path(state) if state else home / ".local" / "state") / FOLDER

    def read(self, name: str) -> dict[Path, FileRecord]:
        """What was written for a program, by path; nothing where it was not. Raises BadRequest for a damaged record."""
        text = read_text(self._path(name))
        if text is None:
            return {}
        try:
            entries = [_file_record(entry) for entry in json.loads(text)["files"]]
        except (ValueError, KeyError, TypeError) as error:
            raise BadRequest(f"The record in {self._path(name)} is damaged; nothing was changed.") from error
        return {entry.path: entry for entry in entries}

    def write(self, name: str, files: list[FileRecord]) -> None:
        """Keep this, and forget what was kept before."""
        entries = {"files": [_entry(one) for one in files]}
        write_text(self._path(name), json.dumps(entries, ensure_ascii=False, indent=1))

    def forget(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _entry(one: FileRecord) -> dict[str, Any]:
    settings = [
        {"path": [_step_json(s) for s in x.path], "value": x.value, "is_secret": x.is_secret} for x in one.settings
    ]
    return {
        "path": str(one.path),
        "format": one.form,
        "before": one.before,
        "sha256": one.sha256,
        "settings": settings,
    }


def _file_record(entry: dict[str, Any]) -> FileRecord:
    settings = tuple(_setting(x) for x in entry["settings"])
    return FileRecord(Path(entry["path"]), entry["format"], entry["before"], entry["sha256"], settings)


def _setting(entry: dict[str, Any]) -> Setting:
    """Records of earlier releases do not say what is a secret: then all of it is."""
    path = tuple(Item(**step) if isinstance(step, dict) else str(step) for step in entry["path"])
    return Setting(path, entry["value"], is_secret=entry.get("is_secret", True))


def _step_json(step: str | Item) -> str | dict[str, str]:
    return step if isinstance(step, str) else {"field": step.field, "value": step.value}
