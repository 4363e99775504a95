"""What has to be done before a request's first token, in numbers: its own work, and what runs beside it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from engine.types.prompt import PlacedMedia, Prompt

FRAMES_PER_UNIT = 2
"""Of a clip: what a vision tower attends to at once is a picture, or a pair of frames."""

Missing = Callable[[PlacedMedia], float]
"""Which share of a medium's features is not there yet, 0 to 1."""


@dataclass(frozen=True, slots=True)
class EncoderWork:
    """tokens, units (pictures and pairs of frames), and attended: tokens times tokens within each unit. largest: tokens
    of the largest unit."""

    tokens: float = 0.0
    units: float = 0.0
    attended: float = 0.0
    largest: float = 0.0

    @property
    def terms(self) -> tuple[float, ...]:
        return (1.0, self.units, self.tokens, self.attended)


@dataclass(frozen=True, slots=True)
class Work:
    """prompt_tokens, of which the first cached_tokens are reused. values: pixels times channels, or samples, of the
    media that the processor has to read. is_whole: they are computed in one chunk."""

    prompt_tokens: int
    cached_tokens: int = 0
    values: int = 0
    encoder: EncoderWork = EncoderWork()
    is_whole: bool = False

    @property
    def rest_terms(self) -> tuple[float, ...]:
        """Of all that is neither prefill nor vision tower: template, tokens, processor, lookup, copies of reused KV."""
        return (1.0, float(self.prompt_tokens), float(self.cached_tokens), float(self.values))

    def chunks(self, most_tokens: int) -> list[tuple[int, int]]:
        """[start, end) of each chunk that is computed."""
        most_tokens = self.prompt_tokens if self.is_whole else most_tokens
        starts = range(self.cached_tokens, self.prompt_tokens, max(1, most_tokens))
        return list(pairwise([*starts, self.prompt_tokens]))


def chunk_terms(start: int, end: int) -> tuple[float, ...]:
    """Of prompt tokens [start, end): each attends to all before it."""
    tokens = end - start
    return (1.0, float(tokens), tokens * (start + tokens / 2))


def work_of(prompt: Prompt, num_cached: int, missing: Missing, *, packed: bool) -> Work:
    """packed: the family encodes only media behind what is reused; others encode all of them if they encode any."""
    behind = [placed for placed in prompt.media if not placed.ends_by(num_cached)]
    encoded = behind if packed or not behind else list(prompt.media)
    return Work(
        prompt_tokens=len(prompt.ids),
        cached_tokens=num_cached,
        values=sum(_num_values(placed) for placed in prompt.media if placed.has_pixels),
        encoder=encoder_work([(placed, missing(placed)) for placed in encoded]),
        is_whole=prompt.is_whole,
    )


def encoder_work(shares: list[tuple[PlacedMedia, float]]) -> EncoderWork:
    """shares: of each medium, how much has to be encoded."""
    tokens = units = attended = largest = 0.0
    for placed, share in shares:
        tokens += share * placed.tokens
        units += share * num_units(placed)
        attended += share * placed.tokens**2 / num_units(placed)
        largest = max(largest, placed.tokens / num_units(placed) if share else 0.0)
    return EncoderWork(tokens, units, attended, largest)


def num_units(placed: PlacedMedia) -> int:
    """Pictures and pairs of frames in a medium."""
    return math.ceil(len(placed.media.frames) / FRAMES_PER_UNIT) or 1


def _num_values(placed: PlacedMedia) -> int:
    return int(placed.media.pixels.size + placed.media.samples.size)


@dataclass(frozen=True, slots=True)
class Others:
    """What runs beside a request when it comes. prompts: (computed, all) tokens of those that are being read. step_ms:
    of a decode step, 0 where nobody decodes. is_known: False where a prompt is not opened yet, or waits for room."""

    prompts: tuple[tuple[int, int], ...] = ()
    step_ms: float = 0.0
    is_known: bool = True

    @property
    def are_there(self) -> bool:
        return bool(self.prompts) or self.step_ms > 0 or not self.is_known
