"""The side bar: system prompt, sampling, frames. For an empty field the server's or the model's default applies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from engine.config import EngineConfig
from engine.errors import BadRequest
from engine.types import FrameSampling, Json, Sampling
from workbench.chat.convert import ChatSettings
from workbench.components import QUIET, component


@dataclass(frozen=True, slots=True)
class Field:
    """One number of the side bar, from low to high. above: low itself is not allowed. help: what it does."""

    label: str
    kind: type[int] | type[float] = float
    low: float = 0.0
    high: float | None = None
    above: bool = False
    help: str = ""

    def parse(self, text: str | None) -> Any:
        """The number in `text`, None if it is empty. Raises ValueError with a message for the page."""
        if text is None or not text.strip():
            return None
        try:
            value = self.kind(text.strip().replace(",", "."))
        except ValueError:
            raise ValueError(self._wrong(text)) from None
        too_low = value <= self.low if self.above else value < self.low
        if too_low or not math.isfinite(value) or (self.high is not None and value > self.high):
            raise ValueError(self._wrong(text))
        return value

    def _wrong(self, text: str) -> str:
        kind = "a whole number" if self.kind is int else "a number"
        limits = f"more than {self.low:g}" if self.above else f"{self.low:g} or more"
        if self.high is not None:
            limits += f" and at most {self.high:g}"
        return f'{self.label} must be {kind}, {limits}; "{text.strip()}" is not.'


FIELDS = {
    "temperature": Field("Temperature", help="0: always the likeliest token"),
    "max_tokens": Field("Max tokens", int, low=1, help="of one answer"),
    "top_p": Field("Top p", high=1, above=True, help="the likeliest tokens, up to this share"),
    "top_k": Field("Top k", int, help="this many of the likeliest tokens"),
    "min_p": Field("Min p", high=1, help="tokens this likely beside the likeliest"),
    "seed": Field("Seed", int, high=2**63 - 1, help="the same seed, the same answer"),
    "fps": Field("Frames per second", above=True, help="taken of a clip"),
    "max_frames": Field("Max frames", int, low=1, help="of one clip"),
}
"""In the order of the side bar, two in a row."""


NUM_ALTERNATIVES = 5
"""The likeliest tokens that are kept at each place of an answer, where its probabilities are."""


class SettingsPanel:
    """The components of the side bar; their values -> ChatSettings."""

    def __init__(self, config: EngineConfig) -> None:
        self.system: gr.Textbox
        self.model: gr.Textbox  # set by the header's switch (models/switch.js)
        self.stills: gr.Checkbox  # for the next message, not for those that were sent
        self.probabilities: gr.Checkbox  # for the next answers
        self.numbers: dict[str, gr.Textbox] = {}
        names = iter(FIELDS)
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
                            _say_what_is_wrong(FIELDS[name], self.numbers[name])
            self.stills = gr.Checkbox(label="Of pictures that move, only the first frame", container=False)
            self.probabilities = gr.Checkbox(
                label="Keep how likely each token of an answer was", container=False, elem_id="probabilities"
            )
            component("notify", "workbenchNotify.view(element)", "notify")
            self.model = gr.Textbox(label="Model", visible="hidden", elem_id="chat-model")
            gr.Markdown("An empty field leaves the choice to the model.", elem_classes="hint")

    @property
    def components(self) -> set[Any]:
        return {self.system, self.stills, self.model, self.probabilities, *self.numbers.values()}

    @property
    def fields(self) -> dict[str, gr.Textbox]:
        """All fields by name, in order."""
        return {"system": self.system, **self.numbers, "model": self.model}

    def texts(self, values: Mapping[Any, Any]) -> Json:
        """What the fields hold, by name; empty ones are left out."""
        return {name: values[field] for name, field in self.fields.items() if values[field]}

    def read(self, values: Mapping[Any, Any]) -> ChatSettings:
        """Values by component, as Gradio hands them to a callback with a set of inputs -> ChatSettings.

        Raises BadRequest.
        """
        numbers = {name: values[field] for name, field in self.numbers.items()}
        return replace(
            settings(numbers, values[self.system] or ""),
            model=values[self.model] or None,
            logprobs=NUM_ALTERNATIVES if values[self.probabilities] else None,
        )


def settings(numbers: Mapping[str, str | None], system: str = "") -> ChatSettings:
    """The fields' text by name -> ChatSettings; empty is None. Pure. Raises BadRequest."""

    values: dict[str, Any] = {}
    for name, field in FIELDS.items():
        try:
            values[name] = field.parse(numbers.get(name))
        except ValueError as error:
            raise BadRequest(str(error), param=name) from None
    frames = FrameSampling(fps=values.pop("fps"), max_frames=values.pop("max_frames"))
    max_tokens = values.pop("max_tokens")
    return ChatSettings(system=system, sampling=Sampling(**values), max_tokens=max_tokens, frames=frames)


def from_texts(texts: Mapping[str, str]) -> ChatSettings:
    """The settings that a conversation keeps, by field name. Raises BadRequest."""
    return replace(settings(texts, texts.get("system", "")), model=texts.get("model") or None)


def _default(config: EngineConfig, name: str) -> float | None:
    """The server's own default of a field, if it has one."""
    for holder in (config, config.sampling, config.frames):
        if hasattr(holder, name):
            default: float | None = getattr(holder, name)
            return default
    return None


def _say_what_is_wrong(field: Field, box: gr.Textbox) -> None:
    """While a number is wrong, its help says why."""

    def check(text: str | None) -> Any:
        try:
            field.parse(text)
        except ValueError as error:
            return gr.Textbox(info=str(error), elem_classes=["number", "wrong"])
        return gr.Textbox(info=field.help, elem_classes="number")

    box.change(check, box, box, trigger_mode="always_last", **QUIET)


def _number(name: str, default: float | None) -> gr.Textbox:
    """A number field that is empty at first; its placeholder is the default.

    Not gr.Number, which shows and sends 0 when it is empty.
    """
    unset = "random" if name == "seed" else "model's own"
    return gr.Textbox(
        label=FIELDS[name].label,
        info=FIELDS[name].help,
        placeholder=unset if default is None else f"{default:g}",
        max_lines=1,
        min_width=100,
        elem_classes="number",
        html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
    )
