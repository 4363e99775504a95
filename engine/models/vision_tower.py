"""A vision tower that remembers: wraps that of families that pack patches by grid. Engine thread only.

The tower attends within one picture, and within one pair of frames of a clip, so each is a unit: looked up, encoded
if it is new, and put in place. Units that are new are encoded together, in calls of a bounded size.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import accumulate, pairwise
from time import perf_counter
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn

from engine.cache.features import FeatureStore
from engine.types import FeatureUse

MAX_PATCHES = 16_384
"""Patches per call of the tower: one large picture, or some dozens of frames; never one giant device call."""

UnitFeatures = list[mx.array]
"""Features of one unit: the tower's output (tokens, hidden), then its deepstack layers, if the family has any."""


def unit_tokens(unit: UnitFeatures) -> int:
    """How many tokens a unit has."""
    return int(unit[0].shape[0])


@dataclass(frozen=True, slots=True)
class Use:
    """What one medium took from the store, its share of the tower's milliseconds, and its units' keys in order.

    features: None where nothing is stored."""

    features: FeatureUse | None = None
    ms: float = 0.0
    keys: tuple[bytes, ...] = ()


class ApartVisionTower(nn.Module):
    """Stands in for a model.vision_tower that lets pictures see each other: encodes one picture, or one pair of frames,
    per call. Other attributes are the tower's own."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tower = tower

    def __getattr__(self, name: str) -> Any:
        found = self.get(name)  # where an nn.Module keeps its parts
        if found is not None:
            return found
        if "tower" not in self:  # not even begun
            raise AttributeError(name)
        return getattr(self["tower"], name)

    def __call__(self, patches: mx.array, grid_thw: mx.array, **options: Any) -> mx.array:
        """patches: (sum of t*h*w, dim); grid_thw: (media, 3). Returns (tokens, hidden)."""
        grid = [(1, h, w) for t, h, w in np.array(grid_thw).tolist() for _ in range(t)]
        ends = [0, *accumulate(h * w for _, h, w in grid)]
        units = zip(pairwise(ends), grid, strict=True)
        return mx.concatenate([self.tower(patches[a:b], mx.array([shape]), **options) for (a, b), shape in units])


class CachedVisionTower:
    """Stands in for model.vision_tower: same call, same result, other attributes are the tower's own.

    uses: one entry per medium of the calls since it was last emptied, in their order.
    """

    def __init__(self, tower: Any, store: FeatureStore) -> None:
        self._tower = tower
        self._store = store
        self.uses: list[Use] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tower, name)

    def __call__(self, patches: mx.array, grid_thw: mx.array, **options: Any) -> Any:
        """patches: (sum of t*h*w, dim); grid_thw: (media, 3). Returns what the tower returns for all of them."""
        grid = [(1, h, w) for t, h, w in np.array(grid_thw).tolist() for _ in range(t)]
        ends = [0, *accumulate(t * h * w for t, h, w in grid)]
        spans = list(pairwise(ends))
        keys = [_key(patches[start:end], shape) for (start, end), shape in zip(spans, grid, strict=True)]
        self._store.request(keys)
        units: dict[bytes, UnitFeatures] = {key: found for key in keys if (found := self._store.get(key)) is not None}
        new = {key: i for i, key in enumerate(keys) if key not in units}
        started = perf_counter()
        for call in _calls(list(new.values()), spans):
            features = self._encode([(patches[slice(*spans[i])], grid[i]) for i in call], options)
            for i, unit in zip(call, features, strict=True):
                units[keys[i]] = unit
                self._store.put(keys[i], unit, sum(array.nbytes for array in unit))
        self._count(
            [t for t, _, _ in np.array(grid_thw).tolist()], keys, (set(new), units), (perf_counter() - started) * 1e3
        )
        layers = [mx.concatenate(layer, axis=0) for layer in map(list, zip(*(units[key] for key in keys), strict=True))]
        return layers[0] if not self._has_deepstack else (layers[0], layers[1:])

    def _count(
        self, sizes: list[int], keys: list[bytes], encoded: tuple[set[bytes], dict[bytes, UnitFeatures]], ms: float
    ) -> None:
        """Note what each medium used. sizes: units of each; encoded: keys of the new units, and all units by key."""
        new, units = encoded
        tokens = {key: units[key][0].shape[0] for key in new}
        total = sum(tokens.values())
        for start, end in pairwise([0, *accumulate(sizes)]):
            units_of = keys[start:end]
            misses = sum(key in new for key in units_of)
            share = sum(tokens.pop(key, 0) for key in units_of) / total if total else 0.0
            self.uses.append(Use(FeatureUse(len(units_of) - misses, misses), ms * share, tuple(units_of)))

    @property
    def _has_deepstack(self) -> bool:
        return hasattr(self._tower, "deepstack_merger_list")

    def _encode(
        self, units: list[tuple[mx.array, tuple[int, int, int]]], options: dict[str, Any]
    ) -> list[UnitFeatures]:
        """Run the tower over some units at once and part its output again, evaluated."""
        out = self._tower(mx.concatenate([p for p, _ in units]), mx.array([shape for _, shape in units]), **options)
        layers = [out[0], *out[1]] if self._has_deepstack else [out]
        # Every unit shrinks by the same factor (the spatial merge).
        shrink = sum(p.shape[0] for p, _ in units) // layers[0].shape[0]
        ends = [0, *accumulate(p.shape[0] // shrink for p, _ in units)]
        # Copies: a slice would keep the whole call's output alive.
        parted = [[mx.contiguous(layer[a:b]) for layer in layers] for a, b in pairwise(ends)]
        mx.eval(parted)
        return parted


def _calls(wanted: list[int], spans: list[tuple[int, int]]) -> list[list[int]]:
    """Groups of units that stay within MAX_PATCHES, in order; a larger unit has a call of its own."""
    calls: list[list[int]] = []
    size = 0
    for i in wanted:
        patches = spans[i][1] - spans[i][0]
        if not calls or size + patches > MAX_PATCHES:
            calls.append([])
            size = 0
        calls[-1].append(i)
        size += patches
    return calls


def _key(patches: mx.array, shape: tuple[int, int, int]) -> bytes:
    pixels = np.array(mx.contiguous(patches).view(mx.uint8))  # numpy has no bfloat16
    return hashlib.blake2b(pixels.data, digest_size=16, salt=repr(shape).encode()[:16]).digest()
