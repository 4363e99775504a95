"""Colours, spacing and fonts. The fonts are the system's: the page loads nothing from other servers."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import gradio as gr

from workbench.language import catalogues

FOLDER = Path(__file__).parent
SANS = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
STYLES = (
    "static/workbench.css",
    "static/tabs.css",
    "conversations/conversations.css",
    "cache/cache.css",
    "chat/conversation.css",
    "chat/answer.css",
    "chat/lightbox.css",
    "chat/crop.css",
    "chat/receipts.css",
    "chat/regions.css",
    "chat/composer.css",
    "chat/frames.css",
    "chat/probabilities.css",
    "chat/cost.css",
    "video/video.css",
    "decide/questions.css",
    "decide/decide.css",
    "compare/compare.css",
    "batch/batch.css",
    "bench/bench.css",
    "models/models.css",
    "server/server.css",
    "requests/requests.css",
)
SCRIPTS = (
    "static/language.js",
    "static/network.js",  # before Gradio asks for anything
    "static/clock.js",  # and before it keeps the browser's own function
    "static/workbench.js",
    "static/draw.js",
    "static/words.js",
    "static/figures.js",
    "static/queue.js",
    "static/preferences.js",
    "models/switch.js",
    "server/server.js",
    "static/header.js",
    "static/frame.js",
    "static/notify.js",
    "models/models.js",
    "conversations/days.js",
    "conversations/live.js",
    "conversations/list.js",
    "cache/cache.js",
    "chat/rich.js",
    "chat/labels.js",
    "chat/regions.js",
    "chat/receipts.js",
    "chat/crop_rules.js",
    "chat/crop.js",
    "chat/lightbox.js",
    "chat/frames.js",
    "chat/probabilities.js",
    "chat/message.js",
    "chat/outgoing.js",
    "chat/conversation.js",
    "chat/order.js",
    "chat/composer.js",
    "chat/cost.js",
    "video/playhead.js",
    "video/range.js",
    "video/weights.js",
    "video/player.js",
    "video/video.js",
    "decide/questions.js",
    "decide/decide.js",
    "compare/composer.js",
    "compare/column.js",
    "compare/table.js",
    "compare/compare.js",
    "batch/lines.js",
    "batch/files.js",
    "batch/ask.js",
    "batch/row.js",
    "batch/table.js",
    "batch/batch.js",
    "bench/bench.js",
    "requests/axis.js",
    "requests/opened.js",
    "requests/requests.js",
)
ICON = '<link rel="apple-touch-icon" href="workbench/maskable-180.png">'

MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def theme() -> gr.themes.Base:
    return gr.themes.Soft(
        primary_hue="indigo",
        secondary_hue="teal",
        neutral_hue="slate",
        radius_size="lg",
        font=SANS,
        font_mono=MONO,
    ).set(
        body_background_fill="#fbfbfd",
        body_background_fill_dark="#0e1116",
        background_fill_primary="#fbfbfd",
        background_fill_primary_dark="#0e1116",
        background_fill_secondary="white",
        background_fill_secondary_dark="#171b22",
        body_text_color_subdued="#566379",
        body_text_color_subdued_dark="*neutral_400",
        block_border_width="0px",
        block_shadow="none",
        block_shadow_dark="none",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_title_text_weight="500",
        block_title_text_size="*text_sm",
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_text_color="*neutral_600",
        block_title_text_color_dark="*neutral_400",
        block_title_padding="0",
        input_background_fill="white",
        input_background_fill_dark="#171b22",
        input_border_width="1px",
        input_border_color="*neutral_200",
        input_border_color_dark="#2a303a",
        input_shadow="none",
        input_shadow_dark="none",
        checkbox_border_width="1px",
        checkbox_border_color="*neutral_400",
        checkbox_border_color_dark="*neutral_500",
        border_color_primary_dark="#2a303a",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )


@lru_cache(maxsize=1)
def page_script() -> str:
    """The page's own script (workbench/files.py): it runs before the first drop, and before the components that it
    draws."""
    scripts = "\n".join(text(name) for name in SCRIPTS)
    return f"{catalogues(scripts)}\n{scripts}"


@lru_cache(maxsize=1)
def version() -> str:
    """Changes when the page's own script or style does: a page that was opened before then asks to be loaded anew."""
    return hashlib.sha256(f"{page_script()}{style()}".encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def style() -> str:
    """The page's own style. Not given to Gradio as `css`: that adds a prefix to each of its selectors, and splits at
    the commas inside `:is()`."""
    return "\n".join(text(name) for name in STYLES)


def text(name: str) -> str:
    """A style or a script of the page."""
    return (FOLDER / name).read_text(encoding="utf-8")
