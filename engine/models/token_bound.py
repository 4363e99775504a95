"""How many tokens a text has at least, from the longest token of a vocabulary. Pure Python; any thread.

A tokenizer takes seconds for megabytes; counting bytes takes milliseconds, and proves of most texts of that size that
they cannot fit. It is a proof, not an estimate, so nothing is said of tokenizers that may drop or merge what they read
(unknown characters, words that are too long, white space beside a special token).
"""

from __future__ import annotations

import json
import string
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

_LETTERS = (string.ascii_letters + string.digits).encode()
_NOT_LETTERS = bytes(set(range(256)) - set(_LETTERS))
UnicodeForm = Literal["NFC", "NFD", "NFKC", "NFKD"]
_UNICODE_FORMS: tuple[UnicodeForm, ...] = get_args(UnicodeForm)
_KEEPING = {"ByteLevel", "Metaspace", "Digits", "Punctuation", "Split", "Prepend", "Replace", *_UNICODE_FORMS}
"""Steps before the vocabulary is looked at that lose nothing, some with the right settings only: see _keeps."""


class FewestTokens(NamedTuple):
    """num_tokens: no tokenization has fewer. reason: what proves it, for an error message."""

    num_tokens: int
    reason: str


@dataclass(frozen=True, slots=True)
class TokenBound:
    """What one token can stand for at most, in UTF-8 bytes and in ASCII letters and digits; 0 where that is not known.

    forms: Unicode normal forms that the tokenizer brings a text to first.
    """

    max_bytes: int = 0
    max_letters: int = 0
    forms: tuple[UnicodeForm, ...] = ()

    def fewest(self, text: str) -> FewestTokens:
        """Of this text. Letters often prove more than bytes: the longest tokens are white space."""
        for form in () if text.isascii() else self.forms:
            text = unicodedata.normalize(form, text)
        data = text.encode(errors="replace")
        num_letters = len(data.translate(None, _NOT_LETTERS))
        return max(
            _at_least(len(data), "bytes of text", self.max_bytes),
            _at_least(num_letters, "letters and digits", self.max_letters),
        )


def _at_least(count: int, what: str, per_token: int) -> FewestTokens:
    num_tokens = -(-count // per_token) if per_token else 0
    return FewestTokens(num_tokens, f"{count:,} {what}, and no token of this model has more than {per_token}")


def token_bound(tokenizer: Any) -> TokenBound:
    """The bound of a transformers tokenizer. Reads its whole vocabulary: some 0.2 s for 150,000 tokens."""
    from tokenizers.pre_tokenizers import ByteLevel

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return TokenBound()
    steps = [*_steps(backend.normalizer), *_steps(backend.pre_tokenizer)]
    if type(backend.model).__name__ not in ("BPE", "Unigram") or not all(map(_keeps, steps)):
        return TokenBound()
    vocabulary = backend.get_vocab(with_added_tokens=True)
    is_byte_level = any(step["type"] == "ByteLevel" for step in steps)
    # Elsewhere an unknown character is dropped, or many become one token.
    knows_all = is_byte_level or backend.model.byte_fallback
    strips = any(token.lstrip or token.rstrip for token in backend.get_added_tokens_decoder().values())
    knows_letters = all(chr(letter) in vocabulary for letter in _LETTERS)
    byte_characters = set(ByteLevel.alphabet()) if is_byte_level else set()
    return TokenBound(
        max_bytes=max(_num_bytes(token, byte_characters) for token in vocabulary) if knows_all and not strips else 0,
        max_letters=max(map(_num_letters, vocabulary)) if knows_letters else 0,
        forms=tuple(step["type"] for step in steps if step["type"] in _UNICODE_FORMS),
    )


def _num_bytes(token: str, byte_characters: set[str]) -> int:
    """byte_characters: each stands for one byte, in a byte-level vocabulary."""
    return len(token) if byte_characters.issuperset(token) else len(token.encode(errors="replace"))


def _num_letters(token: str) -> int:
    return len(token.encode(errors="replace").translate(None, _NOT_LETTERS))


def _steps(component: Any) -> Iterator[dict[str, Any]]:
    """A normalizer or pre-tokenizer as its settings, a sequence as those of its members."""
    if component is not None:
        yield from _members(json.loads(component.__getstate__()))


def _members(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if step["type"] != "Sequence":
        yield step
    for member in step.get("normalizers", step.get("pretokenizers", ())):
        yield from _members(member)


def _keeps(step: dict[str, Any]) -> bool:
    """Whether this step loses nothing of what it is given."""
    if step["type"] == "Replace":  # of one text by a longer one without letters, such as " " by "▁"
        pattern = step["pattern"].get("String", "")
        return bool(pattern) and len(pattern.encode()) <= len(step["content"].encode()) and not _num_letters(pattern)
    return step["type"] in _KEEPING and step.get("behavior") != "Removed"
