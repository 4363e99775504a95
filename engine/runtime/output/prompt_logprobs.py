"""Log-probabilities of a prompt's own tokens (Request.prompt_logprobs). Engine thread only.

The logits behind every token of the prompt are needed, which a prefill otherwise never computes. They are computed a
slice of the prompt at a time, so that they take no more than head.MAX_LOGITS_BYTES however long the prompt is.
"""

from __future__ import annotations

from typing import Any

from engine.models import sampling
from engine.models.head import max_places
from engine.models.registry import Loaded
from engine.runtime.sequence import Sequence
from engine.types import GeneratedToken


def read_with_logprobs(loaded: Loaded, sequence: Sequence, span: tuple[int, int]) -> Any:
    """Compute the KV of prompt tokens [start, end) and add the tokens after each to sequence.prompt_tokens.

    Returns the logits behind the last, (1, vocabulary).
    """
    ids, num_top = sequence.prompt.ids, sequence.request.prompt_logprobs or 0
    start, end = span
    if start == 0:
        sequence.prompt_tokens = [GeneratedToken(ids[0])]
    step = max_places(loaded.num_ids)
    logits = None
    for first in range(start, end, step):
        last = min(first + step, end)
        logits = loaded.adapter.read(ids, (first, last), sequence.cache, sequence.embeddings)
        following = ids[first + 1 : last + 1]
        if following:
            found = sampling.prompt_logprobs(logits[: len(following)], following, num_top)
            sequence.prompt_tokens += [GeneratedToken(i, *each) for i, each in zip(following, found, strict=True)]
    assert logits is not None, "a prompt that is finished has a last token"
    return logits[-1:]
