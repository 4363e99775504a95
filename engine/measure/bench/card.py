"""A run as a picture to show: model, machine, numbers, the canary's verdict, and the seal of its JSON. Pure.

Drawn by Pillow with the font that it brings, from the JSON of a result, which may be somebody else's.
"""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from engine.measure.bench.plan import case_words
from engine.measure.bench.result import GiB, MiB
from engine.measure.bench.seal import seal_of

WIDTH, HEIGHT = 1200, 630
"""In units of SCALE pixels: the shape that sites show a shared picture in."""

SCALE = 2
MAX_ROWS = 8
EDGE, TOP, ROWS_HEIGHT, TALLEST_ROW = 56, 222, 284, 56
CASE_WIDTH, NUMBER_WIDTH, BAR_WIDTH, GAP = 390, 80, 230, 40
GROUND, PANEL, TEXT, FAINT, CAUTION = "#10151d", "#1b2330", "#f2f5f9", "#94a3b8", "#fbbf24"
BARS = ("#38bdf8", "#34d399")
VERDICTS = {True: ("#34d399", "checks passed"), False: ("#f87171", "FAILED"), None: ("#94a3b8", "nothing checked")}
METRICS = {"ttft": "First token, ms", "generation_tps": "Decode, tok/s", "total_tps": "All streams, tok/s"}
At = tuple[float, float]


def card(result: dict[str, Any]) -> bytes:
    """A result's JSON as a PNG file of 2400 x 1260 pixels. Takes some 100 ms: not on an event loop."""
    seal = seal_of(result)
    image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), GROUND)
    sheet = _Sheet(ImageDraw.Draw(image))
    _head(sheet, result)
    _rows(sheet, result)
    _foot(sheet, result, seal)
    told = PngInfo()
    told.add_text("seal", f"sha256 {seal}")
    out = io.BytesIO()
    image.save(out, "PNG", pnginfo=told)
    return out.getvalue()


class _Sheet:
    """Draws in units of SCALE pixels."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self._draw = draw
        self._fonts: dict[int, Any] = {}

    def _font(self, size: int) -> Any:
        return self._fonts.setdefault(size, ImageFont.load_default(size * SCALE))

    def text(self, at: At, text: str, size: int, colour: str = TEXT, *, to_left: bool = False) -> None:
        """at: where its baseline begins, or ends."""
        x, y = at
        anchor = "rs" if to_left else "ls"
        self._draw.text((x * SCALE, y * SCALE), text, fill=colour, font=self._font(size), anchor=anchor)

    def width(self, text: str, size: int) -> float:
        return float(self._font(size).getlength(text)) / SCALE

    def fitted(self, text: str, size: int, room: float) -> str:
        """The text, cut where there is no room for it. Only what can be printed."""
        text = "".join(letter if letter.isprintable() else " " for letter in text)[:200]
        if self.width(text, size) <= room:
            return text
        while text and self.width(f"{text}...", size) > room:
            text = text[:-1]
        return f"{text.rstrip()}..."

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        corners = (x * SCALE, y * SCALE, (x + width) * SCALE, (y + height) * SCALE)
        self._draw.rounded_rectangle(corners, min(width, height) / 2 * SCALE if height < 12 else 8 * SCALE, fill=colour)


def _head(sheet: _Sheet, result: dict[str, Any]) -> None:
    model, machine = result.get("model") or {}, result.get("machine") or {}
    room = WIDTH - 2 * EDGE
    badge = _badge(sheet, result)
    sheet.text((EDGE, 62), "MLX Workbench benchmark", 18, FAINT)
    name = str(model.get("name") or ", ".join(map(str, result.get("targets", ()))) or "a model")
    size = next((size for size in (46, 40, 34) if sheet.width(name, size) <= room - badge), 34)
    sheet.text((EDGE, 112), sheet.fitted(name, size, room - badge), size)
    facts = [str(model["model_type"])] if model.get("model_type") else []
    num_bytes = _if_number(model.get("num_bytes"))
    facts += [f"{_size(num_bytes)} of weights"] if num_bytes else []
    facts += [f"hash {str(model['hash'])[:12]}"] if model.get("hash") else []
    sheet.text((EDGE, 146), sheet.fitted("  ·  ".join(facts), 19, room), 19, FAINT)
    if machine:
        sheet.text((EDGE, 174), sheet.fitted(_machine(machine), 19, room), 19, FAINT)


def _machine(machine: dict[str, Any]) -> str:
    """What a result says of it, which may be somebody else's: any of it may be missing."""
    memory_gb = _if_number(machine.get("total_memory_gb"))
    hardware = [str(machine["chip_name"])] if machine.get("chip_name") else []
    hardware += [f"{machine['num_cores']} cores"] if machine.get("num_cores") else []
    hardware += [f"{machine['gpu_cores']} GPU cores"] if machine.get("gpu_cores") else []
    hardware += [_size(memory_gb * GiB)] if memory_gb else []
    facts = [", ".join(hardware)] if hardware else []
    facts += [f"MLX on {machine['mlx_device']}"] if machine.get("mlx_device") else []
    facts += [str(machine["os"])] if machine.get("os") else []
    return "  ·  ".join(facts)


def _if_number(value: Any) -> float | None:
    return value if isinstance(value, int | float) else None


def _badge(sheet: _Sheet, result: dict[str, Any]) -> float:
    """The canary's verdict at the top right. Returns the room that it takes."""
    canary = result.get("canary") or {}
    checks = [check for point in result["points"] for check in point["canary"]["checks"]]
    colour, words = VERDICTS[canary.get("ok")]
    count = f"{sum(check['ok'] is True for check in checks)} of {len(checks)} " if canary.get("ok") else ""
    text = f"canary: {count}{words}"
    width = sheet.width(text, 20) + 58
    x = WIDTH - EDGE - width
    sheet.box(x, 36, width, 44, PANEL)
    sheet.box(x + 18, 53, 10, 10, colour)
    sheet.text((x + 40, 65), text, 20, colour)
    return width + GAP


def _rows(sheet: _Sheet, result: dict[str, Any]) -> None:
    points = [point for point in result["points"] if point.get("ttft")]
    several = len({point["target"] for point in points}) > 1
    shown = points[:MAX_ROWS]
    second = "total_tps" if {point["suite"] for point in shown} == {"concurrency"} else "generation_tps"
    columns = [WIDTH - EDGE - NUMBER_WIDTH - BAR_WIDTH - place * (NUMBER_WIDTH + BAR_WIDTH + GAP) for place in (1, 0)]
    row = min(TALLEST_ROW, ROWS_HEIGHT / max(1, len(shown)))
    for x, metric, bar in zip(columns, ("ttft", second), BARS, strict=True):
        sheet.text((x, TOP), METRICS[metric], 17, FAINT)
        most = max((point[metric]["median"] for point in shown if point.get(metric)), default=0.0)
        for place, point in enumerate(shown):
            _cell(sheet, (x, TOP + 38 + place * row), point.get(metric), most, bar)
    for place, point in enumerate(shown):
        y = TOP + 38 + place * row
        case = case_words(point["case"]).replace("×", "x")  # its font has no ×
        name = (f"{point['target']}: " if several else "") + case + (" *" if point.get("noise") else "")
        colour = VERDICTS[False][0] if point["canary"]["ok"] is False else TEXT
        sheet.text((EDGE, y), sheet.fitted(name, 19, CASE_WIDTH), 19, colour)
    notes = ["stopped before its end"] if result.get("stopped") else []
    notes += ["* noisy: see the JSON"] if any(point.get("noise") for point in shown) else []
    notes += [f"{len(points) - len(shown)} more rows in the JSON"] if len(points) > len(shown) else []
    if not points:
        notes = ["nothing was answered"]
    words = "  ·  ".join(["medians", *notes])
    sheet.text((EDGE, TOP), sheet.fitted(words, 17, CASE_WIDTH), 17, FAINT)


def _cell(sheet: _Sheet, at: At, value: Any, most: float, bar: str) -> None:
    """A number before its bar, whose length is its share of the most."""
    x, y = at
    if not value:
        sheet.text((x + NUMBER_WIDTH - 12, y), "-", 19, FAINT, to_left=True)
        return
    median = float(value["median"])
    sheet.text((x + NUMBER_WIDTH - 12, y), _number(median), 19, to_left=True)
    sheet.box(x + NUMBER_WIDTH, y - 11, BAR_WIDTH, 8, PANEL)
    sheet.box(x + NUMBER_WIDTH, y - 11, max(8.0, BAR_WIDTH * median / most if most > 0 else 0.0), 8, bar)


def _foot(sheet: _Sheet, result: dict[str, Any], seal: str) -> None:
    settings, versions = result.get("settings") or {}, result.get("versions") or {}
    room = WIDTH - 2 * EDGE
    sheet.box(EDGE, 534, room, 1, PANEL)
    notes = "  ·  ".join(map(str, result.get("notes") or ()))
    lines = (556, 580, 604) if notes else (0, 564, 594)
    if notes:
        sheet.text((EDGE, lines[0]), sheet.fitted(notes, 17, room), 17, CAUTION)
    words = ["quick"] if settings.get("quick") else []
    words += [f"{settings['prompts']} rounds, temperature {settings['temperature']:g}"] if "prompts" in settings else []
    words += [", ".join(f"{name} {versions[name]}" for name in ("mlx", "mlx-lm", "mlx-vlm") if name in versions)]
    words += [str(result.get("started", ""))[:16].replace("T", " ") + " UTC"]
    sheet.text((EDGE, lines[1]), sheet.fitted("  ·  ".join(filter(None, words)), 17, room), 17, FAINT)
    groups = " ".join(seal[at : at + 8] for at in range(0, 32, 8))
    words_of_seal = f"seal of its JSON: {groups}...  vllm-mlx-bench --compare checks it"
    sheet.text((EDGE, lines[2]), sheet.fitted(words_of_seal, 17, room), 17)


def _size(num_bytes: float) -> str:
    """As the page says it: powers of 1024."""
    if num_bytes < 1000 * MiB:
        return f"{num_bytes / MiB:,.0f} MB"
    size_gb = num_bytes / GiB
    return f"{size_gb:.1f} GB" if size_gb < 10 else f"{size_gb:,.0f} GB"


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
