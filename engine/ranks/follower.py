"""The end of a rank other than 0: what rank 0 tells it, in order, and what it says of itself. Pure Python.

It lives as long as rank 0 does: without that it ends at once, for it answers nobody.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from engine.errors import Unavailable
from engine.ranks.frames import FrameSocket
from engine.ranks.leader import BEAT_S, CLOSE_S, JOIN_S, LOST_S, rank_version
from engine.ranks.place import RankPlace, leave

RankTold = tuple[dict[str, Any], list[bytes]]


class FollowerLine:
    """memory: what this process has in use, as fields of engine.types.RankMemory; called on a thread of this class.

    Raises Unavailable where rank 0 cannot be reached. told: what LeaderLine.open returned there."""

    def __init__(self, place: RankPlace, told: bytes, memory: Callable[[], dict[str, int]]) -> None:
        self._place = place
        self._memory = memory
        self._told: SimpleQueue[RankTold] = SimpleQueue()
        self._question = 0
        port, token = int.from_bytes(told[:2], "big"), told[2:]
        try:
            connection = socket.create_connection((place.host, port), timeout=LOST_S)
            self._line = FrameSocket(connection)
            self._line.send({"rank": place.rank, "token": token.hex(), "version": rank_version()})
        except OSError as error:
            why = f"rank 0 cannot be reached at {place.host}: {error.strerror or error}"
            raise Unavailable(f"{why}.", code="rank_lost") from None
        # Rank 0 says nothing before all ranks have come.
        self._line.settimeout(JOIN_S + LOST_S)
        threading.Thread(target=self._read, name="told", daemon=True).start()
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def next(self) -> RankTold:
        """The next thing to do. Blocks."""
        message, parts = self._told.get()
        self._question = message.pop("question", self._question)
        return message, parts

    def answer(self, **facts: Any) -> None:
        """To the question of rank 0 that `next` gave last."""
        self._line.send({"answer": facts, "to": self._question})

    def failed(self, why: str) -> None:
        """This process cannot go on."""
        self._line.send({"failed": why})

    def _read(self) -> None:
        while True:
            try:
                message, parts = self._line.receive()
            except (OSError, EOFError, ValueError) as error:
                # The engine's thread may be waiting for rank 0 in MLX, so nothing can end in order.
                print(f"error: rank {self._place.rank}: rank 0 is gone: {error}", file=sys.stderr, flush=True)
                leave()
                return
            # It says at least every second that it is there; a machine that is gone closes nothing.
            self._line.settimeout(LOST_S)
            if message["do"] != "beat":
                self._told.put((message, parts))
            if message["do"] == "end":
                time.sleep(CLOSE_S)
                leave(0)  # the engine's thread waits for what does not come any more
                return

    def _beat(self) -> None:
        while True:
            try:
                self._line.send({"memory": self._memory()})
            except OSError:
                return  # the other thread sees it, too
            time.sleep(BEAT_S)
