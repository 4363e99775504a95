"""Whether a request fits into this machine's memory at all, before its pictures are read. Engine thread only.

    weights + KV of its prompt, with room to answer + what its pictures take while they are read   against   all that
    MLX may fill

What others take is not in it: who fits waits for them (engine.runtime.scheduler), who does not would wait in vain.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.errors import BadRequest, say_bytes
from engine.models import mlx_memory
from engine.runtime.encoder_memory import EncoderMemory
from engine.runtime.memory import ModelMemory, padded_tokens
from engine.runtime.work import Work


class RequestMemory:
    """Of one model's requests."""

    def __init__(self, model: ModelMemory, encoder: EncoderMemory) -> None:
        self._model = model
        self._encoder = encoder

    def check(self, work: Work, row_tokens: Sequence[int]) -> None:
        """Raise BadRequest (memory_exceeded) with the numbers for one that does not fit. row_tokens: of each row that
        it will have, without the answer."""
        kv_bytes = padded_tokens(row_tokens) * self._model.token_bytes
        encoder_bytes = self._encoder.peak_bytes(work.encoder)
        needed, most = self._model.num_bytes + kv_bytes + encoder_bytes, mlx_memory.device_bytes()
        if needed <= most:
            return
        pictures = f", reading its media {say_bytes(encoder_bytes)}" if encoder_bytes else ""
        hint = " Smaller pictures or fewer frames take less." if encoder_bytes else ""
        raise BadRequest(
            f"The request does not fit into memory: the model's weights take {say_bytes(self._model.num_bytes)}, "
            f"the KV of its {work.prompt_tokens:,} tokens {say_bytes(kv_bytes)}{pictures}; together "
            f"{say_bytes(needed)} of {say_bytes(most)}.{hint}",
            param="messages",
            code="memory_exceeded",
        )
