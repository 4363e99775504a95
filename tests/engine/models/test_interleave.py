"""interleave: every tower can be stopped between two layers, and gives what it gives when it is not."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx import nn

from engine.models.interleave import interleave


class Doubling(nn.Module):
    def __call__(self, x: mx.array) -> mx.array:
        return x * 2


class Adding(nn.Module):
    def __call__(self, x: mx.array) -> mx.array:
        return x + 1


class Staged(nn.Module):
    """As Gemma 3n's: stages of blocks, of two classes; one stage has a single block."""

    def __init__(self) -> None:
        super().__init__()
        self.stages: list[list[Any]] = [[Doubling(), Adding()], [Doubling()], [Adding(), Adding(), Doubling()]]
        self.head = [Adding(), Doubling()]  # parts of different kinds, no stack of layers

    def __call__(self, x: mx.array) -> mx.array:
        for stage in self.stages:
            for block in stage:
                x = block(x)
        for part in self.head:
            x = part(x)
        return x


def test_stages_of_blocks_are_cut_between_blocks() -> None:
    x = mx.array([1.0, 2.0])
    expected = Staged()(x)
    tower, steps = Staged(), []
    assert interleave(tower, None, lambda: True, lambda: steps.append(1)) == 6
    assert mx.array_equal(tower(x), expected)
    assert len(steps) == 6


def test_nothing_is_evaluated_early_while_nobody_waits() -> None:
    tower, steps = Staged(), []
    interleave(tower, None, lambda: False, lambda: steps.append(1))
    mx.eval(tower(mx.array([1.0])))
    assert steps == []


def test_gemma3n_is_cut_in_its_blocks() -> None:
    """Its tower is 294 M parameters however it is configured; they are never made here, MLX being lazy."""
    from mlx_vlm.models.gemma3n import VisionConfig, VisionModel

    assert interleave(VisionModel(VisionConfig()), None, lambda: False, lambda: None) > 50
