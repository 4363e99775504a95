"""memory: what is left beside the weights is shared; a batch counts as rows times its longest. Pure Python."""

from __future__ import annotations

import pytest

from engine.config import CacheConfig
from engine.runtime.memory_use.memory import GROWTH_TOKENS, ModelMemory, padded_tokens, room, share

GIB = 1024**3


def test_stored_kv_gets_what_was_asked_for_where_there_is_room() -> None:
    budget = share(64 * GIB, 0.5, [ModelMemory(12 * GIB, 1024)], 4 * GIB)[0]
    assert budget.stored_bytes == 4 * GIB
    assert budget.row_tokens == 16 * GIB // 1024


def test_stored_kv_and_features_are_cut_alike_to_what_they_may_have() -> None:
    asked = CacheConfig(max_bytes=3 * GIB, max_feature_bytes=GIB)
    assert asked.within(8 * GIB) == asked
    cut = asked.within(GIB)
    assert cut.total_bytes <= GIB
    assert (cut.max_bytes, cut.max_feature_bytes) == (3 * GIB // 4, GIB // 4)


def test_running_rows_keep_half_of_a_small_rest() -> None:
    budget = share(16 * GIB, 0.5, [ModelMemory(6 * GIB, 1024)], 4 * GIB)[0]
    assert (budget.stored_bytes, budget.row_tokens) == (GIB, GIB // 1024)


def test_two_models_share_what_the_weights_of_both_leave() -> None:
    large, small = share(64 * GIB, 0.5, [ModelMemory(8 * GIB, 2048), ModelMemory(4 * GIB, 1024)], 4 * GIB)
    assert large.stored_bytes == small.stored_bytes == 2 * GIB
    assert (large.row_tokens, small.row_tokens) == (8 * GIB // 2048, 8 * GIB // 1024)


def test_a_model_with_a_limit_of_its_own_gets_no_more() -> None:
    limited, other = share(
        64 * GIB, 0.5, [ModelMemory(4 * GIB, 1024, max_bytes=5 * GIB), ModelMemory(4 * GIB, 1024)], 4 * GIB
    )
    assert (limited.stored_bytes, limited.row_tokens) == (GIB // 2, GIB // 2 // 1024)
    assert other.stored_bytes == 2 * GIB, "what the one may not have is not taken from the other"
    (over,) = share(64 * GIB, 0.5, [ModelMemory(4 * GIB, 1024, max_bytes=GIB)], GIB)
    assert (over.stored_bytes, over.row_tokens) == (0, 0)


def test_room_is_weights_and_some_kv() -> None:
    assert room([ModelMemory(8 * GIB, 1024)]) == 9 * GIB and room([]) == 0


def test_weights_that_fill_the_memory_leave_nothing() -> None:
    assert share(8 * GIB, 0.9, [ModelMemory(9 * GIB, 1)], GIB)[0].row_tokens == 0


def test_an_unknown_size_of_a_token_is_no_limit() -> None:
    assert share(8 * GIB, 0.9, [ModelMemory(GIB, 0)], GIB)[0].row_tokens is None


@pytest.mark.parametrize(
    ("lengths", "tokens"), [((), 0), ((10,), 10 + GROWTH_TOKENS), ((10, 1000, 1), 3 * (1000 + GROWTH_TOKENS))]
)
def test_a_batch_is_padded_to_its_longest_row(lengths: tuple[int, ...], tokens: int) -> None:
    assert padded_tokens(lengths) == tokens
