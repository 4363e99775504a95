"""The suite `cache`: what the prefix cache saves, what it holds, and what it costs where it saves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.measure.bench import clips
from engine.measure.bench.plan import CACHE_OFF, Ask, BenchSettings, Case, Contrast, Fact, Group, Measured, Proof, Round
from engine.measure.bench.questions import (
    CLIP_QUESTION,
    OTHER_QUESTION,
    SHOWN,
    Medium,
    Question,
    blank,
    colour,
    png,
    scene,
    words,
)

SIZE = (1024, 1024)
FRAMES, FPS = 64, 4.0
USERS, QUICK_USERS = 10, 4
SYSTEM_TOKENS = 2000
QUESTION_TOKENS = 32
MISS_TOKENS = 512
MISS_LIMITS = (("cpu", 1.03), ("ttft", 1.03))
DECODED_TOKENS = 64


def groups(settings: BenchSettings) -> Sequence[Group]:
    """Users first: what they store must not push anything out before it is counted."""
    found = [_users(settings)]
    if settings.pictures:
        found += [_picture(settings), _clip(settings)]
    return [*found, *_misses(settings)]


def _users(settings: BenchSettings) -> Group:
    """Users with one long system prompt, each with a question of their own, one after the other."""
    num_users = QUICK_USERS if settings.quick else USERS
    label = f"{SYSTEM_TOKENS:,}-token system prompt"
    first, others = Case("cache", f"{label}, first user"), Case("cache", f"{label}, next {num_users - 1} users")

    def make(number: int) -> Round:
        seed = (settings.seed, "users", number)
        system = words(seed, settings.words_of(SYSTEM_TOKENS))
        asked = [
            Question(
                words((*seed, user), settings.words_of(QUESTION_TOKENS)),
                8,
                system=system,
                temperature=settings.temperature,
                claim="warm" if user else "cold",
            )
            for user in range(num_users)
        ]
        return tuple((Ask(question, others if user else first),) for user, question in enumerate(asked))

    def facts(taken: Sequence[Measured]) -> Sequence[Fact]:
        saved = [share for one in taken if (share := kv_saved(one)) is not None]
        if not saved:
            return ()
        title = f"prompt KV memory saved, {num_users} users of one {label}"
        # Fewer users than ten can save less: the first one's prompt has to be there.
        return (Fact(title, 100 * sum(saved) / len(saved), "%", goal=80.0 if num_users == USERS else None),)

    faster = Contrast(f"first token, {label}: first user / the next", "ttft", first, others, goal=5.0)
    return Group((first, others), make, contrasts=(faster,), facts=facts)


def kv_saved(taken: Measured) -> float | None:
    """1 - what all users' KV takes over what it would take if each had their own, as the first has. None if unknown."""
    held = [status.kv_bytes for status in (taken.before, *taken.after_steps)]
    if any(num_bytes is None for num_bytes in held):
        return None
    before, first, *_, last = (num_bytes or 0 for num_bytes in held)
    return 1 - (last - before) / ((first - before) * len(taken.after_steps)) if first > before else None


def _picture(settings: BenchSettings) -> Group:
    """One picture: cold, then with another question, then exactly as at first."""
    side = f"{SIZE[0]}x{SIZE[1]} picture"
    cold, other, same = (
        Case("cache", f"{side}, {name}") for name in ("cold", "same picture, new question", "exact repeat")
    )
    num_tokens = min(settings.max_tokens, DECODED_TOKENS)

    def question(seed: object) -> Question:
        return Question(SHOWN, num_tokens, media=(png(scene(SIZE, seed)),), expect=colour(seed))

    def make(number: int) -> Round:
        asked = replace(
            question((settings.seed, "reuse", number)),
            min_tokens=num_tokens,
            temperature=settings.temperature,
            expect="",
        )
        again = replace(asked, claim="warm")
        asks = (
            (replace(asked, claim="cold"), cold),
            (replace(again, text=OTHER_QUESTION), other),
            (again, same),
        )
        return tuple((Ask(*ask),) for ask in asks)

    def prove() -> Sequence[Proof]:
        shown = question((settings.seed, "reuse", "proof"))
        return (Proof(cold, shown, replace(shown, media=(png(blank(SIZE)),), expect="")),)

    contrasts = (
        Contrast("first token: cold / same picture, new question", "ttft", cold, other, goal=15.0),
        Contrast("first token: cold / exact repeat", "ttft", cold, same, goal=28.0),
        Contrast("decode: after a hit / cold", "generation_tps", other, cold, goal=0.98),
    )
    return Group((cold, other, same), make, prove, contrasts)


def _clip(settings: BenchSettings) -> Group:
    """One clip, and the same request again."""
    path = settings.video or clips.default_clip()
    cold, same = (Case("cache", f"clip of {FRAMES} frames, {name}") for name in ("cold", "exact repeat"))

    def make(number: int) -> Round:
        medium: Medium = clips.cut(path, FRAMES / FPS, (settings.seed, "reuse", number))
        asked = Question(
            CLIP_QUESTION,
            8,
            media=(medium,),
            fps=FPS,
            max_frames=FRAMES,
            temperature=settings.temperature,
            claim="cold",
        )
        return (Ask(asked, cold),), (Ask(replace(asked, claim="warm"), same),)

    faster = Contrast(f"first token: clip of {FRAMES} frames, cold / exact repeat", "ttft", cold, same, goal=25.0)
    return Group((cold, same), make, contrasts=(faster,))


def _misses(settings: BenchSettings) -> list[Group]:
    """Prompts that nothing is known of, with the cache and, in turns, on an engine without."""
    text = Case("cache", f"miss, text of {MISS_TOKENS} tokens")
    picture = Case("cache", "miss, picture of 448x448")

    def asked(number: int, *media: Medium) -> Question:
        seed = (settings.seed, "miss", number)
        return Question(words(seed, settings.words_of(MISS_TOKENS)), 8, media=media, claim="cold")

    def make_text(number: int) -> Round:
        return ((Ask(asked(number), text),),)

    def make_picture(number: int) -> Round:
        return ((Ask(asked(number, png(scene((448, 448), (settings.seed, "miss", number)))), picture),),)

    found = [Group((text,), make_text, beside=CACHE_OFF, limits=MISS_LIMITS)]
    return (
        [*found, Group((picture,), make_picture, beside=CACHE_OFF, limits=MISS_LIMITS)] if settings.pictures else found
    )
