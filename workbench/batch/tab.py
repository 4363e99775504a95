"""The Batch tab draws itself (batch/batch.js) from its routes (workbench.batch.routes) and from what the page's events
tell of its runs."""

from __future__ import annotations

import gradio as gr

from engine.batch_run.question_table import KINDS
from workbench.batch.form import MAX_TOKENS
from workbench.batch.table import PAGE_SIZE
from workbench.components import component
from workbench.language import catalogued

NAME = catalogued("Batch")


def build() -> None:
    """Lay out the tab inside the Tab context of the caller."""
    setup = {"kinds": list(KINDS), "maxTokens": MAX_TOKENS, "pageSize": PAGE_SIZE}
    with gr.Column(elem_id="batch"):
        component("batch", "workbenchBatch.view(element, props)", "batch-view", setup=setup)
