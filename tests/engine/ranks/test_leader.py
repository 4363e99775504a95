"""Rank 0's connections without a model: who may connect, what arrives, and what counts as lost."""

from __future__ import annotations

import json
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
from engine.ranks.leader import LeaderLine, rank_version
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
    monkeypatch.setattr(follower, "CLOSE_S", 0.1)
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


def test_who_ends_as_it_was_told_is_not_lost(pair: Pair, left: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "CLOSE_S", 0.1)
    pair.leader.close()
    assert pair.follower.next()[0] == {"do": "end"}
    assert not pair.lost and not left


def test_without_rank_0_a_rank_ends_at_once(pair: Pair, left: list[int], capfd: pytest.CaptureFixture[str]) -> None:
    for line in pair.leader._others.values():
        line._socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: left)
    assert left == [1]
    assert "error: rank 1: rank 0 is gone: the other end has closed" in capfd.readouterr().err


STRANGERS: list[Any] = [
    {"rank": 1, "token": "00" * 32},
    {"rank": 1},
    {"token": "zz"},
    {"rank": 9},
    {"sizes": [50_000_000_000]},
    5,
    "[" * 4096,
    {"rank": float("inf"), "token": ""},
    {"rank": 1, "token": "x" * 5000},
]


def connected(line: LeaderLine) -> tuple[socket.socket, str]:
    """A connection to a line that is opened for it, and the secret."""
    told = line.open()
    return socket.create_connection(("127.0.0.1", int.from_bytes(told[:2], "big"))), told[2:].hex()


def is_refused(connection: socket.socket, line: LeaderLine, most_join_s: str = "0.3") -> None:
    with pytest.raises(Unavailable, match=rf"of 2 ranks these have not come within {most_join_s} s: \[1\]"):
        line.join()
    with pytest.raises((EOFError, OSError)):
        FrameSocket(connection).receive()


@pytest.mark.parametrize("first", STRANGERS)
def test_a_stranger_is_not_let_in(first: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "JOIN_S", 0.3)
    line = LeaderLine(place(0), lambda _: None)
    stranger, _ = connected(line)
    text = (first if isinstance(first, str) else json.dumps(first)).encode()
    stranger.sendall(len(text).to_bytes(4, "big") + text)
    is_refused(stranger, line)


@pytest.mark.parametrize("rank", [-1, 0, 2, 9])
def test_a_rank_that_is_none_of_them_is_not_let_in(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "JOIN_S", 0.3)
    line = LeaderLine(place(0), lambda _: None)
    stranger, token = connected(line)
    FrameSocket(stranger).send({"rank": rank, "token": token, "version": rank_version()})
    is_refused(stranger, line)


def test_a_second_rank_1_is_not_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "JOIN_S", 0.3)
    line = LeaderLine(place(0, 3), lambda _: None)
    first, token = connected(line)
    second = socket.create_connection(first.getpeername())
    for connection in (first, second):
        FrameSocket(connection).send({"rank": 1, "token": token, "version": rank_version()})
    with pytest.raises(Unavailable, match=r"of 3 ranks these have not come within 0.3 s: \[2\]"):
        line.join()
    assert second.recv(1) == b""
    assert list(line._others) == [1]
    first.close()


def test_another_version_is_refused_by_its_name() -> None:
    line = LeaderLine(place(0), lambda _: None)
    other, token = connected(line)
    FrameSocket(other).send({"rank": 1, "token": token, "version": "mlx-workbench 9.9"})
    with pytest.raises(Unavailable, match=r"same version: rank 1 is mlx-workbench 9\.9, rank 0 is mlx-workbench 0"):
        line.join()
    other.close()


@pytest.mark.parametrize("says", [b"", b"\x00\x00"])
def test_a_stranger_that_waits_keeps_nobody_out(says: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up at one moment, however slowly it goes on."""
    monkeypatch.setattr(leader, "FIRST_S", 0.3)
    line = LeaderLine(place(0), lambda _: None)
    stranger, token = connected(line)
    drips = threading.Event()

    def drip() -> None:
        with suppress(OSError):
            stranger.sendall(b"\x00\x00\x0f\x00")
            while not drips.wait(0.1):
                stranger.sendall(b" ")

    if says:
        threading.Thread(target=drip, daemon=True).start()
    began_s = time.monotonic()
    rank_1 = socket.create_connection(stranger.getpeername())
    FrameSocket(rank_1).send({"rank": 1, "token": token, "version": rank_version()})
    line.join()
    drips.set()
    assert time.monotonic() - began_s < 3 and list(line._others) == [1]
    stranger.close()
    rank_1.close()
    wait_until(lambda: line.lost)


def test_a_rank_waits_for_others_that_come_late(monkeypatch: pytest.MonkeyPatch, left: list[int]) -> None:
    """Rank 0 says nothing before all are there, and that may take longer than a silence may later."""
    monkeypatch.setattr(follower, "LOST_S", 0.2)
    line = LeaderLine(place(0, 3), lambda _: None)
    told = line.open()
    joining = threading.Thread(target=line.join)
    joining.start()
    early = FollowerLine(place(1, 3), told, lambda: MEMORY)
    time.sleep(0.6)
    assert not left
    monkeypatch.setattr(follower, "LOST_S", 8.0)
    late = FollowerLine(place(2, 3), told, lambda: MEMORY)
    joining.join()
    line.tell({"do": "make", "new": 1})
    assert early.next() == late.next() == ({"do": "make", "new": 1}, [])
    for other in list(line._others.values()):
        other._socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: len(left) == 2)


@pytest.mark.parametrize("said", [{"memory": {"active_bytes": 1}}, {"memory": 5}, {"answer": {}}, 5])
def test_what_is_no_message_is_a_rank_lost(said: Any, pair: Pair) -> None:
    text = json.dumps(said).encode()
    pair.follower._line._socket.sendall(len(text).to_bytes(4, "big") + text)
    wait_until(lambda: pair.lost)
    assert pair.lost[0].message.startswith("Rank 1 of 2 is lost: ")


def test_an_answer_to_an_earlier_question_counts_no_more(pair: Pair) -> None:
    pair.leader.ask({"do": "load"})
    assert pair.follower.next()[0] == {"do": "load"}
    pair.leader.ask({"do": "load"})
    pair.follower.answer(digest="of the first")
    time.sleep(0.3)
    assert pair.leader.answers() is None
    assert pair.follower.next()[0] == {"do": "load"}
    pair.follower.answer(digest="of the second")
    wait_until(lambda: pair.leader.answers() is not None)
    assert pair.leader.answers() == {1: {"digest": "of the second"}}


def test_a_rank_that_was_told_to_end_does_so_whatever_it_waits_for(
    pair: Pair, left: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "CLOSE_S", 0.1)
    monkeypatch.setattr(leader, "CLOSE_S", 0.1)
    pair.leader.close()
    wait_until(lambda: left)
    assert left == [0]


def _pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        return one, listener.accept()[0]


def test_a_first_message_is_small() -> None:
    one, other = _pair()
    a, b = FrameSocket(one), FrameSocket(other)
    a.send({"rank": "x" * 5000})
    with pytest.raises(ValueError, match="a header of"):
        b.receive_first(1.0)
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


def test_where_mlx_sees_first_that_another_rank_is_gone_that_one_is_named(pair: Pair) -> None:
    threading.Timer(0.2, lambda: pair.follower._line._socket.shutdown(socket.SHUT_RDWR)).start()
    pair.leader.fail(RuntimeError("[ring] connection to a peer was lost."))
    assert [error.message for error in pair.lost] == ["Rank 1 of 2 is lost: the other end has closed."]
