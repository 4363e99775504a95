"""The proof that a measured run was real. The checks:

    seen     every medium has tokens in the prompt, and no receipt is missing. Where a target gives no receipts, its
             prompt is longer with the media than without
    sizes    tokens and size in pixels of each medium are what the processor by itself predicts
    blank    the first token's log-probabilities change when the media are blanked, by far more than when the same
             question is repeated. Where a target gives none (HTTP): the greedy answer changes when the media are
             blanked, and not when the question is repeated
    answers  the greedy answer holds the expected word. Must pass for checkpoints whose `canary.json` says that they
             know shapes and colours; for others it is only reported
    cache    samples labelled cold reused none of their own tokens and no vision features; samples labelled warm did

A model that does not see fails "blank", whatever it answers. `prove` asks the target; judging is pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.errors import EngineError
from engine.measure.bench.plan import Case, Proof
from engine.measure.bench.result import Canary, Check
from engine.measure.bench.samples import Logprobs, Sample, SeenMedia
from engine.measure.bench.targets import Target

FILE = "canary.json"
LOGPROBS = 20
ANSWER_TOKENS = 24
NOISE_FACTOR = 10.0
"""A blanked medium must change the log-probabilities by more than this many times what a repeated question does."""

MIN_CHANGE = 1e-4


@dataclass(frozen=True, slots=True)
class ProofAnswers:
    """The answers to a Proof. repeated: the same question again. without_media: only of targets without receipts.

    predicted: what the processor by itself makes of the media. must_answer: the check "answers" must pass.
    """

    answer: Sample
    repeated: Sample
    blanked: Sample
    without_media: Sample | None = None
    predicted: tuple[SeenMedia, ...] | None = None
    must_answer: bool = False


Proofs = Mapping[tuple[str, Case], ProofAnswers | str]
"""By (target, case): the answers of a proof, or why the target refused it."""


async def prove(target: Target, proof: Proof) -> ProofAnswers | str:
    """Ask a target the questions of a proof. Returns the reason in words when it refuses them."""
    question, blanked = (
        replace(question.greedy(ANSWER_TOKENS), logprobs=LOGPROBS) for question in (proof.question, proof.blanked)
    )
    try:
        answer = await target.ask(question)
        return ProofAnswers(
            answer=answer,
            repeated=await target.ask(question),
            blanked=await target.ask(blanked),
            without_media=await target.ask(replace(question, media=())) if answer.seen is None else None,
            predicted=await target.predict(question),
            must_answer=knows_shapes(target.model_path),
        )
    except EngineError as e:
        return e.message


def knows_shapes(model_path: str) -> bool:
    """Whether the checkpoint's canary.json holds `{"shapes": true}`: its model can name shapes and colours."""
    file = Path(model_path) / FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8")) if model_path and file.is_file() else {}
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("shapes") is True


def judge(samples: Sequence[Sample], answers: ProofAnswers | str | None) -> Canary:
    """The canary of one case of one target. answers: None for a case without proof; a reason where it was refused."""
    checks = [check for check in (_seen(samples, answers), _cache(samples)) if check]
    if isinstance(answers, str):
        checks.append(Check("blank", None, f"could not be asked: {answers}"))
    elif answers is not None:
        checks += [_sizes(samples, answers), _blank(answers), _answers(answers)]
    return Canary(tuple(checks))


def _seen(samples: Sequence[Sample], answers: ProofAnswers | str | None) -> Check | None:
    with_media = [sample for sample in samples if sample.num_media]
    if not with_media:
        return None
    with_receipts = [sample for sample in with_media if sample.seen is not None]
    incomplete = [
        s for s in with_receipts if len(s.seen or ()) != s.num_media or any(media.tokens < 1 for media in s.seen or ())
    ]
    if incomplete:
        return Check("seen", False, f"{len(incomplete)} of {len(with_receipts)} answers lost a picture or a clip")
    if with_receipts:
        tokens = sum(media.tokens for media in with_receipts[0].seen or ())
        return Check("seen", True, f"{tokens} tokens of media in each prompt")
    if not isinstance(answers, ProofAnswers) or answers.without_media is None:
        return Check("seen", None, "it gives no receipts")
    more = answers.answer.prompt_tokens - answers.without_media.prompt_tokens
    return Check("seen", more > 0, f"its prompt has {more} tokens more with the media than without")


def _sizes(samples: Sequence[Sample], answers: ProofAnswers) -> Check:
    if answers.predicted is None:
        return Check("sizes", None, "the processor cannot be asked by itself")
    for sample in (answers.answer, *samples):
        if sample.num_media == answers.answer.num_media and sample.seen != answers.predicted:
            return Check("sizes", False, f"seen {media_words(sample.seen)}, predicted {media_words(answers.predicted)}")
    return Check("sizes", True, f"{media_words(answers.predicted)}, as predicted")


def media_words(media: Sequence[SeenMedia] | None) -> str:
    """For each medium its size and tokens, as "64 × 48 in 12 tokens"."""
    return (
        ", ".join(f"{medium.px[0]} × {medium.px[1]} in {medium.tokens} tokens" for medium in media or ()) or "nothing"
    )


def _blank(answers: ProofAnswers) -> Check:
    if answers.answer.logprobs:
        change = distance(answers.answer.logprobs, answers.blanked.logprobs)
        noise = distance(answers.answer.logprobs, answers.repeated.logprobs)
        words = (
            f"the first token's log-probabilities move by {change:.2g} when blanked, by {noise:.2g} when asked again"
        )
        return Check("blank", change > max(NOISE_FACTOR * noise, MIN_CHANGE), words)
    if answers.answer.text_sha256 != answers.repeated.text_sha256:
        return Check("blank", None, "its greedy answers differ from time to time")
    if answers.answer.text_sha256 == answers.blanked.text_sha256:
        return Check("blank", False, "the answer about blank media is the same, word for word")
    return Check("blank", True, "the answer about blank media is another")


def distance(a: Logprobs, b: Logprobs) -> float:
    """The largest difference of a log-probability. A token missing on one side counts with that side's smallest."""
    if not a or not b:
        return 0.0
    left, right = dict(a), dict(b)
    min_left, min_right = min(left.values()), min(right.values())
    return max(abs(left.get(i, min_left) - right.get(i, min_right)) for i in left.keys() | right.keys())


def _answers(answers: ProofAnswers) -> Check:
    right = answers.answer.right
    if right is None:
        return Check("answers", None, "no answer was expected")
    if answers.must_answer:
        return Check("answers", right, "the right answer" if right else "a wrong answer")
    return Check("answers", None, "the right answer" if right else "not the expected word; this model promises none")


def _cache(samples: Sequence[Sample]) -> Check | None:
    labelled = [sample for sample in samples if sample.claim]
    if not labelled:
        return None
    label = labelled[0].claim
    if all(sample.cached_tokens is None for sample in labelled):
        return Check("cache", None, f"labelled {label}; it does not say what it reused")
    wrong = [sample for sample in labelled if sample.claim != ("warm" if is_warm(sample) else "cold")]
    reused = sum(sample.cached_tokens or 0 for sample in labelled)
    words = (
        f"labelled {label}; {reused} of {sum(sample.prompt_tokens for sample in labelled)} prompt tokens were reused"
    )
    if wrong:
        words += f": {len(wrong)} of {len(labelled)} answers were not {label}"
    return Check("cache", not wrong, words)


def is_warm(sample: Sample) -> bool:
    """Whether most of a prompt was reused: its media, or half of a prompt of text.

    The few tokens with which every prompt of a chat template begins do not make a prompt warm.
    """
    cached, media_tokens = sample.cached_tokens or 0, sum(medium.tokens for medium in sample.seen or ())
    return sample.feature_hits > 0 or (cached >= media_tokens if media_tokens else 2 * cached >= sample.prompt_tokens)
