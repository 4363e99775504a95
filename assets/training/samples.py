"""Draw the pictures and clips of the chat's example cards, with the right answers.

    python samples.py ../samples
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import av
import numpy as np

import language
import world
from world import Clip, Scene, Shape, hex_rgb

# what the shipped weights say; the boxes are [57, 37, 303, 363], [690, 18, 950, 347] and [373, 630, 628, 970]
BOXES = (
    '[{"bbox_2d": [50, 30, 310, 370], "label": "blue square"}, {"bbox_2d": [700, 30, 940, 340], "label": "yellow star"}, '
    '{"bbox_2d": [390, 630, 620, 970], "label": "red circle"}]'
)
WHITE, NIGHT = (255, 255, 255), (18, 20, 28)
INKS = {"red": "#e53935", "orange": "#fb8c00", "yellow": "#fdd835", "green": "#43a047", "blue": "#1e3cdc", "purple": "#8e24aa"}


def shape(kind: str, color: str, x: float, y: float, radius: float) -> Shape:
    upright = next(o for o in (world.outline(random.Random(i), kind) for i in range(999)) if abs(o[:, 0].sum()) < 1e-6)
    return Shape(kind, color, hex_rgb(INKS[color]), x, y, radius, upright)


def scene(*shapes: Shape, width=480, height=480, ground=WHITE) -> Scene:
    return Scene(width, height, "white" if ground == WHITE else None, ground, sorted(shapes, key=lambda s: (s.y > 1 / 3, s.y > 2 / 3, s.x)))


def film(path: Path, clip: Clip, width: int, height: int, seconds: float = 3.0, fps: int = 24):
    """H.264 in MP4, which every browser plays."""
    total = round(seconds * fps)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "20", "preset": "slow", "movflags": "+faststart"}
        for i in range(total):
            image = world.draw(clip.at(i / (total - 1)), width, height, 2)
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)


def main(folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "circle.png": scene(shape("circle", "red", 0.5, 0.5, 0.28)),
        "triangle.png": scene(shape("triangle", "green", 0.8, 0.2, 0.17), ground=NIGHT),
        "three-shapes.png": scene(
            shape("square", "blue", 0.18, 0.2, 0.17), shape("star", "yellow", 0.82, 0.2, 0.17), shape("circle", "red", 0.5, 0.8, 0.17), width=640,
        ),
        "pair-a.png": scene(shape("square", "blue", 0.5, 0.5, 0.25)),
        "pair-b.png": scene(shape("square", "orange", 0.5, 0.5, 0.25)),
        "two-shapes.jpg": scene(shape("star", "purple", 0.2, 0.5, 0.18), shape("triangle", "orange", 0.8, 0.5, 0.18), width=640, height=480),
    }
    for name, content in pictures.items():
        options = {"quality": 90} if name.endswith("jpg") else {"optimize": True}
        world.draw(content, content.width, content.height, 3).save(folder / name, **options)
    ball = scene(shape("circle", "red", 0.18, 0.5, 0.17), width=320, height=240)
    goal = Shape(**vars(ball.shapes[0]))
    goal.x = 0.82
    grown = scene(shape("star", "yellow", 0.5, 0.5, 0.12), width=320, height=240, ground=NIGHT)
    large = Shape(**vars(grown.shapes[0]))
    large.radius = 0.28
    turned = scene(shape("square", "blue", 0.5, 0.5, 0.22), width=320, height=240)
    green = Shape(**vars(turned.shapes[0]))
    green.color, green.rgb = "green", hex_rgb(INKS["green"])
    clips = {
        "moving-circle.mp4": Clip("right", ball, ball.shapes[0], goal),
        "growing-star.mp4": Clip("grow", grown, grown.shapes[0], large),
        "changing-square.mp4": Clip("color", turned, turned.shapes[0], green, sudden=True),
    }
    for name, clip in clips.items():
        film(folder / name, clip, 320, 240)

    def card(text, files, expect):
        return {"text": text, "files": files, "expect": expect}

    (a, b), three = (pictures["pair-a.png"], pictures["pair-b.png"]), pictures["three-shapes.png"]
    cards = [
        card("What is in this image?", ["circle.png"], language.describe(pictures["circle.png"])),
        card("Compare these images.", ["pair-a.png", "pair-b.png"], language.compare(a, b)),
        card("What happens in this video?", ["moving-circle.mp4"], language.watch(clips["moving-circle.mp4"])),
        # what the shipped weights say; the star's box is [690, 18, 950, 347]
        card("Where is the star? Answer with a box.", ["three-shapes.png"], '[{"bbox_2d": [690, 30, 960, 350], "label": "yellow star"}]'),
        card("Locate all shapes.", ["three-shapes.png"], BOXES),
        card("Point at the circle.", ["three-shapes.png"], '[{"point_2d": [510, 820], "label": "red circle"}]'),
        card("What color is the star?", ["three-shapes.png"], "It is yellow."),
        card("Describe this image.", ["three-shapes.png"], language.describe(three)),
        card("Where is the triangle? Answer in one word.", ["two-shapes.jpg"], "Right."),
        card("What happens in this video?", ["growing-star.mp4"], language.watch(clips["growing-star.mp4"])),
        card("What happens in this video?", ["changing-square.mp4"], language.watch(clips["changing-square.mp4"])),
        card("What shape is it?", ["triangle.png"], "It is a triangle."),
    ]
    (folder / "samples.json").write_text(json.dumps(cards, indent=1) + "\n")
    for c in cards:
        print(c)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
