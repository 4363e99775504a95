"""Several files in the order in which they are wanted, some bytes of them read ahead. Engine thread only."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from engine.cache.disk.checksummed import Contents
from engine.cache.disk.reader import Reading
from engine.cache.disk.store import DiskStore

AHEAD_BYTES = 32 * 1024**2
"""Read and not received yet, or one file where that is larger."""

Name = tuple[str, str]
"""Group and key of a file."""


class ReadAhead:
    """Reads the files by these names. Whoever has one calls `close` at the end."""

    def __init__(self, store: DiskStore, names: Iterable[Name]) -> None:
        self._store = store
        self._names = deque(names)
        self._readings: deque[tuple[Name, Reading | None]] = deque()
        self._num_bytes = 0
        self._fill()

    @property
    def first(self) -> Reading | None:
        """The reading of the next file; None when that cannot be read, or there is no more."""
        return self._readings[0][1] if self._readings else None

    def receive(self) -> Contents | None:
        """The next file, whose reading is done. Returns None when it is not there, or not as it was written."""
        name, reading = self._pop()
        return None if reading is None else self._store.receive(*name, reading)

    def skip(self) -> None:
        """The next file is not wanted any more."""
        _, reading = self._pop()
        if reading is not None:
            self._store.release(reading)

    def skip_to(self, name: Name) -> bool:
        """Make this file the next. Returns False when it was not asked for."""
        while self._readings:
            if self._readings[0][0] == name:
                return True
            self.skip()
        return False

    def close(self) -> None:
        """Nothing more is wanted."""
        self._names.clear()
        while self._readings:
            self.skip()

    def _pop(self) -> tuple[Name, Reading | None]:
        name, reading = self._readings.popleft()
        self._num_bytes -= reading.num_bytes if reading else 0
        self._fill()
        return name, reading

    def _fill(self) -> None:
        while self._names and (not self._readings or self._num_bytes < AHEAD_BYTES):
            name = self._names.popleft()
            reading = self._store.read(*name)
            self._readings.append((name, reading))
            self._num_bytes += reading.num_bytes if reading else 0
