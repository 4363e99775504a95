"""The models as Ollama describes them."""

from __future__ import annotations

from engine.api.ollama.answers import time_json
from engine.types import Json, ModelCard, ModelState, Snapshot

API_VERSION = "0.13.0"
"""The release of Ollama whose answers these are: clients ask for it before they use what is new."""


def tags_json(snapshot: Snapshot, states: tuple[ModelState, ...], started: int) -> Json:
    """The answer of /api/tags. A model that was never loaded is listed by its name; started: see models_json."""
    if snapshot.state in ("failed", "stopped"):
        return {"models": []}
    return {"models": [tag_json(state.card) if state.card else _unknown(state, started) for state in states]}


def _unknown(state: ModelState, started: int) -> Json:
    name = {"name": state.name, "model": state.name, "modified_at": time_json(started)}
    return {**name, "size": state.num_bytes, "digest": "", "details": {}}


def tag_json(card: ModelCard) -> Json:
    """One line of /api/tags."""
    return {
        "name": card.id,
        "model": card.id,
        "modified_at": time_json(card.created),
        "size": card.num_bytes,
        "digest": "",
        "details": details_json(card),
    }


def running_json(card: ModelCard) -> Json:
    """One line of /api/ps. The model stays until the server ends."""
    room = {"size_vram": card.num_bytes, "context_length": card.context_tokens}
    return {**tag_json(card), **room, "expires_at": "9999-12-31T23:59:59Z"}


def show_json(card: ModelCard | None) -> Json:
    """The answer of /api/show. Of a model that was never loaded nothing is known."""
    if card is None:
        return {"modelfile": "", "details": {}, "model_info": {}, "capabilities": ["completion"]}
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "license": "",
        "modified_at": time_json(card.created),
        "details": details_json(card),
        "model_info": {
            "general.architecture": card.model_type,
            "general.parameter_count": card.num_params,
            f"{card.model_type}.context_length": card.context_tokens,
        },
        "capabilities": [
            "completion",
            "tools",
            *(["vision"] if card.vision else []),
            *(["audio"] if card.audio else []),
            *(["thinking"] if card.reasons else []),
        ],
    }


def details_json(card: ModelCard) -> Json:
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": card.model_type,
        "families": [card.model_type],
        "parameter_size": f"{card.num_params / 1e9:.1f}B"
        if card.num_params >= 1e9
        else f"{card.num_params / 1e6:.1f}M",
        "quantization_level": card.dtype,
    }
