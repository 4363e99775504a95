"""All models of this machine, and deleting one. Blocks on the disk: engine.hub.shelf calls it from its own threads."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.config import DEMO
from engine.errors import Conflict, Forbidden, ModelNotFound, Unavailable
from engine.inventory.checkpoint_facts import Checkpoint, read_checkpoint
from engine.inventory.places import MAX_ENTRIES, ModelPlace, hub_cache, in_folder, in_hub_cache, shipped

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class ModelHere:
    """A model on this machine: where it is, and what it is. real: its folder behind all links. can_delete: whether it
    is in a place that this program may delete from."""

    place: ModelPlace
    checkpoint: Checkpoint
    real: Path
    can_delete: bool = False

    @property
    def problems(self) -> tuple[str, ...]:
        """Why it cannot be loaded, a sentence each; () where nothing is missing."""
        found, refused = self.checkpoint.problems, self.checkpoint.refused
        # A newer revision that is half there does not harm the one that is whole.
        own = (self.place.problem,) if self.place.problem and (found or not self.checkpoint.model_type) else ()
        return (*own, *found, *((f"It cannot run here: {refused}.",) if refused else ()))


class Inventory:
    """folders: where the operator keeps models (--models-dir). cache: the hub's; None for that of huggingface_hub."""

    def __init__(self, folders: Sequence[Path] = (), cache: Path | None = None) -> None:
        self.folders = tuple(folders)
        self._cache = cache
        self._read: dict[Path, tuple[Stamp, Checkpoint]] = {}

    @property
    def cache(self) -> Path:
        """The hub's cache."""
        return self._cache or hub_cache()

    def models(self) -> tuple[ModelHere, ...]:
        """All there are, each once: the one that ships, those of the folders, those of the hub's cache.

        Raises nothing.
        """
        places = [shipped(), *(place for folder in self.folders for place in in_folder(folder))]
        places += in_hub_cache(self.cache)
        found: dict[Path, ModelPlace] = {}
        for place in places:
            found.setdefault(real_folder(place.folder), place)
        before = self._read  # another thread may do the same meanwhile
        read = {folder: _read_anew(folder, before.get(folder)) for folder in found}
        self._read = read
        return tuple(
            ModelHere(place, _said(read[folder][1], place), folder, can_delete=self._may_delete(place))
            for folder, place in found.items()
        )

    def look_at(self, folder: Path) -> ModelHere:
        """The model in some folder, which need not be among `models`. Raises nothing."""
        place = ModelPlace(str(folder), folder.name, folder, "folder")
        return ModelHere(place, read_checkpoint(folder), real_folder(folder))

    def delete(self, source: str, in_use: Iterable[str] = ()) -> int:
        """Delete a model from the disk. source: as ModelPlace has it; in_use: sources and folders of loaded models.

        Only of the hub's cache and below the operator's folders, and never the model that ships. Returns how
        many bytes were freed. Raises ModelNotFound, Forbidden, Conflict for one that is loaded, Unavailable where the
        disk refuses.
        """
        model = next((model for model in self.models() if model.place.source == source), None)
        if model is None:
            raise ModelNotFound(f"There is no model {source[:200]!r} on this machine.", param="model")
        if not self._may_delete(model.place):
            why = "it ships with this program" if source == DEMO else "it is not in the hub's cache or a --models-dir"
            raise Forbidden(f"{source[:200]!r} is not deleted from here: {why}.", code="not_deletable")
        folder = real_folder(model.place.folder)
        if any(used == source or real_folder(Path(used)) == folder for used in in_use):
            raise Conflict(f"{source[:200]!r} is loaded. Unload it first.", code="model_in_use")
        try:
            if model.place.origin == "hub":
                return self._delete_from_hub_cache(source)
            shutil.rmtree(model.place.folder)
        except OSError as error:
            raise Unavailable(f"{source[:200]!r} could not be deleted: {error.strerror or error}.") from None
        return model.checkpoint.num_bytes

    def _delete_from_hub_cache(self, repo_id: str) -> int:
        """All revisions, and what was half downloaded."""
        folder = self.cache / f"models--{repo_id.replace('/', '--')}"
        freed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        shutil.rmtree(folder)
        return freed

    def _may_delete(self, place: ModelPlace) -> bool:
        """A folder of the operator's itself and a link in it stay: what they lead to is not ours."""
        if place.origin == "shipped":
            return False
        if place.origin == "hub":
            return True
        return any(place.folder != folder and _is_below(place.folder, folder) for folder in self.folders)


def _read_anew(folder: Path, before: tuple[Stamp, Checkpoint] | None) -> tuple[Stamp, Checkpoint]:
    """What a folder holds, read again only when a file in it has changed."""
    stamp = _stamp(folder)
    if before is not None and stamp and before[0] == stamp:
        return before
    return stamp, read_checkpoint(folder)


def _said(found: Checkpoint, place: ModelPlace) -> Checkpoint:
    """What is wrong with the place itself is said instead of what that leaves broken."""
    return replace(found, problems=()) if place.problem and not found.model_type else found


def real_folder(folder: Path) -> Path:
    """The folder itself, behind all links; as it is given where they lead in circles, or it is no path."""
    try:
        return folder.resolve()
    except (OSError, RuntimeError, ValueError):
        return folder


def _is_below(folder: Path, top: Path) -> bool:
    """Whether a folder is really below another: no link on the way leads elsewhere."""
    return (
        not folder.is_symlink()
        and real_folder(folder).is_relative_to(real_folder(top))
        and real_folder(folder) != real_folder(top)
    )


def _stamp(folder: Path) -> Stamp:
    """Changes when a file of a folder does; () where it cannot be read."""
    try:
        files = sorted(folder.iterdir())[:MAX_ENTRIES]
        facts = ((path.name, path.stat()) for path in files if path.exists())
        return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in facts)
    except (OSError, RuntimeError):
        return ()
