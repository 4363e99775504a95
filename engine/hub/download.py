"""One download of a model: its state, and the work, which a thread of the shelf does."""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import tqdm

from engine.errors import Unavailable, say_bytes
from engine.hub.fetch import RemoteFolder, Watch, arrived_bytes, fetch
from engine.hub.remote import RemoteModel, remote_model
from engine.models.hub_failures import DISK_FULL, in_words
from engine.models.locate import FILES

DownloadStage = Literal["waiting", "asking", "downloading", "checking", "paused", "done", "failed", "cancelled"]
RUNNING: tuple[DownloadStage, ...] = ("waiting", "asking", "downloading", "checking")

SPARE_BYTES = 512 * 1024**2
"""That a download leaves free on the disk."""

SPEED_WINDOW_S = 6.0


@dataclass(frozen=True, slots=True)
class DownloadState:
    """How far a download is. file: the one that is being read or checked. speed_bytes_s: of the last seconds. left_s:
    at this speed; None where nothing moves. error: why it failed, in words, with error_code."""

    repo: str
    stage: DownloadStage = "waiting"
    done_bytes: int = 0
    total_bytes: int = 0
    speed_bytes_s: float = 0.0
    left_s: float | None = None
    file: str = ""
    error: str = ""
    error_code: str = ""

    @property
    def is_running(self) -> bool:
        return self.stage in RUNNING


@dataclass(frozen=True)
class Hub:
    """Which hub, and where its models go. endpoint: None for HF_ENDPOINT, or else the hub's own. cache: of
    huggingface_hub."""

    cache: Path
    endpoint: str | None = None

    @property
    def api(self) -> HfApi:
        return HfApi(endpoint=self.endpoint)


@dataclass
class Download:
    """A download that may be paused, resumed and cancelled. Methods: any thread; `run`: a thread of its own, which
    alone changes the state while it runs."""

    repo: str
    revision: str | None
    hub: Hub
    state: DownloadState = field(init=False)
    _runs: threading.Lock = field(default_factory=threading.Lock)
    _removing: threading.Lock = field(default_factory=threading.Lock)
    _halt: threading.Event = field(default_factory=threading.Event)
    _after_halt: DownloadStage = "paused"
    _moments: deque[tuple[float, int]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.state = DownloadState(self.repo)

    def begin(self, revision: str | None) -> None:
        """It is about to run, at first or again; perhaps for another revision."""
        if revision != self.revision:
            self.revision, self.state = revision, DownloadState(self.repo)
        self._halt.clear()
        self._after_halt = "paused"
        self._moments.clear()
        self._show(stage="waiting", error="", error_code="")

    def halt(self, stage: Literal["paused", "cancelled"]) -> None:
        """Stop before the next chunk. Never waits for a disk. A cancelled one leaves nothing behind of what it brought:
        its thread removes that, or where it has none, `remove_partials`."""
        self._after_halt = stage
        self._halt.set()
        if self.state.stage not in RUNNING[1:]:  # no thread has it: it waits for one, or has ended
            self._show_stopped()

    def run(self) -> None:
        """Do it, until it is done, halted or has failed. Raises nothing: the state says what became of it."""
        if not self._runs.acquire(blocking=False):
            return  # it was paused and resumed while it waited, so that two threads were asked to
        try:
            with self._removing:  # what is being removed of an earlier run
                pass
            if self._halt.is_set() or not self._download():
                if self._after_halt == "cancelled":
                    self._remove_partials()
                self._show_stopped()
        except Exception as error:  # of the hub's client, the network, the disk: it is words for the page
            said = in_words(error, self.repo, self.revision)
            self._show(stage="failed", error=said.message, error_code=said.code, speed_bytes_s=0.0, left_s=None)
        finally:
            self._runs.release()

    def _download(self) -> bool:
        """False where it was halted."""
        self._show(stage="asking", done_bytes=0)
        model = remote_model(self.hub.api, self.repo, self.revision)
        blobs = self._folder / "blobs"
        self._check_disk(model, blobs)
        self._show(stage="downloading", total_bytes=model.num_bytes)
        source = RemoteFolder(self.repo, model.commit, self.hub.endpoint)
        watch = Watch(self._moved, self._halt.wait, lambda name: self._show(stage="checking", file=name))
        for file in model.files:
            self._show(stage="downloading", file=file.name)
            lock = self.hub.cache / ".locks" / self._folder.name / f"{file.etag}.lock"
            if not fetch(file, source, blobs, lock, watch):
                return False
        # Lays out the snapshot from the blobs that are there; what main points to may be newer by now.
        snapshot_download(
            self.repo,
            revision=self.revision,
            endpoint=self.hub.endpoint,
            cache_dir=self.hub.cache,
            allow_patterns=list(FILES),
            tqdm_class=_NoBar,
        )
        self._show(stage="done", done_bytes=model.num_bytes, file="", speed_bytes_s=0.0, left_s=None)
        return True

    def _check_disk(self, model: RemoteModel, blobs: Path) -> None:
        """Raises Unavailable where there is no room for what is still to come."""
        self.hub.cache.mkdir(parents=True, exist_ok=True)
        missing = sum(file.size - arrived_bytes(blobs, file) for file in model.files)
        free = shutil.disk_usage(self.hub.cache).free
        if missing + SPARE_BYTES > free:
            raise Unavailable(
                f"{self.repo!r} needs {say_bytes(missing)} more, and {say_bytes(free)} are free on the disk of the "
                f"hub's cache ({say_bytes(SPARE_BYTES)} of it stay free).",
                code=DISK_FULL,
            )

    def remove_partials(self) -> None:
        """Remove what a cancelled download brought; nothing where it has been resumed. Blocks on the disk."""
        with self._removing:
            if self.state.stage == "cancelled":
                self._remove_partials()

    def _show_stopped(self) -> None:
        self._show(stage=self._after_halt, speed_bytes_s=0.0, left_s=None)

    def _remove_partials(self) -> None:
        """What was half there; and the whole folder, where no revision of this model is complete."""
        for path in (self._folder / "blobs").glob("*.incomplete"):
            path.unlink(missing_ok=True)
        if self._folder.is_dir() and not (self._folder / "snapshots").is_dir():
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _folder(self) -> Path:
        return self.hub.cache / repo_folder_name(repo_id=self.repo, repo_type="model")

    def _moved(self, num_bytes: int, is_new: bool) -> None:
        """More is here. What was here before counts as done, and not for the speed."""
        now, done = time.monotonic(), self.state.done_bytes + num_bytes
        moments = self._moments
        if not is_new:
            moments.clear()
        moments.append((now, done))
        while moments[0][0] < now - SPEED_WINDOW_S:
            moments.popleft()
        first_s, first = moments[0]
        span_s = now - first_s
        speed = (done - first) / span_s if span_s > 0.2 else self.state.speed_bytes_s
        left_s = (self.state.total_bytes - done) / speed if speed > 0 else None
        self._show(done_bytes=done, speed_bytes_s=speed, left_s=left_s)

    def _show(self, **fields: Any) -> None:
        self.state = replace(self.state, **fields)


class _NoBar(tqdm):
    """A progress bar that draws nothing."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings | {"disable": True})  # type: ignore[no-untyped-call]
