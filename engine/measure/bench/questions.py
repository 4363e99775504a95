"""What is asked, made from a seed: the same seed gives the same questions on every machine, and no two begin alike.

A picture shows one coloured shape, so that every vision model can be asked for its colour. Drawing takes milliseconds:
not on an event loop.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from engine.measure import drawings
from engine.measure.drawings import PictureSize

Claim = Literal["cold", "warm", ""]

WORDS = (
    "river stone light window garden paper silver morning table winter music letter bridge forest candle mirror "
    "harbor copper story shadow engine valley orange summer island pocket thunder meadow basket lantern"
)
COLOURS = {
    "red": (220, 40, 40),
    "orange": (245, 140, 20),
    "yellow": (240, 210, 30),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "purple": (140, 60, 180),
}
PAPER = 244
"""Grey level of the ground, of 255."""

RADIUS = 0.32
"""Of the circle, as a share of the picture's shorter side."""

MARK_CELLS = 32
"""A mark is a strip of this many cells in two shades along the upper edge, which differ from picture to picture."""

PIXELS_PER_WORD = 1000
"""Of a page that is full."""

COLOUR_QUESTION = "What color is the circle?"
OTHER_QUESTION = "What shape is it? Answer in one word."
CLIP_QUESTION = "What happens in this video?"


@dataclass(frozen=True, slots=True)
class Medium:
    """A picture (PNG) or a clip (MP4) as bytes. max_pixels: of a picture, the most that the model shall see of it."""

    kind: Literal["image", "video"]
    data: bytes
    max_pixels: int | None = None

    @property
    def url(self) -> str:
        media_type = "image/png" if self.kind == "image" else "video/mp4"
        return drawings.data_url(self.data, media_type)


@dataclass(frozen=True, slots=True)
class PastTurn:
    """What was asked and answered before, in the same chat."""

    text: str
    answer: str
    media: tuple[Medium, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """One request: a system prompt, earlier turns of the chat, then media and text.

    expect: a word that a right answer holds; "" for none. claim: what the prefix cache is expected to reuse, "warm" for
    most of the prompt, "cold" for none of its own tokens. min_tokens: the answer cannot end before. ignore_end: the
    model may not end the answer. schema: JSON Schema that the answer must be valid under, "" for none. n: answers to
    ask for at once. logprobs: how many log-probabilities of the first token to return, where the target can. fresh:
    sent to a process that is started for it; the time to first token counts from the start of the process. predicates:
    yes-or-no questions about the media in place of text; the time to first token is until all are answered, or with
    `each` what one of them takes. estimated: the target says first how long it will take, where it can.
    """

    text: str
    max_tokens: int
    system: str = ""
    media: tuple[Medium, ...] = ()
    earlier: tuple[PastTurn, ...] = ()
    temperature: float = 0.0
    seed: int | None = None
    fps: float | None = None
    max_frames: int | None = None
    min_tokens: int = 0
    expect: str = ""
    claim: Claim = ""
    logprobs: int = 0
    ignore_end: bool = False
    schema: str = ""
    n: int = 1
    fresh: bool = False
    predicates: tuple[str, ...] = ()
    each: bool = False
    estimated: bool = False

    @property
    def num_media(self) -> int:
        """Of the whole chat."""
        return len(self.media) + sum(len(turn.media) for turn in self.earlier)

    def greedy(self, max_tokens: int) -> Question:
        return replace(self, temperature=0.0, max_tokens=max_tokens, min_tokens=0, ignore_end=False, n=1, claim="")

    def is_right(self, answer: str) -> bool | None:
        """Whether the answer holds the expected word. Returns None where none is expected."""
        return self.expect.lower() in answer.lower() if self.expect else None


def words(seed: object, count: int) -> str:
    """`count` words. The first is a number by the seed, so that no prefix is shared with another seed's."""
    choose = random.Random(f"words/{seed}")
    return " ".join([f"{choose.randrange(10**9)}", *choose.choices(WORDS.split(), k=count - 1)])


def colour(seed: object) -> str:
    return random.Random(f"colour/{seed}").choice(list(COLOURS))


def scene(size_px: PictureSize, seed: object) -> Image.Image:
    """A coloured circle on a light ground, with the mark of its seed. size_px: (width, height)."""
    paper = (PAPER, PAPER, PAPER)
    image = drawings.circle(size_px, COLOURS[colour(seed)], paper, RADIUS)
    return mark(image, seed)


def mark(image: Image.Image, seed: object) -> Image.Image:
    """The image with a strip along its upper edge that differs from seed to seed. Changes it in place."""
    shades = np.random.default_rng(random.Random(f"mark/{seed}").getrandbits(64)).integers(
        0, 2, (1, MARK_CELLS), np.uint8
    )
    strip = Image.fromarray((shades * 24 + PAPER - 24).astype(np.uint8)).convert("RGB")
    image.paste(strip.resize((image.width, max(2, image.height // 64)), Image.Resampling.NEAREST), (0, 0))
    return image


def picture(image: Image.Image) -> Medium:
    """A drawing as it is sent: a PNG."""
    return Medium("image", drawings.png(image))


def screenshot(size_px: PictureSize, seed: object, max_pixels: int) -> Medium:
    """A page of words with the mark of its seed, as large a file as such pictures are."""
    text = words(seed, size_px[0] * size_px[1] // PIXELS_PER_WORD)
    return Medium("image", drawings.png(mark(drawings.page(size_px, text), seed), quick=True), max_pixels)


def blank(size_px: PictureSize) -> Medium:
    """A picture of nothing but grey."""
    return picture(drawings.blank(size_px))
