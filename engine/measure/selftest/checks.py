"""The rows of the table. Each check computes the same answer in two ways and compares.

A check that does not apply to this model or these settings is "n/a" and says why; it never counts as passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import numpy as np

from engine.errors import EngineError
from engine.measure.selftest import judge
from engine.measure.selftest.fixtures import CLIP_FPS, DrawnMedium, blank, clip, square
from engine.measure.selftest.harness import SEEDED, Harness, ObservedAnswer
from engine.measure.selftest.judge import CheckRow, Outcome
from engine.measure.selftest.reference import Arrays
from engine.types import Request

Finding = tuple[Outcome, str]
CheckFunction = Callable[[Harness], Awaitable[Finding]]

COUNT = "Count from one to fifty in words."
STORY = "Tell a long story about them."
DESCRIBE = "Describe this picture."
COLOUR = "What colours do you see?"


async def rows(harness: Harness) -> AsyncIterator[CheckRow]:
    """Every row, one after the other. A request that fails makes its row a fault; the rows after it are still run."""
    await harness.ask(harness.short("Hello."))  # pays what the first request costs, and shows the observer the model
    for name, check in CHECKS.items():
        try:
            finding = await check(harness)
        except EngineError as error:
            finding = "fault", error.message
        except TimeoutError:
            finding = "fault", "the engine did not answer"
        yield CheckRow(name, *finding)


async def warm_text(harness: Harness) -> Finding:
    """The same text twice: the second time its prompt is reused."""
    request = harness.text(STORY)
    return await _warm(harness, request, request)


async def warm_beginning(harness: Harness) -> Finding:
    """Two texts with the same beginning: the second reuses it."""
    if harness.in_snapshots:
        return "n/a", "this family's KV cannot be cut into blocks: only whole prompts are kept, as snapshots"
    return await _warm(harness, harness.text("Which is the longest?"), harness.text(STORY))


async def warm_picture(harness: Harness) -> Finding:
    """Another question about the same picture: the picture is reused."""
    if not harness.card.vision:
        return _NO_VISION
    return await _warm(harness, harness.show(harness.picture, COLOUR), harness.show(harness.picture, DESCRIBE))


async def other_picture(harness: Harness) -> Finding:
    """Another picture of the same size, the same question: nothing of the first picture may be reused."""
    if not harness.card.vision:
        return _NO_VISION
    if not harness.engine.config.cache.enabled:
        return _NO_CACHE
    other = harness.show(square(harness.picture.size), DESCRIBE)
    cold = await harness.cold(other)
    await harness.cold(harness.show(harness.picture, DESCRIBE))
    warm = await harness.ask(other)
    first = cold.observation.spans[0].start if cold.observation.spans else 0
    if warm.reused > first:
        return "fault", f"{warm.reused - first} tokens of another picture were reused"
    outcome, words = judge.same(cold.run, warm.run, harness.noise)
    return outcome, f"{words}; reused {warm.reused} tokens before it, none of it"


async def batched_text(harness: Harness) -> Finding:
    """Greedy texts, long and short, beside a sampled row."""
    return await _beside(harness, [harness.text(STORY), harness.short(COUNT)])


async def batched_seeds(harness: Harness) -> Finding:
    """A sampled row with its own seed, beside greedy rows and a row with another seed."""
    return await _beside(harness, [harness.short(COUNT, sampling=SEEDED), harness.short(COUNT)])


async def batched_picture(harness: Harness) -> Finding:
    """A row with a picture and a row of text, decoded together."""
    if not harness.card.vision:
        return _NO_VISION
    return await _beside(harness, [harness.show(harness.picture, DESCRIBE), harness.text(STORY)])


async def picture_counts(harness: Harness) -> Finding:
    """The same question about the picture, another picture and a blank one: the first token's logits must differ."""
    if not harness.card.vision:
        return _NO_VISION
    size = harness.picture.size
    answers = [
        await harness.cold(harness.show(medium, DESCRIBE)) for medium in (harness.picture, square(size), blank(size))
    ]
    picture, *others = [answer.run for answer in answers]
    smallest = min(judge.apart(picture, other) for other in others)
    words = f"the first token's log-probabilities move by {smallest:.3g} nats; noise is {harness.noise:g}"
    return ("ok" if smallest > harness.noise else "fault"), words


async def picture_receipt(harness: Harness) -> Finding:
    """The receipt, and the arrays that the model was given, equal what the processor makes of the picture."""
    if not harness.card.vision:
        return _NO_VISION
    return await _receipt(harness, harness.picture, DESCRIBE)


async def clip_receipt(harness: Harness) -> Finding:
    """The same for a clip: the frames that the receipt names, at their true times."""
    if not harness.card.video:
        return "n/a", "this model takes no clips"
    return await _receipt(harness, clip(), "What moves?")


async def cancelled(harness: Harness) -> Finding:
    """Requests cancelled at once and while they decode: a row beside them and the same request later do not change."""
    request, other = harness.text(STORY), harness.short(COUNT)
    cold, alone = await harness.cold(request), await harness.cold(other)
    await harness.forget()
    cancelled_task = asyncio.create_task(harness.ask(request))
    await asyncio.sleep(0)
    cancelled_task.cancel()
    await asyncio.gather(cancelled_task, return_exceptions=True)
    async with harness.neighbour(request):
        batched = None if harness.in_turns else await harness.ask(other)
    if harness.engine.snapshot().running or any(
        block.refs for block in await harness.engine.cache.blocks(with_text=False)
    ):
        return "fault", "a cancelled request still holds a row or blocks"
    findings = [judge.same(cold.run, (await harness.ask(request)).run, harness.noise)]
    if batched is not None:
        findings.append(judge.same(alone.run, batched.run, harness.noise))
    return judge.worst(findings)


CHECKS: dict[str, CheckFunction] = {
    "warm = cold: the same text": warm_text,
    "warm = cold: the same beginning": warm_beginning,
    "warm = cold: the same picture, another question": warm_picture,
    "warm = cold: another picture is another": other_picture,
    "batched = alone: text": batched_text,
    "batched = alone: seeded sampling": batched_seeds,
    "batched = alone: a picture beside text": batched_picture,
    "a picture changes the answer": picture_counts,
    "receipt = processor: a picture": picture_receipt,
    "receipt = processor: a clip's frames": clip_receipt,
    "cancelled = never started": cancelled,
}
_NO_VISION: Finding = ("n/a", "this model takes no pictures")
_NO_CACHE: Finding = ("n/a", "the prefix cache is off")


async def _warm(harness: Harness, before: Request, request: Request) -> Finding:
    """`request` with an empty cache, then again after `before`: its media, or else half of it, must be reused."""
    if not harness.engine.config.cache.enabled:
        return _NO_CACHE
    cold = await harness.cold(request)
    if cold.done.trace and cold.done.trace.reason == "not_cacheable":
        return "n/a", "prompts with pictures carry no key in this family, so nothing is reused"
    await harness.cold(before)
    warm = await harness.ask(request)
    total, spans = warm.done.usage.prompt_tokens, warm.observation.spans
    if cold.reused or warm.reused < (spans[-1].end if spans else total / 2):
        return "fault", f"{cold.reused} of {total} tokens were reused cold, {warm.reused} warm"
    outcome, words = judge.same(cold.run, warm.run, harness.noise)
    source = "a snapshot of the whole row" if harness.in_snapshots else "blocks"
    return outcome, f"{words}; {warm.reused} of {total} prompt tokens from {source}"


async def _beside(harness: Harness, requests: list[Request]) -> Finding:
    """Each request alone, then all at once, beside a sampled row that decodes before and after them and a greedy one
    that is cancelled as soon as they all decode."""
    if harness.in_turns:
        return "n/a", "rows decode one at a time, by this model's family or by the options"
    alone = [await harness.cold(request) for request in requests]
    await harness.forget()
    sampled = harness.short("Go on and on.", sampling=replace(SEEDED, seed=99))
    async with harness.neighbour(sampled) as neighbour:
        async with harness.neighbour(harness.short("Which one?")):
            tasks = [asyncio.create_task(harness.ask(request)) for request in requests]
            await harness.all_begun()
        answers = await asyncio.gather(*tasks)
        turns = neighbour().turns
    if not all(turns and turns[0] < answer.observation.turns[0] < turns[-1] for answer in answers):
        return "fault", "the rows never decoded together, so nothing is shown"
    findings = [judge.same(a.run, b.run, harness.noise) for a, b in zip(alone, answers, strict=True)]
    outcome, words = judge.worst(findings)
    return outcome, f"{words}; {len(requests) + 2} rows together"


async def _receipt(harness: Harness, medium: DrawnMedium, question: str) -> Finding:
    answer = await harness.cold(harness.show(medium, question), medium)
    (receipt,), reference = answer.done.media, answer.observation.reference
    if reference is None:
        return "fault", f"the processor by itself failed: {answer.observation.trouble}"
    times = [abs(time_s - index / CLIP_FPS) for index, time_s in receipt.frames]
    says, sizes = "the receipt says", (receipt.seen_px, (0, 0))
    problems = {
        f"{says} {receipt.tokens} tokens, the processor {reference.tokens}": receipt.tokens == reference.tokens,
        f"{says} {receipt.seen_px} pixels, the processor {reference.seen_px}": reference.seen_px in sizes,
        f"{says} {receipt.decoded_px} pixels, drawn were {medium.size}": receipt.decoded_px == medium.size,
        "the model was given other pixels than the processor makes": _equal(
            answer.observation.arrays, reference.arrays
        ),
        "a frame's time is not its own": all(gap < 0.01 for gap in times),
    }
    for problem, is_right in problems.items():
        if not is_right:
            return "fault", problem
    return "ok", _receipt_words(answer)


def _equal(observed: Arrays, reference: Arrays) -> bool:
    if observed.keys() != reference.keys():
        return False
    pairs = [(a, b) for name in observed for a, b in zip(observed[name], reference[name], strict=False)]
    lengths = all(len(observed[name]) == len(reference[name]) for name in observed)
    return bool(observed) and lengths and all(np.array_equal(a, b) for a, b in pairs)


def _receipt_words(answer: ObservedAnswer) -> str:
    (receipt,) = answer.done.media
    frames = f"{len(receipt.frames)} frames, " if receipt.frames else ""
    size = f"{receipt.seen_px[0]} × {receipt.seen_px[1]} px, " if any(receipt.seen_px) else ""
    return f"{frames}{size}{receipt.tokens} tokens, every value equal"
