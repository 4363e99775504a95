"""Whether a request fits into this machine's memory at all, before its pictures are read. Engine thread only.

    weights + KV of its prompt, with room to answer + what its pictures take while they are read   against   all that
    MLX may fill

Only what surely does not fit is refused: of what reading pictures takes, half of the prediction is sure.

What others take is not in it: who fits waits for them (engine.runtime.scheduler), who does not would wait in vain.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import MemoryExceeded, say_bytes
from engine.models import mlx_memory
from engine.runtime.estimates.work import Work
from engine.runtime.memory_use.encoder_memory import EncoderMemory
from engine.runtime.memory_use.memory import ModelMemory, padded_row

ENCODER_MARGIN = 2
"""A tower's prediction may be so many times what it then takes (tests/engine/runtime/test_request_memory.py)."""


class RequestMemory:
    """Of one model's requests."""

    def __init__(self, model: ModelMemory, encoder: EncoderMemory) -> None:
        self._model = model
        self._encoder = encoder

    def check(self, work: Work, row_tokens: Sequence[int]) -> str:
        """Raise MemoryExceeded with the numbers for one that surely does not fit. Returns the numbers of one that may
        not, "" of one that fits. row_tokens: of each row that it will have, one at least, without the answer."""
        kv_bytes = len(row_tokens) * self._model.kv_bytes(padded_row(row_tokens))
        encoder_bytes = self._encoder.peak_bytes(work.encoder)
        most = mlx_memory.device_bytes()
        left = most - self._model.num_bytes - kv_bytes
        if encoder_bytes <= left:
            return ""
        pictures = f", reading its media {say_bytes(encoder_bytes)}" if encoder_bytes else ""
        numbers = (
            f"the model's weights take {say_bytes(self._model.num_bytes)}, the KV of its {work.prompt_tokens:,} tokens "
            f"{say_bytes(kv_bytes)}{pictures}; together {say_bytes(most - left + encoder_bytes)} of {say_bytes(most)}."
        )
        if encoder_bytes <= ENCODER_MARGIN * left:
            return numbers
        hint = " Smaller pictures or fewer frames take less." if encoder_bytes else ""
        raise MemoryExceeded(f"The request does not fit into memory: {numbers}{hint}", param="messages")
