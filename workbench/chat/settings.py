"""The side bar: system prompt, sampling, frames. For an empty field the server's or the model's default applies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from engine.config import EngineConfig
from engine.errors import BadRequest
from engine.media.frames import DEFAULT_FPS, DEFAULT_MAX_FRAMES
from engine.types import FrameSampling, Json, ModelCard, Sampling
from workbench.chat.convert import ChatSettings
from workbench.components import QUIET, component, static
from workbench.language import catalogued, number, t


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
        low, high = number(self.low, "g"), "" if self.high is None else number(self.high, "g")
        if self.above:
            limits = (
                t("more than {low} and at most {high}", low=low, high=high) if high else t("more than {low}", low=low)
            )
        else:
            limits = t("{low} to {high}", low=low, high=high) if high else t("{low} or more", low=low)
        kind = t("a whole number") if self.kind is int else t("a number")
        return t(
            "{field} must be {kind}, {limits}; “{text}” is not.",
            field=t(self.label),
            kind=kind,
            limits=limits,
            text=text.strip(),
        )


FIELDS = {
    "temperature": Field(catalogued("Temperature"), help=catalogued("0: always the likeliest token")),
    "max_tokens": Field(catalogued("Max tokens"), int, low=1, help=catalogued("of one answer")),
    "top_p": Field(catalogued("Top p"), high=1, above=True, help=catalogued("the likeliest tokens, up to this share")),
    "top_k": Field(catalogued("Top k"), int, help=catalogued("this many of the likeliest tokens")),
    "min_p": Field(catalogued("Min p"), high=1, help=catalogued("tokens this likely beside the likeliest")),
    "seed": Field(catalogued("Seed"), int, high=2**63 - 1, help=catalogued("the same seed, the same answer")),
    "fps": Field(catalogued("Frames per second"), above=True, help=catalogued("taken of a clip")),
    "max_frames": Field(catalogued("Max frames"), int, low=1, help=catalogued("of one clip")),
}
"""In the order of the side bar, two in a row."""


CLIPS = FrameSampling(fps=DEFAULT_FPS, max_frames=DEFAULT_MAX_FRAMES)
"""What applies to clips where nobody says otherwise."""

NUM_ALTERNATIVES = 5
"""The likeliest tokens that are kept at each place of an answer, where its probabilities are."""


class SettingsPanel:
    """The components of the side bar; their values -> ChatSettings."""

    def __init__(self) -> None:
        self.system: gr.Textbox
        self.model: gr.Textbox  # set by the header's switch (models/switch.js)
        self.stills: gr.Checkbox  # for the next message, not for those that were sent
        self.probabilities: gr.Checkbox  # for the next answers
        self.numbers: dict[str, gr.Textbox] = {}
        names = iter(FIELDS)
        with gr.Sidebar(label=static("Settings"), open=False, position="right", width=340, elem_id="settings"):
            _words("h3", static("Settings"))
            self.system = gr.Textbox(
                label=static("System prompt"),
                lines=3,
                max_lines=12,
                placeholder=static("How the model should behave. Optional."),
            )
            for title, num_rows in ((static("Sampling"), 3), (static("Video"), 1)):
                _words("h4", title, "group")
                for _ in range(num_rows):
                    with gr.Row():
                        for name in (next(names), next(names)):
                            self.numbers[name] = _number(name)
                            _say_what_is_wrong(FIELDS[name], self.numbers[name])
            self.stills = gr.Checkbox(label=static("Of pictures that move, only the first frame"), container=False)
            self.probabilities = gr.Checkbox(
                label=static("Keep how likely each token of an answer was"), container=False, elem_id="probabilities"
            )
            _words("p", static("An empty field has the value that stands in it in grey."), "hint")
            reset = gr.Button(static("Back to the defaults"), size="sm", variant="secondary", elem_id="settings-reset")
            reset.click(lambda: [*[""] * len(FIELDS), False, False], None, self.sampling, **QUIET)
            _words("h4", static("This page"), "group")
            component("notify", "workbenchNotify.view(element)", "notify")
            component("preferences", "workbenchPreferences.view(element)", "preferences")
            self.model = gr.Textbox(label=static("Model"), visible="hidden", elem_id="chat-model")

    @property
    def sampling(self) -> list[Any]:
        """What a click sets back: all but the system prompt and the model."""
        return [*self.numbers.values(), self.stills, self.probabilities]

    def own_values(self, config: EngineConfig, card: ModelCard) -> list[Any]:
        """For each number, what applies where it is empty, in grey."""
        if card.server:  # what applies where nothing is said here is up to that server
            said = {name: getattr(card.sampling, name, None) for name in FIELDS}
            said |= {"fps": config.frames.fps, "max_frames": config.frames.max_frames}
            up_to = t("as the server says")
            return [gr.Textbox(placeholder=up_to if one is None else number(one, "g")) for one in said.values()]
        values = {name: _default(config, card, name) for name in FIELDS}
        return [gr.Textbox(placeholder=_in_grey(name, value)) for name, value in values.items()]

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


def _default(config: EngineConfig, card: ModelCard, name: str) -> float | None:
    """What applies to a field that is empty; None for nothing."""
    for holder in (config, card.sampling, config.frames, CLIPS):
        default: float | None = getattr(holder, name, None)
        if default is not None:
            return default
    return None


def _in_grey(name: str, value: float | None) -> str:
    if value is not None:
        return number(value, "g")
    return t("random") if name == "seed" else t("off")


def _say_what_is_wrong(field: Field, box: gr.Textbox) -> None:
    """While a number is wrong, its help says why."""

    def check(text: str | None) -> Any:
        try:
            field.parse(text)
        except ValueError as error:
            return gr.Textbox(info=str(error), elem_classes=["number", "wrong"])
        return gr.Textbox(info=t(field.help), elem_classes="number")

    box.change(check, box, box, trigger_mode="always_last", **QUIET)


def _words(element: str, text: Any, class_name: str | None = None) -> None:
    """A text, from `static`, in an element. Not gr.Markdown, whose scripts nothing else here needs."""
    script = f"element.querySelector('{element}').textContent = props.value"
    template = f"<{element}></{element}>"
    gr.HTML(text, html_template=template, js_on_load=script, apply_default_css=False, elem_classes=class_name)


def _number(name: str) -> gr.Textbox:
    """A number field that is empty at first; once the model is known, its placeholder is what applies.

    Not gr.Number, which shows and sends 0 when it is empty.
    """
    return gr.Textbox(
        label=static(FIELDS[name].label),
        info=static(FIELDS[name].help),
        placeholder=static("as the model says"),
        max_lines=1,
        min_width=100,
        elem_classes="number",
        html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
    )
