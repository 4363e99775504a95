"""The Models tab draws itself (models/models.js) from what the page's events tell it (workbench.models.live)."""

from __future__ import annotations

import gradio as gr

from workbench.components import component
from workbench.language import catalogued

NAME = catalogued("Models")


def build() -> None:
    """Lay out the tab inside the Tab context of the caller."""
    with gr.Column(elem_id="models"):
        component("models", "workbenchModels.view(element)", "models-view")
