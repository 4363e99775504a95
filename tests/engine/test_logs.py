"""The same line not a thousand times, and none that somebody asked for left out."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from engine.logs import BURST, WINDOW_S, HandedOn, RepeatFilter


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.addFilter(RepeatFilter(clock))
    logger = logging.getLogger("tests.repeated")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield logger, said
    logger.removeHandler(handler)


def test_a_flood_is_a_few_lines_and_a_number(log: tuple[logging.Logger, io.StringIO], clock: Clock) -> None:
    logger, said = log
    for number in range(10_000 + BURST):
        try:
            raise OSError(24, "Too many open files")
        except OSError:
            logger.error(
                f"socket.accept() out of system resource\nsocket: <TransportSocket fd={number}>", exc_info=True
            )
    assert len(said.getvalue()) < 5_000 and said.getvalue().count("out of system resource\n") == BURST
    clock.now_s += WINDOW_S
    logger.error("another line")
    assert "left out" not in said.getvalue(), "it was another one"


def test_the_next_says_how_many_were_left_out(log: tuple[logging.Logger, io.StringIO], clock: Clock) -> None:
    logger, said = log
    for _ in range(2):
        for number in range(BURST + 7):
            logger.warning("request %s failed", number)
        clock.now_s += WINDOW_S
    assert said.getvalue().splitlines()[BURST] == "request 0 failed (7 more like this were left out)"
    assert len(said.getvalue().splitlines()) == 2 * BURST


def test_what_is_no_warning_is_never_left_out(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, said = log
    for number in range(50):
        logger.info("request %s ended", number)
    assert len(said.getvalue().splitlines()) == 50


def test_two_handlers_get_the_same_lines_and_a_flood_is_counted_once(clock: Clock) -> None:
    one, two = io.StringIO(), io.StringIO()
    both = HandedOn((logging.StreamHandler(one), logging.StreamHandler(two)))
    both.addFilter(RepeatFilter(clock))
    logger = logging.Logger("tests.handed-on")
    logger.addHandler(both)
    for number in range(BURST + 8):
        clock.now_s += WINDOW_S if number == BURST + 7 else 0
        logger.warning("request %s failed", number)
    assert one.getvalue() == two.getvalue()
    assert one.getvalue().splitlines()[BURST:] == ["request 12 failed (7 more like this were left out)"]
