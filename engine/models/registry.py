"""A checkpoint as the engine runs it: what it is, read from its own files, and all that was loaded. Engine thread only.

Where it lies is found in engine.models.locate; the libraries are asked in engine.models.loading. The kind of a model is
read from config.json and its processor files, never from its name.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten

from engine.config import EngineConfig, ModelSpec
from engine.errors import ModelNotFound, Unavailable
from engine.models.adapter import Adapter
from engine.models.chat_format import ToolFormat, template_text, template_variables, tool_format
from engine.models.checkpoint import base_fingerprint, fingerprint
from engine.models.config_facts import answering_part, context_tokens, has_ears, text_part, why_deaf
from engine.models.control_tokens import ControlTokens
from engine.models.draft import DraftModel
from engine.models.families import Family, family
from engine.models.grids import Grids
from engine.models.json_files import read_optional, whole
from engine.models.loading import convert, in_portions, load_tokenizer, text_model, vision_model, vision_processor
from engine.models.locate import first_line, is_multimodal, locate
from engine.models.lora import BaseWeights, add_lora
from engine.models.lora_files import read_lora
from engine.models.mirror import Mirror
from engine.models.readme import toy_note
from engine.models.sampling import DEFAULT_TEMPERATURE, resolve
from engine.models.sharding import check_divides, digest, shard
from engine.models.text_modules import TextModules
from engine.types import ModelCard, Sampling

log = logging.getLogger(__name__)

_OTHERS_S = 0.01
"""Between two looks at whether other processes have loaded their parts."""


@dataclass(frozen=True)
class Loaded:
    """A model ready to run. processor is None for a text model; tokenizer is mlx-lm's TokenizerWrapper.
    video_settings: the checkpoint's video_preprocessor_config.json, {} without one. control: what must not be read in
    texts from outside. tools: how it writes tool calls. base: what further models of this base may share. modules: what
    is made of texts that it only reads. draft: what proposes tokens for it, where it has one
    (engine.models.draft_loading). grids: of media it has read."""

    card: ModelCard
    fingerprint: str
    family: Family
    config: dict[str, Any]
    adapter: Adapter
    processor: Any
    tokenizer: Any
    stop_ids: frozenset[int]
    special_ids: frozenset[int]
    video_settings: dict[str, Any]
    control: ControlTokens
    tools: ToolFormat
    base: BaseWeights
    modules: TextModules = field(default_factory=TextModules)
    draft: DraftModel | None = None
    grids: Grids = field(default_factory=Grids)

    @property
    def num_ids(self) -> int:
        """Token ids run from 0 to one less: what the tokenizer knows and the model has a row for. MLX checks no index:
        beyond it lies other memory."""
        return min(len(self.tokenizer), whole(text_part(self.config), "vocab_size") or len(self.tokenizer))

    @property
    def chat_tokenizer(self) -> Any:
        """What encodes a rendered chat: the processor's own, which may know more special tokens than the files say."""
        return _chat_tokenizer(self.tokenizer, self.processor)

    def decode(self, ids: Iterable[int]) -> str:
        """Plain token ids as text."""
        return str(self.tokenizer.decode(list(ids)))

    def placeholder_ids(self) -> dict[str, int]:
        """Token ids that stand for media in the prompt, by kind."""
        found = _placeholders(self.config)
        own: dict[str, str | int] = {
            "image": self.family.image_token or getattr(self.processor, "image_token", ""),
            "audio": self.family.audio_token,
        }
        for kind, token in own.items():
            if token and kind not in found:
                found[kind] = token if isinstance(token, int) else int(self.tokenizer.convert_tokens_to_ids(token))
        return found


Parts = Generator[tuple[int, int], None, Loaded]


@dataclass(frozen=True)
class OpenCheckpoint:
    """A model whose weights are not read yet. config: what config.json says of the part that answers. num_params: of
    the whole model, where only a part of it stays here; else 0."""

    config: dict[str, Any]
    vision: bool
    family: Family
    model: nn.Module
    num_params: int


def open_checkpoint(path: Path, spec: ModelSpec, group: mx.distributed.Group | None = None) -> OpenCheckpoint:
    """group: of the processes that divide it among them; each keeps its part. Raises as `load` does, and whatever the
    libraries raise."""
    raw = answering_part(json.loads((path / "config.json").read_text(encoding="utf-8")))
    vision = is_multimodal(path, raw) and not spec.text_only
    row = _family(raw, spec)
    if group is not None:
        check_divides(raw, group.size())
    model = vision_model(path) if vision else text_model(path, spec)
    convert(model, spec, raw)
    num_params = 0
    if group is not None:
        num_params = _num_params(model)
        shard(model, group)
    return OpenCheckpoint(raw, vision, row, model, num_params)


def load(config: EngineConfig) -> Loaded:
    """Load the configured model into memory, all at once. Raises ModelNotFound or
    Unavailable(code="model_load_failed")."""
    parts = load_in_parts(config, locate(config.model))
    while True:
        try:
            next(parts)
        except StopIteration as end:
            loaded: Loaded = end.value
            return loaded


def load_in_parts(
    config: EngineConfig, path: Path, shared: BaseWeights | None = None, mirror: Mirror | None = None
) -> Parts:
    """Load the configured model from its folder. Between two parts the thread may do something else. shared: weights
    of its base that are in memory already. mirror: to the other processes that hold parts of it, which load theirs
    meanwhile.

    Yields bytes of weights that are in memory, and how many there are (0: not known); returns the model. What is not
    divided: making the module and listing its weights, the processor, the tokenizer. Raises as `load` does.
    """
    try:
        return (yield from _load(path, config, shared, mirror))
    except (ModelNotFound, Unavailable):
        raise
    except Exception as e:
        log.debug("loading %s failed", path, exc_info=True)
        why = f"Could not load {config.model.source!r}: {first_line(e)}"
        raise Unavailable(why, code="model_load_failed") from e


def _load(path: Path, config: EngineConfig, shared: BaseWeights | None, mirror: Mirror | None) -> Parts:
    spec = config.model
    if mirror is not None:
        mirror.begin_load()
    found = open_checkpoint(path, spec, None if mirror is None else mirror.group)
    raw, vision, row, model = found.config, found.vision, found.family, found.model
    key = base_fingerprint(path, spec)
    if shared is not None and shared.key == key:  # else its files have changed since
        shared.give_to(model)
    yield 0, 0
    num_bytes = 0
    for num_bytes, total_bytes in in_portions(model):
        yield num_bytes, total_bytes
    base = BaseWeights.of(model, key)
    if spec.adapter_path:
        add_lora(model, read_lora(spec), spec, vision=vision)
        yield num_bytes, num_bytes
    processor = vision_processor(path, spec, model, row) if vision else None
    yield num_bytes, num_bytes
    stop_ids = _stop_ids(path, raw) | _processor_stop_ids(processor)
    tokenizer = load_tokenizer(path, spec, stop_ids)
    yield num_bytes, num_bytes
    stop_ids |= set(tokenizer.eos_token_ids)
    template = template_text(tokenizer, processor)
    variables = template_variables(template)
    card = _card(path, raw, model, config, row if vision else None)
    card = replace(card, num_params=found.num_params or card.num_params)
    card = replace(card, reasons=bool(tokenizer.has_thinking), template_variables=tuple(sorted(variables)))
    card = replace(card, fingerprint=fingerprint(path, spec), base=key, adapter_bytes=base.added_bytes(model))
    own = _generation_defaults(path)
    card = replace(card, sampling=resolve(config.sampling, own, Sampling(temperature=DEFAULT_TEMPERATURE)))
    if has_ears(raw, row) and getattr(processor, "feature_extractor", None) is not None:
        deaf = why_deaf(raw)
        card = replace(card, audio=not deaf, why_deaf=deaf, audios_per_prompt=row.audios_per_prompt)
    mine = "" if mirror is None else digest(path)
    while mirror is not None and not mirror.loaded(mine):
        time.sleep(_OTHERS_S)
        yield num_bytes, num_bytes
    adapter = Adapter(model, vision, row, mirror)
    if mirror is not None and not adapter.can_branch:
        why = "some of its layers keep something else than plain KV"
        raise Unavailable(f"{spec.served_name} cannot be divided among ranks: {why}.", code="model_load_failed")
    modules = _text_modules(path, raw, adapter, len(tokenizer))
    card = replace(card, embeds=modules.pooling is not None, ranks=modules.tokens is not None)
    return Loaded(
        card=card,
        fingerprint=card.fingerprint,
        family=row,
        config=raw,
        adapter=adapter,
        processor=processor,
        tokenizer=tokenizer,
        stop_ids=frozenset(stop_ids),
        special_ids=_special_ids(tokenizer) | frozenset(stop_ids),
        video_settings=read_optional(path / "video_preprocessor_config.json"),
        control=_control_tokens(raw, row, tokenizer, processor, template),
        tools=tool_format(tokenizer, variables),
        base=base,
        modules=modules,
    )


def _text_modules(path: Path, raw: dict[str, Any], adapter: Adapter, num_ids: int) -> TextModules:
    """What is made of the texts that it only reads, as far as this engine can."""
    if not adapter.gives_states:
        return TextModules(why_not="only models of text are asked for them here")
    modules = TextModules.read(path, raw)
    if max(modules.tokens or (0,)) >= num_ids:
        return TextModules(why_not="the tokens that its LogitScore compares are outside the vocabulary")
    return modules


def _family(raw: dict[str, Any], spec: ModelSpec) -> Family:
    """What is known of its family. Raises Unavailable for one that cannot run here, or only with its own code."""
    model_type = str(raw.get("model_type", ""))
    row = family(model_type)
    direction = text_part(raw).get("use_bidirectional_attention", "vision" if row.both_ways else None)
    row = replace(row, both_ways=direction == "vision")
    if row.refused:
        raise Unavailable(f"{model_type} models cannot run here: {row.refused}.", code="model_load_failed")
    if raw.get("model_file") and not spec.trust_remote_code:
        raise Unavailable(
            f"This checkpoint wants to run its own code ({raw['model_file']}). Start with --trust-remote-code "
            "only if you trust it.",
            code="model_load_failed",
        )
    return row


def _as_ids(value: Any) -> set[int]:
    if value is None:
        return set()
    return {int(i) for i in (value if isinstance(value, list) else [value])}


def _stop_ids(path: Path, config: dict[str, Any]) -> set[int]:
    """End-of-sequence ids of generation_config.json, config.json and its text part, all of them together."""
    generation = read_optional(path / "generation_config.json")
    texts = (generation, config, text_part(config))
    return set().union(*(_as_ids(text.get("eos_token_id")) for text in texts))


def _processor_stop_ids(processor: Any) -> set[int]:
    """Ids that mlx-vlm's processors stop at although no config names them, e.g. Idefics3's <end_of_utterance>."""
    criteria = getattr(getattr(processor, "tokenizer", None), "stopping_criteria", None)
    return {
        int(i)
        for i in (
            *_as_ids(getattr(criteria, "eos_token_ids", None)),
            *_as_ids(getattr(criteria, "additional_eos_token_ids", None)),
        )
    }


def _special_ids(tokenizer: Any) -> frozenset[int]:
    """Ids that never become text: the tokenizer's special tokens, but not the think markers, which split channels."""
    ids = {int(i) for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids |= {int(i) for i in tokenizer.all_special_ids}
    markers = (*tokenizer.think_start_tokens, *tokenizer.think_end_tokens) if tokenizer.has_thinking else ()
    return frozenset(ids.difference(markers))


def _chat_tokenizer(tokenizer: Any, processor: Any) -> Any:
    return tokenizer if processor is None else getattr(processor, "tokenizer", processor)


def _control_tokens(raw: dict[str, Any], row: Family, tokenizer: Any, processor: Any, template: str) -> ControlTokens:
    """The special tokens, those that the template writes, and whatever the processor takes for a medium."""
    own = (
        [text for name, text in getattr(processor, "__dict__", {}).items() if name.endswith("_token")]
        if processor is not None
        else []
    )
    ids = [token for token in _placeholders(raw).values() if token >= 0]
    own += [row.image_token, row.marker, row.audio_token, row.sound_marker]
    own += [tokenizer.convert_ids_to_tokens(token) for token in ids]
    own += [tokenizer.think_start, tokenizer.think_end]
    more = [text for text in own if isinstance(text, str)]
    return ControlTokens(_chat_tokenizer(tokenizer, processor), template, more)


def _generation_defaults(path: Path) -> Sampling:
    """The checkpoint's own sampling, from generation_config.json; greedy when it says do_sample false."""
    raw = read_optional(path / "generation_config.json")
    if raw.get("do_sample") is False:
        return Sampling(temperature=0.0)
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    return Sampling(**{name: raw[name] for name in names if raw.get(name) is not None})


def _placeholders(config: dict[str, Any]) -> dict[str, int]:
    found = {}
    for kind in ("image", "video", "audio"):
        for key in (f"{kind}_token_id", f"{kind}_token_index"):
            if isinstance(config.get(key), int):
                found[kind] = config[key]
    return found


def _card(path: Path, raw: dict[str, Any], model: nn.Module, config: EngineConfig, row: Family | None) -> ModelCard:
    """row: the family of a model that sees; None for a text model."""
    flat: Any = tree_flatten(model.parameters())
    arrays: list[mx.array] = [value for _, value in flat]
    floats = [a.dtype for a in arrays if mx.issubdtype(a.dtype, mx.floating)]
    bits = (raw.get("quantization") or {}).get("bits") or config.model.bits
    dtype = str(max(set(floats), key=floats.count)).removeprefix("mlx.core.") if floats else "unknown"
    return ModelCard(
        id=config.model.served_name,
        path=str(path),
        model_type=str(raw.get("model_type", "")),
        dtype=f"{bits}-bit" if bits else dtype,
        num_params=_num_params(model),
        num_bytes=sum(a.nbytes for a in arrays),
        context_tokens=min(own := context_tokens(raw), config.max_model_len or own),
        vision=row is not None,
        video=row is not None and (row.native_video or row.images_per_prompt is None),
        native_video=row is not None and row.native_video,
        images_per_prompt=row.images_per_prompt if row else None,
        keeps_grids=row is not None and row.packed,
        created=int(time.time()),
        toy=toy_note(path),
        tested=row is None or row.tested,
        described_by=config.model.vision_proxy.model if config.model.vision_proxy else "",
    )


def _num_params(model: nn.Module) -> int:
    from mlx_lm.utils import get_total_parameters

    return int(get_total_parameters(model))
