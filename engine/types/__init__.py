"""The nouns of the engine, as frozen values: what goes in (request), what comes out (events), what is seen (state).

prompt and media hold what lies between: a decoded medium, and the prompt as the model reads it.

Every name is imported when it is first asked for: to make all of these classes would take a third of a `--help`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.types.cache import (
        BlockInfo,
        CacheStats,
        DiskStats,
        FeatureInfo,
        MediaPortion,
    )
    from engine.types.decision import YES_NO, Decision, Decisions, Option, QuestionKind, TypedQuestion
    from engine.types.events import (
        CacheTrace,
        Channel,
        CompletedChoice,
        Completion,
        Delta,
        Description,
        Done,
        Event,
        FeatureUse,
        FinishReason,
        GeneratedToken,
        MediaReceipt,
        Preflight,
        Timing,
        TokenText,
        ToolCallDelta,
        Usage,
    )
    from engine.types.grounding import Coordinates, CoordinatesGiven, Crop, Region
    from engine.types.models import (
        DescriptionProgress,
        ExpectedWeights,
        ModelCard,
        ModelStage,
        ModelState,
        ModelWeights,
        added_bytes,
    )
    from engine.types.remote import RemoteServer, ServedBy
    from engine.types.replay import Replay
    from engine.types.request import (
        NO_LIMIT,
        SAMPLING_RANGES,
        Detail,
        FrameSampling,
        Grammar,
        GrammarKind,
        Json,
        Kind,
        Message,
        PageChoice,
        Part,
        Reasoning,
        Request,
        Role,
        Sampling,
        Tool,
        ToolCall,
        ToolChoice,
        ToolMode,
    )
    from engine.types.speculation import SPECULATION_FIELDS, SPECULATION_LIMITS, SpeculationConfig
    from engine.types.stages import WAITS, WORK, StageClock, StageName, StageSpan
    from engine.types.state import (
        BatchState,
        DeviceInfo,
        RankMemory,
        Record,
        Running,
        Snapshot,
        Stage,
        State,
        Totals,
    )
    from engine.types.vectors import DocumentsToRank, Embedded, Ranked, TextsToEmbed

_MODULES = (
    "speculation", "request", "remote", "stages", "grounding", "events", "decision", "replay", "vectors", "models",
    "cache", "state",
)  # fmt: skip
"""In the order in which they import each other: to find a name loads little beside it."""

__all__ = [
    "NO_LIMIT",
    "SAMPLING_RANGES",
    "SPECULATION_FIELDS",
    "SPECULATION_LIMITS",
    "WAITS",
    "WORK",
    "YES_NO",
    "BatchState",
    "BlockInfo",
    "CacheStats",
    "CacheTrace",
    "Channel",
    "CompletedChoice",
    "Completion",
    "Coordinates",
    "CoordinatesGiven",
    "Crop",
    "Decision",
    "Decisions",
    "Delta",
    "Description",
    "DescriptionProgress",
    "Detail",
    "DeviceInfo",
    "DiskStats",
    "DocumentsToRank",
    "Done",
    "Embedded",
    "Event",
    "ExpectedWeights",
    "FeatureInfo",
    "FeatureUse",
    "FinishReason",
    "FrameSampling",
    "GeneratedToken",
    "Grammar",
    "GrammarKind",
    "Json",
    "Kind",
    "MediaPortion",
    "MediaReceipt",
    "Message",
    "ModelCard",
    "ModelStage",
    "ModelState",
    "ModelWeights",
    "Option",
    "PageChoice",
    "Part",
    "Preflight",
    "QuestionKind",
    "RankMemory",
    "Ranked",
    "Reasoning",
    "Record",
    "Region",
    "RemoteServer",
    "Replay",
    "Request",
    "Role",
    "Running",
    "Sampling",
    "ServedBy",
    "Snapshot",
    "SpeculationConfig",
    "Stage",
    "StageClock",
    "StageName",
    "StageSpan",
    "State",
    "TextsToEmbed",
    "Timing",
    "TokenText",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolChoice",
    "ToolMode",
    "Totals",
    "TypedQuestion",
    "Usage",
    "added_bytes",
]


def __getattr__(name: str) -> Any:
    """PEP 562: names of __all__."""
    if name in __all__:
        for module in _MODULES:
            values = vars(importlib.import_module(f"{__name__}.{module}"))
            if name in values:
                return globals().setdefault(name, values[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
