"""Token ids of a server that tells tokens by their texts: numbers of our own, in the order in which they came."""

from __future__ import annotations

import threading
from typing import Any

from engine.types import TokenText

MAX_TOKENS = 2_000_000
"""No model has as many; a server that makes up more gets one number for all of them."""

_UNKNOWN = TokenText("", b"")


class RemoteVocabulary:
    """Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ids: dict[TokenText, int] = {_UNKNOWN: 0}
        self._texts = [_UNKNOWN]

    def id_of(self, text: str, raw: Any = ...) -> int:
        """The number of a token. raw: its bytes as a list of numbers, None for what is no text; where a server says
        nothing of them, those of the text."""
        said = list(text.encode()) if raw is ... else raw
        if not isinstance(said, list | None):
            raise TypeError(said)
        token = TokenText(text, None if said is None else bytes(said))
        with self._lock:
            if token not in self._ids:
                if len(self._texts) >= MAX_TOKENS:
                    return 0
                self._ids[token] = len(self._texts)
                self._texts.append(token)
            return self._ids[token]

    def text(self, id: int) -> TokenText:
        """What a number stands for."""
        return self._texts[id] if 0 <= id < len(self._texts) else _UNKNOWN
