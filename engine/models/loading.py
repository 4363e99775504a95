"""Load a checkpoint's parts through mlx-lm and mlx-vlm: the model, its processor, its tokenizer. Engine thread only.

Both libraries read weights lazily: what they return has not been read. `in_portions` reads it bit by bit, so that the
thread can serve others in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

from engine.config import ModelSpec
from engine.errors import BadRequest, Unavailable
from engine.models.families import Family

GROUP_SIZE = 64
"""Numbers that share a scale where weights are quantized as they are loaded."""

PORTION_BYTES = 32 * 1024**2
"""Read between two turns of others: some 20 ms from a fast disk. An array is never divided."""


def text_model(path: Path, spec: ModelSpec) -> nn.Module:
    """A model of mlx-lm, its weights not read yet."""
    from mlx_lm.utils import load_model

    model, _ = load_model(path, lazy=True, trust_remote_code=spec.trust_remote_code)
    return model


def vision_model(path: Path) -> nn.Module:
    """A model of mlx-vlm, its weights not read yet."""
    from mlx_vlm.utils import load_model

    return load_model(path, lazy=True)


def vision_processor(path: Path, spec: ModelSpec, model: nn.Module, row: Family) -> Any:
    """What turns its messages and media into inputs."""
    from mlx_vlm.utils import load_image_processor, load_processor

    image_processor = load_image_processor(path)
    eos = getattr(model.config, "eos_token_id", None)
    processor = load_processor(path, True, eos_token_ids=eos, trust_remote_code=spec.trust_remote_code)
    if image_processor is not None:
        processor.image_processor = image_processor
    if not hasattr(processor, "tokenizer") and image_processor is None:
        # mlx-vlm swallows a processor's own failure and hands out a bare tokenizer: pictures would be lost in silence.
        raise BadRequest(f"The processor of {path.name} could not be loaded; pictures would not reach the model.")
    own_placeholder(processor)
    if row.no_padding:
        processor.image_processor = WithoutPadding(processor.image_processor)
    return processor


def own_placeholder(processor: Any) -> None:
    """Let a processor count the placeholder that its own tokenizer writes: mlx-vlm's for dots.ocr looks for id 151665
    whatever the checkpoint's vocabulary says, and refuses every picture of another one."""
    token: Any = getattr(processor, "image_token", None)
    tokenizer: Any = getattr(processor, "tokenizer", None)
    if isinstance(token, str) and hasattr(processor, "image_token_id") and token in tokenizer.get_vocab():
        processor.image_token_id = tokenizer.convert_tokens_to_ids(token)


class WithoutPadding:
    """An image processor that is not told about padding, which it would refuse; else as it was."""

    def __init__(self, image_processor: Any) -> None:
        self._image_processor = image_processor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._image_processor, name)

    def __call__(self, images: Any, **settings: Any) -> Any:
        settings.pop("padding", None)
        return self._image_processor(images, **settings)


def load_tokenizer(path: Path, spec: ModelSpec, stop_ids: set[int]) -> Any:
    """mlx-lm's TokenizerWrapper."""
    from mlx_lm.tokenizer_utils import load

    return load(path, {"trust_remote_code": spec.trust_remote_code}, eos_token_ids=sorted(stop_ids) or None)


def convert(model: nn.Module, spec: ModelSpec, config: dict[str, Any]) -> None:
    """Quantize its weights, or change their type, as its settings ask. Nothing is computed before it is read.

    A tower that sees or hears stays as it is: little is gained there, and answers suffer. Raises Unavailable where the
    checkpoint is quantized already.
    """
    if not (spec.bits or spec.dtype):
        return
    if config.get("quantization") or config.get("quantization_config"):
        raise Unavailable(
            f"{spec.served_name} is quantized already, so that its dtype cannot be changed.", code="model_load_failed"
        )
    if spec.dtype:
        model.set_dtype(getattr(mx, spec.dtype))
        return
    part: Any = getattr(model, "language_model", model)
    nn.quantize(part, GROUP_SIZE, spec.bits or 0, class_predicate=_can_be_quantized)


def _can_be_quantized(name: str, module: nn.Module) -> bool:
    return hasattr(module, "to_quantized") and module.weight.shape[-1] % GROUP_SIZE == 0


def in_portions(model: nn.Module) -> Iterator[tuple[int, int]]:
    """Read the weights, some PORTION_BYTES in each step. Yields how many bytes are in memory, and how many there
    are."""
    flat: Any = tree_flatten(model.parameters())
    arrays: list[mx.array] = [value for _, value in flat]
    total = sum(array.nbytes for array in arrays)
    done, portion, portion_bytes = 0, [], 0
    for array in arrays:
        portion.append(array)
        portion_bytes += array.nbytes
        if portion_bytes >= PORTION_BYTES:
            mx.eval(portion)
            done += portion_bytes
            portion, portion_bytes = [], 0
            yield done, total
    mx.eval(portion)
    yield total, total
