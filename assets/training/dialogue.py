"""Chats as token sequences: what the chat template and the processor make of them, with positions and labels.

A chat is a trunk (system prompt, media, perhaps earlier turns) and several branches: questions that all
follow the trunk and do not see each other. One look at a picture thus teaches many questions, and no
answer can be copied from a neighbour.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import torch

import language
import pixels
import tokenizer
import world
from language import Turn
from network import FIND_LAYER
from train_vision import BIG_STEP, shoot

TOKENS = tokenizer.load()
END_OF_TEXT, START, END, VISION_START, VISION_END, _, IMAGE, VIDEO = (TOKENS.token_to_id(t) for t in tokenizer.SPECIAL)
_known: dict[str, list[int]] = {}


def encode(text: str) -> list[int]:
    ids = _known.get(text)
    if ids is None:
        ids = TOKENS.encode(text, add_special_tokens=False).ids
        if len(text) < 200 and len(_known) < 100_000:
            _known[text] = ids
    return ids


# the tokens that name a shape or a color inside a question
NAMES = {w: {ids[0] for form in (f" {w}", f" {w}s", w, w + "s", w.capitalize()) if len(ids := encode(form)) == 1} for w in world.SHAPES + world.COLORS}


COLOR_IDS, SHAPE_IDS = ({encode(f" {w}")[0] for w in words} for words in (world.COLORS, world.SHAPES))

DIGITS = {encode(str(digit))[0]: digit for digit in range(10)}
BEFORE_NUMBERS = {encode("[")[0], encode(" ")[0]}
AFTER_NUMBERS = {ids[0] for text in ("]", "],", "]}") if len(ids := encode(text)) == 1}
SEPARATORS = {encode(",")[0], encode(" and")[0]}
CLOSING = {encode("}")[0]}


@dataclass
class Chat:
    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    positions: list[tuple[int, int, int]] = field(default_factory=list)
    branch: list[int] = field(default_factory=list)  # 0 is the trunk
    places: list[int] = field(default_factory=list)  # of the visual tokens
    pictures: list[tuple] = field(default_factory=list)  # (patches, rows, columns, labels)
    answers: list[tuple[str, int, int]] = field(default_factory=list)  # (kind of question, first token, one past the last)
    looks: list[tuple] = field(default_factory=list)  # (layer, token, the tokens it should attend to: for all heads, or for each)
    noun: int | None = None  # of the question now open
    looking: list[int] = field(default_factory=list)  # the same of the question now open
    focus: list[int] = field(default_factory=list)  # the picture (or the clip's pairs of frames) that questions are about
    pair: tuple[int, int] = (0, 1)  # the two pictures that are compared
    coordinates: list[tuple] = field(default_factory=list)  # (token before a digit, the coordinate in hundredths, what follows its tens or -1, all of the box)
    tags: list[tuple[str, int, int]] = field(default_factory=list)  # (name, first token, one past the last): more rows of the log
    next: int = 0
    now: int = 0
    fork: int | None = None
    lead: range = range(0)  # the question before a pasted text

    def text(self, ids: list[int], learn: bool = False):
        self.ids += ids
        self.labels += ids if learn else [-100] * len(ids)
        self.positions += [(p, p, p) for p in range(self.next, self.next + len(ids))]
        self.branch += [self.now] * len(ids)
        self.next += len(ids)

    def visual(self, token: int, patches, rows: int, columns: int, labels):
        self.text([VISION_START])
        n = rows * columns
        self.places += range(len(self.ids), len(self.ids) + n)
        self.ids += [token] * n
        self.labels += [-100] * n
        self.positions += [(self.next, self.next + r, self.next + c) for r in range(rows) for c in range(columns)]
        self.branch += [self.now] * n
        self.next += max(rows, columns)
        self.pictures.append((patches, rows, columns, labels))
        self.text([VISION_END])

    def system(self, text: str):
        self.text([START] + encode("system\n" + text) + [END] + encode("\n"))

    def open_user(self):
        self.text([START] + encode("user\n"))

    def close_user(self, text: str = ""):
        self.text(encode(text) + [END] + encode("\n"))

    def ask(self, turn: Turn, opened: bool = False):
        """The question; its noun should look at the visual tokens it is about, or else at the picture's start."""
        if not opened:
            self.open_user()
        start = len(self.ids)
        self.close_user(turn.question)
        leads = turn.lead and turn.question.startswith(turn.lead)
        end = start + len(encode(turn.lead)) if leads else len(self.ids)  # a pasted text may hold such a noun too
        self.lead = range(start, end) if leads else range(0)
        self.noun = None
        self.looking = self.focus if turn.which is None else [self.pair[turn.which]]
        if turn.about is None or not self.looking:
            return
        color, kind = turn.about
        names = NAMES[kind or color]
        nouns = [i for i in range(start, end) if self.ids[i] in names]
        if nouns:
            self.noun = nouns[-1]
            tokens = [place for picture in self.looking for place in self.tokens_of(picture, kind=kind, color=color)]
            self.looks.append((FIND_LAYER, self.noun, tokens or [self.places[self.first_of(self.looking[0])] - 1]))

    def answer(self, turn: Turn):
        self.text([START] + encode("assistant\n"))
        start = len(self.ids)
        self.text(encode(turn.answer) + [END], learn=True)
        self.answers.append((turn.kind, start, len(self.ids)))
        if turn.kind == "compare":
            self.compared(start)
        if turn.kind in ("describe", "anything"):
            self.described(start)
        if turn.kind in ("box", "point", "box at"):
            self.numbered(start)
        if turn.kind in ("box", "point") and turn.ranks:
            self.located(start, turn.ranks)
        if turn.moment is not None:
            self.dated(start, self.focus[turn.moment])
        if self.lead:  # all of the answer looks at what was asked before a pasted text
            asked = [i for i in self.lead if i != self.noun]
            self.looks += [(FIND_LAYER + 2, place, asked) for place in range(start - 1, min(start + 8, len(self.ids) - 2))]
        if self.noun is not None:  # and the answer asks the noun what it found
            self.looks += [(FIND_LAYER + 1, place, [self.noun]) for place in range(start - 1, len(self.ids) - 3)]
        elif self.lead:  # or, as it begins, the question before a pasted text what it was
            self.looks.append((FIND_LAYER + 1, start - 1, list(self.lead)))
        self.noun, self.lead = None, range(0)
        if not self.now:  # nothing follows in a branch
            self.text(encode("\n"))

    def first_of(self, picture: int) -> int:
        """Where in ``places`` this picture's tokens begin."""
        return sum(p[1] * p[2] for p in self.pictures[:picture])

    def tokens_of(self, picture: int, rank: int | None = None, kind: str | None = None, color: str | None = None) -> list[int]:
        """The visual tokens of a picture's shape (by its rank in reading order, kind or color), or of all of its shapes."""
        first, classes = self.first_of(picture), self.pictures[picture][3][0]
        found = classes[:, 2] == rank if rank else classes[:, 0] > 0
        if kind:
            found = found & (classes[:, 0] == world.SHAPES.index(kind) + 1)
        if color:
            found = found & (classes[:, 1] == world.COLORS.index(color) + 1)
        return [self.places[first + i] for i in np.flatnonzero(found)]

    def located(self, start: int, ranks: tuple[int, ...]):
        """While a shape's box or point is written, look at it."""
        if len(self.looking) != 1:
            return
        ends = [i + 1 for i in range(start, len(self.ids)) if self.ids[i] in CLOSING] + [len(self.ids)]
        first = start - 1
        for rank, end in zip(ranks, ends):
            targets = self.tokens_of(self.looking[0], rank)
            if targets:
                self.looks += [(FIND_LAYER, place, targets) for place in range(first, min(end, len(self.ids) - 2))]
            first = end

    def dated(self, start: int, picture: int):
        """While the seconds of a pair of frames are written, look at its shape, which looks at the digits before the frames:
        one head at those before the point, one at the one behind it."""
        tokens = self.tokens_of(picture)
        if not tokens:
            return
        end = self.places[self.first_of(picture)] - 2  # where "<1.4 seconds>" ends
        digits = [i for i in range(end, max(-1, end - 12), -1) if self.ids[i] in DIGITS]
        self.looks += [(FIND_LAYER, place, tokens) for place in range(start - 1, len(self.ids) - 3)]
        self.looks += [(FIND_LAYER - 1, place, (digits[1:], digits[:1])) for place in tokens]

    def numbered(self, start: int):
        """Where the first two digits of a box's or a point's coordinates are written."""
        at, box = start, []
        while at < len(self.ids):
            end = at
            while end < len(self.ids) and self.ids[end] in DIGITS:
                end += 1
            if end > at and self.ids[at - 1] in BEFORE_NUMBERS:
                box.append((at, int("".join(str(DIGITS[i]) for i in self.ids[at:end])) / 10))
            elif box and self.ids[at] in AFTER_NUMBERS:
                values = tuple(value for _, value in box)
                for place, value in box:
                    self.coordinates.append((place - 1, value, -1, values))
                    if 10 <= value < 100:
                        self.coordinates.append((place, value, value % 10, values))
                box = []
            at = max(end, at + 1)

    def described(self, start: int):
        """While a shape is described, look at it."""
        if len(self.looking) != 1 or not self.tokens_of(self.looking[0]):
            return
        cuts = [start - 1] + [i for i in range(start, len(self.ids)) if self.ids[i] in SEPARATORS] + [len(self.ids) - 2]
        for rank, (first, end) in enumerate(zip(cuts, cuts[1:]), 1):
            targets = self.tokens_of(self.looking[0], rank)
            if targets:
                self.looks += [(FIND_LAYER, place, targets) for place in range(first, end)]

    def compared(self, start: int):
        """In "a red circle, the second a blue circle" a word that repeats looks back at its twin, another at the answer's start; the end looks at both."""
        said = [(i, kind) for i in range(start, len(self.ids)) for kind, ids in enumerate((COLOR_IDS, SHAPE_IDS)) if self.ids[i] in ids]
        if [kind for _, kind in said] != [0, 1, 0, 1]:
            return
        (c1, _), (s1, _), (c2, _), (s2, _) = said
        for first, second in ((c1, c2), (s1, s2)):
            self.looks.append((FIND_LAYER, second, [first if self.ids[first] == self.ids[second] else start - 3]))
        for picture, color, kind in zip(self.pair, (c1, c2), (s1, s2)):
            self.looks += [(FIND_LAYER, place, self.tokens_of(picture)) for place in range(color - 2, kind) if place not in (c2, s2)]
        self.looks += [(FIND_LAYER + 1, place, [c2, s2]) for place in range(s2 + 1, len(self.ids) - 2)]

    def turn(self, t: Turn):
        self.ask(t)
        self.answer(t)

    def begin_branch(self):
        if self.fork is None:
            self.fork = self.next
        self.next = self.fork
        self.now += 1


# ------------------------------------------------------------------------------------------------ media
def put_picture(rng, chat: Chat, scene, grid, source):
    rows, columns = grid
    if scene is None:
        image = world.make_other(rng, columns * 32, rows * 32)
    else:
        image = world.photograph(rng, scene, columns * 32, rows * 32)
    chat.focus = [len(chat.pictures)]
    chat.visual(IMAGE, pixels.patches(np.stack([image, image])[None])[0], rows, columns, pixels.labels(scene, rows, columns, "still"))


CLIP_COUNTS = (2, 2, 3, 4, 4, 4, 4, 5, 6, 6, 8, 8, 8, 10, 12, 16, 16, 24, 32, 32)


def clip_times(rng, count: int) -> list[float]:
    """For each pair of frames, the seconds that the template prints."""
    seconds = rng.uniform(0.5, 12) if rng.random() < 0.4 else count / 2 * rng.uniform(0.8, 1.1)
    times = [seconds * i / max(1, count - 1) for i in range(count)]
    times += times[-1:] * (count % 2)
    start = rng.uniform(0, 20) if rng.random() < 0.1 else 0.0
    return [start + (a + b) / 2 for a, b in zip(times[::2], times[1::2])]


def put_clip(rng, chat: Chat, clip, grid, source, count: int, times: list[float]):
    """``times``: the seconds printed before each pair of frames."""
    rows, columns = grid
    chat.focus = list(range(len(chat.pictures), len(chat.pictures) + len(times)))
    width, height = columns * 32, rows * 32
    if clip is None:
        still = rng.random() < 0.5
        frames = [world.make_other(rng, width, height)] * count if still else [world.make_other(rng, width, height) for _ in range(count)]
        frames = np.stack(frames)
    else:
        moments = [i / (count - 1) for i in range(count)]
        frames = shoot(rng, [clip.at(m) for m in moments], width, height)
    if count % 2:
        frames = np.concatenate([frames, frames[-1:]])
    patches = pixels.patches(frames.reshape(-1, 2, height, width, 3))
    for i, seconds in enumerate(times):
        chat.text(encode(f"<{seconds:.1f} seconds>"))
        if clip is None:
            marks = pixels.labels(None, rows, columns)
        else:
            step, motion = 1 / (count - 1), clip.motion
            if count > 12 or motion == "color":
                motion = None  # too little happens between two frames to be asked about
            if count % 2 and i == len(times) - 1:
                step, motion = 0.0, None  # the last frame of an odd number comes twice
            start, speed = 2 * i / (count - 1), speed_of(clip, step)
            if step > BIG_STEP:
                marks = pixels.labels_between(clip.at(start), clip.at(start + step), rows, columns, motion, speed)
                if clip.sudden:
                    marks[0][:, 1] = -100
            else:
                marks = pixels.labels(clip.at(min(1.0, start + step / 2)), rows, columns, motion, speed)
        chat.visual(VIDEO, patches[i], rows, columns, marks)


def speed_of(clip, step):
    return [(q - p) * step for p, q in ((clip.start.x, clip.end.x), (clip.start.y, clip.end.y), (clip.start.radius, clip.end.radius))]


# ------------------------------------------------------------------------------------------------ chats
WITH_MEDIA = ("anything", "other clip")  # no question: answered with a description only where the turn holds the media


def branches(rng, chat: Chat, ask, room: int, opened: bool, limit: int = 14):
    """Ask in branches until the room (in tokens) is used; ``opened``: the user's turn already holds the media."""
    seen = set()
    for _ in range(limit):
        chatter = not opened and chat.pictures and rng.random() < 0.1
        turn = language.as_typed(rng, language.ask_talk(rng, media=True) if chatter else ask())
        if turn.kind in WITH_MEDIA and not opened:
            continue
        cost = len(encode(turn.question)) + len(encode(turn.answer)) + 8
        if turn.question in seen or (seen and len(chat.ids) + cost > room):
            continue
        seen.add(turn.question)
        chat.begin_branch()
        chat.ask(turn, opened)
        chat.answer(turn)


def first_turn(rng, chat: Chat, put, ask, closed: float) -> bool:
    """The media, alone (True: the turn is open) or with a first question and its answer in the trunk."""
    if rng.random() < 0.3:
        chat.system(rng.choice(language.SYSTEMS))
    if rng.random() < 0.05:
        chat.turn(language.as_typed(rng, language.ask_talk(rng)))
    chat.open_user()
    if rng.random() >= closed:
        put()
        return True
    turn = language.as_typed(rng, ask())
    if rng.random() < 0.5:
        put()
        chat.ask(turn, opened=True)
    else:
        chat.text(encode(turn.question))
        put()
        chat.close_user()
    chat.answer(turn)
    if rng.random() < 0.4:
        turn = language.as_typed(rng, ask())
        if turn.kind not in WITH_MEDIA:
            chat.turn(turn)
    return False


def picture_chat(rng, grid, source, counts, room=210) -> Chat:
    chat = Chat()
    lookups = rng.random() < 0.4  # two or three shapes, and only questions that must find one of them
    scene = None if not lookups and rng.random() < 0.12 else world.make_scene(rng, rng.choice((2, 2, 3)) if lookups else rng.choice(counts), *source, same_kind=0.25)
    ask = lambda: language.ask_image(rng, scene, kinds=language.LOOKUPS if lookups else language.IMAGE_KINDS)
    opened = first_turn(rng, chat, lambda: put_picture(rng, chat, scene, grid, source), ask, 0.1 if lookups else 0.3)
    branches(rng, chat, ask, room if scene else len(chat.ids) + 60, opened)
    return chat


def related(rng, a, source):
    """A second picture that often shares colour, shape or place with the first."""
    b = world.make_scene(rng, 1 if rng.random() < 0.9 else 2, *source)
    if len(a.shapes) == len(b.shapes) == 1:
        s, t = a.shapes[0], b.shapes[0]
        roll = rng.random()
        if roll < 0.3 or 0.6 < roll < 0.8:
            t.kind, t.outline = s.kind, world.outline(rng, s.kind)
        if 0.3 < roll < 0.8 and world.distance(s.rgb, b.background_rgb) > 110:
            t.color, t.rgb = s.color, s.rgb
        if 0.7 < roll < 0.8:
            t.x, t.y, t.radius, b.width, b.height = s.x, s.y, s.radius, a.width, a.height
    return b


def pair_chat(rng, grid, source, counts, room=230) -> Chat:
    chat = Chat()
    a = world.make_scene(rng, 1 if rng.random() < 0.9 else 2, *source)
    b = related(rng, a, source)
    ask = lambda: language.ask_pair(rng, a, b)
    show = lambda scene: put_picture(rng, chat, scene, grid, source)
    if rng.random() < 0.7:
        opened = first_turn(rng, chat, lambda: (show(a), show(b)), ask, 0.2)
    else:  # one picture per turn: "this image" is the last one
        first_turn(rng, chat, lambda: show(a), lambda: language.ask_image(rng, a), 1.0)
        chat.open_user()
        if rng.random() < 0.75:
            show(b)
            opened = True
        else:
            turn = language.as_typed(rng, language.ask_image(rng, b))
            show(b)
            chat.close_user(turn.question)
            chat.answer(turn)
            opened = False
        ask = lambda: language.ask_image(rng, b) if rng.random() < 0.55 else language.ask_pair(rng, a, b)
    branches(rng, chat, ask, room, opened)
    return chat


def clip_chat(rng, grid, source, count: int, room=100) -> Chat:
    chat = Chat()
    clip = None if rng.random() < 0.05 else world.make_clip(rng, *source, motion="color" if rng.random() < 0.3 else None)
    times = clip_times(rng, count)
    ask = lambda: language.ask_clip(rng, clip, times=times, count=count)
    opened = first_turn(rng, chat, lambda: put_clip(rng, chat, clip, grid, source, count, times), ask, 0.2)
    branches(rng, chat, ask, len(chat.ids) + room, opened)
    return chat


def talk_chat(rng, room=200) -> Chat:
    chat = Chat()
    if rng.random() < 0.4:
        chat.system(rng.choice(language.SYSTEMS))
    if rng.random() < 0.3:
        chat.turn(language.as_typed(rng, language.ask_talk(rng)))
    branches(rng, chat, lambda: language.ask_talk(rng), room, opened=False, limit=20)
    return chat


@dataclass
class Batch:
    ids: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor
    where: torch.Tensor
    groups: list
    marks: tuple | None  # labels of the visual tokens
    answers: list[tuple[str, int, int, int]]  # (kind, row, first, one past the last)
    tags: list[tuple[str, int, int, int]]  # the same, by the log's further rows
    coordinates: list[tuple]  # (row, and as in Chat)
    look: dict[int, tuple[torch.Tensor, torch.Tensor]]  # layer -> rows and columns of queries
    trunk: int  # tokens at the start of every row that belong to no branch
    look_at: dict[int, torch.Tensor]  # for each of them, the tokens that all heads or each head should attend to


def collate(chats: list[Chat]) -> Batch:
    rows, length = len(chats), max(len(c.ids) for c in chats)
    ids = np.full((rows, length), END_OF_TEXT)
    labels = np.full((rows, length), -100)
    positions = np.zeros((3, rows, length), np.int64)
    branch = np.full((rows, length), -1)
    by_grid: dict[tuple[int, int], list] = {}
    for row, chat in enumerate(chats):
        n = len(chat.ids)
        ids[row, :n], labels[row, :n], branch[row, :n] = chat.ids, chat.labels, chat.branch
        positions[:, row, :n] = np.array(chat.positions).T
        start = 0
        for patches, r, c, marks in chat.pictures:
            by_grid.setdefault((r, c), []).append((patches, marks, row * length + np.array(chat.places[start : start + r * c])))
            start += r * c
    sees = (branch[:, :, None] == branch[:, None, :]) | (branch[:, None, :] == 0)
    sees &= np.tril(np.ones((length, length), bool)) & ((branch[:, None, :] >= 0) | np.eye(length, dtype=bool))
    groups, where, marks = [], [], []
    for (r, c), items in by_grid.items():
        groups.append((torch.from_numpy(np.stack([i[0] for i in items])), 2 * r, 2 * c))
        where += [i[2] for i in items]
        marks += [i[1] for i in items]
    look, look_at = {}, {}
    for layer in range(FIND_LAYER - 1, FIND_LAYER + 3):
        looks = [(row, token, targets) for row, chat in enumerate(chats) for at, token, targets in chat.looks if at == layer]
        if looks:
            look[layer] = torch.tensor([i[0] for i in looks]), torch.tensor([i[1] for i in looks])
            look_at[layer] = torch.zeros(len(looks), 2 if layer == FIND_LAYER - 1 else 1, length, dtype=torch.bool)
            for number, (_, _, targets) in enumerate(looks):
                for head, places in enumerate(targets if isinstance(targets, tuple) else (targets,)):
                    look_at[layer][number, head, places] = True
    joined = None
    if marks:
        joined = tuple(torch.from_numpy(np.concatenate(v)) for v in ([m[0] for m in marks], [m[1] for m in marks]))
        joined += (torch.from_numpy(np.concatenate([np.repeat(m[2][None], len(m[0]), 0) for m in marks])),)
    return Batch(
        torch.from_numpy(ids), torch.from_numpy(positions), torch.from_numpy(labels), torch.from_numpy(sees)[:, None],
        torch.from_numpy(np.concatenate(where)) if where else torch.zeros(0, dtype=torch.long), groups, joined,
        [(kind, row, a, b) for row, chat in enumerate(chats) for kind, a, b in chat.answers],
        [(tag, row, a, b) for row, chat in enumerate(chats) for tag, a, b in chat.tags],
        [(row, *entry) for row, chat in enumerate(chats) for entry in chat.coordinates], look,
        min(next((i for i, n in enumerate(c.branch) if n), len(c.branch)) for c in chats), look_at,
    )


# what a batch is made of, as weights
MIX = {"picture": 0.60, "pair": 0.12, "clip": 0.28}


def make_batch(rng: random.Random, size: int, counts=(1, 1, 2, 2, 3, 3), mix=MIX) -> Batch:
    kind = rng.choices(list(mix), list(mix.values()))[0]
    frames = 64 if rng.random() < 0.04 else rng.choice(CLIP_COUNTS)
    limits = pixels.IMAGE_PIXELS
    if kind == "clip":
        limits = pixels.CLIP_PIXELS[frames] if frames in pixels.CLIP_PIXELS and rng.random() < 0.3 else pixels.FRAME_PIXELS
    grid = pixels.pick_grid(rng, limits)
    sizes = pixels.sources(limits)[grid]
    if kind == "clip":  # about as many tokens in every batch
        size = max(2, round(size * 210 / (130 + frames * (grid[0] * grid[1] + 9) / 2)))
    chats = []
    for _ in range(size):
        source = rng.choice(sizes)
        if kind == "clip":
            chats.append(clip_chat(rng, grid, source, frames))
        elif rng.random() < 0.08:
            chats.append(talk_chat(rng))
        elif kind == "picture":
            chats.append(picture_chat(rng, grid, source, counts))
        else:
            chats.append(pair_chat(rng, grid, source, counts))
    return collate(chats)
