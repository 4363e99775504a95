"""The side bar: system prompt, sampling, frames. An empty field leaves the choice to the server and the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from engine.config import EngineConfig
from engine.errors import BadRequest
from engine.types import FrameSampling, Sampling
from workbench.convert import Settings

LABELS = {
    "temperature": "Temperature",
    "max_tokens": "Max tokens",
    "top_p": "Top p",
    "top_k": "Top k",
    "min_p": "Min p",
    "seed": "Seed",
    "fps": "Frames per second",
    "max_frames": "Max frames",
}
"""The number fields, in the order and pairs in which they stand."""


class SettingsPanel:
    """The components of the side bar, and how their values become Settings."""

    def __init__(self, config: EngineConfig) -> None:
        self.system: gr.Textbox
        self.numbers: dict[str, gr.Textbox] = {}
        names = iter(LABELS)
        with gr.Sidebar(label="Settings", open=False, position="right", width=340, elem_id="settings"):
            gr.Markdown("### Settings")
            self.system = gr.Textbox(
                label="System prompt", lines=3, max_lines=12, placeholder="How the model should behave. Optional."
            )
            for title, num_rows in (("Sampling", 3), ("Video", 1)):
                gr.Markdown(f"#### {title}", elem_classes="group")
                for _ in range(num_rows):
                    with gr.Row():
                        for name in (next(names), next(names)):
                            self.numbers[name] = _number(name, _default(config, name))
            gr.Markdown("An empty field leaves the choice to the model.", elem_classes="hint")

    @property
    def components(self) -> set[Any]:
        return {self.system, *self.numbers.values()}

    def read(self, values: Mapping[Any, Any]) -> Settings:
        """Values by component, as Gradio hands them to a callback with a set of inputs -> Settings.

        Raises BadRequest.
        """
        return settings({name: values[field] for name, field in self.numbers.items()}, values[self.system] or "")


def settings(numbers: Mapping[str, str | None], system: str = "") -> Settings:
    """The fields' text by name -> Settings; empty is None. Pure. Raises BadRequest."""

    def real(name: str) -> float | None:
        return _parsed(name, numbers.get(name), float)

    def whole(name: str) -> int | None:
        return _parsed(name, numbers.get(name), int)

    return Settings(
        system=system,
        sampling=Sampling(
            temperature=real("temperature"),
            top_p=real("top_p"),
            top_k=whole("top_k"),
            min_p=real("min_p"),
            seed=whole("seed"),
        ),
        max_tokens=whole("max_tokens"),
        frames=FrameSampling(fps=real("fps"), max_frames=whole("max_frames")),
    )


def _parsed(name: str, text: str | None, kind: Any) -> Any:
    if text is None or not text.strip():
        return None
    try:
        return kind(text.strip().replace(",", "."))
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise BadRequest(f'{LABELS[name]} must be {wanted}, not "{text.strip()}".', param=name) from None


def _default(config: EngineConfig, name: str) -> float | None:
    """The server's own default of a field, if it has one."""
    for holder in (config, config.sampling, config.frames):
        if hasattr(holder, name):
            default: float | None = getattr(holder, name)
            return default
    return None


def _number(name: str, default: float | None) -> gr.Textbox:
    """A number field that starts empty and says what empty means.

    Not gr.Number: that shows and sends 0 when it is empty, which asks for something nobody asked for.
    """
    unset = "random" if name == "seed" else "model's own"
    return gr.Textbox(
        label=LABELS[name],
        placeholder=unset if default is None else f"{default:g}",
        max_lines=1,
        min_width=100,
        elem_classes="number",
        html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
    )
