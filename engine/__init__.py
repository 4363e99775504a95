"""The engine: one MLX model behind one asynchronous stream of events. It knows nothing of Gradio or of the workbench.

chat tab ──┐
/v1 routes ┼─> Engine.stream(Request) ─> media pool ─> inbox ─> engine thread: prompt → prefill → batch step
bench ─────┘        ^                                                   │
                    └──────────── loop.call_soon_threadsafe(event) ─────┘

errors types config checks   the nouns: pure values, no MLX
device                       what this machine is; the BLAS preload on Linux CPU
core                         Engine; makes the engine thread and the media pool
loading                      what the media pool does: a request's media, in order, within limits
worker                       the body of the engine thread
scheduler                    who waits, who is prefilled next, who decodes (pure)
prompt spans order receipts  request + media -> token ids; where each medium lies; what the processor made of it
preflight rates fit          what a request would cost; how fast this engine is; what to cut so that it fits
sizing grids                 how large the model sees a medium where a budget of pixels says so; prompts without pixels
detokenize sampling          token ids -> text; sampling settings -> sampler
models/                      registry, families table, adapter, batch, head, vision tower; cpu: Linux only
cache/                       blocks, snapshots, vision features
media/                       fetch and decode pictures and clips into numpy
api/                         the OpenAI routes
replay privacy               the cache held to the truth; who shares with whom, and who sees what
selftest/ eval/              is it right on this machine; how well does it answer
bench/ cli                   the commands
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
