"""What is prepared of a request off the engine's thread, in the media pool: long texts and grammars. Any event loop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from engine.errors import EngineError, Internal
from engine.grammar.tools import answer_grammar, parts
from engine.media.loader import Loader
from engine.runtime.checks import is_long_text
from engine.runtime.thread import EngineThread
from engine.types import Request

if TYPE_CHECKING:
    from engine.grammar.follow import CompiledGrammar
    from engine.types.prompt import Prompt

log = logging.getLogger(__name__)
T = TypeVar("T")


class Preparation:
    """For the model of this thread, once it is loaded."""

    def __init__(self, runtime: EngineThread, media: Loader) -> None:
        self._runtime = runtime
        self._media = media

    async def prompt(self, request: Request, *, must_fit: bool) -> Prompt | None:
        """The prompt of a long text; None for what the engine's thread builds in no time.

        must_fit: raise ContextOverflow at once where the length alone proves that it does not. Raises EngineError.
        """
        texts = self._runtime.texts
        if texts is None or not is_long_text(request):
            return None
        return await self._compute(request, partial(texts.build, request, must_fit=must_fit))

    async def grammar(self, request: Request) -> CompiledGrammar | None:
        """What its answer must look like, compiled; None where it may look like anything. Raises EngineError."""
        grammars = self._runtime.grammars
        if grammars is None or (request.grammar is None and request.tool_choice.mode != "required"):
            return None

        def compile() -> CompiledGrammar | None:
            compiled = {part: grammars.compile(part) for part in parts(request)}
            whole = answer_grammar(request)
            return compiled.get(whole) or grammars.compile(whole) if whole else None

        return await self._compute(request, compile)

    async def _compute(self, request: Request, work: Callable[[], T]) -> T:
        try:
            return await self._media.compute(request, work)
        except EngineError:
            raise
        except Exception as e:
            log.exception("a request could not be prepared")
            raise Internal("The request could not be prepared; the server's log has the cause.") from e
