"""Python's garbage collector while models come in. Any thread."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_THRESHOLDS = gc.get_threshold()
_THRESHOLD_LOADING = 200_000


@contextmanager
def rarely_collecting() -> Iterator[None]:
    """Imports and loading make objects by the hundred thousand and hardly any garbage: looking for it takes a tenth of
    the time until the first answer."""
    gc.set_threshold(_THRESHOLD_LOADING, *_THRESHOLDS[1:])
    try:
        yield
    finally:
        gc.set_threshold(*_THRESHOLDS)
