"""detokenize: valid UTF-8 only, no special tokens, stop strings cut wherever tokens cut them, reasoning told apart."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.config import EngineConfig, ModelSpec
from engine.models import registry
from engine.runtime.output.detokenizer import Detokenizer
from engine.types import Delta, GeneratedToken
from tests import tiny
from tests.families import FAMILIES, Family

TEXT = "naïve façade — 世界 🦊👩‍👩‍👧 Привет! עברית ✅ end\n\tof def text():"


@pytest.fixture(scope="module")
def loaded(models_dir: Path) -> registry.Loaded:
    """A byte-level tokenizer that cuts most characters outside ASCII in several tokens; it knows <think> too."""
    family = Family(config=FAMILIES["qwen3"].config, tokens=("<think>", "</think>"))
    folder = tiny.write(family, "qwen3", "float32", models_dir / "thinking")
    return registry.load(EngineConfig(model=ModelSpec(str(folder))))


Make = Callable[..., Detokenizer]


@pytest.fixture
def make(loaded: registry.Loaded) -> Make:
    return lambda **settings: Detokenizer(loaded, **settings)


@pytest.fixture
def encode(loaded: registry.Loaded) -> Callable[[str], list[int]]:
    return lambda text: loaded.tokenizer.encode(text, add_special_tokens=False)


def run(detokenizer: Detokenizer, ids: list[int]) -> list[Delta]:
    """All deltas of an answer; stops feeding when a stop string was completed, as the worker does."""
    deltas: list[Delta] = []
    for token in ids:
        deltas += detokenizer.add(GeneratedToken(token))
        if detokenizer.stopped:
            return deltas
    return deltas + detokenizer.flush() + detokenizer.rest()


def text(deltas: list[Delta], channel: str = "text") -> str:
    return "".join(delta.text for delta in deltas if delta.channel == channel)


def check_whole_characters(deltas: list[Delta]) -> None:
    assert text(deltas) == TEXT, "characters are broken"
    for delta in deltas:
        assert "\N{REPLACEMENT CHARACTER}" not in delta.text, "characters are broken"
        delta.text.encode("utf-8")


def test_characters_cut_by_tokens_come_out_whole(make: Make, encode: Callable[[str], list[int]]) -> None:
    ids = encode(TEXT)
    assert len(ids) > len(TEXT), "the text is not cut inside its characters"
    check_whole_characters(run(make(), ids))


def test_text_comes_as_early_as_it_can(make: Make, encode: Callable[[str], list[int]], loaded: registry.Loaded) -> None:
    """Only an open character and what its token holds with it is kept back; a token has one character per byte."""
    detokenizer, seen, num_bytes = make(), "", 0
    for token in encode(TEXT):
        seen += text(detokenizer.add(GeneratedToken(token)))
        num_bytes += len(loaded.tokenizer.convert_ids_to_tokens(token))
        assert TEXT.startswith(seen)
        assert num_bytes - len(seen.encode()) <= 6


def test_sabotage_token_by_token_decoding_breaks_characters(
    loaded: registry.Loaded, encode: Callable[[str], list[int]]
) -> None:
    """Twin: decoding each token by itself is the classic fault."""
    naive = [Delta(loaded.tokenizer.decode([token])) for token in encode(TEXT)]
    with pytest.raises(AssertionError, match="characters are broken"):
        check_whole_characters(naive)


def test_any_token_sequence_is_survived(make: Make, loaded: registry.Loaded) -> None:
    """Random ids are mostly broken UTF-8; ids beyond the tokenizer happen where a model's vocabulary is padded."""
    rng = random.Random(7)
    size = len(loaded.tokenizer)
    for _ in range(20):
        ids = [rng.randrange(size + 8) for _ in range(60)]
        for delta in run(make(stop=("xyzzy",)), ids):
            delta.text.encode("utf-8")


def test_tokens_are_all_counted(make: Make, encode: Callable[[str], list[int]]) -> None:
    ids = encode(TEXT)
    assert [token.id for delta in run(make(), ids) for token in delta.tokens] == ids


def test_special_tokens_never_become_text(
    make: Make, encode: Callable[[str], list[int]], loaded: registry.Loaded
) -> None:
    special = sorted(loaded.special_ids)
    assert special
    ids = [token for part in encode("one two three four") for token in (*special, part)]
    assert text(run(make(), ids)) == "one two three four"


# -- stop strings ------------------------------------------------------------------------------------------------------

ANSWER = "aab aaab: 世界 stop here\nEND of it"


def cut(answer: str, *stops: str) -> str:
    """The answer up to the stop string that is complete first."""
    ends = [(answer.index(s) + len(s), answer.index(s)) for s in stops if s in answer]
    return answer[: min(ends)[1]] if ends else answer


def check_stop(detokenizer: Detokenizer, ids: list[int], answer: str, *stops: str) -> None:
    deltas = run(detokenizer, ids)
    assert text(deltas) == cut(answer, *stops), "a stop string is missed"
    assert detokenizer.stopped == any(s in answer for s in stops)


def substrings(answer: str) -> Iterator[str]:
    for length in (1, 2, 3, 5, 9):
        for start in range(0, len(answer) - length + 1, 2):
            yield answer[start : start + length]


def test_every_stop_string_is_cut_where_it_begins(make: Make, encode: Callable[[str], list[int]]) -> None:
    """Whole tokens, parts of tokens, across tokens, inside characters that tokens cut: all substrings of an answer."""
    ids = encode(ANSWER)
    for stop in substrings(ANSWER):
        check_stop(make(stop=(stop,)), ids, ANSWER, stop)


@pytest.mark.parametrize(
    "stops", [("END", "stop"), ("stop here\nENDX", "END"), ("aaab",), ("nothing",), ("it!", "of it"), ("b: 世", "b")]
)
def test_several_stop_strings(make: Make, encode: Callable[[str], list[int]], stops: tuple[str, ...]) -> None:
    check_stop(make(stop=stops), encode(ANSWER), ANSWER, *stops)


def test_a_stop_string_cut_one_character_per_token(make: Make, encode: Callable[[str], list[int]]) -> None:
    ids = [token for character in ANSWER for token in encode(character)]
    check_stop(make(stop=("stop here",)), ids, ANSWER, "stop here")


def test_what_only_looked_like_a_stop_string_is_given_back(make: Make, encode: Callable[[str], list[int]]) -> None:
    deltas = run(make(stop=("END of the world",)), encode(ANSWER))
    assert text(deltas) == ANSWER
    almost = "tell me th"
    assert text(run(make(stop=("the end",)), encode(almost))) == almost


def test_nothing_comes_after_a_stop_string(make: Make, encode: Callable[[str], list[int]]) -> None:
    detokenizer = make(stop=("END",))
    run(detokenizer, encode(ANSWER))
    assert detokenizer.stopped
    assert detokenizer.flush() == []


def test_sabotage_no_holding_back_is_seen(
    make: Make, encode: Callable[[str], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: a detokenizer that looks for stop strings in each piece by itself."""

    def piece_by_piece(self: Any, piece: str) -> list[Delta]:
        self.stopped = "stop here" in piece
        return [self._delta(piece.partition("stop here")[0], "normal")] if piece else []

    monkeypatch.setattr(Detokenizer, "_advance", piece_by_piece)
    with pytest.raises(AssertionError, match="a stop string is missed"):
        check_stop(make(stop=("stop here",)), encode(ANSWER), ANSWER, "stop here")


# -- reasoning ---------------------------------------------------------------------------------------------------------


def test_reasoning_goes_to_its_own_channel(make: Make, encode: Callable[[str], list[int]]) -> None:
    ids = encode("<think>It has six legs.</think>An ant.")
    deltas = run(make(), ids)
    assert (text(deltas, "reasoning").strip(), text(deltas).strip()) == ("It has six legs.", "An ant.")


def test_reasoning_that_the_template_opened(make: Make, encode: Callable[[str], list[int]]) -> None:
    deltas = run(make(reasoning=True), encode("Six legs.</think>An ant."))
    assert (text(deltas, "reasoning").strip(), text(deltas).strip()) == ("Six legs.", "An ant.")


def test_an_unclosed_thought_is_reasoning(make: Make, encode: Callable[[str], list[int]]) -> None:
    deltas = run(make(), encode("<think>Six legs"))
    assert (text(deltas, "reasoning"), text(deltas)) == ("Six legs", "")
