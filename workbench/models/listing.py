"""What the Models tab and the header's switch are told, as plain values made of what the engine and its shelf say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.hub.download import DownloadState
from engine.hub.search import HubModel
from engine.inventory.inventory import ModelHere, real_folder
from engine.inventory.memory_fit import MachineMemory, ModelFit, room, room_for
from engine.types import CacheStats, Json, ModelCard, ModelState, Snapshot, added_bytes
from workbench.language import catalogued, t, tn
from workbench.words import MANY, NAMES, count, seconds, size

STAGES = {
    "known": catalogued("not loaded"),
    "downloading": catalogued("downloading"),
    "loading": catalogued("loading"),
    "ready": catalogued("loaded"),
    "failed": catalogued("failed to load"),
}
REMOTE_STAGES = {
    "known": catalogued("{host} is being asked"),
    "ready": catalogued("served by {host}"),
    "failed": catalogued("{host} does not answer"),
}
"""Of a model that another server answers for."""

ORIGINS = {
    "shipped": catalogued("ships with this program"),
    "hub": catalogued("in the hub's cache"),
    "folder": catalogued("in a folder"),
}
DOWNLOADS = {
    "waiting": catalogued("waiting for its turn"),
    "asking": catalogued("asking the hub"),
    "downloading": catalogued("downloading"),
    "checking": catalogued("checking what arrived"),
    "paused": catalogued("paused"),
    "done": catalogued("done"),
    "failed": catalogued("failed"),
    "cancelled": catalogued("cancelled"),
}


def folder_of(source: str) -> Path:
    """What a source names as a folder, behind all links. Asks the disk."""
    return real_folder(Path(source))


@dataclass(frozen=True)
class Here:
    """All that is known of this machine's models. found: on its disks; None before they were looked for. folder_of: as
    the function of this name, for the engine's sources."""

    found: Sequence[ModelHere] | None
    states: Sequence[ModelState]
    snapshot: Snapshot
    machine: MachineMemory
    folder_of: Callable[[str], Path] = folder_of


def models_json(here: Here, *, manages: bool) -> Json:
    """The list, and what the header chooses from.

    manages: else the list is only of what is loaded, and names no places. The names and stages to choose from are for
    everybody, as in /v1/models.
    """
    left = list(here.states)
    rows = []
    for model in (here.found or ()) if manages else ():
        state = next((state for state in left if is_same(state, model, here.folder_of)), None)
        if state is not None:
            left.remove(state)
        rows.append(_row(model, state, here.machine))
    rows += [_state_row(state, here) for state in left if manages or state.stage == "ready"]
    rows.sort(key=lambda row: (row["stage"] != "ready", row["stage"] == "", str(row["name"]).lower()))
    return {
        "manages": manages,
        "searched": here.found is not None,
        "models": rows,
        "choices": [choice(state, here.states) for state in here.states],
    }


def is_same(state: ModelState, model: ModelHere, folder_of: Callable[[str], Path] = folder_of) -> bool:
    """Whether the engine's model is this one on the disk, and not an adapter of it."""
    return not state.parent and (state.source == model.place.source or folder_of(state.source) == model.real)


def choice(state: ModelState, states: Sequence[ModelState]) -> Json:
    """One line of the header's switch, which visitors see too: no places. takes: None until it was loaded once."""
    card = state.card
    return {
        "name": state.name,
        "stage": state.stage,
        "words": stage_words(state),
        "is_default": state.is_default,
        "takes": takes(card, states) if card else None,
        "about": " · ".join(words for words in (adapter_words(state), details(card, states) if card else "") if words),
        "toy": t(card.toy) if card else "",
        "is_described": bool(card and card.described_by),
        "is_here": not state.server,
    }


def adapter_words(state: ModelState) -> str:
    """What is said of a model that has an adapter; "" of one without."""
    if state.parent:
        return t("LoRA adapter of {model}", model=state.parent)
    return t("with a LoRA adapter") if state.adapter_path else ""


def takes(card: ModelCard, states: Iterable[ModelState] = ()) -> list[str]:
    """The kinds of media that may be sent to a model: those that it takes itself, or that another one of the engine's
    describes to it. Of one that was never loaded it is only known that it sees."""
    eyes = next((one for one in states if card.described_by in (one.name, *one.aliases, one.source)), None)
    sees_clips = eyes is not None and eyes.card is not None and eyes.card.video
    kinds = (("image", card.vision or eyes is not None), ("video", card.video or sees_clips), ("audio", card.audio))
    return [kind for kind, has in kinds if has]


def details(card: ModelCard, states: Iterable[ModelState] = ()) -> str:
    """A model in a line; of one that another server answers for, what that one tells."""
    by = f" ({t('described by {model}', model=card.described_by)})" if card.described_by else ""
    kinds = t("takes {kinds}", kinds=_kinds(takes(card, states))) + by
    facts = [
        t("served by {host}", host=card.server) if card.server else "",
        card.model_type,
        t("{count} parameters", count=count(card.num_params)) if card.num_params or not card.server else "",
        card.dtype,
        "" if card.server else size(card.num_bytes),
        t("{count} tokens of context", count=card.context_tokens) if card.context_tokens else "",
        kinds if card.takes_known else t("it does not tell which media it takes"),
        "" if card.tested else t("its family is not among the tests"),
    ]
    return " · ".join(fact for fact in facts if fact)


def _kinds(kinds: Iterable[str]) -> str:
    there = set(kinds)
    return ", ".join([t("text"), *(t(many) for kind, many in MANY.items() if kind in there)])


def stage_words(state: ModelState) -> str:
    """How far the engine is with a model."""
    words = t(REMOTE_STAGES[state.stage], host=state.server) if state.server else t(STAGES[state.stage])
    if state.stage in ("loading", "downloading"):
        done = (
            ", " + t("{done} of {all}", done=size(state.done_bytes), all=size(state.total_bytes))
            if state.total_bytes
            else ""
        )
        return f"{words}{done}"
    if state.stage == "ready" and state.num_requests:
        return f"{words} · {tn('{count} request now', '{count} requests now', state.num_requests)}"
    return words


def _row(model: ModelHere, state: ModelState | None, machine: MachineMemory) -> Json:
    """A model on this machine's disks."""
    found, place = model.checkpoint, model.place
    fits = room(found, machine)
    where = f"{t(ORIGINS[place.origin])}{f': {place.folder}' if place.origin == 'folder' else ''}"
    where += f" · {adapter_words(state)}" if state and state.adapter_path else ""
    return {
        "key": place.source,
        "name": place.name,
        "where": where,
        "family": _family(found.family_name, found.model_type, is_known=found.is_known),
        "takes": _kinds(kind for kind in found.modalities if kind in NAMES),
        "quantization": found.quantization,
        "size": size(found.num_bytes),
        "problems": list(model.problems),
        "can_load": not model.problems and (state is None or state.stage in ("known", "failed")),
        "can_delete": model.can_delete and (state is None or state.stage not in ("ready", "loading", "downloading")),
        "can_resume": place.origin == "hub" and bool(model.problems) and not found.refused,
        **({"fit": "unknown", "fit_words": ""} if model.problems else fit_json(fits)),
        **_engine_fields(state),
    }


def _state_row(state: ModelState, here: Here) -> Json:
    """A model that the engine knows and that was not found on the disks, or whose place is not shown."""
    card = state.card
    return {
        "key": state.name,
        "name": state.name,
        "where": adapter_words(state),
        "family": card.model_type if card else "",
        "takes": _kinds(takes(card, here.states)) if card and card.takes_known else "",
        "quantization": card.dtype if card else "",
        "size": size(card.adapter_bytes if state.parent else card.num_bytes) if card and not state.server else "",
        "problems": [],
        "can_load": state.stage in ("known", "failed") and not state.server,
        "can_delete": False,
        "can_resume": False,
        **_state_fit(state, here.machine),
        **_engine_fields(state),
    }


def _state_fit(state: ModelState, machine: MachineMemory) -> Json:
    """By the size of its weights; of one that was loaded once, the engine has said how much context it has."""
    card = state.card
    num_bytes = card.num_bytes if card else state.num_bytes
    if not num_bytes:
        return {"fit": "unknown", "fit_words": ""}
    fits = room_for(num_bytes, machine)
    return fit_json(replace(fits, context_tokens=card.context_tokens) if card else fits)


def _engine_fields(state: ModelState | None) -> Json:
    """What the engine says of it; nothing of one that it was never asked for."""
    if state is None:
        return {
            "stage": "",
            "stage_words": "",
            "progress": None,
            "error": "",
            "is_default": False,
            "choice": "",
            "can_unload": False,
        }
    is_moving = state.stage in ("loading", "downloading") and state.total_bytes > 0
    return {
        "stage": state.stage,
        "stage_words": stage_words(state),
        "progress": min(1.0, state.done_bytes / state.total_bytes) if is_moving else None,
        "error": state.error or "",
        "is_default": state.is_default,
        "choice": state.name,
        "can_unload": state.stage == "ready" and not state.server,
    }


def _family(name: str, model_type: str, *, is_known: bool) -> str:
    if not model_type:
        return ""
    return name if is_known and name else t("{family} (not in the table: tried as a plain model)", family=model_type)


def fit_json(fits: ModelFit) -> Json:
    """Whether a model fits, in words."""
    weights, room_size = size(fits.weight_bytes), size(fits.room_bytes)
    context_tokens = fits.context_tokens
    if not fits.fits:
        words = t("Its weights take {size}; models may take {all} here.", size=weights, all=room_size)
        if context_tokens is not None:
            words = t(
                "Its weights take {size} of {all}, which leaves room for {count} tokens of context.",
                size=weights,
                all=room_size,
                count=context_tokens,
            )
        return {"fit": "no", "fit_words": words}
    if context_tokens is None:
        return {"fit": "yes", "fit_words": t("fits")}
    words = t("fits, with {count} tokens of context", count=context_tokens)
    if fits.own_context_tokens is None:
        return {"fit": "yes", "fit_words": words}
    bound = t("Memory bounds the context; the model itself takes {count} tokens.", count=fits.own_context_tokens)
    return {"fit": "tight", "fit_words": f"{words}. {bound}"}


def memory(here: Here) -> Json:
    """The bar: what each loaded model holds, by kind, of what models may take together. Weights that several share
    count for the first of them. Bytes, and words for them."""
    total = here.machine.model_bytes
    caches = here.snapshot.caches or tuple(CacheStats() for _ in here.snapshot.models)
    models: list[Json] = []
    used_bytes = 0
    weights = added_bytes(here.snapshot.models)
    for card, weight_bytes, stats in zip(here.snapshot.models, weights, caches, strict=False):
        kinds = {
            "weights": weight_bytes,
            "kv": stats.kv_bytes + stats.snapshot_bytes,
            "features": stats.feature_bytes,
        }
        parts = [
            {"kind": kind, "share": num_bytes / total if total else 0.0, "words": f"{t(PARTS[kind])} {size(num_bytes)}"}
            for kind, num_bytes in kinds.items()
            if num_bytes
        ]
        held_bytes = sum(kinds.values())
        used_bytes += held_bytes
        models.append({"key": card.id, "name": card.id, "size": size(held_bytes), "parts": parts})
    return {
        "models": models,
        "words": t("{used} of {all} that models may take here", used=size(used_bytes), all=size(total)),
    }


PARTS = {
    "weights": catalogued("weights"),
    "kv": catalogued("kept prompts (KV)"),
    "features": catalogued("kept pictures (features)"),
}


def download_json(state: DownloadState) -> Json:
    """One download in words."""
    words = t(DOWNLOADS[state.stage])
    if state.total_bytes and state.stage in ("downloading", "checking", "paused", "failed"):
        words += " · " + t("{done} of {all}", done=size(state.done_bytes), all=size(state.total_bytes))
    if state.stage == "downloading" and state.speed_bytes_s:
        words += f" · {size(state.speed_bytes_s)}/s"
        words += " · " + t("{time} left", time=seconds(max(1, round(state.left_s)))) if state.left_s is not None else ""
    return {
        "key": state.repo,
        "stage": state.stage,
        "words": words,
        "file": state.file if state.is_running else "",
        "progress": min(1.0, state.done_bytes / state.total_bytes) if state.total_bytes else 0.0,
        "error": state.error,
        "is_running": state.is_running,
        "can_resume": state.stage in ("paused", "failed"),
    }


def hit_json(hit: HubModel, machine: MachineMemory, here: Sequence[str]) -> Json:
    """One model of the hub. here: sources that are on this machine."""
    fits = room_for(hit.weight_bytes, machine)
    known = fit_json(fits) if hit.weight_bytes else {"fit": "unknown", "fit_words": t("size not known")}
    facts = [
        hit.family_name or hit.model_type,
        _kinds(kind for kind in hit.modalities if kind in NAMES),
        size(hit.weight_bytes) if hit.weight_bytes else "",
        t("{count} downloads a month", count=count(hit.downloads)) if hit.downloads else "",
        t("for MLX") if hit.is_mlx else "",
        t("gated: its terms must be accepted on the hub") if hit.is_gated else "",
    ]
    refused = {"fit": "no", "fit_words": t("It cannot run here: {reason}.", reason=hit.refused)} if hit.refused else {}
    facts_words = " · ".join(fact for fact in facts if fact)
    return {"key": hit.repo, "facts": facts_words, "is_here": hit.repo in here, **known, **refused}
