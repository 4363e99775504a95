"""The world the demo model knows: plain pictures and clips of one to three simple shapes.

Everything here is drawing and geometry (numpy and Pillow only); words are in ``language.py``.
A place is given in fractions of the picture's width and height, a radius in fractions of its
shorter side, so one scene can be drawn at any size and aspect ratio.
"""

from __future__ import annotations

import colorsys
import io
import math
import random
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SHAPES = ("circle", "square", "triangle", "star")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple")
MOTIONS = ("left", "right", "up", "down", "grow", "shrink", "color", "still")
PLACES = (
    "at the top left", "at the top", "at the top right",
    "at the left", "in the center", "at the right",
    "at the bottom left", "at the bottom", "at the bottom right",
)
SIZES = ("small", "medium", "large")

# hue range in degrees, then saturation and value ranges
HUES = {
    "red": ((347, 369), (0.75, 1.0), (0.62, 1.0)),
    "orange": ((22, 39), (0.85, 1.0), (0.90, 1.0)),
    "yellow": ((49, 61), (0.75, 1.0), (0.90, 1.0)),
    "green": ((88, 152), (0.60, 1.0), (0.45, 1.0)),
    "blue": ((203, 246), (0.75, 1.0), (0.55, 1.0)),
    "purple": ((269, 303), (0.65, 1.0), (0.42, 0.88)),
}
# what other programs use most often when they say a colour's name
FAVOURITES = {
    "red": ["#ff0000", "#e53935", "#dc143c", "#cc0000", "#dc1e1e"],
    "orange": ["#ffa500", "#ff8c00", "#fb8c00", "#ff7f0e"],
    "yellow": ["#ffff00", "#ffeb3b", "#ffd700", "#fdd835"],
    "green": ["#008000", "#00ff00", "#43a047", "#00b43c", "#228b22"],
    "blue": ["#0000ff", "#1e3cdc", "#1e88e5", "#1e50e6", "#00008b"],
    "purple": ["#800080", "#8e24aa", "#9400d3", "#6a1b9a"],
}

# A centre is never drawn in the bands between two cells, where "left" or "center" is a matter of taste.
ZONES = ((0.0, 0.31), (0.36, 0.64), (0.69, 1.0))
SIZE_LIMITS = (0.1425, 0.21)  # small below, medium between, large above
SIZE_DOUBT = ((0.125, 0.16), (0.19, 0.23))  # radii between two words: rare in training, never in the evaluation
CLEAR_ZONES = ((0.0, 0.29), (0.38, 0.62), (0.71, 1.0))  # where the evaluation puts centres


def size_name(radius: float) -> str:
    return SIZES[(radius > SIZE_LIMITS[0]) + (radius > SIZE_LIMITS[1])]


def hex_rgb(text: str) -> tuple[int, int, int]:
    return tuple(int(text[i : i + 2], 16) for i in (1, 3, 5))


def pick_rgb(rng: random.Random, color: str) -> tuple[int, int, int]:
    if rng.random() < 0.4:
        return hex_rgb(rng.choice(FAVOURITES[color]))
    hue, sat, val = (rng.uniform(*r) for r in HUES[color])
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb((hue % 360) / 360, sat, val))


def distance(a, b) -> float:
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)))


def pick_background(rng: random.Random) -> tuple[str | None, tuple[int, int, int]]:
    """A name that may be asked for ("white", "gray", "black", or None) and its colour."""
    roll = rng.random()
    if roll < 0.45:
        return "white", rng.choice([(255,) * 3, (255,) * 3, (250,) * 3, (245, 245, 240)])
    if roll < 0.60:
        return "gray", (rng.randint(100, 200),) * 3
    if roll < 0.75:
        return "black", rng.choice([(0,) * 3, (0,) * 3, (15,) * 3, (20, 20, 24)])
    if roll < 0.90:  # pale
        return None, tuple(int(255 * c) for c in colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.08, 0.35), rng.uniform(0.85, 1)))
    if roll < 0.96:  # dark
        return None, tuple(int(255 * c) for c in colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.2, 1), rng.uniform(0.08, 0.3)))
    return None, tuple(rng.randint(0, 255) for _ in range(3))


def zone(fraction: float) -> int | None:
    for index, (low, high) in enumerate(ZONES):
        if low <= fraction <= high:
            return index
    return None


@dataclass
class Shape:
    kind: str
    color: str
    rgb: tuple[int, int, int]
    x: float
    y: float
    radius: float
    outline: np.ndarray  # (n, 2) points for radius 1, centre 0

    @property
    def cell(self) -> int | None:
        row, column = zone(self.y), zone(self.x)
        return None if row is None or column is None else 3 * row + column

    @property
    def size(self) -> str:
        return size_name(self.radius)


@dataclass
class Scene:
    width: int  # of the source picture; only its ratio to the height and the radii matter
    height: int
    background: str | None
    background_rgb: tuple[int, int, int]
    shapes: list[Shape] = field(default_factory=list)


def outline(rng: random.Random, kind: str) -> np.ndarray:
    """One of many ways in which programs draw this shape with radius 1."""
    if kind == "circle":
        angle = np.arange(44) * (2 * math.pi / 44)
        return np.stack([np.cos(angle), np.sin(angle)], -1)
    if kind == "square":
        half, turn = rng.uniform(0.72, 1.0), rng.uniform(-0.12, 0.12)
        points = np.array([(-half, -half), (half, -half), (half, half), (-half, half)])
    elif kind == "triangle":
        base, half, turn = rng.uniform(0.5, 1.0), rng.uniform(0.84, 1.05), rng.uniform(-0.15, 0.15)
        points = np.array([(0, -1), (half, base), (-half, base)])
        if rng.random() < 0.08:
            points = -points
    else:
        inner, outer, turn = rng.uniform(0.36, 0.5), rng.uniform(0.98, 1.1), rng.uniform(-0.2, 0.2)
        angle = np.arange(10) * (math.pi / 5) - math.pi / 2
        reach = np.where(np.arange(10) % 2 == 0, outer, inner * outer)
        points = np.stack([reach * np.cos(angle), reach * np.sin(angle)], -1)
    if rng.random() < 0.5:
        turn = 0.0
    c, s = math.cos(turn), math.sin(turn)
    return points @ np.array([(c, s), (-s, c)])


def make_shape(rng: random.Random, scene: Scene, radius: float, kind: str | None = None, color: str | None = None) -> Shape | None:
    """A shape of this radius somewhere in the scene, or None when the colour would not stand out."""
    kind, color = kind or rng.choice(SHAPES), color or rng.choice(COLORS)
    rgb = pick_rgb(rng, color)
    if distance(rgb, scene.background_rgb) < 110:
        return None
    short = min(scene.width, scene.height)
    margin_x, margin_y = radius * 1.04 * short / scene.width, radius * 1.04 * short / scene.height
    for _ in range(12):
        # cells first, so that all nine come equally often where the radius allows
        zx, zy = rng.choice(ZONES), rng.choice(ZONES)
        low_x, high_x = max(zx[0], margin_x), min(zx[1], 1 - margin_x)
        low_y, high_y = max(zy[0], margin_y), min(zy[1], 1 - margin_y)
        if low_x <= high_x and low_y <= high_y:
            return Shape(kind, color, rgb, rng.uniform(low_x, high_x), rng.uniform(low_y, high_y), radius, outline(rng, kind))
    return None


def pick_radius(rng: random.Random, count: int) -> float:
    while True:
        high = {1: 0.36, 2: 0.24, 3: 0.19}[count]
        radius = rng.uniform(0.09, high if count > 1 or rng.random() < 0.6 else 0.2)
        if rng.random() < 0.25 or not any(a < radius < b for a, b in SIZE_DOUBT):
            return radius


def is_clear(scene: Scene) -> bool:
    """Nothing in this scene lies between two words."""
    return not any(a < s.radius < b for s in scene.shapes for a, b in SIZE_DOUBT) and all(
        any(a <= v <= b for a, b in CLEAR_ZONES) for s in scene.shapes for v in (s.x, s.y)
    )


def make_scene(rng: random.Random, count: int, width: int, height: int, same_kind: float = 0.0) -> Scene:
    """``count`` shapes, each in a cell of its own, apart from each other, in reading order.

    ``same_kind`` is the chance that a further shape repeats an earlier kind (for counting).
    """
    while True:
        scene = Scene(width, height, *pick_background(rng))
        short = min(width, height)
        for _ in range(40 * count):
            if len(scene.shapes) == count:
                break
            kind = rng.choice(scene.shapes).kind if scene.shapes and rng.random() < same_kind else None
            new = make_shape(rng, scene, pick_radius(rng, count), kind)
            if new is None or any(old.cell == new.cell for old in scene.shapes):
                continue
            gaps = (
                math.hypot((old.x - new.x) * width, (old.y - new.y) * height) / short - 1.15 * (old.radius + new.radius)
                for old in scene.shapes
            )
            if all(gap > 0.03 for gap in gaps):
                scene.shapes.append(new)
        if len(scene.shapes) == count:
            scene.shapes.sort(key=lambda s: s.cell)
            return scene


def points_of(scene: Scene, shape: Shape, width: float, height: float) -> list[tuple[float, float]]:
    radius = shape.radius * min(scene.width, scene.height)
    x = shape.x * width + shape.outline[:, 0] * (radius * width / scene.width)
    y = shape.y * height + shape.outline[:, 1] * (radius * height / scene.height)
    return list(zip(x.tolist(), y.tolist()))


def box_of(scene: Scene, shape: Shape) -> tuple[float, float, float, float]:
    """Left, top, right, bottom as fractions of the picture's width and height."""
    xs, ys = zip(*points_of(scene, shape, 1.0, 1.0))
    return tuple(min(1.0, max(0.0, v)) for v in (min(xs), min(ys), max(xs), max(ys)))


def draw(scene: Scene, width: int, height: int, smooth: int = 2) -> Image.Image:
    """The scene at this size; ``smooth`` 1 means hard edges, as most small programs draw."""
    image = Image.new("RGB", (width * smooth, height * smooth), scene.background_rgb)
    canvas = ImageDraw.Draw(image)
    for shape in scene.shapes:
        canvas.polygon(points_of(scene, shape, width * smooth, height * smooth), fill=shape.rgb)
    return image.reduce(smooth) if smooth > 1 else image


def photograph(rng: random.Random, scene: Scene, width: int, height: int) -> np.ndarray:
    """The scene as the processor would hand it to the model: drawn, stored, resized. (height, width, 3) uint8."""
    roll = rng.random()
    if roll < 0.5:
        image = draw(scene, width, height, 2)
    else:  # drawn with hard edges at some source size, then resized as the processor does
        factor = rng.choice((0.6, 0.8, 1.0, 1.5, 2.0, 3.0))
        scale = factor * math.sqrt(width * height / (scene.width * scene.height))
        source = draw(scene, max(40, round(scene.width * scale)), max(40, round(scene.height * scale)), 1)
        if roll > 0.8:
            source = jpeg(rng, source)
        image = source.resize((width, height), Image.BICUBIC)
    if 0.5 > roll > 0.4:
        image = jpeg(rng, image)
    pixels = np.asarray(image)
    if rng.random() < 0.1:
        noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(1, 5), pixels.shape)
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    return pixels


def jpeg(rng: random.Random, image: Image.Image) -> Image.Image:
    store = io.BytesIO()
    image.save(store, "JPEG", quality=rng.randint(55, 95))
    return Image.open(store).convert("RGB")


# ------------------------------------------------------------------------------------------------ clips
@dataclass
class Clip:
    """One shape that moves, grows, shrinks, changes colour or stays, between two moments 0 and 1."""

    motion: str
    scene: Scene
    start: Shape
    end: Shape
    sudden: bool = False  # a colour that changes at once
    moment: float = 0.5  # when it does

    def at(self, time: float) -> Scene:
        def mix(a, b):
            return a + (b - a) * time

        a, b = self.start, self.end
        late = time > self.moment
        rgb = (b if late else a).rgb if self.sudden else tuple(int(mix(p, q)) for p, q in zip(a.rgb, b.rgb))
        shape = Shape(a.kind, (b if late else a).color, rgb, mix(a.x, b.x), mix(a.y, b.y), mix(a.radius, b.radius), a.outline)
        return Scene(self.scene.width, self.scene.height, self.scene.background, self.scene.background_rgb, [shape])


def make_clip(rng: random.Random, width: int, height: int, motion: str | None = None) -> Clip:
    motion = motion or rng.choice(MOTIONS)
    short = min(width, height)
    while True:
        scene = Scene(width, height, *pick_background(rng))
        small, large = rng.uniform(0.10, 0.26), 0.0
        if motion in ("grow", "shrink"):
            small = rng.uniform(0.08, 0.15)
            large = small * rng.uniform(1.7, 2.6)
        biggest = max(small, large)
        margin_x, margin_y = biggest * 1.04 * short / width, biggest * 1.04 * short / height
        start = make_shape(rng, scene, small)
        if start is None:
            continue
        start.x, start.y = rng.uniform(margin_x, 1 - margin_x), rng.uniform(margin_y, 1 - margin_y)
        end = Shape(**vars(start))
        if motion in ("left", "right"):
            span = rng.uniform(0.3, 1) * (1 - 2 * margin_x)
            start.x = rng.uniform(margin_x, 1 - margin_x - span)
            end.x = start.x + span
            end.y = min(1 - margin_y, max(margin_y, start.y + rng.uniform(-0.03, 0.03)))
        if motion in ("up", "down"):
            span = rng.uniform(0.3, 1) * (1 - 2 * margin_y)
            start.y = rng.uniform(margin_y, 1 - margin_y - span)
            end.y = start.y + span
            end.x = min(1 - margin_x, max(margin_x, start.x + rng.uniform(-0.03, 0.03)))
        if motion in ("grow", "shrink"):
            end.radius = large
        if motion in ("left", "up", "shrink"):
            start, end = end, start
        if motion == "color":
            end.color = rng.choice([c for c in COLORS if c != start.color])
            end.rgb = pick_rgb(rng, end.color)
            if distance(end.rgb, scene.background_rgb) < 110:
                continue
        sudden = motion == "color" and rng.random() < 0.7
        return Clip(motion, scene, start, end, sudden, rng.uniform(0.15, 0.85) if sudden else 0.5)


# ------------------------------------------------------------------------------------------------ pictures without shapes
def _noise(g: np.random.Generator, width: int, height: int, cells: int) -> np.ndarray:
    small = g.integers(0, 256, (max(2, cells * height // max(width, height)), max(2, cells * width // max(width, height)), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.BICUBIC), np.float32)


def make_other(rng: random.Random, width: int, height: int) -> np.ndarray:
    """A picture that holds no shape of this world: noise, textures, text, scenery-like clutter, plain colour."""
    g = np.random.default_rng(rng.getrandbits(32))
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    roll = rng.randrange(15)
    if roll == 0:
        pixels = g.integers(0, 256, (height, width, 3)).astype(np.float32)
        if rng.random() < 0.3:
            pixels = pixels.mean(-1, keepdims=True).repeat(3, -1)
    elif roll == 1:  # gradient
        a, b, c = (g.uniform(0, 255, 3) for _ in range(3))
        pixels = a + (b - a) * (columns / width)[..., None] + (c - a) * (rows / height)[..., None]
    elif roll == 2:  # blobs
        pixels = _noise(g, width, height, rng.randint(3, 12)) + g.normal(0, rng.uniform(0, 15), (height, width, 1))
    elif roll == 3:  # stripes
        turn, pace = g.uniform(0, math.pi), g.uniform(0.05, 0.8)
        wave = np.sin((columns * math.cos(turn) + rows * math.sin(turn)) * pace)[..., None]
        wave = wave > 0 if rng.random() < 0.6 else wave / 2 + 0.5
        pixels = np.where(wave > 0.5, g.uniform(0, 255, 3), g.uniform(0, 255, 3)) if wave.dtype == bool else wave * g.uniform(0, 255, 3) + (1 - wave) * g.uniform(0, 255, 3)
    elif roll == 4:  # checkers
        side = rng.randint(3, max(4, width // 5))
        board = ((rows // side + columns // side) % 2 > 0)[..., None]
        pixels = np.where(board, g.uniform(0, 255, 3), g.uniform(0, 255, 3))
    elif roll == 5:  # lines of text
        dark = rng.random() < 0.25
        image = Image.new("RGB", (width, height), (20, 20, 20) if dark else (255, 255, 255))
        canvas = ImageDraw.Draw(image)
        for y in range(4, height - 6, rng.choice((9, 12, 16))):
            words = "".join(rng.choice("abcdefghij klmnop qrstuv wxyz ") for _ in range(rng.randint(4, max(5, width // 6))))
            canvas.text((rng.randint(2, 10), y), words, fill=(230, 230, 230) if dark else (20, 20, 20))
        pixels = np.asarray(image, np.float32)
    elif roll == 6:  # plain
        pixels = np.zeros((height, width, 3)) + np.array(pick_background(rng)[1])
    elif roll in (7, 8, 9):  # scenery: octaves of noise, a horizon, soft light
        pixels = sum(_noise(g, width, height, 2 ** k + 1) * w for k, w in ((1, 0.45), (2, 0.25), (3, 0.16), (4, 0.1), (5, 0.06)))
        mean = pixels.mean((0, 1))
        pixels = (pixels - mean) * rng.uniform(0.5, 1.8) * g.uniform(0.6, 1.2, 3) + g.uniform(40, 215, 3)
        if rng.random() < 0.5:
            line = height * rng.uniform(0.3, 0.7) + np.sin(columns / width * rng.uniform(1, 9)) * height * rng.uniform(0, 0.1)
            below = (rows > line)[..., None]
            pixels = np.where(below, pixels * 0.7 + g.uniform(0, 90, 3), pixels * 0.2 + g.uniform(100, 220, 3))
        if rng.random() < 0.5:
            pixels = pixels + g.normal(0, rng.uniform(2, 18), (height, width, 1))
    elif roll >= 12:  # a crowded scene: many shaded things on a textured ground, slightly out of focus
        ground = _noise(g, width, height, rng.randint(2, 24)) * rng.uniform(0.1, 1.0)
        image = Image.fromarray(np.clip(ground + g.uniform(0, 160, 3), 0, 255).astype(np.uint8))
        canvas = ImageDraw.Draw(image)
        for _ in range(rng.randint(6, 24)):
            x, y, w, h = rng.uniform(-0.2, 1) * width, rng.uniform(-0.2, 1) * height, rng.uniform(0.03, 0.6) * width, rng.uniform(0.03, 0.6) * height
            fill = pick_rgb(rng, rng.choice(COLORS)) if rng.random() < 0.4 else tuple(int(v) for v in g.integers(0, 256, 3))
            (canvas.rectangle if rng.random() < 0.6 else canvas.ellipse)((x, y, x + w, y + h), fill=fill)
        shade = _noise(g, width, height, rng.randint(2, 10)).mean(-1, keepdims=True) - 128
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5)))
        pixels = np.asarray(image, np.float32) + shade * rng.uniform(0.1, 0.6) + g.normal(0, rng.uniform(1, 12), (height, width, 1))
    else:  # clutter: many overlapping soft patches and strokes
        image = Image.fromarray(np.clip(_noise(g, width, height, 5), 0, 255).astype(np.uint8))
        canvas = ImageDraw.Draw(image)
        for _ in range(rng.randint(8, 30)):
            x, y = rng.uniform(-0.1, 1.1) * width, rng.uniform(-0.1, 1.1) * height
            fill = tuple(int(v) for v in g.integers(0, 256, 3))
            if rng.random() < 0.5:
                canvas.line([(x + rng.gauss(0, 25), y + rng.gauss(0, 25)) for _ in range(4)], fill=fill, width=rng.randint(1, 6))
            else:
                canvas.polygon([(x + rng.gauss(0, 18), y + rng.gauss(0, 18)) for _ in range(rng.randint(3, 7))], fill=fill)
        pixels = np.asarray(image, np.float32)
    return np.clip(pixels, 0, 255).astype(np.uint8)
