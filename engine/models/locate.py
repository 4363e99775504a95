"""Find a checkpoint: the folder that a path or a hub id leads to, and what kind of model its own files say it is.

Any thread; imports no MLX.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.assets import asset
from engine.config import DEMO, ModelSpec, given_folder, is_hub_id
from engine.errors import ModelNotFound, Unavailable

Report = Callable[[int, int], None]
"""Told of each step: bytes so far, and of how many (0: not known)."""

FILES = ("*.json", "*.safetensors", "*.model", "*.tiktoken", "*.txt", "*.jinja", "*.py")
"""What is read of a checkpoint."""
_VISION_KEYS = ("vision_config", "audio_config", "vision_tower", "vit_config", "img_processor", "embd_layer")


def locate(spec: ModelSpec, report: Report | None = None) -> Path:
    """The checkpoint's folder: the embedded one, a local one, or a hub snapshot (downloaded now if need be).

    report: called by the threads that download. Raises ModelNotFound when there is no such model, Forbidden for a
    gated one, and Unavailable with the reason where it cannot be downloaded.
    """
    if (folder := locate_here(spec)) is not None:
        return folder
    return _download(spec, report or (lambda done, total: None))


def locate_here(spec: ModelSpec) -> Path | None:
    """The folder of a model that is on this machine under its own path; None for a hub id. Raises ModelNotFound."""
    if spec.source == DEMO:
        return asset("demo-model")
    folder = given_folder(spec.source)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelNotFound(f"{spec.source} has no config.json: it is not a model folder.", param="model")
        return folder.resolve()
    if not is_hub_id(spec.source):
        raise ModelNotFound(
            f"No model {spec.source!r}: give 'demo', an existing folder or a hub id such as org/name.", param="model"
        )
    return None


def _download(spec: ModelSpec, report: Report) -> Path:
    from huggingface_hub import snapshot_download

    from engine.models.hub_failures import in_words

    bar = _counting_bar(report)
    try:
        folder = snapshot_download(spec.source, revision=spec.revision, allow_patterns=list(FILES), tqdm_class=bar)
    except Exception as e:  # of the hub's client, the network, the disk
        error = in_words(e, spec.source, spec.revision)
        if isinstance(error, Unavailable):
            why = f"Could not download {spec.source!r}: {error.message}"
            error = Unavailable(why, param="model", code="model_load_failed")
        raise error from e
    return Path(folder)


def _counting_bar(report: Report) -> type[Any]:
    """The hub client's progress bar, which also reports the bytes of all files together."""
    from huggingface_hub.utils.tqdm import tqdm

    class CountingBar(tqdm):
        def __init__(self, *args: Any, **settings: Any) -> None:
            self._counts = settings.get("name") == "huggingface_hub.snapshot_download"
            self._num_bytes = 0
            super().__init__(*args, **settings)  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> bool | None:
            if self._counts:
                self._num_bytes += int(n or 0)
                report(self._num_bytes, int(self.total or 0))
            shown: bool | None = super().update(n)
            return shown

    return CountingBar


def is_multimodal(path: Path, config: dict[str, Any]) -> bool:
    """Whether a checkpoint sees or hears, from its own files."""
    return any(config.get(key) for key in _VISION_KEYS) or (path / "preprocessor_config.json").is_file()


def first_line(e: BaseException) -> str:
    """The reason that an exception gives, for a message."""
    text = str(e).strip().splitlines()
    return text[0][:300] if text else type(e).__name__
