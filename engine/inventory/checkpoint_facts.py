"""What a folder with a checkpoint holds, from its config.json and the headers of its weights. Any thread; pure.

Whatever a folder holds, reading it raises nothing: what keeps it from being used is a line in `problems`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.inventory.kv_size import token_numbers
from engine.models.checkpoint import memory_bytes
from engine.models.config_facts import answering_part, context_tokens, has_ears, why_deaf
from engine.models.families import FAMILIES, family
from engine.models.json_files import part, read_object, whole
from engine.models.locate import is_multimodal
from engine.models.safetensors_files import ITEM_BYTES, MAX_FILES, read_header, weight_files
from engine.types import Kind

MAX_PROBLEMS = 6
_FLOATS = ("F32", "BF16", "F16")
_NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint. model_type: as config.json has it. family_name: what people call it; is_known: whether our table
    has a row for it; refused: why this engine cannot run it, "" when it can. modalities: what it takes besides text.

    num_bytes: of all its files. weight_bytes: of its weights as they lie in memory. token_bytes: of the KV of one
    token (0: not known). context_tokens: at most, by its config. problems: what is missing or broken, a sentence each;
    a checkpoint with problems cannot be loaded.
    """

    model_type: str = ""
    family_name: str = ""
    is_known: bool = False
    refused: str = ""
    modalities: tuple[Kind, ...] = ()
    quantization: str = ""
    num_bytes: int = 0
    weight_bytes: int = 0
    token_bytes: int = 0
    context_tokens: int = 0
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Weights:
    """num_bytes, num_tensors: by dtype."""

    num_bytes: Counter[str]
    num_tensors: Counter[str]
    problems: tuple[str, ...]

    @property
    def float_type(self) -> str:
        """The type of most of its floats, which that of its KV follows."""
        found = [name for name in _FLOATS if self.num_tensors[name]]
        return max(found, key=lambda name: self.num_tensors[name], default="BF16")


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in a folder. Raises nothing. Reads headers only, never weights."""
    try:
        files = _files(folder)
    except OSError as error:
        return Checkpoint(problems=(f"The folder cannot be read: {error.strerror or error}.",))
    except ValueError as error:  # a path with a zero in it
        return Checkpoint(problems=(f"The folder cannot be read: {error}.",))
    num_bytes = sum(files.values())
    try:
        config = read_object(folder / "config.json")
    except ValueError as error:
        return Checkpoint(num_bytes=num_bytes, problems=(str(error),))
    config = answering_part(config)
    weights = read_weights(folder, files)
    model_type = str(config.get("model_type") or "")[:64]
    row = family(model_type)
    problems = [*weights.problems]
    if not model_type:
        problems.insert(0, "config.json names no model_type.")
    if "tokenizer.json" not in files and not any(name.endswith((".model", ".tiktoken")) for name in files):
        problems.append("It has no tokenizer.")
    return Checkpoint(
        model_type=model_type,
        family_name=row.name,
        is_known=model_type in FAMILIES,
        refused=row.refused,
        modalities=modalities(config, sees=is_multimodal(folder, config)),
        quantization=quantization(config, weights),
        num_bytes=num_bytes,
        weight_bytes=sum(memory_bytes(dtype, num, config) for dtype, num in weights.num_bytes.items()),
        token_bytes=token_numbers(config) * ITEM_BYTES[weights.float_type],
        context_tokens=context_tokens(config),
        problems=tuple(problems[:MAX_PROBLEMS]),
    )


def _files(folder: Path) -> dict[str, int]:
    """The regular files of a folder and their sizes; a link that leads nowhere has 0 bytes."""
    found: dict[str, int] = {}
    for path in folder.iterdir():
        if len(found) >= MAX_FILES:
            break
        try:
            if path.is_file():
                found[path.name] = path.stat().st_size
        except OSError:  # a loop of links
            continue
    return found


def read_weights(folder: Path, files: dict[str, int]) -> Weights:
    """The weights as mlx-lm and mlx-vlm find them: the files of the index, or all there are. files: of the folder."""
    num_bytes: Counter[str] = Counter()
    num_tensors: Counter[str] = Counter()
    problems: list[str] = []
    try:
        names = weight_files(folder, files)
    except ValueError as error:
        return Weights(num_bytes, num_tensors, (str(error),))
    if not names:
        others = sorted({Path(name).suffix for name in files} & {".gguf", ".bin", ".pt", ".pth", ".npz", ".onnx"})
        has = f"; {' and '.join(others)} files are not read here" if others else ""
        problems.append(f"It has no weights in safetensors files{has}.")
    for name in names:
        try:
            tensors = read_header(folder / name)
        except ValueError as error:
            problems.append(str(error))
            continue
        for tensor in tensors:
            num_bytes[tensor.dtype] += tensor.num_bytes
            num_tensors[tensor.dtype] += 1
    return Weights(num_bytes, num_tensors, tuple(problems))


def modalities(config: dict[str, Any], *, sees: bool) -> tuple[Kind, ...]:
    """What a model takes besides text, as the engine will offer it: by config.json and the families table."""
    model_type = str(config.get("model_type") or "")
    row = family(model_type)
    found: list[Kind] = []
    if sees:
        found.append("image")
        if row.native_video or row.images_per_prompt is None:
            found.append("video")
    if found and has_ears(config, row) and not why_deaf(config):
        found.append("audio")
    return tuple(found)


def quantization(config: dict[str, Any], weights: Weights) -> str:
    """How the weights are stored, in words: "4-bit", "8-bit, groups of 32", "bfloat16"."""
    for settings in (part(config, "quantization"), part(config, "quantization_config")):
        if bits := whole(settings, "bits", most=16):
            group = whole(settings, "group_size", most=2**20)
            mode = str(settings.get("mode") or "affine")[:16]
            words = f"{bits}-bit" if mode == "affine" else f"{bits}-bit ({mode})"
            return words if group in (0, 64) else f"{words}, groups of {group}"
        if method := settings.get("quant_method"):
            return str(method)[:24]
    return _NAMES[weights.float_type] if weights.num_bytes else ""
