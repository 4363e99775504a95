"""The models as JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from datetime import UTC, datetime

from engine.config import given_folder
from engine.errors import EngineError, say_bytes
from engine.types import DescriptionProgress, Json, ModelCard, ModelState, Snapshot

LOADING = ("starting", "loading")
_STATES = {"known": "not_loaded"}
"""Of a model that the first request for it loads."""

_REMOTE_STATES = {"known": "connecting", "failed": "unreachable"}
"""Of a model that another server answers for."""


def models_json(snapshot: Snapshot, states: tuple[ModelState, ...], started: int) -> Json:
    """GET /v1/models: all models that may be loaded, the default one first: a client that takes the first of the list
    asks for that one, and waits while it is loaded. None where the engine has ended. started: of the server, in seconds
    since 1970.

    first_id, last_id and has_more are what Anthropic's clients read.
    """
    is_over = snapshot.state in ("failed", "stopped")
    data = [] if is_over else [state_json(state, started) for state in states]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"object": "list", "data": data, "has_more": False, **ends}


def state_json(state: ModelState, started: int) -> Json:
    """The model object of one that may be loaded. As long as it never was, nothing is known of its limits and
    capabilities. root and parent are vLLM's: of an adapter, the model that it belongs to."""
    known = model_json(state.card) if state.card else _named(state.name, started)
    json: Json = {**known, "state": stage_word(state)}
    json |= {"root": state.parent or state.name, "parent": state.parent}
    if state.server:
        json |= {"server": state.server, "owned_by": state.server}
    if state.aliases:
        json["aliases"] = list(state.aliases)
    if state.stage in ("downloading", "loading") and state.total_bytes:
        json["progress"] = {"done_bytes": state.done_bytes, "total_bytes": state.total_bytes}
    if state.error:
        json["error"] = without_folder(state.error, state)
    return json


def stage_word(state: ModelState) -> str:
    """The stage of a model as the routes say it."""
    words = _REMOTE_STATES if state.server else _STATES
    return words.get(state.stage, state.stage)


def without_folder(words: str, state: ModelState) -> str:
    """Words about a model with its name in place of its folder: whoever asks need not know where files lie."""
    for source in (state.source, state.adapter_path or ""):
        folder = given_folder(source)
        if folder.is_absolute():
            for path in (source, str(folder), os.path.realpath(folder)):
                words = words.replace(path, state.name)
    return words


def without_folders(error: EngineError, states: Sequence[ModelState]) -> EngineError:
    """What a client is told of an error, which may be about any of the models."""
    words = words_without_folders(error.message, states)
    if words == error.message:
        return error
    told = copy(error)  # others may wait for the same
    told.message = words
    return told


def words_without_folders(words: str, states: Sequence[ModelState]) -> str:
    for state in states if words else ():
        words = without_folder(words, state)
    return words


def loading_words(state: ModelState) -> str:
    """What a client that waits for a model is told; "" of one that is there, or on another server."""
    if state.stage == "ready" or state.server:
        return ""
    done = f", {say_bytes(state.done_bytes)} of {say_bytes(state.total_bytes)}" if state.total_bytes else ""
    stage = "waiting" if state.stage in ("known", "failed") else state.stage
    return f"{state.name}: {stage}{done}, {state.seconds:.0f} s"


def describing_words(progress: DescriptionProgress) -> str:
    """What a client is told while its media are described."""
    return f"{progress.model}: describing media, {progress.num_done} of {progress.num_media} done"


def _named(name: str, created: int) -> Json:
    """OpenAI's model object, which is Anthropic's too."""
    created_at = datetime.fromtimestamp(created, UTC).isoformat()
    openai = {"id": name, "object": "model", "created": created, "owned_by": "local"}
    return {**openai, "type": "model", "display_name": name, "created_at": created_at}


def model_json(card: ModelCard) -> Json:
    """The model object, with the model's limits and capabilities, which are this server's own. null: of a model that
    another server answers for, what that one does not tell."""
    return {
        **_named(card.id, card.created),
        "state": "ready",
        "max_model_len": card.context_tokens or None,
        "model_type": card.model_type or None,
        "dtype": card.dtype or None,
        "num_params": card.num_params or None,
        "capabilities": {
            "vision": card.vision if card.takes_known else None,
            "video": card.video if card.takes_known else None,
            "audio": card.audio if card.takes_known else None,
            "embeddings": card.embeds,
            "rerank": card.ranks,
            "images_per_prompt": card.images_per_prompt,
            "audios_per_prompt": card.audios_per_prompt,
            "tested": card.tested,
        },
    }


def fingerprint(snapshot: Snapshot) -> str:
    """OpenAI's system_fingerprint: equal as long as the backend is the same."""
    return f"mlx-{snapshot.device.mlx_version}-{snapshot.device.mlx_device}".lower().replace(" ", "-")
