"""What token ids stand for, one by one. No MLX array: any thread."""

from __future__ import annotations

from typing import Any

from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer, SPMStreamingDetokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from engine.models.registry import Loaded
from engine.types import TokenText

_SPACE = "\u2581"
"""SentencePiece's."""


class Vocabulary:
    """Token id -> its bytes and its text, for one model."""

    def __init__(self, loaded: Loaded) -> None:
        self._tokenizer: Any = loaded.tokenizer
        self._special_ids = loaded.special_ids
        self._added = {int(i): str(token.content) for i, token in loaded.tokenizer.added_tokens_decoder.items()}
        self._byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
        detokenizer = loaded.tokenizer.detokenizer
        self._is_bpe = isinstance(detokenizer, BPEStreamingDetokenizer)
        self._is_spm = isinstance(detokenizer, SPMStreamingDetokenizer)

    def text(self, token_id: int) -> TokenText:
        """raw is None for what never becomes text: special tokens, and ids that the tokenizer does not know."""
        if token_id in self._added:
            name = self._added[token_id]
            return TokenText(name, None if token_id in self._special_ids else name.encode())
        token = self._tokenizer.convert_ids_to_tokens(token_id)
        if token is None:
            return TokenText(f"<{token_id}>", None)
        raw = self._raw(token_id, token)
        return TokenText(raw.decode(errors="replace"), raw)

    def _raw(self, token_id: int, token: str) -> bytes:
        if self._is_bpe:
            return b"".join(
                bytes((self._byte_of[c],)) if c in self._byte_of else c.encode(errors="replace") for c in token
            )
        if self._is_spm and token.startswith("<0x"):
            return bytes((int(token[3:5], 16),))
        if self._is_spm:
            return token.replace(_SPACE, " ").encode()
        return str(self._tokenizer.decode([token_id])).encode(errors="replace")
