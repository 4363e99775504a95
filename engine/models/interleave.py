"""Rows that decode do not wait for a whole vision tower: between two of its layers they may take a step. Engine thread
only.

A tower's run cannot be cut by tokens as a prompt can (a picture attends to all of itself), so it is cut by layers.
While nothing decodes, nothing is evaluated early and the run costs what it always did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
from mlx import nn


class InterleavedLayer:
    """Stands in for a layer of a tower: same call, same result, other attributes are the layer's own."""

    def __init__(self, layer: Any, rows_wait: Callable[[], bool], step: Callable[[], None]) -> None:
        self._layer = layer
        self._rows_wait = rows_wait
        self._step = step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, *args: Any, **settings: Any) -> Any:
        out = self._layer(*args, **settings)
        if self._rows_wait():
            mx.eval(out)
            self._step()
        return out


def interleave(model: Any, skipped: Any, rows_wait: Callable[[], bool], step: Callable[[], None]) -> int:
    """Let every stack of layers of a model call `step` between two layers while rows_wait(), but for one: the language
    model, or the list of its layers.

    Returns how many layers do.
    """
    count = 0
    for stack in _stacks(model, skipped):
        stack[:] = [InterleavedLayer(layer, rows_wait, step) for layer in stack]
        count += len(stack)
    return count


def _stacks(module: Any, skipped: Any) -> Iterator[list[Any]]:
    """Lists of two or more layers of one class, and the lists in a list (Gemma 3n: stages of several kinds of blocks);
    outermost first."""
    for child in module.values():  # not children(): that copies the lists
        if child is skipped:
            continue
        if isinstance(child, nn.Module):
            yield from _stacks(child, skipped)
        elif isinstance(child, list) and len(child) > 1:
            if all(isinstance(stage, list) and _are_modules(stage) for stage in child):
                yield from child
            elif _are_modules(child) and len({type(layer) for layer in child}) == 1:
                yield child


def _are_modules(layers: list[Any]) -> bool:
    return all(isinstance(layer, nn.Module) for layer in layers)
