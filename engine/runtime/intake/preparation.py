"""What is prepared of a request off the engine's thread, in the media pool: its media, long texts, grammars, questions.

Any event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from engine.config import EngineConfig
from engine.errors import EngineError, Internal
from engine.grammar.calls import holds_calls
from engine.grammar.tools import answer_grammar, parts
from engine.media.loader import Loader
from engine.runtime.decisions.decide import Grouped
from engine.runtime.intake.checks import check, is_long_text
from engine.runtime.intake.tickets import Ticket
from engine.runtime.loading.slots import LoadedModel
from engine.types import ModelCard, Request, TypedQuestion

if TYPE_CHECKING:
    from engine.grammar.follow import CompiledGrammar
    from engine.runtime.decisions.scoring import Scoring
    from engine.types.media import Media
    from engine.types.prompt import Prompt

log = logging.getLogger(__name__)
T = TypeVar("T")


class Preparation:
    """For any model, while it is in use."""

    def __init__(self, config: EngineConfig, media: Loader) -> None:
        self._config = config
        self._media = media

    async def load(
        self, request: Request, card: ModelCard, ticket: Ticket, *, need_pixels: bool
    ) -> tuple[Request, tuple[Media, ...]]:
        """The media, and the request as it is then: documents have become pictures and texts, pictures that move clips.

        What a document becomes is counted against the limits as if it had been sent so. need_pixels: False where those
        of media that were sent before may do without; then the engine thread may say PixelsMissing.
        """
        from engine.media.document import with_kinds

        opened = await self._media.open_documents(request, ticket)
        if opened is not request:
            check(opened, card, self._config.media)
            ticket.release_media()
        need_pixels = need_pixels or not card.keeps_grids
        media = await self._media.load(
            opened, ticket, is_preflight=ticket.is_preflight, takes_clips=card.video, need_pixels=need_pixels
        )
        loaded = with_kinds(opened, media)
        if loaded is not opened:
            check(loaded, card, self._config.media)
        return loaded, media

    async def prompt(self, model: LoadedModel, request: Request, *, must_fit: bool) -> Prompt | None:
        """The prompt of a long text; None for what the engine's thread builds in no time.

        must_fit: raise ContextOverflow at once where the length alone proves that it does not. Raises EngineError.
        """
        if not is_long_text(request):
            return None
        return await self._compute(request, partial(model.texts.build, request, must_fit=must_fit))

    async def grammar(self, model: LoadedModel, request: Request) -> CompiledGrammar | None:
        """What its answer must look like, compiled; None where it may look like anything. Raises EngineError."""
        are_calls_held = holds_calls(request)
        if request.grammar is None and request.tool_choice.mode != "required" and not are_calls_held:
            return None
        grammars = model.grammars

        def compile() -> CompiledGrammar | None:
            compiled = {part: grammars.compile(part) for part in parts(request)}
            if are_calls_held:
                return grammars.compile_calls(request)
            whole = answer_grammar(request)
            return compiled.get(whole) or grammars.compile(whole) if whole else None

        return await self._compute(request, compile)

    async def group(self, model: LoadedModel, request: Request, questions: Sequence[TypedQuestion]) -> Grouped:
        """The requests that ask these questions about the messages of this one. Raises EngineError."""
        prompts = model.questions

        def requests() -> Grouped:
            groups = prompts.groups(questions)
            return [(places, prompts.request(request, [questions[i] for i in places])) for places in groups]

        return await self._compute(request, requests)

    async def scoring(self, model: LoadedModel, request: Request, media: tuple[Media, ...]) -> Scoring | None:
        """Its questions as tokens; None for a request that asks none. Raises EngineError."""
        if not request.questions:
            return None
        from engine.runtime.decisions.scoring import RowRules, Scoring

        prompts = model.questions
        rules = RowRules(prompts.max_places, prompts.can_branch)
        return await self._compute(request, lambda: Scoring(prompts.build(request, media), rules))

    async def aside(self, work: Callable[[], T]) -> T:
        """A work of texts alone, done where it holds up nobody. Raises EngineError."""
        return await self._compute(Request(), work)

    async def _compute(self, request: Request, work: Callable[[], T]) -> T:
        try:
            return await self._media.compute(request, work)
        except EngineError:
            raise
        except Exception as e:
            log.exception("a request could not be prepared")
            raise Internal("The request could not be prepared; the server's log has the cause.") from e
