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
from engine.measure.selftest.drawn import CLIP_FPS, Drawn, blank, clip, square
from engine.measure.selftest.judge import Outcome, Row
from engine.measure.selftest.lab import SEEDED, Lab, Taken
from engine.measure.selftest.stock import Arrays
from engine.types import Request

Found = tuple[Outcome, str]
Check = Callable[[Lab], Awaitable[Found]]

COUNT = "Count from one to fifty in words."
STORY = "Tell a long story about them."
DESCRIBE = "Describe this picture."
COLOUR = "What colours do you see?"


async def rows(lab: Lab) -> AsyncIterator[Row]:
    """Every row, one after the other. A request that fails is a fault of its row, and the next rows are still asked."""
    await lab.ask(lab.short("Hello."))  # what the first request of a process costs, and the model for the witness
    for name, check in CHECKS.items():
        try:
            found = await check(lab)
        except EngineError as error:
            found = "fault", error.message
        except TimeoutError:
            found = "fault", "the engine did not answer"
        yield Row(name, *found)


async def warm_text(lab: Lab) -> Found:
    """The same text twice: the second time its prompt is reused."""
    request = lab.text(STORY)
    return await _warm(lab, request, request)


async def warm_beginning(lab: Lab) -> Found:
    """Two texts that end otherwise: the second reuses what they share."""
    if lab.in_snapshots:
        return "n/a", "this family's KV cannot be cut into blocks: only whole prompts are kept, as snapshots"
    return await _warm(lab, lab.text("Which is the longest?"), lab.text(STORY))


async def warm_picture(lab: Lab) -> Found:
    """Another question about the same picture: the picture is reused."""
    if not lab.card.vision:
        return _BLIND
    return await _warm(lab, lab.show(lab.picture, COLOUR), lab.show(lab.picture, DESCRIBE))


async def other_picture(lab: Lab) -> Found:
    """Another picture of the same size, the same question: nothing of the first picture may be reused."""
    if not lab.card.vision:
        return _BLIND
    if not lab.engine.config.cache.enabled:
        return _NO_CACHE
    other = lab.show(square(lab.picture.size), DESCRIBE)
    cold = await lab.cold(other)
    await lab.cold(lab.show(lab.picture, DESCRIBE))
    warm = await lab.ask(other)
    first = cold.seen.spans[0].start if cold.seen.spans else 0
    if warm.reused > first:
        return "fault", f"{warm.reused - first} tokens of another picture were reused"
    outcome, said = judge.same(cold.run, warm.run, lab.noise)
    return outcome, f"{said}; reused {warm.reused} tokens before it, none of it"


async def batched_text(lab: Lab) -> Found:
    """Greedy texts, long and short, beside a sampled row."""
    return await _beside(lab, [lab.text(STORY), lab.short(COUNT)])


async def batched_seeds(lab: Lab) -> Found:
    """A row with a seed of its own beside greedy rows and one with another seed."""
    return await _beside(lab, [lab.short(COUNT, sampling=SEEDED), lab.short(COUNT)])


async def batched_picture(lab: Lab) -> Found:
    """A picture's row beside text, and the text beside the picture."""
    if not lab.card.vision:
        return _BLIND
    return await _beside(lab, [lab.show(lab.picture, DESCRIBE), lab.text(STORY)])


async def picture_counts(lab: Lab) -> Found:
    """The same question about the picture, another one and a blank: the first token's logits must not be the same."""
    if not lab.card.vision:
        return _BLIND
    size = lab.picture.size
    shown = [await lab.cold(lab.show(drawn, DESCRIBE)) for drawn in (lab.picture, square(size), blank(size))]
    picture, *others = [taken.run for taken in shown]
    least = min(judge.apart(picture, other) for other in others)
    said = f"the first token's log-probabilities move by {least:.3g} nats; noise is {lab.noise:g}"
    return ("ok" if least > lab.noise else "fault"), said


async def picture_receipt(lab: Lab) -> Found:
    """What the receipt says, and what the model was given, is what the processor makes of the picture."""
    if not lab.card.vision:
        return _BLIND
    return await _receipt(lab, lab.picture, DESCRIBE)


async def clip_receipt(lab: Lab) -> Found:
    """The same for a clip: the frames that the receipt names, at their true times."""
    if not lab.card.video:
        return "n/a", "this model takes no clips"
    return await _receipt(lab, clip(), "What moves?")


async def cancelled(lab: Lab) -> Found:
    """Requests that are left early, at once and while they decode, beside one that goes on and before the same one."""
    request, other = lab.text(STORY), lab.short(COUNT)
    cold, alone = await lab.cold(request), await lab.cold(other)
    await lab.forget()
    hasty = asyncio.create_task(lab.ask(request))
    await asyncio.sleep(0)
    hasty.cancel()
    await asyncio.gather(hasty, return_exceptions=True)
    async with lab.neighbour(request):
        beside = None if lab.in_turns else await lab.ask(other)
    if lab.engine.snapshot().running or any(block.refs for block in await lab.engine.blocks(with_text=False)):
        return "fault", "a cancelled request still holds a row or blocks"
    found = [judge.same(cold.run, (await lab.ask(request)).run, lab.noise)]
    if beside is not None:
        found.append(judge.same(alone.run, beside.run, lab.noise))
    return judge.worst(found)


CHECKS: dict[str, Check] = {
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


async def _warm(lab: Lab, before: Request, request: Request) -> Found:
    """Ask `request` with nothing stored, then again after `before`: its media, or else half of it, must be reused."""
    if not lab.engine.config.cache.enabled:
        return _NO_CACHE
    cold = await lab.cold(request)
    if cold.done.trace and cold.done.trace.reason == "not_cacheable":
        return "n/a", "prompts with pictures carry no key in this family, so nothing is reused"
    await lab.cold(before)
    warm = await lab.ask(request)
    total, spans = warm.done.usage.prompt_tokens, warm.seen.spans
    if cold.reused or warm.reused < (spans[-1].end if spans else total / 2):
        return "fault", f"{cold.reused} of {total} tokens were reused cold, {warm.reused} warm"
    outcome, said = judge.same(cold.run, warm.run, lab.noise)
    kept = "a snapshot of the whole row" if lab.in_snapshots else "blocks"
    return outcome, f"{said}; {warm.reused} of {total} prompt tokens from {kept}"


async def _beside(lab: Lab, requests: list[Request]) -> Found:
    """Each request alone, then all at once, beside a sampled row that goes on before and after them and a greedy one
    that leaves as soon as they all decode."""
    if lab.in_turns:
        return "n/a", "rows decode one at a time, by this model's family or by the options"
    alone = [await lab.cold(request) for request in requests]
    await lab.forget()
    noisy = lab.short("Go on and on.", sampling=replace(SEEDED, seed=99))
    async with lab.neighbour(noisy) as neighbour:
        async with lab.neighbour(lab.short("Which one?")):
            asked = [asyncio.create_task(lab.ask(request)) for request in requests]
            await lab.all_begun()
        together = await asyncio.gather(*asked)
        turns = neighbour().turns
    if not all(turns and turns[0] < taken.seen.turns[0] < turns[-1] for taken in together):
        return "fault", "the rows never decoded together, so nothing is shown"
    found = [judge.same(a.run, b.run, lab.noise) for a, b in zip(alone, together, strict=True)]
    outcome, said = judge.worst(found)
    return outcome, f"{said}; {len(requests) + 2} rows together"


async def _receipt(lab: Lab, drawn: Drawn, question: str) -> Found:
    taken = await lab.cold(lab.show(drawn, question), drawn)
    (receipt,), stock = taken.done.media, taken.seen.stock
    if stock is None:
        return "fault", f"the processor by itself failed: {taken.seen.trouble}"
    times = [abs(time_s - index / CLIP_FPS) for index, time_s in receipt.frames]
    says, sizes = "the receipt says", (receipt.seen_px, (0, 0))
    claims = {
        f"{says} {receipt.tokens} tokens, the processor {stock.tokens}": receipt.tokens == stock.tokens,
        f"{says} {receipt.seen_px} pixels, the processor {stock.seen_px}": stock.seen_px in sizes,
        f"{says} {receipt.decoded_px} pixels, drawn were {drawn.size}": receipt.decoded_px == drawn.size,
        "the model was given other pixels than the processor makes": _equal(taken.seen.arrays, stock.arrays),
        "a frame's time is not its own": all(gap < 0.01 for gap in times),
    }
    for wrong, holds in claims.items():
        if not holds:
            return "fault", wrong
    return "ok", _seen(taken)


def _equal(given: Arrays, stock: Arrays) -> bool:
    if given.keys() != stock.keys():
        return False
    pairs = [(a, b) for name in given for a, b in zip(given[name], stock[name], strict=False)]
    lengths = all(len(given[name]) == len(stock[name]) for name in given)
    return bool(given) and lengths and all(np.array_equal(a, b) for a, b in pairs)


def _seen(taken: Taken) -> str:
    (receipt,) = taken.done.media
    frames = f"{len(receipt.frames)} frames, " if receipt.frames else ""
    size = f"{receipt.seen_px[0]} × {receipt.seen_px[1]} px, " if any(receipt.seen_px) else ""
    return f"{frames}{size}{receipt.tokens} tokens, every value equal"
