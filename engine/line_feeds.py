"""The lines of a stream of bytes, split at line feeds only: JSON may hold other characters that end a line elsewhere,
such as U+2028, at which httpx splits."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

MAX_LINE_BYTES = 16 * 1024**2


async def lines_of(pieces: AsyncIterable[bytes], max_bytes: int = MAX_LINE_BYTES) -> AsyncIterator[bytes]:
    """Without what ends them. max_bytes: of one line. Raises ValueError for a longer one."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r")
        if len(rest) > max_bytes:
            raise ValueError(f"one line of it has more than {max_bytes} bytes")
    if rest:
        yield rest
