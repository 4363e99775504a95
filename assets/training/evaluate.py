"""Exact answers of a checkpoint on unseen scenes, through the product's own engine.

    python assets/training/evaluate.py [--model assets/demo-model] [--scale 1.0] [--out table.md]

Run it from the repository's root, in the product's environment. It draws its own pictures and clips (a seed
that training never uses), stores them as PNG, JPEG and MP4, asks the engine, compares whole answers, and
prints right answers n of N for each task. A fifth of the scenes and of the clips are drawn by
``independent.py``, which shares no code with the generator.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import independent
import language
import world
from engine import device

device.prepare()

from engine.config import DEMO, EngineConfig, ModelSpec
from engine.core import Engine
from engine.types import Delta, FrameSampling, Message, Part, Request, Sampling

# task -> share of exact answers the project asks for
TARGETS = {
    "one shape: color": 0.99, "one shape: shape": 0.99, "one shape: where": 0.97, "count": 0.97,
    "describe two shapes": 0.90, "describe three shapes": 0.90, "clip: direction": 0.95, "compare": 0.90,
    "no shapes (noise, photos)": 0.95, "small talk": 1.0,
}
PICTURE_SIZES = ((64, 64), (96, 96), (128, 128), (224, 224), (256, 256), (300, 300), (400, 300), (512, 512), (640, 480), (600, 800),
                 (800, 450), (1000, 1000), (1280, 720), (720, 1280), (1170, 2532), (2000, 1500))
CLIP_SIZES = ((320, 240), (256, 256), (640, 480), (640, 360), (240, 320), (480, 480))


@dataclass
class Question:
    tasks: tuple[str, ...]  # every row of the table that counts this answer
    turns: list[tuple[str, list]]  # (role, parts); a part is text or a file
    answer: str
    frames: int | None = None
    got: str = field(default="", compare=False)


class Maker:
    def __init__(self, folder: Path, scale: float, seed: int):
        self.folder, self.scale, self.questions, self.number = folder, scale, [], 0
        self.rng, self.g = random.Random(f"evaluation {seed}"), np.random.default_rng(900_000 + seed)
        self.scenes = self.clips = self.foreign_scenes = self.foreign_clips = 0

    def times(self, n: int) -> range:
        return range(max(1, round(n * self.scale)))

    def file(self, ending: str) -> Path:
        self.number += 1
        return self.folder / f"{self.number}.{ending}"

    def scene(self, count: int, size=None) -> tuple[world.Scene, Path]:
        """A clear scene of the training generator, as a file."""
        size = size or self.rng.choice(PICTURE_SIZES)
        while not world.is_clear(scene := world.make_scene(self.rng, count, *size, same_kind=0.2)):
            pass
        path = self.file(self.rng.choice(("png", "png", "jpg")))
        image = world.draw(scene, *size, 1 if size[0] * size[1] > 600_000 else self.rng.choice((1, 2, 3)))
        image.save(path, quality=self.rng.randint(70, 95)) if path.suffix == ".jpg" else image.save(path)
        self.scenes += 1
        return scene, path

    def foreign(self, count: int) -> tuple[list[dict], Path]:
        path = self.file(self.rng.choice(("png", "jpg")))
        self.foreign_scenes += 1
        return independent.picture(self.g, count, path), path

    def ask(self, tasks, files, turn: language.Turn | tuple[str, str], frames=None, before=(), typed=True, system=True):
        """One question about some files; text before or after them, with or without a system prompt."""
        text, answer = (turn.question, turn.answer) if isinstance(turn, language.Turn) else turn
        if typed and self.rng.random() < 0.3:
            text = text.replace("color", "colour")
        parts = [*files, text] if self.rng.random() < 0.8 else [text, *files]
        turns = [*before, ("user", [p for p in parts if p != ""])]
        if system and self.rng.random() < 0.3:
            turns.insert(0, ("system", [self.rng.choice(language.SYSTEMS)]))
        tasks = (tasks,) if isinstance(tasks, str) else tuple(tasks)
        self.questions.append(Question(tasks, turns, answer, frames))

    # ------------------------------------------------------------------------------------------ tasks
    def one_shape(self):
        for i in self.times(110):
            scene, path = self.scene(1)
            s = scene.shapes[0]
            self.ask("one shape: color", [path], (self.rng.choice(("What color is the {}?", "What is the color of the {}?", "Which color is the {}?")).format(s.kind), f"It is {s.color}."))
            self.ask("one shape: shape", [path], (self.rng.choice(("What shape is it?", "What shape is this?", "What shape do you see?")), f"It is {language.article(s.kind)}."))
            self.ask("one shape: where", [path], (self.rng.choice(("Where is the {}?", "Where do you see the {}?")).format(s.kind), f"It is {world.PLACES[s.cell]}."))
            self.ask("describe one shape", [path], (self.rng.choice(language.DESCRIBE), language.describe(scene)))
        for i in self.times(60):
            found, path = self.foreign(1)
            s = found[0]
            other = "another program: "
            self.ask(("one shape: color", other + "color"), [path], (f"What color is the {s['kind']}?", f"It is {s['color']}."))
            self.ask(("one shape: shape", other + "shape"), [path], ("What shape is it?", "It is a " + s["kind"] + "."))
            self.ask(("one shape: where", other + "where"), [path], (f"Where is the {s['kind']}?", f"It is {independent.SPOKEN[s['place']]}."))
            self.ask(("describe one shape", other + "describe"), [path], ("What is in this image?", independent.sentence(found)))

    def more_shapes(self):
        words = {2: "two", 3: "three"}
        for i in self.times(100):
            count = 2 + i % 2
            scene, path = self.scene(count)
            self.ask(f"describe {words[count]} shapes", [path], (self.rng.choice(language.DESCRIBE), language.describe(scene)))
            self.ask("count", [path], (self.rng.choice(("How many shapes are there?", "How many shapes do you see?")), language.amount(count)))
            for kind in ("color", "where", "shape", "exists", "count kind"):
                turn = language.ask_image(self.rng, scene, kind)
                if turn.kind == kind:
                    self.ask({"count kind": ("count", "count of one kind")}.get(kind, f"among several: {kind}"), [path], turn)
        for i in self.times(40):
            count = 2 + i % 2
            found, path = self.foreign(count)
            self.ask((f"describe {words[count]} shapes", "another program: describe"), [path], ("Describe this image.", independent.sentence(found)))
            self.ask(("count", "another program: count"), [path], ("How many shapes are there?", language.amount(count)))
            kinds = [s["kind"] for s in found]
            kind = self.rng.choice(kinds)
            self.ask(("count", "count of one kind", "another program: count"), [path], (f"How many {kind}s are there?", language.amount(kinds.count(kind))))
            if kinds.count(kind) == 1:
                s = found[kinds.index(kind)]
                self.ask(("among several: color", "another program: color"), [path], (f"What color is the {kind}?", f"It is {s['color']}."))
        for i in self.times(30):
            scene, path = self.scene(1)
            self.ask("count", [path], ("How many shapes are there?", language.amount(1)))

    def pairs(self):
        for i in self.times(70):
            size = self.rng.choice(PICTURE_SIZES)
            (a, first), (b, second) = self.scene(1, size), self.scene(1, size)
            if i % 4 == 0:  # often the same but for one thing
                b = world.Scene(a.width, a.height, a.background, a.background_rgb, [world.Shape(**vars(a.shapes[0]))])
                s = b.shapes[0]
                s.kind = self.rng.choice(world.SHAPES)
                s.outline = world.outline(self.rng, s.kind)
                world.draw(b, *size, 2).save(second)
            self.ask("compare", [first, second], (self.rng.choice(language.COMPARE), language.compare(a, b)))
            which, scene = self.rng.choice((("first", a), ("second", b)))
            self.ask("first or second picture", [first, second], (f"What color is the {scene.shapes[0].kind} in the {which} image?", f"It is {scene.shapes[0].color}."))

    def follow_ups(self):
        for i in self.times(40):
            (scene, path), (later, second) = self.scene(1 + i % 2), self.scene(1)
            before = [("user", [path, "What is in this image?"]), ("assistant", [language.describe(scene)])]
            turn = language.ask_image(self.rng, scene, ("color", "where", "count", "shape")[i % 4])
            self.ask("follow-up", [], turn, before=before)
            s = later.shapes[0]
            self.ask("follow-up: second picture", [second], (f"What color is the {s.kind}?", f"It is {s.color}."), before=before)

    def one_word(self):
        for i in self.times(50):
            scene, path = self.scene(1 + i % 3)
            turn = language.ask_image(self.rng, scene, ("color", "shape", "count", "exists")[i % 4])
            if turn.word:
                self.ask("one word", [path], (f"{turn.question} Answer in one word.", turn.word))

    def nothing(self):
        for i in self.times(60):
            width, height = self.rng.choice(PICTURE_SIZES[2:])
            path = self.file("png")
            Image.fromarray(world.make_other(self.rng, width, height)).save(path)
            self.scenes += 1
            self.ask(("no shapes (noise, photos)", "no shapes: noise and textures"), [path], (self.rng.choice(language.DESCRIBE), language.NOTHING))
        for path in photos():
            for question in language.DESCRIBE[:2]:
                self.ask(("no shapes (noise, photos)", "no shapes: photos"), [path], (question, language.NOTHING))

    def movies(self):
        counts = (4, 4, 8, 8, 16, 6, 12, 32, 64)
        for i in self.times(160):
            size = self.rng.choice(CLIP_SIZES)
            while True:
                clip = world.make_clip(self.rng, *size, motion=world.MOTIONS[i % 8])
                if world.distance(clip.start.rgb, clip.scene.background_rgb) > 140:
                    break
            path = self.file("mp4")
            total = self.rng.randint(66, 130)
            film(path, [np.asarray(world.draw(clip.at(k / (total - 1)), *size, 2)) for k in range(total)], self.rng.choice((10, 15, 24, 30)))
            self.clips += 1
            self.about_clip(path, clip.motion, clip.start.kind, clip.start.color, language.watch(clip), counts[i % len(counts)])
        for i in self.times(40):
            path = self.file("mp4")
            facts = independent.clip(self.g, path)
            self.foreign_clips += 1
            moves = {"left": "moves to the left", "right": "moves to the right", "up": "moves up", "down": "moves down"}[facts["motion"]]
            whole = f"{'An' if facts['color'] == 'orange' else 'A'} {facts['color']} {facts['kind']} {moves}."
            self.about_clip(path, facts["motion"], facts["kind"], facts["color"], whole, (4, 8, 16)[i % 3], foreign=True)

    def about_clip(self, path, motion, kind, color, whole, frames, foreign=False):
        more = ("another program: clip",) if foreign else ()
        rng = self.rng
        self.ask(("clip: whole sentence", *more), [path], (rng.choice(language.WATCH), whole), frames)
        if motion in ("left", "right", "up", "down"):
            question = rng.choice(("Which way does it move?", f"In which direction does the {kind} move?", "What direction does it move?"))
            row = "up to 16 frames" if frames <= 16 else "32 and 64 frames"
            self.ask(("clip: direction", f"clip: direction, {row}", *more), [path], (question, f"It {language.MOVES[motion]}."), frames)
        elif not foreign and motion != "color":
            self.ask("clip: grows, shrinks, still", [path], ("What does it do?", f"It {language.MOVES[motion]}."), frames)
        if motion != "color":
            self.ask(("clip: color", *more), [path], (f"What color is the {kind}?", f"It is {color}."), frames)
        self.ask(("clip: shape", *more), [path], ("What shape is it?", f"It is a {kind}."), frames)

    def talk(self):
        for questions, answer in language.TALK:
            for question in questions:
                self.ask("small talk", [], (question, answer), typed=False, system=False)
        for question in ("What is in this image?", "Describe this image.", "What color is the circle?", "Compare these images.", "What happens in this video?"):
            self.ask("small talk", [], (question, language.NO_MEDIA), typed=False, system=False)
        for question in ("Write a poem about the sea.", "What is the capital of France?", "Translate this into German.", "def main(): pass", "Pourquoi ?", "Explain general relativity", "2+2", "Who won the game last night?"):
            self.ask("small talk: anything else", [], (question, language.UNKNOWN), typed=False, system=False)


def photos() -> list[Path]:
    """Photographs that happen to be here: those that come with Gradio."""
    try:
        import gradio
    except ImportError:
        return []
    root = Path(gradio.__file__).parent
    names = ("cheetah.jpg", "cheetah1.jpg", "lion.jpg", "tower.jpg", "groot.jpeg", "bus.png", "cheetah2.jpg", "test_image.png")
    return sorted(p for folder in ("media_assets", "test_data") for p in (root / folder).rglob("*") if p.name in names)


def film(path: Path, frames: list[np.ndarray], fps: float):
    height, width, _ = frames[0].shape
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, (width, height))
    for frame in frames:
        out.write(np.ascontiguousarray(frame[:, :, ::-1]))
    out.release()


def part(piece) -> Part:
    if isinstance(piece, str):
        return Part("text", text=piece)
    return Part("video" if piece.suffix == ".mp4" else "image", path=str(piece))


async def answer(engine: Engine, q: Question):
    messages = tuple(Message(role, tuple(part(p) for p in parts)) for role, parts in q.turns)
    frames = FrameSampling(fps=1000.0, min_frames=q.frames, max_frames=q.frames) if q.frames else FrameSampling()
    request = Request(messages=messages, sampling=Sampling(temperature=0.0), max_tokens=64, frames=frames)
    async for event in engine.stream(request):
        if isinstance(event, Delta):
            q.got += event.text


async def run(model: str, questions: list[Question], together: int):
    engine = Engine(EngineConfig(model=ModelSpec(source=model)))
    engine.start()
    gate = asyncio.Semaphore(together)

    async def one(q):
        async with gate:
            try:
                await answer(engine, q)
            except Exception as e:  # a refusal is a wrong answer
                q.got = f"{type(e).__name__}: {e}"

    try:
        await engine.ready()
        await asyncio.gather(*(one(q) for q in questions))
    finally:
        engine.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEMO, help="checkpoint folder; the embedded model by default")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full evaluation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--together", type=int, default=8, help="requests in flight: rows of one batch")
    parser.add_argument("--only", default="", help="comma-separated parts: " + ", ".join(PARTS))
    parser.add_argument("--out", type=Path, help="also write the table here")
    parser.add_argument("--wrong", type=Path, help="write wrong answers here (JSON)")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        maker = Maker(Path(folder), a.scale, a.seed)
        for name in PARTS:
            if not a.only or name in a.only.split(","):
                getattr(maker, name)()
        print(f"{len(maker.questions)} questions about {maker.scenes + maker.foreign_scenes} pictures ({maker.foreign_scenes} by another "
              f"program) and {maker.clips + maker.foreign_clips} clips ({maker.foreign_clips} by another program)", flush=True)
        start = time.monotonic()
        asyncio.run(run(a.model, maker.questions, a.together))
        minutes = (time.monotonic() - start) / 60
    rows = defaultdict(lambda: [0, 0])
    for q in maker.questions:
        for task in q.tasks:
            rows[task][0] += q.got == q.answer
            rows[task][1] += 1
    lines = ["| task | exact | share | asked for |", "|---|---|---|---|"]
    for task in [*TARGETS, *sorted(set(rows) - set(TARGETS))]:
        if task in rows:
            n, m = rows[task]
            goal = f"{100 * TARGETS[task]:.0f} %{'' if n / m >= TARGETS[task] else ' (missed)'}" if task in TARGETS else ""
            lines.append(f"| {task} | {n}/{m} | {100 * n / m:.1f} % | {goal} |")
    table = "\n".join(lines)
    print(table, f"\n{minutes:.1f} minutes")
    if a.out:
        a.out.write_text(table + "\n")
    wrong = [dict(tasks=q.tasks, turns=[(r, [str(p) for p in ps]) for r, ps in q.turns], answer=q.answer, got=q.got) for q in maker.questions if q.got != q.answer]
    for w in wrong[:12]:
        print(w["tasks"][0], "|", w["turns"][-1][1][-1], "|", w["answer"], "|", w["got"])
    if a.wrong:
        a.wrong.write_text(json.dumps(wrong, indent=1))


PARTS = ("one_shape", "more_shapes", "pairs", "follow_ups", "one_word", "nothing", "movies", "talk")

if __name__ == "__main__":
    main()
