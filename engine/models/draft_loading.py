"""Find, check and load the draft model of a model. Engine thread only, but for what says so.

Checked before its weights are read: that it is a text model, and that each token id means the same to both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.config import EngineConfig, ModelSpec
from engine.errors import EngineError, ModelNotFound, Unavailable
from engine.models.adapter import Adapter
from engine.models.checkpoint import expected_bytes
from engine.models.config_facts import context_tokens, text_part
from engine.models.draft import DraftModel
from engine.models.json_files import read_object, whole
from engine.models.loading import in_portions, load_tokenizer
from engine.models.locate import Report, first_line, is_multimodal, locate, locate_here
from engine.models.registry import Loaded, Parts, open_checkpoint
from engine.types import ExpectedWeights


def draft_spec(config: EngineConfig) -> ModelSpec | None:
    """The draft model of a configuration of one model; None where it has none. Any thread."""
    if config.speculation is None or config.speculation.model is None:
        return None
    return ModelSpec(config.speculation.model, trust_remote_code=config.model.trust_remote_code)


def draft_here(spec: ModelSpec) -> Path | None:
    """The draft model's folder; None where it has to be downloaded first. Any thread. Raises as `locate_here` does."""
    try:
        return locate_here(spec)
    except ModelNotFound as error:
        raise error.told("The draft model: ", "speculative_config") from None


def locate_draft(spec: ModelSpec, report: Report) -> Path:
    """The draft model's folder, downloaded where need be. Any thread. Raises as `locate` does."""
    try:
        return locate(spec, report)
    except EngineError as error:
        raise error.told("The draft model: ", "speculative_config") from None


def with_draft_bytes(weights: ExpectedWeights, path: Path, spec: ModelSpec) -> ExpectedWeights:
    """What a model takes together with its draft model. Any thread. Raises Unavailable."""
    num_bytes = expected_bytes(path, spec)
    return replace(weights, num_bytes=weights.num_bytes + num_bytes, adapter_bytes=weights.adapter_bytes + num_bytes)


def load_draft(loaded: Loaded, path: Path, config: EngineConfig) -> Parts:
    """Load the draft model from its folder. Yields as registry.load_in_parts does; returns the model with it, whose
    card counts its weights. Raises Unavailable, which names both."""
    spec = draft_spec(config)
    assert spec is not None, "it has no draft model"
    try:
        return (yield from _load(loaded, path, config, spec))
    except Unavailable:
        raise
    except Exception as e:  # whatever the libraries raise
        why = f"Could not load the draft model {spec.source!r} of {loaded.card.id}: {first_line(e)}"
        raise Unavailable(why, code="model_load_failed") from e


def _load(loaded: Loaded, path: Path, config: EngineConfig, spec: ModelSpec) -> Parts:
    raw = read_object(path / "config.json")
    if is_multimodal(path, raw):
        raise _unfit(loaded, spec, "it is not a text model")
    tokenizer = load_tokenizer(path, spec, set())
    yield loaded.card.num_bytes, 0
    if (why := difference(_vocabulary(tokenizer), _vocabulary(loaded.tokenizer))) is not None:
        raise _unfit(loaded, spec, f"their vocabularies differ: {why}")
    found = open_checkpoint(path, spec)
    done = 0
    for done, total in in_portions(found.model):
        yield loaded.card.num_bytes + done, loaded.card.num_bytes + total
    adapter = Adapter(found.model, False, found.family)
    if not adapter.can_branch:
        raise _unfit(loaded, spec, "its KV cannot be cut back behind a token that was not right")
    card = replace(loaded.card, num_bytes=loaded.card.num_bytes + done, adapter_bytes=loaded.card.adapter_bytes + done)
    draft = DraftModel(
        adapter=adapter,
        num_ids=min(loaded.num_ids, len(tokenizer), whole(text_part(raw), "vocab_size") or len(tokenizer)),
        context_tokens=context_tokens(raw),
        chunk_tokens=config.prefill_chunk_tokens,
    )
    return replace(loaded, card=card, draft=draft)


def _unfit(loaded: Loaded, spec: ModelSpec, why: str) -> Unavailable:
    message = f"{spec.source!r} cannot be the draft model of {loaded.card.id}: {why}."
    return Unavailable(message, param="speculative_config", code="model_load_failed")


TokenMeanings = Mapping[int, tuple[str, bool]]
"""What each token id is, and whether it was added to the tokenizer behind its own."""


def _vocabulary(tokenizer: Any) -> TokenMeanings:
    added = tokenizer.added_tokens_decoder
    return {token_id: (token, token_id in added) for token, token_id in tokenizer.get_vocab().items()}


def difference(draft: TokenMeanings, target: TokenMeanings) -> str | None:
    """The first token id that means something else to the draft; None where there is none. What was added to one of
    them alone, as marks of pictures or tools are, is no difference."""
    for token_id in sorted(draft.keys() | target.keys()):
        own, other = draft.get(token_id), target.get(token_id)
        if own and other:
            if own[0] != other[0]:
                return f"token {token_id} is {own[0][:40]!r} to the draft model, and {other[0][:40]!r} to the other"
        elif not all(found[1] for found in (own, other) if found):
            return f"the draft model has {len(draft):,} tokens, the other {len(target):,}"
    return None
