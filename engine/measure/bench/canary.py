"""The proof that a measured run was real. What is looked at:

    seen     every medium left tokens in the prompt, and no receipt is missing; where a target gives no receipts, its
             prompt is longer with the media than without
    sizes    tokens and seen size are what the processor predicts by itself
    blank    the first token's log-probabilities change when the media are blanked: by far more than they change when
             the same is asked again. Where they cannot be had (HTTP): the greedy answer changes, and stays the same
             when the same is asked again
    answers  the expected word is said, greedily; binding for checkpoints that bring their own `canary.json`, which says
             that they know shapes and colours; for others it is only reported
    cache    what was labelled cold reused none of its own tokens and no vision features, what was labelled warm did

A model that does not see fails "blank", whatever it says. Judging is pure; `prove` asks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.errors import EngineError
from engine.measure.bench.plan import Proof
from engine.measure.bench.result import Canary, Check
from engine.measure.bench.samples import Logprobs, Sample, SeenMedia
from engine.measure.bench.targets import Target

FILE = "canary.json"
LOGPROBS = 20
ANSWER_TOKENS = 24
AGAIN_TIMES = 10.0
"""A blanked medium must move the log-probabilities by so many times what asking again does."""

LEAST_MOVE = 1e-4


@dataclass(frozen=True, slots=True)
class Proven:
    """What came of a proof. again: the same asked twice; bare: without media, asked where there are no receipts."""

    shown: Sample
    again: Sample
    blanked: Sample
    bare: Sample | None = None
    predicted: tuple[SeenMedia, ...] | None = None
    must_answer: bool = False


async def prove(target: Target, proof: Proof) -> Proven | str:
    """Ask what the canary must know of one case; the reason in words when it could not be asked."""
    shown, blanked = (
        replace(question.greedy(ANSWER_TOKENS), logprobs=LOGPROBS) for question in (proof.shown, proof.blanked)
    )
    try:
        seen = await target.ask(shown)
        return Proven(
            shown=seen,
            again=await target.ask(shown),
            blanked=await target.ask(blanked),
            bare=await target.ask(replace(shown, media=())) if seen.seen is None else None,
            predicted=await target.predict(shown),
            must_answer=knows_shapes(target.model_path),
        )
    except EngineError as e:
        return e.message


def knows_shapes(model_path: str) -> bool:
    """Whether a checkpoint's folder says that its model knows shapes and colours: `{"shapes": true}` in canary.json."""
    file = Path(model_path) / FILE
    try:
        said = json.loads(file.read_text(encoding="utf-8")) if model_path and file.is_file() else {}
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and said.get("shapes") is True


def judge(samples: Sequence[Sample], proven: Proven | str | None) -> Canary:
    """Everything that can be said of one case of one target."""
    checks = [check for check in (_seen(samples, proven), _cache(samples)) if check]
    if isinstance(proven, str):
        checks.append(Check("blank", None, f"could not be asked: {proven}"))
    elif proven is not None:
        checks += [_sizes(samples, proven), _blank(proven), _answers(proven)]
    return Canary(tuple(checks))


def _seen(samples: Sequence[Sample], proven: Proven | str | None) -> Check | None:
    with_media = [sample for sample in samples if sample.num_media]
    if not with_media:
        return None
    told = [sample for sample in with_media if sample.seen is not None]
    lost = [s for s in told if len(s.seen or ()) != s.num_media or any(seen.tokens < 1 for seen in s.seen or ())]
    if lost:
        return Check("seen", False, f"{len(lost)} of {len(told)} answers lost a picture or a clip")
    if told:
        tokens = sum(seen.tokens for seen in told[0].seen or ())
        return Check("seen", True, f"{tokens} tokens of media in each prompt")
    if not isinstance(proven, Proven) or proven.bare is None:
        return Check("seen", None, "it gives no receipts")
    more = proven.shown.prompt_tokens - proven.bare.prompt_tokens
    return Check("seen", more > 0, f"its prompt has {more} tokens more with the media than without")


def _sizes(samples: Sequence[Sample], proven: Proven) -> Check:
    if proven.predicted is None:
        return Check("sizes", None, "the processor cannot be asked by itself")
    for sample in (proven.shown, *samples):
        if sample.num_media == proven.shown.num_media and sample.seen != proven.predicted:
            return Check("sizes", False, f"seen {say_seen(sample.seen)}, predicted {say_seen(proven.predicted)}")
    return Check("sizes", True, f"{say_seen(proven.predicted)}, as predicted")


def say_seen(seen: Sequence[SeenMedia] | None) -> str:
    """ "64x48 in 12 tokens" for each medium."""
    return ", ".join(f"{one.px[0]}x{one.px[1]} in {one.tokens} tokens" for one in seen or ()) or "nothing"


def _blank(proven: Proven) -> Check:
    if proven.shown.logprobs:
        moved = distance(proven.shown.logprobs, proven.blanked.logprobs)
        noise = distance(proven.shown.logprobs, proven.again.logprobs)
        said = f"the first token's log-probabilities move by {moved:.2g} when blanked, by {noise:.2g} when asked again"
        return Check("blank", moved > max(AGAIN_TIMES * noise, LEAST_MOVE), said)
    if proven.shown.text_sha256 != proven.again.text_sha256:
        return Check("blank", None, "its greedy answers differ from time to time")
    if proven.shown.text_sha256 == proven.blanked.text_sha256:
        return Check("blank", False, "the answer about blank media is the same, word for word")
    return Check("blank", True, "the answer about blank media is another")


def distance(a: Logprobs, b: Logprobs) -> float:
    """The largest difference of a log-probability; a token that one side lacks is at most its smallest there."""
    if not a or not b:
        return 0.0
    left, right = dict(a), dict(b)
    least_left, least_right = min(left.values()), min(right.values())
    return max(abs(left.get(i, least_left) - right.get(i, least_right)) for i in left.keys() | right.keys())


def _answers(proven: Proven) -> Check:
    right = proven.shown.right
    if right is None:
        return Check("answers", None, "no answer was expected")
    if proven.must_answer:
        return Check("answers", right, "the right answer" if right else "a wrong answer")
    return Check("answers", None, "the right answer" if right else "not the expected word; this model promises none")


def _cache(samples: Sequence[Sample]) -> Check | None:
    claimed = [sample for sample in samples if sample.claim]
    if not claimed:
        return None
    claim = claimed[0].claim
    if all(sample.cached_tokens is None for sample in claimed):
        return Check("cache", None, f"labelled {claim}; it does not say what it reused")
    wrong = [sample for sample in claimed if sample.claim != ("warm" if is_warm(sample) else "cold")]
    reused = sum(sample.cached_tokens or 0 for sample in claimed)
    said = f"labelled {claim}; {reused} of {sum(sample.prompt_tokens for sample in claimed)} prompt tokens were reused"
    if wrong:
        said += f": {len(wrong)} of {len(claimed)} answers were not {claim}"
    return Check("cache", not wrong, said)


def is_warm(sample: Sample) -> bool:
    """Whether the cache knew the most of a prompt: its media, or half of a prompt of text.

    The few tokens in which all prompts of a template begin alike make nothing warm.
    """
    cached, media = sample.cached_tokens or 0, sum(seen.tokens for seen in sample.seen or ())
    return sample.feature_hits > 0 or (cached >= media if media else 2 * cached >= sample.prompt_tokens)
