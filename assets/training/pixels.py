"""From pictures to patches and labels: what the processor does, and what the vision stage is asked about."""

from __future__ import annotations

import functools
import math
import random

import numpy as np
from PIL import Image, ImageDraw

import world
from world import COLORS, MOTIONS, SHAPES, SIZES

IMAGE_PIXELS = (9216, 16384)  # least and most, after resizing
FRAME_PIXELS = (9216, 12288)  # the same for each frame of a clip
# What each frame gets where a program spreads one budget over the whole clip (``size`` in the shipped config).
CLIP_PIXELS = {n: (4 * FRAME_PIXELS[0] // n, 16 * FRAME_PIXELS[1] // n) for n in (4, 6, 8, 10, 12, 16, 24, 32, 64)}
COMMON = ((640, 480), (320, 240), (480, 640), (800, 600), (1024, 768), (1280, 720), (1920, 1080), (720, 1280), (1080, 1920), (1170, 2532), (256, 256), (512, 512))
UNIT = 32  # patch 16, merged 2 x 2


def target_size(width: int, height: int, limits=IMAGE_PIXELS) -> tuple[int, int]:
    """Rows and columns of visual tokens for a picture of this size (Qwen's smart resize)."""
    low, high = limits
    rows, columns = round(height / UNIT), round(width / UNIT)
    if rows * columns * UNIT**2 > high:
        shrink = math.sqrt(width * height / high)
        rows, columns = (max(1, math.floor(v / shrink / UNIT)) for v in (height, width))
    elif rows * columns * UNIT**2 < low:
        grow = math.sqrt(low / (width * height))
        rows, columns = (math.ceil(v * grow / UNIT) for v in (height, width))
    return rows, columns


@functools.cache
def sources(limits=IMAGE_PIXELS) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """For each grid of visual tokens, sizes of pictures that end there; the lists' lengths are the weights."""
    rng, table = random.Random(7), {}
    for _ in range(6000):
        if rng.random() < 0.35:
            width, height = rng.choice(COMMON)
            table.setdefault(target_size(width, height, limits), []).append((width, height))
            continue
        roll = rng.random()
        if roll < 0.45:
            aspect = 1.0
        elif roll < 0.75:
            aspect = rng.choice((4 / 3, 3 / 4, 3 / 2, 2 / 3, 16 / 9, 9 / 16))
        else:
            aspect = math.exp(rng.uniform(-0.85, 0.85))
        short = math.exp(rng.uniform(math.log(64), math.log(2200)))
        width, height = (round(short * aspect), round(short)) if aspect >= 1 else (round(short), round(short / aspect))
        table.setdefault(target_size(width, height, limits), []).append((width, height))
    return {grid: sizes for grid, sizes in table.items() if len(sizes) >= 30}


def pick_grid(rng: random.Random, limits=IMAGE_PIXELS):
    table = sources(limits)
    return rng.choices(list(table), [len(v) for v in table.values()])[0]


def patches(frames: np.ndarray) -> np.ndarray:
    """(pictures, 2, height, width, 3) uint8 -> (pictures, patches, 1536) in the processor's order."""
    n, t, height, width, _ = frames.shape
    x = frames.astype(np.float32) / 127.5 - 1
    x = x.reshape(n, t, height // 32, 2, 16, width // 32, 2, 16, 3).transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
    return np.ascontiguousarray(x).reshape(n, (height // 16) * (width // 16), 3 * t * 256)


# ------------------------------------------------------------------------------------------------ labels
# one number per visual token; 0 is "nothing here" for the first three, -100 is "not asked"
TOKEN_HEADS = {
    "shape": len(SHAPES) + 1, "color": len(COLORS) + 1, "rank": 4, "cell": 9, "size": 3, "motion": len(MOTIONS),
    # asked of every token about the whole picture
    "count": 4, **{f"count {kind}": 4 for kind in SHAPES}, "background": 4, "other": 2,
}
BACKGROUNDS = ("white", "gray", "black", None)
PAIRS = len(SHAPES) * len(COLORS)  # is there a red circle, ...: one bit each
REGRESSION = 12  # centre x, y; offset x, y; radius; speed x, y, r; left, top, right, bottom
OWN = ("shape", "color", "rank", "cell", "size", "motion")
WHOLE = tuple(k for k in TOKEN_HEADS if k not in OWN)
COLUMN = {name: i for i, name in enumerate(TOKEN_HEADS)}


def labels(scene: world.Scene | None, rows: int, columns: int, motion: str | None = None, speed=(0.0, 0.0, 0.0)):
    """-> classes (tokens, heads) int64, regression (tokens, 12) float32, pairs (24,) float32. ``scene`` None: no shapes."""
    classes = np.full((rows, columns, len(TOKEN_HEADS)), -100, np.int64)
    numbers = np.zeros((rows, columns, REGRESSION), np.float32)
    present = np.zeros((len(SHAPES), len(COLORS)), np.float32)
    classes[..., :3] = 0
    shapes = scene.shapes if scene else []
    classes[..., COLUMN["count"]] = len(shapes)
    for kind in SHAPES:
        classes[..., COLUMN[f"count {kind}"]] = sum(s.kind == kind for s in shapes)
    classes[..., COLUMN["other"]] = not shapes
    if scene and shapes:
        classes[..., COLUMN["background"]] = BACKGROUNDS.index(scene.background)
    width, height = columns * UNIT, rows * UNIT
    ys, xs = np.meshgrid((np.arange(rows) + 0.5) * UNIT, (np.arange(columns) + 0.5) * UNIT, indexing="ij")
    nearest = np.full((rows, columns), 1e9)
    for number, s in enumerate(shapes):
        present[SHAPES.index(s.kind), COLORS.index(s.color)] = 1
        radius = s.radius * min(scene.width, scene.height)
        rx, ry = radius * width / scene.width, radius * height / scene.height
        dx, dy = s.x * width - xs, s.y * height - ys
        gap = (np.hypot(dx / rx, dy / ry) - 1) * min(rx, ry)
        mine = (gap < -1) & (gap < nearest)
        centre = min(rows - 1, int(s.y * rows)), min(columns - 1, int(s.x * columns))
        mine[centre] = True
        edge = (gap < 22) & ~mine & (classes[..., 0] == 0)
        classes[edge, :3] = -100
        cell = -100 if s.cell is None else s.cell
        moves = -100 if motion is None else MOTIONS.index(motion)
        classes[mine, :6] = (SHAPES.index(s.kind) + 1, COLORS.index(s.color) + 1, number + 1, cell, SIZES.index(s.size), moves)
        nearest[mine] = gap[mine]
        nearest[centre] = -1e9
        same = np.ones_like(dx)
        values = [same * (2 * s.x - 1), same * (2 * s.y - 1), dx / UNIT, dy / UNIT, same * s.radius * 5, *(same * v * 4 for v in speed)]
        values += [same * (2 * v - 1) * 4 for v in world.box_of(scene, s)]
        numbers[mine] = np.stack(values, -1)[mine]
    return classes.reshape(rows * columns, -1), numbers.reshape(rows * columns, -1), present.reshape(-1)


def labels_between(first: world.Scene, second: world.Scene, rows: int, columns: int, motion: str | None, speed):
    """``labels`` of a pair of frames between which the shape goes far: it is where it was and where it will be."""
    (a, numbers, pairs), (b, more, _) = (labels(s, rows, columns, motion, speed) for s in (first, second))
    new = (b[:, 0] > 0) & (a[:, 0] <= 0)
    a[new], numbers[new] = b[new], more[new]
    a[:, COLUMN["cell"]] = -100
    if motion == "color":
        a[:, COLUMN["color"]] = -100
    return a, numbers, pairs


def mask(scene: world.Scene | None, rows: int, columns: int) -> np.ndarray:
    """How much of each 2 x 2 pixel square is shape: (patches, 64) in the processor's order."""
    image = Image.new("L", (columns * UNIT, rows * UNIT))
    canvas = ImageDraw.Draw(image)
    for s in scene.shapes if scene else []:
        canvas.polygon(world.points_of(scene, s, columns * UNIT, rows * UNIT), fill=255)
    a = np.asarray(image.reduce(2), np.float32) / 255
    return a.reshape(rows, 2, 8, columns, 2, 8).transpose(0, 3, 1, 4, 2, 5).reshape(rows * columns * 4, 64)


def window(mask_: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The mask, coarser (8 pixels), in a 96 pixel window around each patch: (patches, 144)."""
    a = mask_.reshape(rows, columns, 2, 2, 8, 8).transpose(0, 2, 4, 1, 3, 5).reshape(rows * 16, columns * 16)
    a = np.pad(a.reshape(rows * 4, 4, columns * 4, 4).mean((1, 3)), 5)
    view = np.lib.stride_tricks.sliding_window_view(a, (12, 12))[::2, ::2]
    return view.reshape(rows, 2, columns, 2, 144).transpose(0, 2, 1, 3, 4).reshape(rows * columns * 4, 144)
