"""control tokens: what somebody spells stays text, whatever the template and the processor make of such characters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from engine.errors import BadRequest
from engine.models.control_tokens import ControlTokens, SetAside
from engine.models.registry import Loaded
from engine.prompt import render
from engine.prompt.build import build_prompt
from engine.prompt.text import TextPrompts
from engine.types import Message, Part, Request, Role, Tool, ToolCall
from engine.types.prompt import Prompt
from tests import smollm2
from tests.conftest import EngineFor
from tests.engine.checkpoints import fresh, load
from tests.engine.drive import ask, chat, part, user
from tests.engine.prompt.test_build import built, with_template
from tests.families import FAMILIES, TEXT, VISION
from tests.pictures import picture

TinyModel = Callable[..., Path]
RED = picture("red")
ORDINARY = "  Is 3 < 4 | 5 > 2?\n\n<div>[x] & 'ünï 🦊'</div> \U000f0000\U0010fffd <| |> <im end> "
SMOL = "smollm2"


def loaded_of(name: str, tiny_model: TinyModel) -> Loaded:
    return fresh(smollm2.folder()) if name == SMOL else load(tiny_model(name))


def spellings(loaded: Loaded) -> list[str]:
    """Everything that this model takes for something else than text, and some of what others do."""
    tokens = [token.content for token in loaded.chat_tokenizer.added_tokens_decoder.values() if token.special]
    more = [
        loaded.family.marker,
        "<|im_end|>",
        "<|image_pad|>",
        "<image>",
        "<|image_1|>",
        "[IMG]",
        "<|im_<|im_end|>end|>",
    ]
    return [text for text in dict.fromkeys([*tokens, *more]) if text]


def controls(loaded: Loaded, prompt: Prompt) -> Counter[int]:
    """The special tokens and placeholders of a prompt."""
    special = {i for i, token in loaded.chat_tokenizer.added_tokens_decoder.items() if token.special}
    return Counter(i for i in prompt.ids if i in special | set(loaded.placeholder_ids().values()))


def check_stays_text(loaded: Loaded, make: Callable[[str], Request], text: str) -> None:
    """The prompt with this text has the control tokens of one with a harmless text, and all its characters."""
    prompt, harmless = built(loaded, make(text)), built(loaded, make("harmless"))
    assert controls(loaded, prompt) == controls(loaded, harmless), "text became control tokens"
    read = loaded.tokenizer.decode([i for i in prompt.ids if i >= 0])
    assert text in read, "characters are missing"


# -- ordinary text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TEXT, *VISION, SMOL])
def test_ordinary_text_has_the_plain_ids(tiny_model: TinyModel, name: str) -> None:
    """Those of the template's text, tokenized as a whole; private characters are ordinary text too. Also before and
    behind a control token that somebody spells."""
    loaded = loaded_of(name, tiny_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "set_aside", lambda loaded, request: (request, ()))
        plain = built(loaded, conversation("harmless")).ids
    assert built(loaded, conversation("harmless")).ids == plain
    spelled = built(loaded, conversation("<|im_end|>")).ids
    harmless = loaded.control.encode("harmless", (), add_special_tokens=False)
    at = next(i for i in range(len(plain)) if plain[i : i + len(harmless)] == harmless)
    assert spelled[:at] == plain[:at] and spelled[at - len(plain) + len(harmless) :] == plain[at + len(harmless) :]


def conversation(text: str) -> Request:
    """Ordinary text in every role, and this text in the middle."""
    answers = [Message("assistant", (part(ORDINARY),)), Message("assistant", (part(f"1.\n{text}\n2."),))]
    return Request(messages=(user(ORDINARY), answers[0], user("And?"), answers[1], user("So?", ORDINARY)))


# -- what somebody spells ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TEXT, *VISION, SMOL])
def test_spelled_control_tokens_are_text_in_every_role(tiny_model: TinyModel, name: str) -> None:
    loaded = loaded_of(name, tiny_model)
    text = " and ".join(spellings(loaded)) + " \U000f0001"
    check_stays_text(loaded, chat, text)
    for role in ("system", "assistant", "user"):
        check_stays_text(loaded, partial(in_role, role), text)


def in_role(role: Role, text: str) -> Request:
    return Request(messages=(user("Hm."), Message(role, (part(text),)), user("So?")))


@pytest.mark.parametrize("family", VISION)
def test_spelled_control_tokens_are_text_beside_a_picture(tiny_model: TinyModel, family: str) -> None:
    """The prompt is as long as the processor counted it, and the picture has its own placeholders."""
    loaded = load(tiny_model(family))
    text = " and ".join(spellings(loaded))
    check_stays_text(loaded, lambda text: chat(RED, text), text)
    prompt, harmless = built(loaded, chat(RED, text)), built(loaded, chat(RED, "harmless"))
    assert prompt.media[0].tokens == harmless.media[0].tokens
    assert len(prompt.cache_ids) in (0, len(prompt.ids))


@pytest.mark.parametrize("family", ["llama", "qwen3_vl"])
def test_a_token_in_two_parts_is_text(tiny_model: TinyModel, family: str) -> None:
    loaded = load(tiny_model(family))
    halves = Request(messages=(user("One <|im_", "end|> two"),))
    assert controls(loaded, built(loaded, halves)) == controls(loaded, built(loaded, chat("harmless")))
    assert "One <|im_end|> two" in loaded.decode(built(loaded, halves).ids)


def test_tools_calls_names_and_settings_are_text(tiny_model: TinyModel, tmp_path: Path) -> None:
    template = (
        "{{ tools | tojson if tools }}{{ mood }}{% for m in messages %}<|im_start|>{{ m.role }} {{ m.name }} "
        "{{ m.content }} {{ m.tool_calls | tojson if m.tool_calls }} {{ m.reasoning_content }}<|im_end|>{% endfor %}"
        "{# <tool_call> tool_call.name #}"
    )
    loaded = with_template(tiny_model("llama"), tmp_path / "m", template)
    assert loaded.tools.is_native

    def make(text: str) -> Request:
        tool = Tool(text, text, {"type": "object", "properties": {text: {"description": text}}})
        escaped = "".join(f"\\u{ord(char):04x}" for char in text)
        call = ToolCall(text, text, f'{{"a": "{escaped}"}}')
        answer = Message("assistant", (part(text),), tool_calls=(call,), reasoning=text, name=text)
        result = Message("tool", (part(text),), tool_call_id=text, name=text)
        return Request(
            messages=(user("Hi"), answer, result), tools=(tool,), template_kwargs=(("mood", [text, {"x": text}]),)
        )

    check_stays_text(loaded, make, "<|im_end|>")


def test_an_assistants_thoughts_are_the_templates_to_take_out(tmp_path: Path) -> None:
    from tests import tiny
    from tests.families import Family

    family = Family(config=FAMILIES["qwen3"].config, tokens=("<think>", "</think>"))
    folder = tiny.write(family, "qwen3", "float32", tmp_path / "thinks")
    template = folder / "chat_template.jinja"
    split = "{{ m.content.split('</think>')[-1] }}"
    template.write_text(template.read_text().replace("{{ m.content }}", split))
    loaded = load(folder)
    thought = Message("assistant", (part("<think>Hm.</think>Yes. <|im_end|>"),))
    read = loaded.decode(built(loaded, Request(messages=(user("<think>x"), thought, user("y")))).ids)
    assert "Hm." not in read and "Yes. <|im_end|>" in read and "<think>x" in read


def test_a_long_text_is_read_the_same_off_the_engines_thread(tiny_model: TinyModel) -> None:
    for family in ("llama", "qwen3_vl"):
        loaded = load(tiny_model(family))
        request = chat("What is <|im_end|> and <|image_pad|>? " * 50)
        assert TextPrompts(loaded).build(request) == build_prompt(loaded, request, ())


# -- what is left to the client ----------------------------------------------------------------------------------------


def test_special_tokens_in_a_raw_prompt_keep_their_meaning(tiny_model: TinyModel) -> None:
    loaded = load(tiny_model("llama"))
    end = loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end in built(loaded, Request(prompt="Hello<|im_end|>")).ids


@pytest.mark.parametrize("family", VISION)
def test_a_raw_prompt_has_no_placeholders(tiny_model: TinyModel, family: str) -> None:
    loaded = load(tiny_model(family))
    for kind, placeholder in loaded.placeholder_ids().items():
        if 0 <= placeholder < loaded.num_ids:
            token = loaded.tokenizer.convert_ids_to_tokens(placeholder)
            for prompt in ((70, placeholder, 71), f"See {token}."):
                with pytest.raises(BadRequest, match=f"prompt: it holds .* stands for {kind}") as caught:
                    built(loaded, Request(prompt=prompt))
                assert caught.value.param == "prompt"


async def test_the_next_turn_goes_on_from_an_answer_that_spells_a_placeholder(
    engine_for: EngineFor, tiny_model: TinyModel
) -> None:
    """The chat stays sendable, and the turn before is reused."""
    engine = await engine_for(tiny_model("qwen3_vl"))
    first = chat(RED, "What is <|image_pad|>? " * 20)
    await ask(engine, first)
    history = (*first.messages, Message("assistant", (part("It is <|image_pad|><image>"),)), user("Really?"))
    answer = await ask(engine, replace(first, messages=history))
    assert answer.done.usage.cached_tokens >= 64 and answer.done.trace.reason != "off"


# -- sabotage ----------------------------------------------------------------------------------------------------------


def test_sabotage_text_that_is_not_set_aside_is_seen(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(tiny_model("llama"))
    monkeypatch.setattr(SetAside, "text", lambda self, text, keep=(): text)
    with pytest.raises(AssertionError, match="text became control tokens"):
        check_stays_text(loaded, chat, "What is <|im_end|>?")


def test_sabotage_characters_that_are_dropped_are_seen(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(tiny_model("llama"))
    monkeypatch.setattr(ControlTokens, "_as_text", lambda self, spelled: [70])
    with pytest.raises(AssertionError, match="characters are missing"):
        check_stays_text(loaded, chat, "What is <|im_end|>?")


def test_too_many_private_characters_are_refused(tiny_model: TinyModel) -> None:
    loaded = load(tiny_model("llama"))
    text = "".join(map(chr, range(0xF0000, 0x110000))) + "<|im_end|>"
    with pytest.raises(BadRequest, match="private characters"):
        built(loaded, chat(text))
    assert built(loaded, Request(messages=(Message("user", (Part("text", "\U000f0000<|im_end|>"),)),))).ids
