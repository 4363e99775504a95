"""How each family writes coordinates: one row for each model_type; pure data.

Sources: Qwen's cookbooks of spatial understanding (Qwen2-VL: pairs of a thousand; Qwen2.5-VL: pixels of the resized
picture; Qwen3-VL: a thousand), Google's documents of Gemini and Gemma (y first, a thousand) and PaliGemma (<loc>, 1,024
steps, y first), DeepSeek-VL2 and DeepSeek-OCR (999), InternVL2 (a thousand), GLM-V's grounding guide (a thousand),
Molmo's model card (percent).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Notation = Literal["json", "pairs", "brackets", "loc", "xml"]


@dataclass(frozen=True, slots=True)
class Form:
    """notations: the ways it writes a place. steps: what a whole side of the medium counts; None for pixels of what the
    model saw. y_first: the vertical coordinate is written before the horizontal one."""

    notations: tuple[Notation, ...]
    steps: float | None
    y_first: bool = False


EXAMPLES: dict[Notation, str] = {
    "json": '{"bbox_2d": [x1, y1, x2, y2], "label": "…"}, {"point_2d": [x, y]}',
    "pairs": "label(x1,y1),(x2,y2)",
    "brackets": "label[[x1, y1, x2, y2]]",
    "loc": "<loc0000><loc0000><loc0000><loc0000> label",
    "xml": '<point x="…" y="…" alt="…">label</point>',
}

_THOUSANDTHS = Form(("json",), 1000)

FORMS: dict[str, Form] = {
    "qwen2_vl": Form(("pairs", "json"), 1000),
    "qwen2_5_vl": Form(("json",), None),
    "qwen3_vl": _THOUSANDTHS,
    "qwen3_vl_moe": _THOUSANDTHS,
    "qwen3_5": _THOUSANDTHS,
    "qwen3_5_moe": _THOUSANDTHS,
    "qwen3_omni_moe": _THOUSANDTHS,
    "gemma4": Form(("json",), 1000, y_first=True),
    "paligemma": Form(("loc",), 1024, y_first=True),
    "deepseek_vl_v2": Form(("brackets",), 999),
    "deepseekocr": Form(("brackets",), 999),
    "deepseekocr_2": Form(("brackets",), 999),
    "internvl_chat": Form(("brackets",), 1000),
    "glm4v": Form(("json", "brackets"), 1000),
    "glm4v_moe": Form(("json", "brackets"), 1000),
    "molmo": Form(("xml",), 100),
}


def markdown() -> str:
    """The table for people, one line per family, in Markdown."""
    lines = ["| `model_type` | a whole side counts | order | written as |", "| --- | --- | --- | --- |"]
    for model_type, form in FORMS.items():
        steps = "the pixels that the model saw" if form.steps is None else f"{form.steps:,}"
        order = "y, x" if form.y_first else "x, y"
        written = "<br>".join(f"`{EXAMPLES[notation]}`" for notation in form.notations)
        lines.append(f"| `{model_type}` | {steps} | {order} | {written} |")
    return "\n".join(lines)
