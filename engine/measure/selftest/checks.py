"""The rows of the table. Each check asks the engine the same thing in two ways and holds the answers together.

A row that cannot be asked of this model or these settings is "n/a" and says why; it is never a tick.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import numpy as np

from engine.errors import EngineError
from engine.measure.selftest import judge
from engine.measure.selftest.fixtures import CLIP_FPS, Drawn, blank, clip, square
from engine.measure.selftest.harness import SEEDED, Harness, HarnessAnswer
from engine.measure.selftest.judge import CheckRow, Outcome
from engine.measure.selftest.reference import Arrays
from engine.types import Request

Found = tuple[Outcome, str]
CheckFunction = Callable[[Harness], Awaitable[Found]]

COUNT = "Count from one to fifty in words."
STORY = "Tell a long story about them."
DESCRIBE = "Describe this picture."
COLOUR = "What colours do you see?"


async def rows(harness: Harness) -> AsyncIterator[CheckRow]:
    """Every row, one after the other. A request that fails is a fault of its row, and the next rows are still asked."""
    await harness.ask(
        harness.short("Hello.")
    )  # what the first request of a process costs, and the model for the witness
    for name, check in CHECKS.items():
        try:
            found = await check(harness)
        except EngineError as error:
            found = "fault", error.message
        except TimeoutError:
            found = "fault", "the engine did not answer"
        yield CheckRow(name, *found)


async def warm_text(harness: Harness) -> Found:
    """The same text twice: the second time its prompt is reused."""
    request = harness.text(STORY)
    return await _warm(harness, request, request)


async def warm_beginning(harness: Harness) -> Found:
    """Two texts that end otherwise: the second reuses what they share."""
    if harness.in_snapshots:
        return "n/a", "this family's KV cannot be cut into blocks: only whole prompts are kept, as snapshots"
    return await _warm(harness, harness.text("Which is the longest?"), harness.text(STORY))


async def warm_picture(harness: Harness) -> Found:
    """Another question about the same picture: the picture is reused."""
    if not harness.card.vision:
        return _BLIND
    return await _warm(harness, harness.show(harness.picture, COLOUR), harness.show(harness.picture, DESCRIBE))


async def other_picture(harness: Harness) -> Found:
    """Another picture of the same size, the same question: nothing of the first picture may be reused."""
    if not harness.card.vision:
        return _BLIND
    if not harness.engine.config.cache.enabled:
        return _NO_CACHE
    other = harness.show(square(harness.picture.size), DESCRIBE)
    cold = await harness.cold(other)
    await harness.cold(harness.show(harness.picture, DESCRIBE))
    warm = await harness.ask(other)
    first = cold.seen.spans[0].start if cold.seen.spans else 0
    if warm.reused > first:
        return "fault", f"{warm.reused - first} tokens of another picture were reused"
    outcome, said = judge.same(cold.run, warm.run, harness.noise)
    return outcome, f"{said}; reused {warm.reused} tokens before it, none of it"


async def batched_text(harness: Harness) -> Found:
    """Greedy texts, long and short, beside a sampled row."""
    return await _beside(harness, [harness.text(STORY), harness.short(COUNT)])


async def batched_seeds(harness: Harness) -> Found:
    """A row with a seed of its own beside greedy rows and one with another seed."""
    return await _beside(harness, [harness.short(COUNT, sampling=SEEDED), harness.short(COUNT)])


async def batched_picture(harness: Harness) -> Found:
    """A picture's row beside text, and the text beside the picture."""
    if not harness.card.vision:
        return _BLIND
    return await _beside(harness, [harness.show(harness.picture, DESCRIBE), harness.text(STORY)])


async def picture_counts(harness: Harness) -> Found:
    """The same question about the picture, another one and a blank: the first token's logits must not be the same."""
    if not harness.card.vision:
        return _BLIND
    size = harness.picture.size
    shown = [
        await harness.cold(harness.show(drawn, DESCRIBE)) for drawn in (harness.picture, square(size), blank(size))
    ]
    picture, *others = [taken.run for taken in shown]
    least = min(judge.apart(picture, other) for other in others)
    said = f"the first token's log-probabilities move by {least:.3g} nats; noise is {harness.noise:g}"
    return ("ok" if least > harness.noise else "fault"), said


async def picture_receipt(harness: Harness) -> Found:
    """What the receipt says, and what the model was given, is what the processor makes of the picture."""
    if not harness.card.vision:
        return _BLIND
    return await _receipt(harness, harness.picture, DESCRIBE)


async def clip_receipt(harness: Harness) -> Found:
    """The same for a clip: the frames that the receipt names, at their true times."""
    if not harness.card.video:
        return "n/a", "this model takes no clips"
    return await _receipt(harness, clip(), "What moves?")


async def cancelled(harness: Harness) -> Found:
    """Requests that are left early, at once and while they decode, beside one that goes on and before the same one."""
    request, other = harness.text(STORY), harness.short(COUNT)
    cold, alone = await harness.cold(request), await harness.cold(other)
    await harness.forget()
    hasty = asyncio.create_task(harness.ask(request))
    await asyncio.sleep(0)
    hasty.cancel()
    await asyncio.gather(hasty, return_exceptions=True)
    async with harness.neighbour(request):
        beside = None if harness.in_turns else await harness.ask(other)
    if harness.engine.snapshot().running or any(block.refs for block in await harness.engine.blocks(with_text=False)):
        return "fault", "a cancelled request still holds a row or blocks"
    found = [judge.same(cold.run, (await harness.ask(request)).run, harness.noise)]
    if beside is not None:
        found.append(judge.same(alone.run, beside.run, harness.noise))
    return judge.worst(found)


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
_BLIND: Found = ("n/a", "this model takes no pictures")
_NO_CACHE: Found = ("n/a", "the prefix cache is off")


async def _warm(harness: Harness, before: Request, request: Request) -> Found:
    """Ask `request` with nothing stored, then again after `before`: its media, or else half of it, must be reused."""
    if not harness.engine.config.cache.enabled:
        return _NO_CACHE
    cold = await harness.cold(request)
    if cold.done.trace and cold.done.trace.reason == "not_cacheable":
        return "n/a", "prompts with pictures carry no key in this family, so nothing is reused"
    await harness.cold(before)
    warm = await harness.ask(request)
    total, spans = warm.done.usage.prompt_tokens, warm.seen.spans
    if cold.reused or warm.reused < (spans[-1].end if spans else total / 2):
        return "fault", f"{cold.reused} of {total} tokens were reused cold, {warm.reused} warm"
    outcome, said = judge.same(cold.run, warm.run, harness.noise)
    kept = "a snapshot of the whole row" if harness.in_snapshots else "blocks"
    return outcome, f"{said}; {warm.reused} of {total} prompt tokens from {kept}"


async def _beside(harness: Harness, requests: list[Request]) -> Found:
    """Each request alone, then all at once, beside a sampled row that goes on before and after them and a greedy one
    that leaves as soon as they all decode."""
    if harness.in_turns:
        return "n/a", "rows decode one at a time, by this model's family or by the options"
    alone = [await harness.cold(request) for request in requests]
    await harness.forget()
    noisy = harness.short("Go on and on.", sampling=replace(SEEDED, seed=99))
    async with harness.neighbour(noisy) as neighbour:
        async with harness.neighbour(harness.short("Which one?")):
            asked = [asyncio.create_task(harness.ask(request)) for request in requests]
            await harness.all_begun()
        together = await asyncio.gather(*asked)
        turns = neighbour().turns
    if not all(turns and turns[0] < taken.seen.turns[0] < turns[-1] for taken in together):
        return "fault", "the rows never decoded together, so nothing is shown"
    found = [judge.same(a.run, b.run, harness.noise) for a, b in zip(alone, together, strict=True)]
    outcome, said = judge.worst(found)
    return outcome, f"{said}; {len(requests) + 2} rows together"


async def _receipt(harness: Harness, drawn: Drawn, question: str) -> Found:
    taken = await harness.cold(harness.show(drawn, question), drawn)
    (receipt,), reference = taken.done.media, taken.seen.reference
    if reference is None:
        return "fault", f"the processor by itself failed: {taken.seen.trouble}"
    times = [abs(time_s - index / CLIP_FPS) for index, time_s in receipt.frames]
    says, sizes = "the receipt says", (receipt.seen_px, (0, 0))
    claims = {
        f"{says} {receipt.tokens} tokens, the processor {reference.tokens}": receipt.tokens == reference.tokens,
        f"{says} {receipt.seen_px} pixels, the processor {reference.seen_px}": reference.seen_px in sizes,
        f"{says} {receipt.decoded_px} pixels, drawn were {drawn.size}": receipt.decoded_px == drawn.size,
        "the model was given other pixels than the processor makes": _equal(taken.seen.arrays, reference.arrays),
        "a frame's time is not its own": all(gap < 0.01 for gap in times),
    }
    for wrong, holds in claims.items():
        if not holds:
            return "fault", wrong
    return "ok", _seen(taken)


def _equal(given: Arrays, reference: Arrays) -> bool:
    if given.keys() != reference.keys():
        return False
    pairs = [(a, b) for name in given for a, b in zip(given[name], reference[name], strict=False)]
    lengths = all(len(given[name]) == len(reference[name]) for name in given)
    return bool(given) and lengths and all(np.array_equal(a, b) for a, b in pairs)


def _seen(taken: HarnessAnswer) -> str:
    (receipt,) = taken.done.media
    frames = f"{len(receipt.frames)} frames, " if receipt.frames else ""
    size = f"{receipt.seen_px[0]} × {receipt.seen_px[1]} px, " if any(receipt.seen_px) else ""
    return f"{frames}{size}{receipt.tokens} tokens, every value equal"
