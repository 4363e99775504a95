"""Reading and writing settings files: whole or not at all, never half, with the rights and links that they have."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from engine.errors import BadRequest

PRIVATE = 0o600
MAX_BYTES = 8 * 1024 * 1024


def read_text(path: Path) -> str | None:
    """A file's text with its line ends; None where there is no file. Raises BadRequest for what is no text file."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > MAX_BYTES:
        raise BadRequest(f"{path} is larger than {MAX_BYTES:,} bytes, which no settings file is.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"{path} is not UTF-8 text; nothing was changed.") from error


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step. A link goes on to lead to its file. A new file may be read by its user only.

    Raises BadRequest where it cannot be written; the file is then as it was.
    """
    target = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else PRIVATE
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, mode)
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise BadRequest(f"{path} cannot be written: {error.strerror}.") from error


def remove(path: Path) -> None:
    """Delete a file that we made. Raises BadRequest where it cannot be."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise BadRequest(f"{path} cannot be deleted: {error.strerror}.") from error
