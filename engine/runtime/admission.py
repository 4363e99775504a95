"""Admission: everything up to the first chunk of a prompt. Engine thread only.

template and processor ─> limits ─> prefix cache ─> vision tower for what is not cached ─> one Choice for each answer
"""

from __future__ import annotations

import logging
import time

from engine.cache.prefix import PrefixCache
from engine.config import EngineConfig
from engine.errors import BadRequest, ContextOverflow
from engine.models import sampling
from engine.models.chat_format import PLAIN_TOOLS
from engine.models.registry import Loaded
from engine.prompt.build import build_prompt, with_pixels
from engine.prompt.media_first import in_read_order
from engine.prompt.receipts import uses
from engine.prompt.tool_prompt import tool_json
from engine.runtime.estimates.work import work_of
from engine.runtime.memory_use.encoder_work import missing
from engine.runtime.memory_use.request_memory import RequestMemory
from engine.runtime.output.detokenizer import Detokenizer
from engine.runtime.output.masks import Masks
from engine.runtime.output.tool_calls import ToolCallReader
from engine.runtime.sequence import Choice, Sequence
from engine.types import NO_LIMIT, Request, Sampling
from engine.types.prompt import Prompt

log = logging.getLogger(__name__)


class Admission:
    """Opens sequences whose turn has come."""

    def __init__(self, config: EngineConfig, loaded: Loaded, prefix: PrefixCache, memory: RequestMemory) -> None:
        self._config = config
        self._loaded = loaded
        self._prefix = prefix
        self._memory = memory
        self._masks = Masks(loaded)

    def prepare(self, sequence: Sequence) -> None:
        """Build the prompt, check the limits and begin to read from disk what the prompt can use. Raises EngineError
        when the request cannot be served."""
        sequence.started_s = time.perf_counter()
        sequence.clock.enter("prompt", sequence.started_s)
        request = self._ordered(sequence.request)
        self._check_ids(request)
        self._check_choices(request)
        built, sequence.prepared_prompt = sequence.prepared_prompt, None
        if built is None:
            built = build_prompt(self._loaded, request, sequence.media, need_pixels=False)
        if request.prompt_logprobs is not None and built.is_whole:
            why = "this model reads such a prompt as a whole, so none of its tokens has a log-probability"
            raise BadRequest(f"logprobs: {why}.", param="logprobs")
        sequence.num_prompt = self._num_prompt(built, sequence)
        sequence.max_tokens = self._max_tokens(built, request)
        sequence.prompt, sequence.media_first = built, request is not sequence.request
        sequence.cache = self._loaded.adapter.make_cache()
        sequence.restore = self._prefix.begin_restore(built.head(sequence.num_prompt), sequence.cache, request)

    def open(self, sequence: Sequence) -> None:
        """Fill in the rest of what a sequence has from admission on, when its restore is over. Raises EngineError when
        the request cannot be served; whoever ends the sequence ends its lease."""
        request, loaded = self._ordered(sequence.request), self._loaded
        sequence.clock.enter("prompt")
        built, cache = sequence.prompt, sequence.cache
        media, sequence.media = sequence.media, ()
        restore, sequence.restore = sequence.restore, None
        lease = sequence.lease = self._prefix.begin(built.head(sequence.num_prompt), cache, request, restore)
        sequence.num_prefilled = sequence.num_cached = lease.match.num_tokens if lease else 0
        sequence.snapshot_ends = (lease.snapshot_ends or ()) if lease else ()
        built = with_pixels(loaded, request, media, built, sequence.num_prefilled)
        if lease and loaded.family.packed:
            loaded.grids.note(request.tenant, built)
        media = ()  # the tower needs the memory
        to_encode = missing(self._prefix.features, request)
        work = work_of(built, sequence.num_cached, to_encode, packed=loaded.family.packed)
        # Questions share its KV; how many rows they have at once is a matter of room.
        doubt = self._memory.check(work, [sequence.num_prompt] if sequence.scoring else sequence.row_tokens)
        if doubt:
            log.warning("a request may not fit into memory, and is tried: %s", doubt)
        if sequence.observed is not None:
            sequence.observed.work = work
        sequence.clock.enter("encode")
        self._embed(built, cache, sequence)
        sequence.clock.enter("prompt")
        sequence.prompt = built.head(sequence.num_prompt)
        sequence.sampling = self._sampling(request)
        sequence.stop_ids = frozenset(request.stop_token_ids) | (frozenset() if request.ignore_eos else loaded.stop_ids)
        masks = self._masks.of(request, built, sequence.grammar, sequence.stop_ids)
        sequence.choices = [
            Choice(sequence, index, self._detokenizer(built, sequence), mask) for index, mask in enumerate(masks)
        ]

    def _num_prompt(self, built: Prompt, sequence: Sequence) -> int:
        """How many of its tokens are computed as a prompt: all, or what the questions share."""
        if sequence.scoring is None:
            return len(built.ids)
        num_shared = sequence.scoring.questions.num_shared(built.ids)
        sequence.scoring.check_fits(num_shared, self._loaded.card.context_tokens)
        return num_shared

    def _ordered(self, request: Request) -> Request:
        """The request with its media where this server puts them."""
        return in_read_order(request, self._config.media_first)

    def _embed(self, built: Prompt, cache: list[object], sequence: Sequence) -> None:
        """Run the vision tower over the media whose KV is not there, and tell the feature store whose features those
        are."""
        features = self._prefix.features
        with features.tenant_scope(sequence.request.tenant, sequence.request.reuse):
            embeddings = self._loaded.adapter.embed(built, cache, sequence.num_prefilled)
            encoding = embeddings.encoding if embeddings else None
            for placed, use in uses(built, sequence.num_prefilled, encoding):
                features.attribute(use.keys, placed.media.sha256, len(placed.media.frames))
        sequence.embeddings, sequence.encoding = embeddings, encoding

    def _sampling(self, request: Request) -> Sampling:
        return sampling.resolve(request.sampling, self._loaded.card.sampling)

    def _detokenizer(self, built: Prompt, sequence: Sequence) -> Detokenizer:
        loaded, request = self._loaded, sequence.request
        before = None
        if request.prompt is not None or request.continue_final_message:
            before = built.ids[-1]  # it goes on from its prompt, so it keeps a space that it begins with
        elif sequence.grammar is not None and not sequence.grammar.is_of_calls:
            # An answer to a grammar is written as the grammar has it.
            before = loaded.tokenizer.encode(".", add_special_tokens=False)[-1]
        return Detokenizer(
            loaded,
            request.stop,
            reasoning=built.starts_in_reasoning,
            before=before,
            calls=self._tool_calls(request),
        )

    def _tool_calls(self, request: Request) -> ToolCallReader | None:
        """What reads an answer's calls, None where none are wanted. Those that are forced are written in one way."""
        if not request.offered_tools:
            return None
        choice = request.tool_choice
        written = PLAIN_TOOLS if choice.mode == "required" or request.grammar else self._loaded.tools
        return ToolCallReader(written, [tool_json(tool) for tool in request.offered_tools], parallel=choice.parallel)

    def _check_ids(self, request: Request) -> None:
        named = {"logit_bias": [i for i, _ in request.sampling.logit_bias], "stop_token_ids": request.stop_token_ids}
        for param, ids in named.items():
            for wrong in (i for i in ids if not 0 <= i < self._loaded.num_ids):
                raise BadRequest(
                    f"{param}: token id {wrong} is outside the vocabulary, 0 to {self._loaded.num_ids - 1}.",
                    param=param,
                )

    def _check_choices(self, request: Request) -> None:
        max_rows = 1 if self._loaded.family.serial else self._config.max_rows
        if request.n > max_rows:
            raise BadRequest(f"n must be between 1 and {max_rows}, not {request.n}.", param="n")

    def _max_tokens(self, built: Prompt, request: Request) -> int:
        """The completion's limit. A default is clamped to the context, an explicit number that does not fit refused."""
        context, num_prompt, asked = self._loaded.card.context_tokens, len(built.ids), request.max_tokens
        left = context - num_prompt
        if left < 1:
            over = f"{num_prompt - context + 1:,} too many to leave room for an answer"
            raise ContextOverflow(
                f"The prompt has {num_prompt:,} tokens, {over}; this model's context is {context:,}."
                + _largest_medium_hint(built),
                param="messages" if request.prompt is None else "prompt",
            )
        if asked is not None and asked > left:
            raise ContextOverflow(
                f"max_tokens {asked:,} does not fit: the prompt has {num_prompt:,} tokens and the context is "
                f"{context:,}, so at most {left:,} are left.",
                param="max_tokens",
            )
        return left if asked == NO_LIMIT else min(self._config.max_tokens if asked is None else asked, left)


def _largest_medium_hint(prompt: Prompt) -> str:
    """A sentence that names the medium with the most tokens, for a prompt that is too long; "" without media."""
    if not prompt.media:
        return ""
    tokens, param = max((placed.tokens, placed.part.param) for placed in prompt.media)
    return f" {param} has {tokens} of them; a smaller picture or fewer frames cost less."
