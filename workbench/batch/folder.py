"""What a run has on disk. Blocking; any thread.

ID / run.json      what was asked, of which model, how it stands
     files/        what was sent, by its name in the folder that was dropped
     journal       each answer as it came (engine.batch_run.journal)
     pictures/     small ones of what was asked about, by the hash of its content
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from engine.errors import BadRequest, Unavailable
from engine.types import Json
from workbench.conversations.media import clean_name
from workbench.language import t

MAX_DEPTH = 16
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass
class KeptRun:
    """created_s: since 1970. form: what the page sent (RunForm). settings: what every answer depends on, {} of a run
    that has not begun. state: see TabRun. counts: of its rows, as they were last; left_out: files that are no media."""

    id: str
    owner: str
    created_s: float
    name: str = ""
    form: Json = field(default_factory=dict)
    settings: Json = field(default_factory=dict)
    state: str = "new"
    error: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


class RunFolder:
    """The folder of one run. Its files are counted as they come: num_files, num_bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._adding = threading.Lock()
        found = [one.stat().st_size for one in self.files.rglob("*") if one.is_file()]
        self.num_files, self.num_bytes = len(found), sum(found)

    @property
    def files(self) -> Path:
        return self.path / "files"

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    def make(self) -> None:
        """The folder itself. Raises Unavailable."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _no_room(self.path.name, error) from error

    def save(self, run: KeptRun) -> None:
        """Whole, or not at all. Raises Unavailable."""
        self.make()
        try:
            part = self.path / "run.json.part"
            part.write_text(json.dumps(asdict(run), ensure_ascii=False), "utf-8", errors="replace")
            os.replace(part, self.path / "run.json")
        except OSError as error:
            raise _no_room("run.json", error) from error

    def load(self) -> KeptRun | None:
        """None where there is none, or a disk has lost it."""
        try:
            return KeptRun(**json.loads((self.path / "run.json").read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def add(self, name: str, data: bytes) -> str:
        """Keep a file that was sent; another one of its name gets a number. Returns its name in the folder.

        Raises BadRequest for a name that leads nowhere, and Unavailable where no disk takes it.
        """
        wanted = clean_path(name)
        with self._adding:  # several come at once
            place = self._free(wanted)
            try:
                place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                place.write_bytes(data)
            except OSError as error:
                _forget(place)
                raise _no_room(place.name, error) from error
            self.num_files += 1
            self.num_bytes += len(data)
        return place.relative_to(self.files).as_posix()

    def take_from(self, other: RunFolder) -> None:
        """The files of another run, as second names of the same ones where the disk has such. Raises Unavailable."""
        try:
            shutil.copytree(other.files, self.files, copy_function=_link)
        except OSError as error:  # shutil.Error is one
            raise _no_room("files", error) from error
        self.num_files, self.num_bytes = other.num_files, other.num_bytes

    def keep_picture(self, sha256: str, data: bytes) -> None:
        """One that is there stays; on a full disk the row has none."""
        place = self.path / "pictures" / sha256
        try:
            if not place.exists():
                place.parent.mkdir(exist_ok=True, mode=0o700)
                place.write_bytes(data)
        except OSError:
            _forget(place)

    def picture(self, sha256: str) -> bytes | None:
        """None for any name that is no hash of one that is here."""
        if not SHA256.fullmatch(sha256):
            return None
        try:
            return (self.path / "pictures" / sha256).read_bytes()
        except OSError:
            return None

    def inputs(self) -> list[Path]:
        """What engine.batch_run.rows reads of the files that were sent: the tables, whose lines then are the rows, or
        else all of them."""
        tables = sorted(path for path in self.files.rglob("*") if path.suffix.lower() == ".csv")
        return tables or [self.files]

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _free(self, name: PurePosixPath) -> Path:
        """A place that is not taken yet."""
        place, number = self.files / name, 1
        while place.exists():
            number += 1
            place = (self.files / name).with_name(f"{name.stem} ({number}){name.suffix}")
        return place


def clean_path(name: str) -> PurePosixPath:
    """The path of a file inside a folder that was dropped, as one that stays inside. Raises BadRequest."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if not parts or len(parts) > MAX_DEPTH:
        raise BadRequest(t("A file needs a name, in at most {most} folders.", most=MAX_DEPTH), param="path")
    return PurePosixPath(*map(clean_name, parts))


def _forget(place: Path) -> None:
    """What was written of a file that has not become whole."""
    with contextlib.suppress(OSError):
        place.unlink()


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)


def _no_room(name: str, error: OSError) -> Unavailable:
    why = error.strerror or str(error)
    return Unavailable(
        t("{name} cannot be stored on the server ({strerror}).", name=name, strerror=why), code="disk_full"
    )
