"""Where models lie on this machine: folders of the operator's, the hub's cache, the one that ships. Any thread.

Reads and removes files, and raises nothing for what lies there: links that lead in circles, folders that may not be
read and caches that are broken are left out or become an entry with a reason.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.assets import asset
from engine.config import DEMO

log = logging.getLogger(__name__)

Origin = Literal["shipped", "folder", "hub"]

MAX_ENTRIES = 4096
"""Of one folder that are looked at."""


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """A folder that may hold a checkpoint. source: what --model takes for it, "demo", a path or a hub id. problem: what
    is wrong with the place itself."""

    source: str
    name: str
    folder: Path
    origin: Origin
    problem: str = ""


def shipped() -> ModelPlace:
    """The model that ships with the project."""
    return ModelPlace(DEMO, DEMO, asset("demo-model"), "shipped")


def in_folder(folder: Path) -> Iterator[ModelPlace]:
    """Models in a folder: itself, those in it, and those one level deeper (org/name)."""
    if is_file(folder / "config.json"):
        yield ModelPlace(str(folder), folder.name, folder, "folder")
        return
    for child in subfolders(folder):
        if is_file(child / "config.json") or has_weights(child):
            yield ModelPlace(str(child), child.name, child, "folder")
            continue
        for inner in subfolders(child):
            if is_file(inner / "config.json") or has_weights(inner):
                yield ModelPlace(str(inner), f"{child.name}/{inner.name}", inner, "folder")


def hub_cache() -> Path:
    """The folder of the hub's cache, which may not be there."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def in_hub_cache(cache: Path) -> Iterator[ModelPlace]:
    """Models in the hub's cache, each once, in the revision that `main` points to or else the latest."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        found = scan_cache_dir(cache)
    except (CacheNotFound, OSError, ValueError) as error:
        log.info("the hub's cache was not read: %s", error)
        return
    seen = set()
    for repo in sorted(found.repos, key=lambda repo: repo.repo_id):
        if repo.repo_type != "model" or not repo.revisions:
            continue
        seen.add(repo.repo_path)
        latest = max(repo.revisions, key=lambda revision: ("main" in revision.refs, revision.last_modified))
        yield ModelPlace(repo.repo_id, repo.repo_id, latest.snapshot_path, "hub", unfinished(repo.repo_path))
    for repo_path in subfolders(cache):
        words = repo_path.name.split("--")
        if repo_path not in seen and words[0] == "models" and len(words) in (2, 3):
            repo_id = "/".join(words[1:])
            problem = unfinished(repo_path) or "Its folder in the hub's cache is broken."
            # What scan_cache_dir calls corrupted: it may still be said which file is missing.
            snapshot = next(iter(subfolders(repo_path / "snapshots")), None)
            yield ModelPlace(repo_id, repo_id, snapshot or repo_path, "hub", problem)


def unfinished(repo_path: Path) -> str:
    """What was half downloaded of a model in the hub's cache; "" where nothing was."""
    try:
        parts = [path.stat().st_size for path in (repo_path / "blobs").glob("*.incomplete")]
    except OSError:
        parts = []
    if not parts:
        return ""
    files = "one file is" if len(parts) == 1 else f"{len(parts)} files are"
    return f"It was not downloaded to the end: {files} half there."


def subfolders(folder: Path) -> Sequence[Path]:
    """The folders in a folder by name, links to folders included, hidden ones not; () where it cannot be read."""
    found = []
    try:
        for number, child in enumerate(folder.iterdir()):
            if number >= MAX_ENTRIES:
                break
            if not child.name.startswith(".") and _is_dir(child):
                found.append(child)
    except OSError as error:
        log.info("%s was not read: %s", folder, error)
    return sorted(found)


def has_weights(folder: Path) -> bool:
    """Whether a folder without a config.json has weights, so that it is worth naming with a reason."""
    try:
        return any(
            child.suffix == ".safetensors" for _, child in zip(range(MAX_ENTRIES), folder.iterdir(), strict=False)
        )
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Path.is_file, also where the links on the way lead in circles."""
    try:
        return path.is_file()
    except (OSError, RuntimeError):
        return False


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, RuntimeError):
        return False
