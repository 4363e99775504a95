"""The options of a question as a tree of tokens, and their probabilities from what the model says at its branches.

    "very small"  very ─┬─ small       An option is as likely as the product of its tokens, each after those before it:
    "very large"        └─ large       the model's own probability of writing it. Of all that the model might write only
    "small"       small                the options count, so their shares add up to 1.

Where others go on from the end of an option ("1" and "10"), it has whatever the model does not give to these. Else its
end costs nothing: whether a model adds a full stop says nothing about its choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Tokens = tuple[int, ...]

_SMALLEST = 1e-30
"""Stands for a probability that is 0 to the rounding: its logarithm must be a number."""


@dataclass(frozen=True, slots=True)
class Branch:
    """Where options go on. path: the tokens until there. tokens: those that come next in some option, ascending."""

    path: Tokens
    tokens: Tokens


class OptionTree:
    """The options by their spellings: for each option one or more ways to write it, as token ids.

    Several spellings of one option add up. Two options with the same spelling share it evenly.
    """

    def __init__(self, options: Sequence[Sequence[Tokens]]) -> None:
        self._options = tuple(tuple(dict.fromkeys(spellings)) for spellings in options)
        self._owners: dict[Tokens, int] = {}
        for spelling in (spelling for spellings in self._options for spelling in spellings):
            self._owners[spelling] = self._owners.get(spelling, 0) + 1
        self._longer: dict[Tokens, list[Tokens]] = {}
        """By spelling, those that begin with it, and with no longer one."""
        for spelling in self._owners:
            inside = next(
                (spelling[:at] for at in range(len(spelling) - 1, 0, -1) if spelling[:at] in self._owners), None
            )
            if inside is not None:
                self._longer.setdefault(inside, []).append(spelling)
        self.branches = self._find_branches() if len(self._options) > 1 else ()

    def _find_branches(self) -> tuple[Branch, ...]:
        following: dict[Tokens, set[int]] = {}
        for spelling in self._owners:
            for at in range(len(spelling)):
                following.setdefault(spelling[:at], set()).add(spelling[at])
        return tuple(Branch(path, tuple(sorted(tokens))) for path, tokens in sorted(following.items()))

    @property
    def paths(self) -> tuple[Tokens, ...]:
        """The longest paths to branches, ascending: whoever reads these comes by all of them. () without branches."""
        paths = {branch.path for branch in self.branches}
        passed = {path[:at] for path in paths for at in range(len(path))}
        return tuple(sorted(paths - passed))

    def probabilities(self, logprobs: Mapping[Tokens, Sequence[float]], temperature: float = 1.0) -> tuple[float, ...]:
        """Of the options, in their order; they add up to 1.

        logprobs: by the path of a branch, the natural log-probabilities of its tokens, in their order. temperature:
        above 1 brings the probabilities closer together, below 1 further apart.
        """
        if not self.branches:
            return (1.0,) * len(self._options)
        said = {
            (*branch.path, token): logprob
            for branch in self.branches
            for token, logprob in zip(branch.tokens, logprobs[branch.path], strict=True)
        }
        logs = [_log_sum([self._logprob(s, said) for s in spellings]) / temperature for spellings in self._options]
        whole = _log_sum(logs)
        return tuple(math.exp(log - whole) for log in logs)

    def _logprob(self, spelling: Tokens, said: Mapping[Tokens, float]) -> float:
        """said: the log-probability of the last token of a path, after the others."""

        def between(start: int, end: Tokens) -> float:
            return math.fsum(said[end[: at + 1]] for at in range(start, len(end)))

        others = math.fsum(math.exp(between(len(spelling), longer)) for longer in self._longer.get(spelling, ()))
        return between(0, spelling) + math.log(max(_SMALLEST, 1.0 - others)) - math.log(self._owners[spelling])


def _log_sum(logs: Sequence[float]) -> float:
    """The logarithm of the sum of what these are logarithms of."""
    largest = max(logs)
    # fsum rounds once, so that the order of the options does not show in the last digit either.
    return largest + math.log(math.fsum(math.exp(log - largest) for log in logs))
