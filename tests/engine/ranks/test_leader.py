"""Rank 0's connections without a model: who may connect, what arrives, and what counts as lost."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from engine.errors import EngineError, Unavailable
from engine.ranks import follower, leader
from engine.ranks.follower import FollowerLine
from engine.ranks.frames import FrameSocket
from engine.ranks.leader import LeaderLine
from engine.ranks.place import RankPlace
from tests.waiting import wait_until

MEMORY = {"active_bytes": 1, "cache_bytes": 2, "peak_bytes": 3, "process_bytes": 4, "total_bytes": 5}


def place(rank: int, size: int = 2) -> RankPlace:
    return RankPlace(rank, size, "127.0.0.1")


class Pair:
    """Rank 0 and rank 1 in one process."""

    def __init__(self) -> None:
        self.lost: list[EngineError] = []
        self.leader = LeaderLine(place(0), self.lost.append)
        told = self.leader.open()
        joining = threading.Thread(target=self.leader.join)
        joining.start()
        self.follower = FollowerLine(place(1), told, lambda: MEMORY)
        joining.join()


@pytest.fixture(autouse=True)
def left(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """In place of ending the process, which is that of the tests."""
    statuses: list[int] = []
    monkeypatch.setattr(follower, "leave", lambda status=1: statuses.append(status))
    return statuses


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    made = Pair()
    yield made
    monkeypatch.setattr(leader, "CLOSE_S", 0.1)  # it does not end, as a process would
    made.leader.close()
    for line in list(made.leader._others.values()):
        with suppress(OSError):  # it is closed already
            line._socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: "told" not in {thread.name for thread in threading.enumerate()})


def test_what_is_told_arrives_in_order_with_its_arrays(pair: Pair) -> None:
    array = np.arange(5, dtype=np.float32)
    for number in range(3):
        pair.leader.tell({"do": "read", "number": number}, [array.tobytes(), b""])
    pair.leader.release(7)
    pair.leader.tell({"do": "make", "new": 1})
    for number in range(3):
        message, parts = pair.follower.next()
        assert message == {"do": "read", "number": number} and parts == [array.tobytes(), b""]
    assert pair.follower.next() == ({"do": "make", "new": 1, "gone": [7]}, [])


def test_each_says_what_it_has_in_use(pair: Pair) -> None:
    wait_until(lambda: pair.leader.memory)
    (memory,) = pair.leader.memory
    assert (memory.rank, memory.active_bytes, memory.total_bytes) == (1, 1, 5)


def test_a_question_has_an_answer_of_each(pair: Pair) -> None:
    pair.leader.ask({"do": "load"})
    assert pair.leader.answers() is None
    assert pair.follower.next()[0] == {"do": "load"}
    pair.follower.answer(digest="x")
    wait_until(lambda: pair.leader.answers() is not None)
    assert pair.leader.answers() == {1: {"digest": "x"}}


def test_a_rank_that_fails_is_lost_with_its_reason(pair: Pair) -> None:
    pair.follower.failed("no such file")
    wait_until(lambda: pair.lost)
    assert pair.lost[0].message == "Rank 1 of 2 is lost: no such file." and pair.lost[0].code == "rank_lost"
    with pytest.raises(Unavailable, match="no such file"):
        pair.leader.tell({"do": "make", "new": 1})
    with pytest.raises(Unavailable, match="no such file"):
        pair.leader.answers()


def test_a_rank_that_says_nothing_is_lost(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "LOST_S", 0.0)
    wait_until(lambda: pair.lost)
    assert "it has said nothing" in pair.lost[0].message and len(pair.lost) == 1


def test_who_ends_as_it_was_told_is_not_lost(pair: Pair, left: list[int]) -> None:
    pair.leader.close()
    assert pair.follower.next()[0] == {"do": "end"}
    assert not pair.lost and not left


def test_without_rank_0_a_rank_ends_at_once(pair: Pair, left: list[int], capfd: pytest.CaptureFixture[str]) -> None:
    for line in pair.leader._others.values():
        line._socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: left)
    assert left == [1]
    assert "error: rank 1: rank 0 is gone: the other end has closed" in capfd.readouterr().err


STRANGERS: list[dict[str, Any]] = [{"rank": 1, "token": "00" * 32}, {"rank": 1}, {"token": "zz"}, {"rank": 9}]


@pytest.mark.parametrize("first", STRANGERS)
def test_a_stranger_is_not_let_in(first: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "JOIN_S", 0.3)
    line = LeaderLine(place(0), lambda _: None)
    port = int.from_bytes(line.open()[:2], "big")
    stranger = FrameSocket(socket.create_connection(("127.0.0.1", port)))
    stranger.send(first)
    with pytest.raises(Unavailable, match=r"of 2 ranks these have not come within 0.3 s: \[1\]"):
        line.join()
    with pytest.raises((EOFError, OSError)):
        stranger.receive()


def _pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        return one, listener.accept()[0]


def test_a_first_message_is_small() -> None:
    one, other = _pair()
    a, b = FrameSocket(one), FrameSocket(other)
    a.send({"rank": "x" * 5000})
    with pytest.raises(ValueError, match="a header of"):
        b.receive(most_bytes=4096)
    a.close()
    b.close()


def test_a_pass_that_does_not_end(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "PASS_S", 0.0)
    with pair.leader.waiting():
        wait_until(lambda: pair.lost)
    assert pair.lost[0].message == "The 2 ranks are stuck: a pass of the model has not ended for 0 s."
    assert len(pair.lost) == 1


def test_who_waits_for_nothing_is_not_stuck(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "PASS_S", 0.0)
    with pair.leader.waiting():
        pass
    time.sleep(2 * leader.BEAT_S)
    assert not pair.lost


def test_rank_0_may_be_what_fails(pair: Pair) -> None:
    pair.leader.fail(RuntimeError("out of memory"))
    assert [error.message for error in pair.lost] == ["Rank 0 of 2 is lost: RuntimeError: out of memory."]
