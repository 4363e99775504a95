"""LoRA adapters: put onto a model by the library that loads it, and held against that model. Engine thread only.

    weights of the base ──> BaseWeights ──> the same arrays in the tree of each further model of this base
                                            └─ LoRA layers around some of them, with weights of their own

So an adapter is one more model, which takes the adapter's bytes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

from engine.config import ModelSpec
from engine.models.locate import first_line
from engine.models.lora_files import CONFIG, WEIGHTS, LoraFiles, unusable

_MAX_NAMED = 3


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """The weights of a model without its adapter, by the names they have in its tree. key: see ModelWeights.base."""

    key: str
    arrays: dict[str, mx.array]

    @classmethod
    def of(cls, model: nn.Module, key: str) -> BaseWeights:
        return cls(key, parameters(model))

    def give_to(self, model: nn.Module) -> None:
        """Let a model of this base, whose own weights were not read, have these. Raises ValueError where its names or
        shapes are others."""
        model.load_weights(list(self.arrays.items()), strict=True)

    def added_bytes(self, model: nn.Module) -> int:
        """What a model's arrays take beside these."""
        shared = {id(array) for array in self.arrays.values()}
        return sum(array.nbytes for array in parameters(model).values() if id(array) not in shared)


def parameters(model: nn.Module) -> dict[str, mx.array]:
    """A model's arrays by name."""
    flat: Any = tree_flatten(model.parameters())
    return dict(flat)


def add_lora(model: nn.Module, files: LoraFiles, spec: ModelSpec, *, vision: bool) -> None:
    """Put an adapter onto a model, evaluated. vision: the model is one of mlx-vlm, else of mlx-lm.

    The library makes the layers that the adapter's configuration names before it has read any weights; what the file
    holds must be theirs, by name and shape. (mlx-lm does not miss what is missing, and mlx-vlm checks nothing.)
    Raises Unavailable with the reason.
    """
    try:
        before = parameters(model).keys()
        _add_layers(model, files, vision=vision)
        made = {name: array for name, array in parameters(model).items() if name not in before}
        weights: Any = mx.load(str(files.weights))
        reason = mismatch(weights, {name: array for name, array in made.items() if _is_own(name)})
        if reason is None:
            model.load_weights(list(weights.items()), strict=False)
            model.eval()  # no dropout
            mx.eval(list(weights.values()))
    except Exception as error:  # whatever a configuration of others makes the library do
        missing = isinstance(error, KeyError)
        reason = f"{CONFIG} says no {error}" if missing else first_line(error)
    if reason is not None:
        raise unusable(spec, reason)


def _add_layers(model: nn.Module, files: LoraFiles, *, vision: bool) -> None:
    """The adapter's layers, whose weights are random. The libraries read a configuration and its weights together, so
    they are given a file without weights."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / CONFIG).write_text(json.dumps(files.config), encoding="utf-8")
        mx.save_safetensors(str(Path(folder) / WEIGHTS), {})
        if vision:
            from mlx_vlm.trainer.peft import apply_lora_layers

            apply_lora_layers(model, folder)
        else:
            from mlx_lm.tuner.utils import load_adapters

            load_adapters(model, folder)


def _is_own(name: str) -> bool:
    """Whether a parameter is the adapter's: not the base's under the name that it has in a LoRA layer, nor what makes
    up a layer that was quantized for it."""
    return name.rsplit(".", 1)[-1] in ("lora_a", "lora_b", "m", "A", "B")


def mismatch(weights: Mapping[str, mx.array], made: Mapping[str, mx.array]) -> str | None:
    """Why these weights of a file are not those of an adapter's layers; None where they are."""
    if not made:
        return f"{CONFIG} names no layer of this model"
    if unknown := sorted(set(weights) - set(made)):
        return f"{WEIGHTS} has {_some(unknown)}, which this model has no layer for"
    if missing := sorted(set(made) - set(weights)):
        return f"{WEIGHTS} lacks {_some(missing)}"
    for name, array in weights.items():
        if array.shape != made[name].shape:
            return f"{name[:120]} has the shape {array.shape}, and this model needs {made[name].shape}"
    return None


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(name[:120] for name in names[:_MAX_NAMED]) + more
