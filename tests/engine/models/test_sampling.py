"""sampling: each request its own key; the settings mean what they say; penalties and bias reach the logits."""

from __future__ import annotations

import mlx.core as mx
import pytest

from engine.models.sampling import make_processors, make_sampler, resolve, token_logprobs
from engine.types import Sampling

VOCAB = 50


def logprobs(seed: int = 0, spread: float = 3.0) -> mx.array:
    """A row of log-probabilities, (1, VOCAB)."""
    logits = mx.random.normal((1, VOCAB), key=mx.random.key(seed)) * spread
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def draws(sampling: Sampling, count: int = 40, row: mx.array | None = None) -> list[int]:
    sampler = make_sampler(sampling)
    row = logprobs() if row is None else row
    return [int(sampler(row).item()) for _ in range(count)]


def test_greedy_requests_share_one_function() -> None:
    """mlx-lm's batcher samples all rows in one call when their samplers are the same object."""
    greedy = make_sampler(Sampling(temperature=0.0))
    assert greedy is make_sampler(Sampling(temperature=0.0, seed=3))
    assert greedy is make_sampler(Sampling())
    rows = mx.concatenate([logprobs(1), logprobs(2)])
    assert greedy(rows).tolist() == mx.argmax(rows, axis=-1).tolist()


def test_same_seed_same_tokens_and_other_seed_others() -> None:
    one = draws(Sampling(temperature=1.0, seed=1))
    assert one == draws(Sampling(temperature=1.0, seed=1))
    assert one != draws(Sampling(temperature=1.0, seed=2))
    assert len(set(one)) > 3, "the sampler does not draw"


def test_no_seed_means_a_new_one_each_time() -> None:
    assert draws(Sampling(temperature=1.0)) != draws(Sampling(temperature=1.0))


@pytest.mark.parametrize("seed", [0, -1, 2**63, 2**70])
def test_any_integer_is_a_seed(seed: int) -> None:
    assert draws(Sampling(temperature=1.0, seed=seed), 5) == draws(Sampling(temperature=1.0, seed=seed), 5)


def test_one_samplers_draws_do_not_move_anothers() -> None:
    """Twin of the shared sampler: interleaved, two seeded samplers draw what each draws alone."""
    sampling = (Sampling(temperature=1.0, seed=1), Sampling(temperature=1.0, seed=2))
    alone = [draws(s, 10) for s in sampling]
    samplers, row = [make_sampler(s) for s in sampling], logprobs()
    together = [[int(sampler(row).item()) for sampler in samplers] for _ in range(10)]
    assert [list(column) for column in zip(*together, strict=True)] == alone
    shared = samplers[0]
    mixed = [[int(shared(row).item()) for _ in samplers] for _ in range(10)]
    assert [list(column) for column in zip(*mixed, strict=True)] != alone


@pytest.mark.parametrize("sampling", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}])
def test_the_narrowest_setting_is_greedy(sampling: dict[str, float]) -> None:
    best = int(mx.argmax(logprobs()).item())
    assert set(draws(Sampling(temperature=1.5, seed=3, **sampling))) == {best}  # type: ignore[arg-type]


def test_top_k_draws_only_from_the_best() -> None:
    best = set(mx.argsort(-logprobs(), axis=-1)[0, :4].tolist())
    drawn = set(draws(Sampling(temperature=2.0, top_k=4, seed=5), 150))
    assert drawn <= best
    assert len(drawn) == 4
    assert not set(draws(Sampling(temperature=2.0, seed=5), 150)) <= best, "without top_k it would draw others"


def test_top_p_draws_only_from_the_nucleus() -> None:
    row = mx.log(mx.array([[0.5, 0.3, 0.15, 0.05]]))
    assert set(draws(Sampling(temperature=1.0, top_p=0.75, seed=1), 100, row)) == {0, 1}


def test_min_p_is_relative_to_the_best() -> None:
    row = mx.log(mx.array([[0.5, 0.3, 0.15, 0.05]]))
    assert set(draws(Sampling(temperature=1.0, min_p=0.25, seed=1), 200, row)) == {0, 1, 2}


def test_temperature_spreads() -> None:
    cold = draws(Sampling(temperature=0.2, seed=1), 100)
    hot = draws(Sampling(temperature=3.0, seed=1), 100)
    assert len(set(cold)) < len(set(hot))


def test_frequencies_follow_the_probabilities() -> None:
    row = mx.log(mx.array([[0.6, 0.3, 0.1]]))
    drawn = draws(Sampling(temperature=1.0, seed=11), 600, row)
    for token, probability in enumerate((0.6, 0.3, 0.1)):
        assert abs(drawn.count(token) / 600 - probability) < 0.07


# -- what a request leaves open ----------------------------------------------------------------------------------------


def test_the_request_comes_first_then_the_server_then_the_checkpoint() -> None:
    asked, server, checkpoint = (
        Sampling(temperature=0.0),
        Sampling(temperature=0.5, top_p=0.8),
        Sampling(temperature=0.9, top_p=0.9, top_k=20),
    )
    found = resolve(asked, server, checkpoint)
    assert (found.temperature, found.top_p, found.top_k, found.seed) == (0.0, 0.8, 20, None)


# -- logits processors -------------------------------------------------------------------------------------------------


def processed(sampling: Sampling, prompt: list[int], answer: tuple[int, ...] = ()) -> list[float]:
    """The logits after processors that were asked before each token of the answer, and for the next one."""
    processors, logits = make_processors(sampling), mx.array([[1.0, 2.0, 3.0, -4.0]])
    for end in range(len(answer) + 1):
        logits = mx.array([[1.0, 2.0, 3.0, -4.0]])
        for processor in processors:
            logits = processor(mx.array([*prompt, *answer[:end]]), logits)
    return [round(value, 4) for value in logits[0].tolist()]


def test_most_requests_need_no_processor() -> None:
    assert make_processors(Sampling(temperature=0.7, repetition_penalty=1.0)) == []


def test_bias_and_penalties_move_the_right_logits() -> None:
    plain = [1.0, 2.0, 3.0, -4.0]
    assert processed(Sampling(), [3, 3], (3,)) == plain
    assert processed(Sampling(logit_bias=((0, 10.0),)), []) == [11.0, 2.0, 3.0, -4.0]
    assert processed(Sampling(repetition_penalty=2.0), [3], (0,)) == [0.5, 2.0, 3.0, -8.0]
    assert processed(Sampling(presence_penalty=0.5), [1], (3, 3, 2)) == [1.0, 2.0, 2.5, -4.5]
    assert processed(Sampling(frequency_penalty=0.5), [1], (3, 3, 2)) == [1.0, 2.0, 2.5, -5.0]


def test_penalties_see_all_of_a_long_answer_and_no_placeholder_of_the_prompt() -> None:
    """MLX checks no index: a placeholder's id beyond the logits would write to other memory."""
    assert processed(Sampling(frequency_penalty=0.01), [-7, 4, 9999], (1,) * 100) == [1.0, 1.0, 3.0, -4.0]
    assert processed(Sampling(repetition_penalty=2.0), [-7, 1, 9999]) == [1.0, 1.0, 3.0, -4.0]


@pytest.mark.parametrize("temperature", [1e-45, 1e-5, 0.0])
def test_next_to_no_temperature_is_greedy(temperature: float) -> None:
    assert make_sampler(Sampling(temperature=temperature)) is make_sampler(Sampling(temperature=0.0))


def test_what_cannot_come_is_not_among_the_likeliest() -> None:
    row = mx.array([-0.1, -mx.inf, -2.0, -mx.inf])
    assert [token for token, _ in token_logprobs(row, 0, 4)[1]] == [0, 2]


def test_the_likeliest_tokens() -> None:
    row = logprobs()[0]
    _, found = token_logprobs(row.astype(mx.bfloat16), 0, 3)
    assert [token for token, _ in found] == mx.argsort(-row.astype(mx.bfloat16))[:3].tolist()
    assert found[0][1] >= found[1][1] >= found[2][1]
    own, none = token_logprobs(row, 3, 0)
    assert own == pytest.approx(row[3].item(), abs=1e-6) and none == ()
    assert len(token_logprobs(row, 0, 10 * row.size)[1]) == row.size
