"""Long chats: many turns, several pictures and clips, long system prompts, pasted texts, chatter.

Unlike in ``dialogue.py`` the turns follow each other, as in life, and each answer is learned; at the end some questions
branch. A question that names no picture is about what was shown last. Where real text would cost too much, the
positions jump instead, so that distances of up to 4,096 are seen.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

import language
import pixels
import texts
import world
from dialogue import CLIP_COUNTS, WITH_MEDIA, Batch, Chat, clip_times, collate, encode, put_clip, put_picture, related
from language import Turn

POSITIONS = 4096
MOST_PICTURES, MOST_CLIPS = 8, 2

# the chances that a turn brings a picture, two pictures, a clip; that it is chatter; that it holds a pasted text, and that this
# text follows its question
STYLES = {
    "album": (0.80, 0.03, 0.03, 0.04, 0.02, 0.5),
    "mixed": (0.30, 0.06, 0.10, 0.18, 0.06, 0.5),
    "one": (0.02, 0.0, 0.0, 0.15, 0.04, 0.5),
    "clips": (0.10, 0.0, 0.30, 0.08, 0.04, 0.5),
    "pastes": (0.20, 0.03, 0.04, 0.15, 0.60, 0.5),
    "questions first": (0.15, 0.02, 0.04, 0.08, 0.85, 0.85),
    "talk": (0.05, 0.0, 0.02, 0.85, 0.25, 0.5),
}
MIX = {"album": 0.24, "mixed": 0.17, "one": 0.12, "clips": 0.06, "pastes": 0.18, "questions first": 0.17, "talk": 0.06}


def length(rng: random.Random, most: int, least: int = 12) -> int:
    """Of a pasted text, in tokens: as many short ones as long ones, in octaves."""
    return round(math.exp(rng.uniform(math.log(least), math.log(max(least + 1, most)))))


def chatter(rng: random.Random, media: bool) -> Turn:
    return language.as_typed(rng, language.ask_talk(rng, media))


def with_paste(rng: random.Random, turn: Turn, tokens: int, after: float = 0.5) -> Turn:
    """The same turn with a text of about this many tokens before its question or, with this chance, after it."""
    if turn.kind in WITH_MEDIA:
        return turn
    text = texts.paste(rng, tokens)
    if turn.kind in ("talk", "unknown"):  # a text alone, or with an order that nobody here can follow
        question = text if rng.random() < 0.7 else f"{language.unknown_text(rng)}\n\n{text}"
        return Turn("unknown", question, language.UNKNOWN)
    if rng.random() >= after:
        return replace(turn, question=text + rng.choice(("\n\n", "\n", "\n\n", " ")) + turn.question)
    return replace(turn, question=turn.question + rng.choice(("\n\n", "\n", "\n\n", "\n---\n")) + text, lead=turn.question)


class Session:
    """A chat as it goes on. ``most``: the longest pasted text in tokens; ``room``: the tokens after which no turn begins."""

    def __init__(self, rng: random.Random, grids, style: str, room: int, most: int):
        self.rng, self.grids, self.room, self.most = rng, grids, room, most
        self.new, self.two, self.clip, self.talk, self.paste, self.after = STYLES[style]
        self.chat, self.pictures, self.clips, self.turns = Chat(), 0, 0, 0
        self.singles: list = []  # the scenes, while every picture came alone and nothing else was shown
        self.about = None  # what a question is about: asks it

    def jump(self, chance: float):
        """Positions that no token has."""
        left = POSITIONS - self.chat.next - self.room
        if left > 0 and self.rng.random() < chance:
            self.chat.next += round(left * self.rng.random() ** 2)

    def scene(self, count: int | None = None):
        """A picture's scene (None: it holds no shapes) and its grid."""
        rng = self.rng
        grid, sizes = rng.choice(self.grids[:-1])
        if count is None and rng.random() < 0.05:
            return None, grid
        return world.make_scene(rng, count or rng.choice((1, 1, 1, 2, 2, 3)), *rng.choice(sizes), same_kind=0.2), grid

    def show(self):
        """Decide what this turn brings; gives a function that puts it there, or None."""
        rng, roll = self.rng, self.rng.random()
        if roll < self.new and self.pictures < MOST_PICTURES:
            scene, grid = self.scene()
            earlier = self.singles[-1] if self.singles else None
            if scene and earlier and len(earlier.shapes) == 1 and rng.random() < 0.25:
                scene = related(rng, earlier, (scene.width, scene.height))
            self.pictures += 1
            self.singles.append(scene)
            count = len(self.singles)
            a, b = self.singles[0], scene
            earlier = [s for other in self.singles[:-1][-3:] if other for s in other.shapes]
            before = {about for s in earlier for about in ((None, s.kind), (s.color, None), (s.color, s.kind))}

            def ask():
                if count == 2 and self.clips == 0 and self.pictures == 2 and a and b and rng.random() < 0.2:
                    return language.ask_pair(rng, a, b)
                turn = language.ask_image(rng, scene)
                if rng.random() < 0.4:  # about something that an earlier picture showed: there the answer was another
                    for _ in range(8):
                        if turn.about and turn.about in before:
                            break
                        turn = language.ask_image(rng, scene)
                return turn

            self.about = ask
            return f"new picture {self.pictures}", lambda: put_picture(rng, self.chat, scene, grid, None)
        roll -= self.new
        if 0 <= roll < self.two and self.pictures < MOST_PICTURES - 1:
            a, grid = self.scene(1)
            b = related(rng, a, (a.width, a.height))
            self.pictures += 2
            self.singles += [None, None, None]
            self.about = lambda: language.ask_pair(rng, a, b)

            def put():
                first = len(self.chat.pictures)
                put_picture(rng, self.chat, a, grid, None)
                put_picture(rng, self.chat, b, grid, None)
                self.chat.pair = (first, first + 1)

            return "new pair", put
        roll -= self.two
        if 0 <= roll < self.clip and self.clips < MOST_CLIPS:
            clip = world.make_clip(rng, *rng.choice(self.grids[-1][1]), motion="color" if rng.random() < 0.2 else None)
            count = rng.choice([c for c in CLIP_COUNTS if c <= 12])
            times = clip_times(rng, count)
            self.clips += 1
            self.singles += [None, None, None]
            self.about = lambda: language.ask_clip(rng, clip, times=times, count=count)
            return "new clip", lambda: put_clip(rng, self.chat, clip, self.grids[-1][0], None, count, times)
        return None

    def turn(self):
        rng, chat = self.rng, self.chat
        self.turns += 1
        far = chat.next
        talk = rng.random() < self.talk
        shown = None if talk else self.show()
        if talk or self.about is None:
            turn = chatter(rng, self.about is not None)
        else:
            turn = language.as_typed(rng, self.about())
            while shown is None and turn.kind in WITH_MEDIA:  # only what comes with a picture may go without a question
                turn = language.as_typed(rng, self.about())
        question, pasted = turn.question, 0
        if rng.random() < self.paste:
            pasted = length(rng, self.most)
            turn = with_paste(rng, turn, pasted, self.after)
            question = turn.question
        chat.open_user()
        if shown and rng.random() < 0.8:
            shown[1]()
            chat.ask(replace(turn, question=question), opened=True)
        elif shown:
            chat.text(encode(question))
            shown[1]()
            chat.ask(replace(turn, question=""), opened=True)
        else:
            chat.ask(replace(turn, question=question), opened=True)
        chat.answer(turn)
        _, a, b = chat.answers[-1]
        names = [shown[0]] if shown else []
        if not talk:
            names += ["turn 9 to 24"] if self.turns > 8 else []
            names += ["after 500"] if far > 500 else []
            names += ["paste 150"] if pasted > 150 else []
            names += ["question first"] if turn.lead else []
        chat.tags += [(name, a, b) for name in names]

    def close(self, branches: int):
        """Some more questions about the last thing, none of which sees another."""
        rng, chat = self.rng, self.chat
        seen = set()
        while len(seen) < branches:
            media = self.about is not None
            turn = language.as_typed(rng, self.about()) if media and rng.random() < 0.82 else chatter(rng, media)
            if turn.kind in WITH_MEDIA or turn.question in seen:
                branches -= 1
                continue
            seen.add(turn.question)
            if rng.random() < (0.2 if self.after == 0.5 else 0.7):
                turn = with_paste(rng, turn, length(rng, min(self.most, 120)), self.after)
            chat.begin_branch()
            chat.ask(turn)
            chat.answer(turn)
            _, a, b = chat.answers[-1]
            chat.tags.append(("branch after 500" if chat.next > 500 else "branch", a, b))
            if turn.lead:
                chat.tags.append(("question first", a, b))


def session(rng: random.Random, grids, style: str, room: int, turns: int, most: int, branches: int) -> Chat:
    s = Session(rng, grids, style, room, most)
    roll = rng.random()
    if roll < 0.25:
        s.chat.system(rng.choice(language.SYSTEMS))
    elif roll < 0.5:
        s.chat.system(texts.orders(rng, length(rng, most)))
    s.jump(0.15)
    while s.turns < turns and (len(s.chat.ids) < room or not s.turns):
        s.turn()
        if s.turns < turns:
            s.jump(0.04)
    s.close(branches)
    return s.chat


def grids_of(rng: random.Random, count: int):
    """Grids of visual tokens with sizes of pictures that end there; the last is a clip's."""
    limits = [pixels.IMAGE_PIXELS] * count + [pixels.FRAME_PIXELS]
    return [(grid, pixels.sources(limit)[grid]) for limit in limits for grid in [pixels.pick_grid(rng, limit)]]


# (share, chats in a batch, room, longest pasted text, branches): about as many tokens in every batch
LENGTHS = ((0.50, 4, 260, 90, 4), (0.35, 2, 560, 300, 6), (0.15, 1, 1500, 1500, 10))


def make_batch(rng: random.Random, lengths: random.Random) -> Batch:
    """lengths: draws how long the chats are, for workers that wait for each other the same."""
    _, size, room, most, branches = lengths.choices(LENGTHS, [row[0] for row in LENGTHS])[0]
    grids = grids_of(rng, rng.choice((1, 1, 2)))
    chats = []
    for _ in range(size):
        style = rng.choices(list(MIX), list(MIX.values()))[0]
        chats.append(session(rng, grids, style, room, 24, most, branches))
    return collate(chats)
