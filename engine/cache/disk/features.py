"""Vision features that come from disk while the tower asks for them, one unit after the other. Engine thread only."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait

import mlx.core as mx

from engine.cache.disk.arrays import to_array
from engine.cache.disk.checksummed import Contents
from engine.cache.disk.read_ahead import ReadAhead
from engine.cache.disk.restore import PATIENCE_S
from engine.cache.disk.store import DiskStore

log = logging.getLogger(__name__)

FEATURES = "features"
_WAIT_S = 0.005


class FeatureReader:
    """What a FeatureStore asks for what memory has not. between: called while the disk is read, so that running rows
    go on."""

    def __init__(self, store: DiskStore, between: Callable[[], None]) -> None:
        self._store = store
        self._between = between
        self._files = ReadAhead(store, ())

    def request(self, keys: Sequence[bytes]) -> None:
        """Begin to read these, in their order. What was requested before and not fetched is not wanted any more."""
        self._files.close()
        names = [(FEATURES, key.hex()) for key in keys]
        self._files = ReadAhead(self._store, [name for name in names if self._store.has(*name)])

    def fetch(self, key: bytes) -> tuple[list[mx.array], int] | None:
        """A unit's payload and its bytes. Returns None when it is not on disk, damaged, or the disk is silent."""
        name = (FEATURES, key.hex())
        if not self._store.has(*name):
            return None
        if not self._files.skip_to(name):
            self.request([key])
        if self._files.first is None or not self._is_read():
            return None
        contents = self._files.receive()
        try:
            return None if contents is None else (_payload(contents), contents.num_bytes)
        except (KeyError, ValueError, TypeError):
            self._store.drop(*name)
        except (RuntimeError, MemoryError) as e:  # what MLX raises
            log.warning("features could not be restored from disk; they are encoded instead: %s", e)
            self._store.count_fault()
        return None

    def _is_read(self) -> bool:
        """Wait for the next file; give up in the end."""
        reading, since_s = self._files.first, time.monotonic()
        assert reading is not None
        while not reading.contents.done():
            if self._store.silent_s(since_s) > PATIENCE_S:
                self._store.give_up(reading.contents)
                self._files.close()
                return False
            self._between()
            wait([reading.contents], timeout=_WAIT_S)
        return True


def _payload(contents: Contents) -> list[mx.array]:
    unit = [to_array(contents.tensors[str(i)]) for i in range(len(contents.tensors))]
    mx.eval(unit)
    return unit
