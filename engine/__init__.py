"""One MLX model behind one asynchronous stream of events. Knows nothing of Gradio or of the workbench.

    engine = Engine(EngineConfig(model=ModelSpec("demo")))
    engine.start()
    async for event in engine.stream(Request(messages=(Message("user", (Part("text", text="Hello"),)),))):
        ...  # Deltas, then one Done
    engine.stop()

How the parts fit together, and where each is: assets/docs/how-it-works.md.
"""

from engine.config import EngineConfig, MediaLimits, ModelSpec, ServerConfig
from engine.core import Engine
from engine.errors import EngineError
from engine.types import Delta, Done, FrameSampling, Message, Part, Preflight, Request, Sampling, Snapshot

__all__ = [
    "Delta",
    "Done",
    "Engine",
    "EngineConfig",
    "EngineError",
    "FrameSampling",
    "MediaLimits",
    "Message",
    "ModelSpec",
    "Part",
    "Preflight",
    "Request",
    "Sampling",
    "ServerConfig",
    "Snapshot",
]
