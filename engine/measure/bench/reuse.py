"""The suite `cache`: what the prefix cache saves, the memory it takes, and what a miss costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.measure.bench import clips, long_chat
from engine.measure.bench.plan import (
    CACHE_OFF,
    BenchSettings,
    Case,
    Contrast,
    Fact,
    Group,
    MeasuredRound,
    Proof,
    Round,
    ScheduledQuestion,
)
from engine.measure.bench.questions import (
    CLIP_QUESTION,
    COLOUR_QUESTION,
    OTHER_QUESTION,
    Medium,
    Question,
    blank,
    colour,
    picture,
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
    """The users come first: their blocks must be counted before later groups evict any."""
    all_groups = [_users(settings)]
    if settings.pictures:
        all_groups += [_picture(settings), _clip(settings), long_chat.group(settings)]
    return [*all_groups, *_misses(settings)]


def _users(settings: BenchSettings) -> Group:
    """Users who share a long system prompt, each with another question, one after the other."""
    num_users = QUICK_USERS if settings.quick else USERS
    label = f"{SYSTEM_TOKENS:,}-token system prompt"
    first, others = Case("cache", f"{label}, first user"), Case("cache", f"{label}, next {num_users - 1} users")

    def make(number: int) -> Round:
        seed = (settings.seed, "users", number)
        system = words(seed, settings.words_of(SYSTEM_TOKENS))
        questions = [
            Question(
                words((*seed, user), settings.words_of(QUESTION_TOKENS)),
                8,
                system=system,
                temperature=settings.temperature,
                claim="warm" if user else "cold",
            )
            for user in range(num_users)
        ]
        return tuple(
            (ScheduledQuestion(question, others if user else first),) for user, question in enumerate(questions)
        )

    def facts(rounds: Sequence[MeasuredRound]) -> Sequence[Fact]:
        saved = [share for measured in rounds if (share := kv_saved(measured)) is not None]
        if not saved:
            return ()
        title = f"prompt KV memory saved, {num_users} users of one {label}"
        # Fewer users save a smaller share, since the first one's prompt is always stored.
        return (Fact(title, 100 * sum(saved) / len(saved), "%", goal=80.0 if num_users == USERS else None),)

    faster = Contrast(f"first token, {label}: first user / the next", "ttft", first, others, goal=5.0)
    return Group((first, others), make, contrasts=(faster,), facts=facts, num_tokens=SYSTEM_TOKENS + QUESTION_TOKENS)


def kv_saved(measured: MeasuredRound) -> float | None:
    """1 - (KV of all users) / (KV of the first × number of users). Returns None if the target does not report KV."""
    sizes = [status.kv_bytes for status in (measured.before, *measured.after_steps)]
    if any(num_bytes is None for num_bytes in sizes):
        return None
    before, first, *_, last = (num_bytes or 0 for num_bytes in sizes)
    return 1 - (last - before) / ((first - before) * len(measured.after_steps)) if first > before else None


def _picture(settings: BenchSettings) -> Group:
    """One picture: cold, then with another question, then the first request again."""
    side = f"{SIZE[0]}x{SIZE[1]} picture"
    cold, other, same = (
        Case("cache", f"{side}, {name}") for name in ("cold", "same picture, new question", "exact repeat")
    )
    num_tokens = min(settings.max_tokens, DECODED_TOKENS)

    def question(seed: object) -> Question:
        return Question(COLOUR_QUESTION, num_tokens, media=(picture(scene(SIZE, seed)),), expect=colour(seed))

    def make(number: int) -> Round:
        first = replace(
            question((settings.seed, "reuse", number)),
            min_tokens=num_tokens,
            temperature=settings.temperature,
            expect="",
        )
        warm = replace(first, claim="warm")
        asks = (
            (replace(first, claim="cold"), cold),
            (replace(warm, text=OTHER_QUESTION), other),
            (warm, same),
        )
        return tuple((ScheduledQuestion(*ask),) for ask in asks)

    def prove() -> Sequence[Proof]:
        with_picture = question((settings.seed, "reuse", "proof"))
        return (Proof(cold, with_picture, replace(with_picture, media=(blank(SIZE),), expect="")),)

    contrasts = (
        Contrast("first token: cold / same picture, new question", "ttft", cold, other, goal=15.0),
        Contrast("first token: cold / exact repeat", "ttft", cold, same, goal=28.0),
        Contrast("decode: after a hit / cold", "generation_tps", other, cold, goal=0.98),
    )
    return Group((cold, other, same), make, prove, contrasts)


def _clip(settings: BenchSettings) -> Group:
    """One clip, and the same request again."""
    path = settings.video or clips.default_clip()
    labels = (("frames", FRAMES),)
    cold, same = (Case("cache", f"clip of {FRAMES} frames, {name}", labels) for name in ("cold", "exact repeat"))

    def make(number: int) -> Round:
        medium: Medium = clips.cut(path, FRAMES / FPS, (settings.seed, "reuse", number))
        first = Question(
            CLIP_QUESTION,
            8,
            media=(medium,),
            fps=FPS,
            max_frames=FRAMES,
            temperature=settings.temperature,
            claim="cold",
        )
        return (ScheduledQuestion(first, cold),), (ScheduledQuestion(replace(first, claim="warm"), same),)

    faster = Contrast(f"first token: clip of {FRAMES} frames, cold / exact repeat", "ttft", cold, same, goal=25.0)
    return Group((cold, same), make, contrasts=(faster,))


def _misses(settings: BenchSettings) -> list[Group]:
    """Prompts that share nothing, on an engine with the cache and, in turns, on one without."""
    text_case = Case("cache", f"miss, text of {MISS_TOKENS} tokens")
    picture_case = Case("cache", "miss, picture of 448x448")

    def question(number: int, *media: Medium) -> Question:
        seed = (settings.seed, "miss", number)
        return Question(words(seed, settings.words_of(MISS_TOKENS)), 8, media=media, claim="cold")

    def make_text(number: int) -> Round:
        return ((ScheduledQuestion(question(number), text_case),),)

    def make_picture(number: int) -> Round:
        return (
            (
                ScheduledQuestion(
                    question(number, picture(scene((448, 448), (settings.seed, "miss", number)))), picture_case
                ),
            ),
        )

    misses = [Group((text_case,), make_text, only_target=CACHE_OFF, limits=MISS_LIMITS)]
    if settings.pictures:
        misses.append(Group((picture_case,), make_picture, only_target=CACHE_OFF, limits=MISS_LIMITS))
    return misses
