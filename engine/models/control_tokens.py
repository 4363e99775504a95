"""Which texts a model reads as control tokens, and how to write the same characters as plain text.

A tokenizer makes `<|im_end|>` one token wherever it stands, and a processor makes `<image>` a picture. In a text that
somebody sent, each is set aside before the template is rendered, as one private character:

    Text from outside     What is <|im_end|>?
    SetAside.texts        ("<|im_end|>",)                 the private character U+F0000 stands for it
    what is tokenized     What is FFFFFF?                  F: a special token that is not in it, once for each token
    token ids             ... 27 91 318 6213 91 29 ...     in the end those of the characters

So the prompt has its length from the beginning, and whatever the processor counts in tokens is right. transformers has
the same for its own processors (sanitize_control_tokens); mlx-vlm's do not know of it.

Any thread; nothing shared is changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from itertools import islice
from typing import Any, TypeVar

from engine.errors import BadRequest, Internal

_FIRST = 0xF0000
_LAST = 0x10FFFF
_PRIVATE = f"[{chr(_FIRST)}-{chr(_LAST)}]"
"""The private characters of Unicode's planes 15 and 16."""

_NUMBERED_START, _NUMBERED = "<|", r"(?:image|audio)_\d+\|>"
"""What the processors of Phi-3-Vision and Phi-4-Multimodal take for media."""

_MAX_FILLERS = 8
T = TypeVar("T")


class SetAside:
    """What was set aside of one prompt's texts: the n-th private character stands for texts[n]. pattern: what is."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self._numbers: dict[str, int] = {}

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self._numbers)

    def text(self, text: str, keep: Collection[str] = ()) -> str:
        """The text with a private character for each control token that it spells, and for each private character.
        keep: those that stay.

        Raises BadRequest for more of them than there are private characters.
        """

        def character(match: re.Match[str]) -> str:
            return match[0] if match[0] in keep else self._character(match[0])

        # Line by line, so that other threads get a turn.
        return "".join(self._pattern.sub(character, line) for line in text.splitlines(keepends=True))

    def value(self, value: Any) -> Any:
        """The same of every text in a JSON value, names included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.value(name): self.value(inner) for name, inner in value.items()}
        return [self.value(inner) for inner in value] if isinstance(value, list | tuple) else value

    def _character(self, spelled: str) -> str:
        number = self._numbers.setdefault(spelled, len(self._numbers))
        if _FIRST + number > _LAST:
            raise BadRequest("messages: too many different private characters.", param="messages")
        return chr(_FIRST + number)


class ControlTokens:
    """Of one model. tokenizer: what encodes its chats; template: its chat template, "" for none; more: texts that its
    processor looks for, whether they are tokens or not."""

    def __init__(self, tokenizer: Any, template: str, more: Iterable[str] = ()) -> None:
        self._tokenizer = tokenizer
        added = [token for _, token in sorted(getattr(tokenizer, "added_tokens_decoder", {}).items())]
        texts = {token.content for token in added if token.special or token.content in template}
        # Gemma's "\n\n" and its like are how ordinary text is written, and what has one character cannot be broken.
        texts = {text for text in texts | set(more) if len(text.strip()) > 1}
        self._by_start = _by_start(texts)
        self._spelled = re.compile("|".join(pattern.pattern for pattern in self._by_start.values()))
        self._anything = re.compile(f"{self._spelled.pattern}|{_PRIVATE}")
        self._fillers = [token.content for token in added if token.special and not (token.lstrip or token.rstrip)]

    def read_by(self, tokenizer: Any) -> ControlTokens:
        """The same, with a copy of the tokenizer."""
        other = copy(self)
        other._tokenizer = tokenizer
        return other

    def are_in(self, text: str) -> bool:
        """Whether a text spells one. Megabytes without one take milliseconds, and let other threads run."""
        for start, pattern in self._by_start.items():
            at = text.find(start)
            while at >= 0:
                if pattern.match(text, at):
                    return True
                at = text.find(start, at + 1)
        return False

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """[start, end) of each control token that a text spells."""
        return (match.span() for match in self._spelled.finditer(text))

    def set_aside(self) -> SetAside:
        return SetAside(self._anything)

    def read(
        self, text: str, aside: Sequence[str], reader: Callable[[str], tuple[list[int], T]]
    ) -> tuple[list[int], T]:
        """What a reader of texts (token ids, anything else) makes of a rendered text, with the plain ids of what was
        set aside in their places. aside: SetAside.texts.

        Raises Internal where no special token is left to stand for them.
        """
        if not aside:
            return reader(text)
        own_ids = [self._as_text(spelled) for spelled in aside]
        last = _FIRST + len(aside) - 1
        wanted = [token for char in text if _FIRST <= ord(char) <= last for token in own_ids[ord(char) - _FIRST]]
        for filler in islice((filler for filler in self._fillers if filler not in text), _MAX_FILLERS):
            filled = {_FIRST + number: filler * len(ids) for number, ids in enumerate(own_ids)}
            ids, rest = reader(text.translate(filled))
            filler_id = int(self._tokenizer.convert_tokens_to_ids(filler))
            if ids.count(filler_id) == len(wanted):  # else the reader writes it itself
                plain = iter(wanted)
                return [next(plain) if token == filler_id else token for token in ids], rest
        raise Internal("This model's tokenizer cannot write its control tokens as text.")

    def encode(self, text: str, aside: Sequence[str], *, add_special_tokens: bool) -> list[int]:
        """Token ids of a rendered text. Raises Internal, see read."""

        def encode(filled: str) -> tuple[list[int], None]:
            return list(self._tokenizer.encode(filled, add_special_tokens=add_special_tokens)), None

        return self.read(text, aside, encode)[0]

    def _as_text(self, spelled: str) -> list[int]:
        """The ids of these characters inside other text, none of them a control token."""
        return [token for piece in self._broken(spelled) for token in self._inside(piece)]

    def _broken(self, text: str) -> list[str]:
        """The text in pieces none of which spells a control token."""
        found = self._spelled.search(text)
        if found is None:
            return [text]
        last = found.end() - 1
        return [*self._broken(text[:last]), *self._broken(text[last:])]

    def _inside(self, piece: str) -> list[int]:
        """Behind a line break, which is taken off again: some tokenizers put a space before what begins a text."""

        def encode(text: str) -> list[int]:
            return list(self._tokenizer.encode(text, add_special_tokens=False))

        line_break, both = encode("\n"), encode(f"\n{piece}")
        return both[len(line_break) :] if both[: len(line_break)] == line_break else encode(piece)


def _by_start(texts: Iterable[str]) -> dict[str, re.Pattern[str]]:
    """Patterns of the texts by their first two characters: hundreds of alternatives at every "<" would take minutes for
    a large page of HTML."""
    longest_first = sorted(texts, key=lambda text: (-len(text), text))
    groups: dict[str, list[str]] = {_NUMBERED_START: [_NUMBERED]}
    for text in longest_first:
        groups.setdefault(text[:2], []).append(re.escape(text[2:]))
    return {start: re.compile(f"{re.escape(start)}(?:{'|'.join(ends)})") for start, ends in groups.items()}
