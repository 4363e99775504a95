"""One MLX model behind one asynchronous stream of events. Knows nothing of Gradio or of the workbench.

    engine = Engine(EngineConfig(model=ModelSpec("demo")))
    engine.start()
    async for event in engine.stream(Request(messages=(Message("user", (Part("text", text="Hello"),)),))):
        ...  # Deltas, then one Done
    engine.stop()

For scripts and notebooks there are classes whose calls wait: LLM, MLXLanguageModel, MLXMultimodalLM. Every name is
imported when it is first asked for: the commands say their --help without numpy.

How the parts fit together, and where each is: assets/docs/how-it-works.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.cache.mllm import MLLMPrefixCacheManager
    from engine.config import EngineConfig, MediaLimits, ModelSpec, ServerConfig
    from engine.core import Engine
    from engine.errors import EngineError
    from engine.measure.bench.hardware import detect_hardware
    from engine.offline.chat_models import (
        GenerationOutput,
        MLXLanguageModel,
        MLXMultimodalLM,
        MLXVisionLanguageModel,
        StreamingOutput,
    )
    from engine.offline.llm import LLM
    from engine.offline.outputs import CompletionOutput, RequestOutput
    from engine.offline.sampling_params import SamplingParams
    from engine.types import Delta, Done, FrameSampling, Message, Part, Preflight, Request, Sampling, Snapshot

_MODULES = {
    "CompletionOutput": "engine.offline.outputs",
    "Delta": "engine.types",
    "Done": "engine.types",
    "Engine": "engine.core",
    "EngineConfig": "engine.config",
    "EngineError": "engine.errors",
    "FrameSampling": "engine.types",
    "GenerationOutput": "engine.offline.chat_models",
    "LLM": "engine.offline.llm",
    "MLLMPrefixCacheManager": "engine.cache.mllm",
    "MLXLanguageModel": "engine.offline.chat_models",
    "MLXMultimodalLM": "engine.offline.chat_models",
    "MLXVisionLanguageModel": "engine.offline.chat_models",
    "MediaLimits": "engine.config",
    "Message": "engine.types",
    "ModelSpec": "engine.config",
    "Part": "engine.types",
    "Preflight": "engine.types",
    "Request": "engine.types",
    "RequestOutput": "engine.offline.outputs",
    "Sampling": "engine.types",
    "SamplingParams": "engine.offline.sampling_params",
    "ServerConfig": "engine.config",
    "Snapshot": "engine.types",
    "StreamingOutput": "engine.offline.chat_models",
    "detect_hardware": "engine.measure.bench.hardware",
}

__all__ = [
    "LLM",
    "CompletionOutput",
    "Delta",
    "Done",
    "Engine",
    "EngineConfig",
    "EngineError",
    "FrameSampling",
    "GenerationOutput",
    "MLLMPrefixCacheManager",
    "MLXLanguageModel",
    "MLXMultimodalLM",
    "MLXVisionLanguageModel",
    "MediaLimits",
    "Message",
    "ModelSpec",
    "Part",
    "Preflight",
    "Request",
    "RequestOutput",
    "Sampling",
    "SamplingParams",
    "ServerConfig",
    "Snapshot",
    "StreamingOutput",
    "detect_hardware",
]


def __getattr__(name: str) -> Any:
    """PEP 562: names of _MODULES."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
