"""What is asked. Drawn from a seed: the same seed gives the same questions on every machine, and no two begin alike.

Pictures and clips show one coloured shape, so that anything that sees can be asked what colour it has. Drawing takes
milliseconds and clips more: not for an event loop.
"""

from __future__ import annotations

import base64
import io
import random
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

PictureSize = tuple[int, int]
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
MARK_CELLS = 32
"""A mark is a strip of this many cells of two shades along the upper edge: other pixels in each picture."""

SHOWN = "What color is the circle?"
OTHER_QUESTION = "What shape is it? Answer in one word."
CLIP_QUESTION = "What happens in this video?"


@dataclass(frozen=True, slots=True)
class Medium:
    """A picture (PNG) or a clip (MP4) as bytes."""

    kind: Literal["image", "video"]
    data: bytes

    @property
    def url(self) -> str:
        media_type = "image/png" if self.kind == "image" else "video/mp4"
        return f"data:{media_type};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True, slots=True)
class Question:
    """One request: a system prompt, media, then text.

    expect: a word that a right answer holds, "" where there is none. claim: whether the prefix cache is said to know
    the most of it ("warm") or nothing that is its own ("cold"). min_tokens: at least so many, the end is forbidden.
    logprobs: how many of the first token's log-probabilities are wanted, where the target can tell. fresh: asked of
    a process that is started for it; the time to first token begins with the process.
    """

    text: str
    max_tokens: int
    system: str = ""
    media: tuple[Medium, ...] = ()
    temperature: float = 0.0
    seed: int | None = None
    fps: float | None = None
    max_frames: int | None = None
    min_tokens: int = 0
    expect: str = ""
    claim: Claim = ""
    logprobs: int = 0
    fresh: bool = False

    def greedy(self, max_tokens: int) -> Question:
        return replace(self, temperature=0.0, max_tokens=max_tokens, min_tokens=0, claim="")

    def is_right(self, answer: str) -> bool | None:
        """None where nothing was expected."""
        return self.expect.lower() in answer.lower() if self.expect else None


def words(seed: object, count: int) -> str:
    """`count` words. The first is a number of its own, so that no prefix is shared with another seed's."""
    choose = random.Random(f"words/{seed}")
    return " ".join([f"{choose.randrange(10**9)}", *choose.choices(WORDS.split(), k=count - 1)])


def colour(seed: object) -> str:
    return random.Random(f"colour/{seed}").choice(list(COLOURS))


def scene(size_px: PictureSize, seed: object) -> Image.Image:
    """A coloured circle on paper, with a mark of its own. size_px: (width, height)."""
    width, height = size_px
    image = Image.new("RGB", size_px, (PAPER, PAPER, PAPER))
    radius = min(size_px) * 0.32
    box = (width / 2 - radius, height / 2 - radius, width / 2 + radius, height / 2 + radius)
    ImageDraw.Draw(image).ellipse(box, fill=COLOURS[colour(seed)])
    return mark(image, seed)


def mark(image: Image.Image, seed: object) -> Image.Image:
    """The image with a strip along its upper edge that tells it from every other seed's. Changes it in place."""
    shades = np.random.default_rng(random.Random(f"mark/{seed}").getrandbits(64)).integers(
        0, 2, (1, MARK_CELLS), np.uint8
    )
    strip = Image.fromarray((shades * 24 + PAPER - 24).astype(np.uint8)).convert("RGB")
    image.paste(strip.resize((image.width, max(2, image.height // 64)), Image.Resampling.NEAREST), (0, 0))
    return image


def blank(size_px: PictureSize) -> Image.Image:
    """Nothing but grey."""
    return Image.new("RGB", size_px, (128, 128, 128))


def png(image: Image.Image) -> Medium:
    out = io.BytesIO()
    image.save(out, "PNG")
    return Medium("image", out.getvalue())
