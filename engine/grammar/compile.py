"""Grammar -> a matcher over the model's tokens. Any thread, no MLX; compiling lets other threads run.

llguidance does the work: https://github.com/guidance-ai/llguidance/blob/main/docs/json_schema.md says which part of
JSON Schema it takes. The rest is refused with its reason: what it would ignore, it does not compile.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Collection
from copy import copy
from typing import TYPE_CHECKING, Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.gbnf_to_lark import any_to_lark

from engine.bounded import BoundedCache
from engine.errors import BadRequest
from engine.grammar.calls import PARAM, calls_grammar, strict_tools
from engine.grammar.follow import CompiledGrammar, refusal
from engine.grammar.schemas import check_depth, closed, wrong_place
from engine.types import Grammar, GrammarKind, Json, Request

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

MAX_CHARS: dict[GrammarKind, int] = {
    "json_schema": 200_000,  # the largest in the field have some 100,000
    "json_object": 0,
    "choice": 200_000,
    "regex": 16_000,  # compiling takes a second there, and a minute at ten times as many
    "grammar": 16_000,
    "tools": 400_000,
    "calls": 400_000,
}
"""Of a grammar's source."""

MAX_RULES = 500
"""Of a grammar. llguidance follows one into the next on the stack, which ends at some 3000: and the process with it."""

_MAX_KEPT = 64

_WHITESPACE = r" |\n {0,24}"
"""Between two parts of JSON, as models write it. Bounded, so that an answer with bounded values is bounded."""

_JSON_OPTIONS: JsonCompileOptions = {"whitespace_pattern": _WHITESPACE, "lenient": False, "coerce_one_of": False}
"""They win over what a schema says in "x-guidance"."""


class Grammars:
    """Compiles the grammars of requests for one model, and keeps those used last.

    tokenizer: mlx-lm's TokenizerWrapper. stop_ids: the tokens that end an answer; each may end it where the grammar
    does. call_end: the mark that closes a call, where the model writes calls as JSON between marks; else "".
    """

    def __init__(self, tokenizer: Any, stop_ids: Collection[int], call_end: str = "") -> None:
        self._tokenizer = tokenizer
        self._call_end = call_end
        self._stop_ids = sorted(stop_ids)
        self._vocabulary: LLTokenizer | None = None
        self._lock = threading.Lock()
        self._limits = LLParserLimits(verbose_errors=False)
        self._kept: BoundedCache[Grammar, CompiledGrammar] = BoundedCache(_MAX_KEPT, _MAX_KEPT, lambda _: 1)

    def compile(self, grammar: Grammar) -> CompiledGrammar:
        """The grammar, for any number of answers.

        Raises BadRequest, which names grammar.param and says why: not well-formed, not supported, or too large.
        """
        num_chars, most = len(grammar.source), MAX_CHARS[grammar.kind]
        if num_chars > most:
            raise refusal(grammar, f"it has {num_chars:,} characters; at most {most:,} are allowed")
        return self._kept.get_or_make(grammar, lambda: self._compile(grammar))

    def compile_calls(self, request: Request) -> CompiledGrammar:
        """What holds the calls of a request whose answer is free else (engine.grammar.calls).

        Raises BadRequest, which names the field that asks for it, where this model's calls cannot be held.
        """
        if not self._call_end:
            tool = strict_tools(request)[0]
            param = tool.param.removesuffix(".parameters").removesuffix(".input_schema") or PARAM
            why = (
                "this model writes the calls that it makes by itself in a way of its own, which is not held to a "
                "schema; say tool_choice required, or leave it out"
            )
            raise BadRequest(f"{param}.strict: {why}.", param=f"{param}.strict", code="unsupported_parameter")
        ids = self._tokenizer.encode(self._call_end, add_special_tokens=False)
        return self.compile(calls_grammar(request, self._call_end, ids[0] if len(ids) == 1 else None))

    def _compile(self, grammar: Grammar) -> CompiledGrammar:
        vocabulary = self._vocabulary_of(grammar)
        try:
            source = _llguidance(grammar)
        except (ValueError, RecursionError) as e:
            raise refusal(grammar, str(e)) from e
        matcher = LLMatcher(vocabulary, source, log_level=0, limits=self._limits)
        if matcher.is_error():
            raise refusal(grammar, self._place(grammar, vocabulary) + matcher.get_error())
        if warnings := matcher.get_grammar_warnings():
            raise refusal(grammar, warnings[0])
        return CompiledGrammar(grammar, matcher, vocabulary)

    def _place(self, grammar: Grammar, vocabulary: LLTokenizer) -> str:
        """Where in a schema that llguidance refuses the fault lies: it says what is wrong, not where."""
        schema = json.loads(grammar.source) if grammar.kind == "json_schema" else None
        if not isinstance(schema, dict):
            return ""

        def is_wrong(part: Json) -> bool:
            try:
                return LLMatcher(vocabulary, _json(part), log_level=0, limits=self._limits).is_error()
            except (ValueError, RecursionError):
                return True

        place = wrong_place(schema, is_wrong)
        return f"at {place}: " if place else ""

    def _vocabulary_of(self, grammar: Grammar) -> LLTokenizer:
        """The model's tokens as bytes; made at the first use, which takes up to a second."""
        with self._lock:
            if self._vocabulary is None:
                backend = getattr(self._tokenizer, "backend_tokenizer", None)
                if backend is None or not self._stop_ids:
                    raise refusal(grammar, "this model's tokenizer cannot be held to a grammar")
                plain = copy(backend)
                plain.no_padding()
                plain.no_truncation()
                self._vocabulary = LLTokenizer(plain.to_str(), eos_token=self._stop_ids)
            return self._vocabulary


def _llguidance(grammar: Grammar) -> str:
    """The grammar in llguidance's own form. Raises ValueError for a source that is not what its kind says."""
    if grammar.kind == "json_schema":
        return _json(_as_object(json.loads(grammar.source)))
    if grammar.kind == "json_object":
        return _json({"type": "object"})
    if grammar.kind == "grammar":
        return _lark(grammar.source)
    if grammar.kind in ("tools", "calls"):
        return LLMatcher.grammar_from_lark(grammar.source)
    if grammar.kind == "choice":
        texts = json.loads(grammar.source)
        return LLMatcher.grammar_from_lark("start: " + " | ".join(json.dumps(t, ensure_ascii=False) for t in texts))
    return LLMatcher.grammar_from_regex(grammar.source)


def _lark(source: str) -> str:
    try:
        source = any_to_lark(source)
    except Exception as e:  # plain Exceptions, whatever is wrong
        raise ValueError(f"it is no GBNF (and Lark has a rule named start): {e}") from e
    num_lines = len(source.splitlines())
    if num_lines > MAX_RULES:  # a line holds one rule at most
        raise ValueError(f"it has {num_lines:,} lines; at most {MAX_RULES} are allowed")
    return LLMatcher.grammar_from_lark(source)


def _as_object(schema: Any) -> Json:
    """true and false are schemas, too: of anything, and of nothing."""
    if schema is False:
        raise ValueError("no answer can be valid")
    if schema is not True and not isinstance(schema, dict):
        raise ValueError("a schema is an object, true or false")
    return {} if schema is True else schema


def _json(schema: Json) -> str:
    check_depth(schema)
    return LLMatcher.grammar_from_json_schema(json.dumps(closed(schema)), overrides=_JSON_OPTIONS)
