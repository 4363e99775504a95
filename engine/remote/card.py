"""What another server's /v1/models says of a model -> ModelCard. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.config import EngineConfig, ModelSpec
from engine.remote.numbers import is_count
from engine.types import Json, ModelCard, RemoteServer

CONTEXT_NAMES = ("max_model_len", "context_length", "context_window")
"""This project's and vLLM's; those of others."""


def chosen(listed: Sequence[Json], server: RemoteServer) -> Json | None:
    """The model that is asked for, of those that are listed: the named one, else the first."""
    if server.model is None:
        return listed[0] if listed else None
    return next((one for one in listed if server.model in _names(one)), None)


def _names(told: Json) -> list[Any]:
    aliases = told.get("aliases")
    return [told.get("id"), *(aliases if isinstance(aliases, list) else ())]


def remote_card(
    spec: ModelSpec, server: RemoteServer, config: EngineConfig, told: Json | None, created: int
) -> ModelCard:
    """told: the model's object; None as long as nothing is known. created: where it does not say. What applies to a
    request that leaves it open is said here only where this server's operator said it."""
    told = told or {}
    takes = told.get("capabilities")
    takes_known = isinstance(takes, dict) and isinstance(takes.get("vision"), bool)
    can: Json = takes if isinstance(takes, dict) else {}
    sees = spec.vision == "native" and (can.get("vision") is True or not takes_known)
    return ModelCard(
        id=spec.served_name,
        path="",
        model_type=_text(told, "model_type"),
        dtype=_text(told, "dtype"),
        num_params=_count(told, "num_params") or 0,
        num_bytes=0,
        context_tokens=next((n for name in CONTEXT_NAMES if (n := _count(told, name))), 0),
        vision=sees,
        video=spec.vision == "native" and can.get("video") is True,
        audio=spec.vision == "native" and can.get("audio") is True,
        images_per_prompt=_count(can, "images_per_prompt"),
        audios_per_prompt=_count(can, "audios_per_prompt"),
        created=_count(told, "created") or created,
        tested=can.get("tested") is not False,
        sampling=config.sampling,
        server=server.host,
        takes_known=takes_known,
    )


def _text(told: Json, name: str) -> str:
    value = told.get(name)
    return value[:100] if isinstance(value, str) else ""


def _count(told: Json, name: str) -> int | None:
    value = told.get(name)
    return value if is_count(value) else None
