"""What a pass over several tokens of each row costs, and how many are worth it. Pure, and no model.

A pass is as wide as the row that reads most in it. The others are filled up, and wait for it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from statistics import median

_LAST_PASSES = 15

_FORGET_EVERY = 32
"""So many passes that were too dear for their rows make the oldest measurement forgotten."""


class PassCosts:
    """What each further token of a pass costs, in passes over one token of each of its rows: from the last passes of
    both kinds over so many rows.

    num_other_works: how often a step has done something beside its pass, so that its time says nothing of the pass."""

    def __init__(self) -> None:
        self.num_other_works = 0
        self._plain_s: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=_LAST_PASSES))
        self._wide: dict[int, deque[tuple[float, int]]] = defaultdict(lambda: deque(maxlen=_LAST_PASSES))
        self._num_dear: dict[int, int] = defaultdict(int)
        self._proposed_s: deque[float] = deque(maxlen=_LAST_PASSES)

    def plain(self, seconds: float, num_rows: int) -> None:
        """A pass over one token of each row took so long."""
        self._plain_s[num_rows].append(seconds)

    def wide(self, seconds: float, num_tokens: int, num_rows: int) -> None:
        """A pass over so many tokens of the row that had most took so long."""
        self._wide[num_rows].append((seconds, num_tokens))

    def was_too_dear(self, num_rows: int) -> None:
        """No pass was made, for what it would have cost. In time that is measured again: the machine may have been busy
        when it was measured."""
        self._num_dear[num_rows] += 1
        measured = self._measured(num_rows)
        if self._num_dear[num_rows] % _FORGET_EVERY == 0 and measured:
            self._wide[measured].popleft()

    def proposed(self, seconds: float, num_tokens: int) -> None:
        """To propose so many tokens for one row took so long, while the model did nothing."""
        self._proposed_s.append(seconds / num_tokens)
        self.did_other_work()

    def did_other_work(self) -> None:
        """This step did more than its pass."""
        self.num_other_works += 1

    def to_propose(self, num_rows: int) -> float:
        """What it costs to propose a token for one of so many rows, in tokens that all of them would have had."""
        if not self._proposed_s or not self._plain_s[num_rows]:
            return 0.0
        return num_rows * median(self._proposed_s) / median(self._plain_s[num_rows])

    def is_known(self, num_rows: int) -> bool:
        """Whether it is known what a pass over one token of each takes."""
        return bool(self._plain_s[num_rows])

    def further(self, num_rows: int) -> float:
        """What each further token costs in a pass over so many rows; where none was made yet, over fewer."""
        measured = self._measured(num_rows)
        if not measured:
            return 0.0
        plain_s = median(self._plain_s[measured])
        return max(0.0, median((seconds / plain_s - 1.0) / (num - 1) for seconds, num in self._wide[measured]))

    def _measured(self, num_rows: int) -> int:
        """So many rows, or the next fewer of which both kinds of passes were measured; 0 where there are none."""
        return next((rows for rows in range(num_rows, 0, -1) if self._wide[rows] and self._plain_s[rows]), 0)


def num_worth_it(proposed: Sequence[tuple[int, float]], cost: float, room: int) -> int:
    """How many tokens behind the first a pass is to read at most, 0 where none is worth it.

    proposed: of each row that proposes, how many tokens, and the chance of each that it is right if those before it
    are. cost: of each further token for all rows, in tokens. room: how many of all rows may be read."""
    best, best_won, won = 0, 0.0, 0.0
    for num in range(1, max((most for most, _ in proposed), default=0) + 1):
        readers = [chance for most, chance in proposed if most >= num]
        room -= len(readers)
        if room < 0:
            break
        won += sum(chance**num for chance in readers) - cost
        if won > best_won:
            best, best_won = num, won
    return best
