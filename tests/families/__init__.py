"""What each tiny model is: one `Family` per model type, as data. Strings in `<...>` or `[...]` that name a token of the
tokenizer are replaced by its id when the checkpoint is written (see tests/tiny.py).

All are random: for identity, memory and failure tests, never for the sense of an answer. Widths are multiples of 32,
so that every family can be quantized to 4 bits in groups of 32; pixel budgets give 9 to 70 tokens per picture.
"""

from __future__ import annotations

from tests.families.apart import APART
from tests.families.gemma import GEMMA
from tests.families.glm import GLM
from tests.families.own_ways import INTERLEAVE, OWN_WAYS
from tests.families.pictures import PICTURES
from tests.families.qwen import QWEN, qwen
from tests.families.readers import READERS
from tests.families.shape import CHAT_TOKENS, QWEN_TOKENS, Family, text
from tests.families.tiles import TILES

__all__ = [
    "APART",
    "BRIEF",
    "CHAT_TOKENS",
    "FAMILIES",
    "INTERLEAVE",
    "QWEN_TOKENS",
    "TEXT",
    "VISION",
    "Family",
    "qwen",
    "text",
]

FAMILIES: dict[str, Family] = QWEN | PICTURES | OWN_WAYS | GEMMA | TILES | GLM | READERS
FAMILIES |= {
    "llama": Family(config=text()),
    "mistral": Family(config=text()),
    "qwen2": Family(config=text()),
    "qwen3": Family(config=text()),
    "gemma2": Family(config=text(query_pre_attn_scalar=32), embedding_scale=0.2),
    "phi3": Family(config=text()),
}

BRIEF = frozenset({"qwen3_vl_moe", *TILES, *GLM, *READERS})
"""The longest tests ask less of these: they differ from others in how pictures come in, which a few requests show."""

VISION = tuple(name for name, family in FAMILIES.items() if family.vision)
TEXT = tuple(name for name, family in FAMILIES.items() if not family.vision)
