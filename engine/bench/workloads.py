"""What a benchmark asks. Made from a seed: the same settings give the same questions on every machine."""

from __future__ import annotations

import base64
import io
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image

WORDS = (
    "river stone light window garden paper silver morning table winter music letter bridge forest candle mirror "
    "harbor copper story shadow engine valley orange summer island pocket thunder meadow basket lantern"
)
CELLS = 8
"""A picture has this many coloured cells on each side."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One question: text, perhaps a PNG before it, and how many tokens may come back."""

    text: str
    max_tokens: int
    image: bytes | None = None

    @property
    def image_url(self) -> str | None:
        return f"data:image/png;base64,{base64.b64encode(self.image).decode()}" if self.image else None


@dataclass(frozen=True, slots=True)
class Settings:
    """How the questions are made. image_px: (width, height), or None for text only."""

    num_prompts: int = 8
    prompt_words: int = 64
    output_tokens: int = 64
    image_px: tuple[int, int] | None = None
    seed: int = 0


def make(settings: Settings, start: int = 0) -> list[Workload]:
    """settings.num_prompts questions, number `start` first. All differ from their first word and first pixel on."""
    return [_workload(settings, start + i) for i in range(settings.num_prompts)]


def _workload(settings: Settings, number: int) -> Workload:
    choose = random.Random(f"{settings.seed}/{number}")
    words = [str(number), *(choose.choice(WORDS.split()) for _ in range(settings.prompt_words - 1))]
    image = picture(settings.image_px, choose.randrange(2**32)) if settings.image_px else None
    return Workload(" ".join(words), settings.output_tokens, image)


def picture(size_px: tuple[int, int], seed: int) -> bytes:
    """A PNG of coloured cells, (width, height) pixels. Flat colours: decoding it costs what a screenshot costs."""
    width, height = size_px
    cells = np.random.default_rng(seed).integers(0, 256, (CELLS, CELLS, 3), np.uint8)
    image = Image.fromarray(cells).resize((width, height), Image.Resampling.NEAREST)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
