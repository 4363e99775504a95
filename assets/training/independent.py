"""Another program's drawings: shares no code with ``world.py``.

Pictures come from Pillow's own primitives (ellipse, rectangle, polygon) without antialiasing, in pure
colours, at odd sizes, stored as PNG or JPEG; clips are drawn and encoded with OpenCV. What is in them is
returned as plain facts, from which the right answers are written here again.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

COLORS = {
    "red": ("#ff0000", "#dc1e1e", "#e00000"), "green": ("#00ff00", "#00a000", "#008000"), "blue": ("#0000ff", "#1e3cdc", "#2060e0"),
    "yellow": ("#ffff00", "#f0dc00"), "orange": ("#ffa500", "#ff8000"), "purple": ("#800080", "#9020c0"),
}
BACKGROUNDS = ("#ffffff", "#ffffff", "#ffffff", "#000000", "#808080", "#c8c8c8", "#f0f8ff", "#202030", "#fff5e0")
SIZES = ((64, 64), (96, 96), (100, 80), (128, 128), (224, 224), (256, 256), (300, 200), (320, 240), (400, 400), (512, 512),
         (640, 480), (768, 1024), (800, 600), (1000, 1000), (1280, 720), (1080, 1920), (1920, 1080), (1170, 2532), (4000, 3000))
PLACES = [f"{v}-{h}" for v in ("top", "middle", "bottom") for h in ("left", "middle", "right")]
SPOKEN = {
    "top-left": "at the top left", "top-middle": "at the top", "top-right": "at the top right",
    "middle-left": "at the left", "middle-middle": "in the center", "middle-right": "at the right",
    "bottom-left": "at the bottom left", "bottom-middle": "at the bottom", "bottom-right": "at the bottom right",
}


def rgb(text):
    return tuple(int(text[i : i + 2], 16) for i in (1, 3, 5))


def far(a, b):
    return sum((x - y) ** 2 for x, y in zip(rgb(a), rgb(b))) > 150**2


def star(x, y, r):
    angle = np.pi * np.arange(10) / 5 - np.pi / 2
    reach = np.where(np.arange(10) % 2, 0.4, 1.0) * r
    return [(x + a * np.cos(t), y + a * np.sin(t)) for a, t in zip(reach, angle)]


def paint(canvas, kind, x, y, r, fill):
    if kind == "circle":
        canvas.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    elif kind == "square":
        canvas.rectangle((x - 0.9 * r, y - 0.9 * r, x + 0.9 * r, y + 0.9 * r), fill=fill)
    elif kind == "triangle":
        canvas.polygon([(x, y - r), (x - r, y + 0.8 * r), (x + r, y + 0.8 * r)], fill=fill)
    else:
        canvas.polygon(star(x, y, r), fill=fill)


def middle_of(g, third, margin):
    """A coordinate well inside this third that leaves room for the shape, or None."""
    low, high = max(third / 3 + 0.05, margin), min(third / 3 + 1 / 3 - 0.05, 1 - margin)
    return g.uniform(low, high) if low < high else None


def radius(g, count):
    low, high = {1: (0.10, 0.35), 2: (0.10, 0.22), 3: (0.10, 0.17)}[count]
    while True:
        r = g.uniform(low, high)
        if not 0.125 < r < 0.16 and not 0.19 < r < 0.23:  # between two words for the size
            return r


def picture(g: np.random.Generator, count: int, path: Path, size=None) -> list[dict]:
    """Draw ``count`` shapes and return them in reading order: kind, color, place, size."""
    width, height = size or SIZES[g.integers(len(SIZES))]
    short = min(width, height)
    while True:
        ground = BACKGROUNDS[g.integers(len(BACKGROUNDS))]
        found = []
        for cell in sorted(g.permutation(9)[:count]):
            kind = ("circle", "square", "triangle", "star")[g.integers(4)]
            color = list(COLORS)[g.integers(6)]
            fill, r = COLORS[color][g.integers(len(COLORS[color]))], radius(g, count)
            x = middle_of(g, cell % 3, 1.03 * r * short / width)
            y = middle_of(g, cell // 3, 1.03 * r * short / height)
            if x is None or y is None or not far(fill, ground):
                break
            found.append(dict(kind=kind, color=color, fill=fill, x=x * width, y=y * height, r=r * short, place=PLACES[cell],
                              size="small" if r < 0.14 else "large" if r > 0.21 else "medium"))
        apart = all(np.hypot(a["x"] - b["x"], a["y"] - b["y"]) > 1.25 * (a["r"] + b["r"]) for a in found for b in found if a is not b)
        if len(found) == count and apart:
            break
    image = Image.new("RGB", (width, height), ground)
    canvas = ImageDraw.Draw(image)
    for s in found:
        paint(canvas, s["kind"], s["x"], s["y"], s["r"], s["fill"])
    image.save(path, quality=int(g.integers(70, 95))) if path.suffix == ".jpg" else image.save(path)
    return found


def box(s, width, height):
    """Left, top, right, bottom of a shape of ``picture``, as fractions of the picture."""
    x, y, r = s["x"], s["y"], s["r"]
    left, top, right, bottom = {
        "circle": (-1, -1, 1, 1), "square": (-0.9, -0.9, 0.9, 0.9), "triangle": (-1, -1, 1, 0.8),
        "star": (-np.cos(np.pi / 10), -1, np.cos(np.pi / 10), np.cos(np.pi / 5)),
    }[s["kind"]]
    return (x + left * r) / width, (y + top * r) / height, (x + right * r) / width, (y + bottom * r) / height


def noun(s, sized):
    words = ([s["size"]] if sized and s["size"] != "medium" else []) + [s["color"], s["kind"]]
    return ("an " if words[0][0] in "aeiou" else "a ") + " ".join(words)


def sentence(found):
    parts = [f"{noun(s, len(found) == 1)} {SPOKEN[s['place']]}" for s in found]
    text = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    return text[0].upper() + text[1:] + "."


def clip(g: np.random.Generator, path: Path) -> dict:
    """A shape that crosses the picture, drawn by OpenCV without antialiasing: kind, color, motion."""
    width, height = ((320, 240), (256, 256), (640, 480), (640, 360), (240, 320))[g.integers(5)]
    kind, motion = ("circle", "square", "triangle", "star")[g.integers(4)], ("left", "right", "up", "down")[g.integers(4)]
    while True:
        color, ground = list(COLORS)[g.integers(6)], BACKGROUNDS[g.integers(len(BACKGROUNDS))]
        fill = COLORS[color][0]
        if far(fill, ground):
            break
    r = g.uniform(0.13, 0.24) * min(width, height)
    path_length = (width if motion in ("left", "right") else height) - 2.2 * r
    start, span = 1.1 * r, path_length * g.uniform(0.5, 1.0)
    start += g.uniform(0, path_length - span)
    across = g.uniform(1.1 * r, (height if motion in ("left", "right") else width) - 1.1 * r)
    total, fps = int(g.integers(20, 120)), float(g.choice((10, 15, 24, 30)))
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, (width, height))
    for i in range(total):
        along = start + span * i / (total - 1)
        if motion in ("left", "up"):
            along = (width if motion == "left" else height) - along
        x, y = (along, across) if motion in ("left", "right") else (across, along)
        frame = np.full((height, width, 3), rgb(ground)[::-1], np.uint8)
        bgr = rgb(fill)[::-1]
        if kind == "circle":
            cv2.circle(frame, (round(x), round(y)), round(r), bgr, -1)
        elif kind == "square":
            cv2.rectangle(frame, (round(x - 0.9 * r), round(y - 0.9 * r)), (round(x + 0.9 * r), round(y + 0.9 * r)), bgr, -1)
        else:
            points = [(x, y - r), (x - r, y + 0.8 * r), (x + r, y + 0.8 * r)] if kind == "triangle" else star(x, y, r)
            cv2.fillPoly(frame, [np.round(points).astype(np.int32)], bgr)
        out.write(frame)
    out.release()
    return dict(kind=kind, color=color, motion=motion, seconds=total / fps)
