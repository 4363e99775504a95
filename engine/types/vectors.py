"""Texts that are read and not answered: TextsToEmbed becomes Embedded, DocumentsToRank becomes Ranked.

Frozen values in pure Python: no MLX, no numpy, safe in every thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.types.request import Request


@dataclass(frozen=True, slots=True)
class TextsToEmbed:
    """texts: each a text, or token ids. dimensions: only the first so many numbers of each vector, None for all.
    prompt_name: which of the model's prompts stands before each text; None for the one that it has for that, "" for
    none. model: as in Request. sent: its label in the request log (id, source, dialect, tenant)."""

    texts: tuple[str | tuple[int, ...], ...]
    dimensions: int | None = None
    prompt_name: str | None = None
    model: str | None = None
    sent: Request = field(default_factory=Request)

    @property
    def num_texts(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class Embedded:
    """vectors: of each text, float32 numbers in the machine's order, little-endian wherever this runs; each has the
    length 1. num_tokens: of all texts together."""

    vectors: tuple[bytes, ...]
    num_tokens: int


@dataclass(frozen=True, slots=True)
class DocumentsToRank:
    """instruction: what makes a document a good answer, in words; None leaves it to the model's template. model, sent:
    as above."""

    query: str
    documents: tuple[str, ...]
    instruction: str | None = None
    model: str | None = None
    sent: Request = field(default_factory=Request)

    @property
    def num_texts(self) -> int:
        return len(self.documents)


@dataclass(frozen=True, slots=True)
class Ranked:
    """scores: of each document, in their order, the probability that it answers the query, 0 to 1. num_tokens: of all
    prompts together."""

    scores: tuple[float, ...]
    num_tokens: int
