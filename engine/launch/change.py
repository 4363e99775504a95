"""What setting a program up, or taking that back, does to each of its files: worked out first, shown, then done."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import BadRequest, Conflict
from engine.launch.edit import with_settings, without_settings
from engine.launch.files import read_text, remove, write_text
from engine.launch.recipe import Recipe, Setting, SettingsFormat
from engine.launch.record import FileRecord, Records, hash_of
from engine.launch.shown import open_texts, shown


@dataclass(frozen=True, slots=True)
class Change:
    """One file: its text now and afterwards (None: there is no file then), the settings that are written or taken out,
    and what is kept to take it back."""

    path: Path
    form: SettingsFormat
    now: str | None
    after: str | None
    settings: tuple[Setting, ...]
    record: FileRecord | None = None

    def diff(self) -> str:
        """The difference, line by line and without the lines around it, as it may be shown: see engine.launch.shown."""
        texts = open_texts(self.settings)
        lines = difflib.unified_diff(
            shown(self.now, self.form, texts),
            shown(self.after, self.form, texts, self.now or ""),
            str(self.path) if self.now is not None else "(no file)",
            str(self.path) if self.after is not None else "(no file)",
            lineterm="",
            n=0,
        )
        return "\n".join(lines)


def set_up(recipe: Recipe, records: Records, environment: Mapping[str, str]) -> list[Change]:
    """What has to change for a recipe whose facts are filled in. Raises BadRequest for a file that cannot be changed.

    What an earlier set-up wrote is taken out first, so that taking back leads to what was there before the first.
    """
    earlier = records.read(recipe.name)
    changes = []
    for file in recipe.files:
        path = file.place.path(environment)
        now = read_text(path)
        old = earlier.pop(path, None)
        before = _before(old, now) if old else now
        try:
            after = with_settings(before or "", file.format, file.settings)
        except BadRequest as error:
            raise BadRequest(f"{path}: {error.message}. Nothing was changed.") from error
        record = FileRecord(path, file.format, before, hash_of(after), file.settings)
        settings = (*file.settings, *(old.settings if old else ()))
        changes.append(Change(path, file.format, now, after, settings, record))
    return changes + [_taken_back(old) for old in earlier.values()]


def take_back(recipe: Recipe, records: Records) -> list[Change]:
    """What has to change to undo the set-up; nothing where there was none. Raises BadRequest."""
    return [_taken_back(old) for old in records.read(recipe.name).values()]


def apply(recipe: Recipe, changes: list[Change], records: Records) -> None:
    """Write all of it. Raises Conflict where a file has changed meanwhile, and BadRequest where one cannot be written;
    what was written until then is in the record."""
    for change in changes:
        if read_text(change.path) != change.now:
            raise Conflict(f"{change.path} has changed just now; nothing was written. Try again.", code="file_changed")
    kept = [change.record for change in changes if change.record]
    if kept:  # before the files: whatever happens, it can be taken back
        records.write(recipe.name, kept)
    for change in changes:
        if change.after is None:
            remove(change.path)
        elif change.after != change.now:
            write_text(change.path, change.after)
    if not kept:
        records.forget(recipe.name)


def _taken_back(old: FileRecord) -> Change:
    now = read_text(old.path)
    return Change(old.path, old.form, now, _before(old, now), old.settings)


def _before(old: FileRecord, now: str | None) -> str | None:
    """The text without what was written: what was there before, exactly, where nobody has changed the file since, and
    else the text of now without our settings. A file that is gone stays gone."""
    if now is None:
        return None
    if old.is_untouched(now):
        return old.before
    try:
        return without_settings(now, old.form, old.settings, old.before or "")
    except BadRequest as error:
        raise BadRequest(f"{old.path}: {error.message}. Nothing was changed.") from error
