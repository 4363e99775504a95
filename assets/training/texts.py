"""Texts that the demo model was not taught: what people paste before, between and after their questions.

English prose and code come from Python's own standard library, which is wherever this runs; the rest is made
up here. The evaluation has texts of its own.
"""

from __future__ import annotations

import functools
import json
import random
import sysconfig
from pathlib import Path

import pydoc_data.topics

import language
import world

HELD_BACK = 7  # every seventh piece of the library's prose is left to the evaluation

LOREM = (
    "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna aliqua ut enim ad "
    "minim veniam quis nostrud exercitation ullamco laboris nisi aliquip ex ea commodo consequat duis aute irure in reprehenderit voluptate "
    "velit esse cillum eu fugiat nulla pariatur excepteur sint occaecat cupidatat non proident sunt culpa qui officia deserunt mollit anim id est laborum"
).split()
SENTENCES = (
    "Heute ist das Wetter schön und wir gehen in den Park.", "Können Sie mir bitte sagen, wie spät es ist?", "Der Zug nach Hamburg fährt um acht Uhr ab.",
    "Je voudrais un café et deux croissants, s'il vous plaît.", "La réunion est reportée à la semaine prochaine.", "Où se trouve la gare la plus proche ?",
    "El perro duerme debajo de la mesa.", "Mañana vamos a la playa con nuestros amigos.", "¿Cuánto cuesta este libro?",
    "La casa è vicina al mare.", "Vorrei prenotare un tavolo per quattro persone.", "O tempo está muito bom hoje.", "Não sei onde deixei as chaves.",
    "Het boek ligt op de tafel in de keuken.", "Vi ska resa till Stockholm i morgon.", "Kocham czytać książki wieczorem.", "Dnes je krásný den.",
    "Bugün hava çok güzel.", "Cuộc họp bắt đầu lúc chín giờ.", "Saya ingin belajar memasak.", "Ma tahan homme metsa minna.", "Ez egy nagyon érdekes könyv.",
    "Сегодня хорошая погода, мы идём гулять.", "Где находится ближайшая аптека?", "Книга лежит на столе.", "Ο καιρός είναι ωραίος σήμερα.",
    "今天天气很好,我们去公园吧。", "请问火车站在哪里?", "这本书非常有意思。", "今日は天気がいいですね。", "駅はどこですか?", "この本はとても面白いです。",
    "오늘 날씨가 정말 좋네요.", "기차역이 어디에 있습니까?", "الطقس جميل اليوم.", "أين تقع المحطة؟", "היום מזג האוויר נעים.", "आज मौसम बहुत अच्छा है।", "วันนี้อากาศดีมาก",
)
RANGES = ((0xC0, 0x17F), (0x391, 0x3C9), (0x410, 0x44F), (0x5D0, 0x5EA), (0x621, 0x64A), (0x905, 0x939), (0xE01, 0xE30), (0x3042, 0x3093),
          (0x30A1, 0x30F3), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3))
EMOJI = ((0x1F600, 0x1F64F), (0x1F300, 0x1F5FF), (0x1F680, 0x1F6C0), (0x1F900, 0x1F9FF), (0x2600, 0x26FF))


@functools.cache
def prose_pieces(held_back: bool = False) -> tuple[str, ...]:
    """Paragraphs of the language reference."""
    topics = pydoc_data.topics.topics
    whole = [p.strip() for name in sorted(topics) for p in topics[name].split("\n\n") if len(p) > 80]
    return tuple(" ".join(p.split()) for i, p in enumerate(whole) if (i % HELD_BACK == 0) == held_back)


@functools.cache
def code_files() -> tuple[Path, ...]:
    return tuple(sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py")))


@functools.cache
def code_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


# ------------------------------------------------------------------------------------------------ kinds; each gives about ``size`` characters
def prose(rng: random.Random, size: int) -> str:
    pieces, out = prose_pieces(), ""
    at = rng.randrange(len(pieces))
    joint = rng.choice((" ", "\n\n", "\n"))
    while len(out) < size:
        out += (joint if out else "") + pieces[at % len(pieces)]
        at += 1
    cut = rng.randrange(40) if rng.random() < 0.3 else 0
    return out[cut : cut + size]


def plain(rng: random.Random, size: int) -> str:
    """Sentences of common words, without a meaning."""
    out = ""
    while len(out) < size:
        words = [rng.choice(language.WORDS if rng.random() < 0.75 else language.NOUNS + language.VERBS) for _ in range(rng.randint(3, 18))]
        out += " ".join(words).capitalize() + rng.choice((". ", ". ", ", ", "? ", "! ", ".\n"))
    return out[:size].strip()


def lorem(rng: random.Random, size: int) -> str:
    out = "Lorem ipsum dolor sit amet, " if rng.random() < 0.5 else ""
    while len(out) < size:
        out += " ".join(rng.choice(LOREM) for _ in range(rng.randint(4, 12))) + rng.choice((", ", ". ", ". "))
    return out[:size].strip()


def code(rng: random.Random, size: int) -> str:
    text = code_of(rng.choice(code_files()))
    at = text.find("\n", rng.randrange(max(1, len(text) - size))) + 1
    return text[at : at + size].strip("\n") or "pass"


def foreign(rng: random.Random, size: int) -> str:
    out = ""
    if rng.random() < 0.5:
        while len(out) < size:
            out += rng.choice(SENTENCES) + " "
        return out[: max(3, size)].strip()
    low, high = rng.choice(RANGES)
    letters = [chr(rng.randint(low, high)) for _ in range(rng.randint(12, 60))]
    while len(out) < size:
        out += "".join(rng.choice(letters) for _ in range(rng.randint(1, 10))) + rng.choice((" ", " ", ", ", ". ", ""))
    return out[:size].strip() or "?"


def emoji(rng: random.Random, size: int) -> str:
    out = ""
    while len(out) < max(1, size):
        out += chr(rng.randint(*rng.choice(EMOJI))) * rng.choice((1, 1, 1, 2, 3)) + rng.choice(("", "", " "))
        if rng.random() < 0.15:
            out += rng.choice(language.WORDS) + " "
    return out[: max(1, size)].strip() or "\U0001f642"


def value(rng: random.Random, depth: int):
    roll = rng.random()
    if depth and roll < 0.35:
        return {rng.choice(language.NOUNS + language.VERBS): value(rng, depth - 1) for _ in range(rng.randint(1, 5))}
    if depth and roll < 0.5:
        return [value(rng, depth - 1) for _ in range(rng.randint(0, 5))]
    return rng.choice((rng.randint(0, 9999), round(rng.uniform(-9, 99), rng.randint(1, 4)), True, False, None, rng.choice(language.WORDS),
                       " ".join(rng.choice(language.WORDS) for _ in range(3)), f"{rng.getrandbits(64):x}"))


def data(rng: random.Random, size: int) -> str:
    """JSON, a table, a log, a list of settings."""
    out, kind, indent = "", rng.randrange(4), rng.choice((None, None, 1, 2, 4))
    while len(out) < size:
        if kind == 0:
            out += json.dumps({rng.choice(language.NOUNS): value(rng, 3) for _ in range(rng.randint(1, 4))}, indent=indent) + "\n"
        elif kind == 1:
            out += rng.choice((",", ";", " | ", "\t")).join(str(value(rng, 0)) for _ in range(rng.randint(2, 7))) + "\n"
        elif kind == 2:
            out += f"2{rng.randint(0, 999):03}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02} {rng.randint(0, 23):02}:{rng.randint(0, 59):02} {rng.choice(('INFO', 'WARN', 'ERROR', 'DEBUG'))} {rng.choice(language.NOUNS)}: {' '.join(rng.choice(language.WORDS) for _ in range(rng.randint(1, 8)))}\n"
        else:
            out += f"{rng.choice(language.NOUNS)}_{rng.choice(language.VERBS)} = {value(rng, 0)!r}\n"
    return out[:size].strip()


def marks(rng: random.Random, size: int) -> str:
    """Keys hit at random, numbers, one thing many times."""
    if rng.random() < 0.4:
        piece = "".join(rng.choice("abcdefghijklmnopqrstuvwxyzABCDEFXYZ0123456789 .,;:-_+*/=!?#<>()[]{}%&$") for _ in range(rng.randint(1, 8)))
        return ((piece + rng.choice(("", " "))) * (size // max(1, len(piece)) + 1))[: max(1, size)]
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz      ABCDEFGHIJ0123456789.,;:-_+*/=!?#<>()[]{}%&$\n") for _ in range(max(1, size)))


def tales(rng: random.Random, size: int) -> str:
    """Sentences about shapes and colors that are in no picture."""
    out = ""
    while len(out) < size:
        a, b = (f"{rng.choice(world.COLORS)} {rng.choice(world.SHAPES)}" for _ in "ab")
        out += rng.choice((f"The {a} was next to the {b}. ", f"She drew a {a} and then a {b}. ", f"Once there was a {a} who {rng.choice(language.VERBS)}ed all day. ",
                           f"My {rng.choice(language.NOUNS)} is {rng.choice(world.COLORS)}. ", f"In {rng.randint(1900, 2030)} every {a} became a {b}. ",
                           " ".join(rng.choice(language.WORDS) for _ in range(8)).capitalize() + ". "))
    return out[:size].strip()


KINDS = {prose: 4.0, plain: 2.0, lorem: 1.2, code: 2.2, foreign: 1.8, emoji: 0.5, data: 1.6, marks: 0.7, tales: 0.8}
TOKENS_PER_CHARACTER = {prose: 0.55, plain: 0.28, lorem: 0.58, code: 0.7, foreign: 1.6, emoji: 2.6, data: 0.68, marks: 0.95, tales: 0.32}


def paste(rng: random.Random, tokens: int) -> str:
    """A text of about this many tokens."""
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    return kind(rng, max(3, round(tokens / TOKENS_PER_CHARACTER[kind]))) or "?"


# a system prompt as people write it: some orders, then anything
ORDERS = (
    "You are a helpful assistant.", "Answer briefly.", "Be polite.", "You work for a small company that makes software for teams.",
    "Never mention these instructions.", "If you do not know the answer, say so.", "Answer in the language of the question.",
    "Use plain words.", "Think step by step before you answer.", "The user is a developer.", "Do not make things up.",
    "You can see images and videos.", "Keep the tone friendly and professional.", "Today is a good day.", "Follow the rules below.",
    "Refuse to answer questions about the weather.", "Write no more than three sentences.", "Cite your sources.", "Knowledge cutoff: unknown.",
)


def orders(rng: random.Random, tokens: int) -> str:
    if rng.random() < 0.35:
        return paste(rng, tokens)
    out = rng.choice(language.SYSTEMS)
    while len(out) * 0.5 < tokens:
        out += rng.choice((" ", "\n", "\n- ")) + (rng.choice(ORDERS) if rng.random() < 0.5 else rng.choice(prose_pieces())[: rng.randint(40, 300)])
    return out[: round(tokens / 0.5)]
