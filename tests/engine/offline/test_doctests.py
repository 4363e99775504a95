"""The examples in the docstrings of the public classes are true."""

from __future__ import annotations

import doctest
import importlib

import pytest

import engine

MODULES = (
    "engine.cache.mllm",
    "engine.offline.chat_models",
    "engine.offline.llm",
    "engine.offline.outputs",
    "engine.offline.sampling_params",
)


@pytest.mark.parametrize("name", MODULES)
def test_they_say_what_is_true(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted and not found.failed


@pytest.mark.parametrize("name", ["LLM", "MLXLanguageModel", "MLXMultimodalLM", "SamplingParams", "GenerationOutput"])
def test_every_public_class_has_one(name: str) -> None:
    assert ">>>" in (getattr(engine, name).__doc__ or "")


def test_what_the_package_promises_is_there() -> None:
    assert all(getattr(engine, name) is not None for name in engine.__all__)
    assert engine.MLXVisionLanguageModel is engine.MLXMultimodalLM
    assert set(engine.__all__) <= set(dir(engine))
    with pytest.raises(AttributeError, match="no attribute 'VLLM'"):
        _ = engine.VLLM
