"""Engine.embed and Engine.rank: texts as tokens, one command to the engine thread, and what came of it.

Any event loop; no MLX.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadRequest
from engine.runtime.commands import ReadCommand
from engine.runtime.intake.asking import Asking
from engine.runtime.loading.slots import LoadedModel
from engine.types import DocumentsToRank, Embedded, Ranked, StageClock, TextsToEmbed

MAX_TEXTS = 2048
"""OpenAI's."""

MAX_DOCUMENTS = 1024
_Found = NDArray[np.float32]


def check_texts(asked: TextsToEmbed) -> None:
    """Raise BadRequest for too few or too many."""
    if not 1 <= len(asked.texts) <= MAX_TEXTS:
        raise BadRequest(f"input: between 1 and {MAX_TEXTS} texts are allowed, got {len(asked.texts)}.", param="input")


def check_documents(asked: DocumentsToRank) -> None:
    """The same."""
    if not 1 <= len(asked.documents) <= MAX_DOCUMENTS:
        raise BadRequest(
            f"documents: between 1 and {MAX_DOCUMENTS} are allowed, got {len(asked.documents)}.", param="documents"
        )


async def embed(model: LoadedModel, asked: TextsToEmbed, asking: Asking, clock: StageClock) -> Embedded:
    """A vector for each text. Raises EngineError."""
    clock.enter("prepare")
    texts = await asking.preparation.aside(lambda: model.reads.to_embed(asked))
    found = await _read(texts, model, asking, clock)
    vectors = await asking.preparation.aside(lambda: _unit(found[:, : asked.dimensions]))
    return Embedded(vectors, sum(map(len, texts)))


async def rank(model: LoadedModel, asked: DocumentsToRank, asking: Asking, clock: StageClock) -> Ranked:
    """A score for each document. Raises EngineError."""
    clock.enter("prepare")
    prompts = await asking.preparation.aside(lambda: model.reads.to_rank(asked))
    found = await _read(prompts, model, asking, clock)
    scores = 0.5 + 0.5 * np.tanh(found[:, 0].astype(np.float64) / 2)  # the logistic function, which overflows nowhere
    return Ranked(tuple(map(float, scores)), sum(map(len, prompts)))


async def _read(texts: Sequence[tuple[int, ...]], model: LoadedModel, asking: Asking, clock: StageClock) -> _Found:
    clock.enter("queue")
    return await asking.reply(lambda reply: ReadCommand(tuple(texts), model.card.id, reply, clock))


def _unit(vectors: NDArray[np.float32]) -> tuple[bytes, ...]:
    """Each with the length 1; one of zeros stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    whole = (vectors / np.maximum(lengths, np.finfo(np.float32).tiny)).astype("<f4")
    return tuple(vector.tobytes() for vector in whole)
