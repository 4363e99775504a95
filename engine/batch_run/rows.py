"""Folders, files, PDFs and tables -> rows. Reads heads of files and the number of a PDF's pages; decodes nothing else.

folder      its pictures, clips, sounds and PDFs, folders inside it included, by name; other files are left out
file        a row, whatever it is
PDF         a row for each page
CSV         a row for each line; the first of FILE_COLUMNS that it has names the line's file
"""

from __future__ import annotations

import hashlib
import mimetypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from engine import spreadsheet
from engine.config import MediaLimits
from engine.errors import BadMedia, BadRequest
from engine.media.pdf import Wanted, render_apart
from engine.media.sniff import HEAD_BYTES, PDF, mismatch, sniff
from engine.types import Kind, PageChoice, Part

FILE_COLUMNS = ("file", "path", "image", "picture", "video", "clip", "audio", "sound", "file_name")
MAX_ROWS = 1_000_000
_MEDIA_TYPES = ("image/", "video/", "audio/", "application/pdf")


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One row of a run. key: unique in it, e.g. "scans/a.pdf#3". name: of its file, "" without one; path: the same from
    the folder or the table that was named. page: from 1, of a document. columns: of its line in a table. error: why
    there is nothing to ask about. stamp: differs once the file or the line was changed."""

    key: str
    name: str = ""
    part: Part | None = None
    page: int | None = None
    columns: dict[str, str] = field(default_factory=dict)
    error: str = ""
    stamp: str = ""
    path: str = ""

    @property
    def medium(self) -> str:
        """The same for rows that show the same; "" without a medium."""
        return f"{self.part.path}#{self.page or ''}" if self.part else ""


@dataclass(frozen=True, slots=True)
class Inputs:
    """rows, in the order in which they are written out; left_out: files of folders that are no media."""

    rows: tuple[BatchRow, ...]
    left_out: tuple[Path, ...]


def read_inputs(given: Sequence[Path], limits: MediaLimits) -> Inputs:
    """The rows of everything that was named. Raises BadRequest where there is nothing, or a table cannot be read."""
    rows: list[BatchRow] = []
    left_out: list[Path] = []
    for path in given:
        if path.is_dir():
            files, others = _in_folder(path)
            left_out += others
            rows += (row for file in files for row in _of_file(file, file.relative_to(path).as_posix(), limits))
        elif not path.exists():
            raise BadRequest(f"{path}: there is no such file or folder.", param="inputs")
        elif path.suffix.lower() == ".csv":
            rows += _of_table(path, limits)
        else:
            rows += _of_file(path, path.name, limits)
    if not rows:
        more = f"; {len(left_out):,} other files are there" if left_out else ""
        raise BadRequest(f"There is no picture, clip, sound, PDF or table in what was named{more}.", param="inputs")
    if len(rows) > MAX_ROWS:
        raise BadRequest(f"There are {len(rows):,} rows; at most {MAX_ROWS:,} go into one run.", param="inputs")
    return Inputs(_with_own_keys(rows), tuple(left_out))


def _in_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """Its files that are media, or are called so; and the others, hidden ones apart."""
    media: list[Path] = []
    others: list[Path] = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                path = Path(here, name)
                (media if _is_called_media(path) or _is_media(path) else others).append(path)
    return media, others


def _is_called_media(path: Path) -> bool:
    return (mimetypes.guess_type(path.name)[0] or "").startswith(_MEDIA_TYPES)


def _is_media(path: Path) -> bool:
    kind, _ = _kind(path)
    return kind is not None


def _kind(path: Path) -> tuple[Kind | None, str]:
    """What a file is by its first bytes; else why it is nothing that can be shown."""
    if not path.is_file():
        return None, "it is not a file"
    try:
        with path.open("rb") as file:
            found = sniff(file.read(HEAD_BYTES))
    except OSError as error:
        return None, f"it cannot be read: {error.strerror or error}"
    if found.name == PDF:
        return "document", ""
    if found.kind is None:
        return None, "the file is empty" if found.name == "empty" else mismatch("image", found)
    return found.kind, ""


def _of_file(path: Path, key: str, limits: MediaLimits) -> Iterator[BatchRow]:
    kind, why = _kind(path)
    if kind is None:
        yield BatchRow(key, path.name, error=why, path=key)
    elif kind == "document":
        yield from _pages(path, key, limits)
    else:
        yield BatchRow(key, path.name, Part(kind, path=str(path.resolve()), param=path.name), path=key)


def _pages(path: Path, key: str, limits: MediaLimits) -> Iterator[BatchRow]:
    document = Part("document", path=str(path.resolve()), param=path.name)
    try:
        wanted = Wanted("1", max_pages=1, max_pixels=64, with_text=False)  # its number of pages is what is wanted
        num_pages = render_apart(document, path.read_bytes(), wanted, limits).num_pages
    except BadMedia as error:
        yield BatchRow(key, path.name, error=error.message, path=key)
        return
    except OSError as error:
        yield BatchRow(key, path.name, error=f"it cannot be read: {error.strerror or error}", path=key)
        return
    for page in range(1, num_pages + 1):
        choice = PageChoice(name=path.name, pages=str(page))
        part = Part("document", path=document.path, document=choice, param=f"{path.name}, page {page}")
        yield BatchRow(f"{key}#{page}", path.name, part, page, path=key)


def _of_table(path: Path, limits: MediaLimits) -> Iterator[BatchRow]:
    try:
        table = spreadsheet.read_csv(path, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise BadRequest(f"{path}: this is not a table that can be read: {str(error).splitlines()[0]}") from error
    names = [str(name).strip() for name in table.columns]
    table.columns = pd.Index(names)
    if len(set(names)) < len(names):
        raise BadRequest(f"{path}: two of its columns have one name.", param="inputs")
    lower = {name.lower(): name for name in reversed(names)}
    column = next((lower[name] for name in FILE_COLUMNS if name in lower), None)
    for number, values in enumerate(table.itertuples(index=False, name=None), 2):  # the line in the file
        columns = dict(zip(names, map(str, values), strict=True))
        key = f"{path.name}:{number}"
        if column is None or not columns[column].strip():
            yield BatchRow(key, columns=columns)
        else:
            yield _of_line(path, key, columns[column].strip(), columns, limits)


def _of_line(table: Path, key: str, named: str, columns: dict[str, str], limits: MediaLimits) -> BatchRow:
    """The row of a line that names a file. A table may come from anywhere: it reaches no other folder by itself."""
    roots = [table.resolve().parent, *([limits.media_root.resolve()] if limits.media_root else [])]
    name = named.replace("\\", "/").rsplit("/", 1)[-1]
    try:
        found = [real for root in roots if (real := (root / named).resolve()).is_relative_to(root)]
        path = next((real for real in found if real.exists()), None)
    except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, a loop of links
        found, path = [], None
    if not found:
        why = "this file is neither in the folder of the table nor in the one given with --media-root"
        return BatchRow(key, name, columns=columns, error=why)
    if path is None:
        return BatchRow(key, name, columns=columns, error="there is no such file")
    kind, why = _kind(path)
    if kind is None:
        return BatchRow(key, name, columns=columns, error=why)
    choice = PageChoice(name=path.name) if kind == "document" else None
    part = Part(kind, path=str(path), document=choice, param=f"{key}, {name}")
    within = next(path.relative_to(root).as_posix() for root in roots if path.is_relative_to(root))
    return BatchRow(key, path.name, part, columns=columns, path=within)


def _with_own_keys(rows: Sequence[BatchRow]) -> tuple[BatchRow, ...]:
    """With their stamps. Two files of one name, from two folders: the second one's key has a number."""
    times: dict[str, int] = {}
    out = []
    for row in rows:
        times[row.key] = times.get(row.key, 0) + 1
        key = row.key if times[row.key] == 1 else f"{row.key} ({times[row.key]})"
        out.append(replace(row, key=key, stamp=_stamp(row)))
    return tuple(out)


def _stamp(row: BatchRow) -> str:
    # Nothing of where the folder lies: it may be moved, with its journal.
    part = row.part and (row.part.kind, row.page)
    facts: list[object] = [row.name, row.error, sorted(row.columns.items()), part]
    if row.part and row.part.path:
        try:
            stat = os.stat(row.part.path)
            facts += [stat.st_size, stat.st_mtime_ns]
        except OSError as error:
            facts.append(error.errno)
    return hashlib.sha256(repr(facts).encode("utf-8", "replace")).hexdigest()[:16]
