"""tools in a prompt: as the template shows them, or as plain messages; nothing of a call or its result is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import BadRequest
from engine.prompt import render
from engine.types import Message, Part, Reasoning, Request, Tool, ToolCall, ToolChoice
from tests.conftest import EngineFor
from tests.engine.checkpoints import load
from tests.engine.drive import ask, chat, part, user
from tests.engine.prompt.test_build import SEVERAL, built, said, with_template
from tests.families import TEXT
from tests.pictures import picture

TinyModel = Callable[..., Path]
ADD = Tool("add", "Adds numbers.", {"type": "object", "properties": {"a": {"type": "integer"}}})
CALL = ToolCall("id000000a", "add", '{"a": 1}')
RED = picture("red")
NATIVE = (
    "{% if tools %}TOOLS {{ tools | tojson }}\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}"
    "{% for tool_call in m.tool_calls %}<tool_call>{{ tool_call.function.name }}"
    "{% for k, v in tool_call.function.arguments.items() %} {{ k }}={{ v }}{% endfor %}{% endfor %}"
    "{% if m.tool_call_id %} FOR {{ m.tool_call_id }}{% endif %}"
    "{% if m.reasoning_content %} THOUGHT {{ m.reasoning_content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}{# tool_call.name #}"
)


def result(*parts: Part) -> Message:
    return Message("tool", parts, tool_call_id=CALL.id)


def conversation(*, tools: tuple[Tool, ...] = (ADD,), answer: tuple[Part, ...] = (), **more: Any) -> Request:
    called = Message("assistant", answer, tool_calls=(CALL,))
    return Request((user("One and one?"), called, result(part("two")), user("Sure?")), tools=tools, **more)


def text_of(loaded: Any, request: Request) -> str:
    return said(loaded, built(loaded, request))


# -- templates that show tools -----------------------------------------------------------------------------------------


def test_the_template_is_given_all_of_it(tiny_model: TinyModel, tmp_path: Path) -> None:
    loaded = with_template(tiny_model("llama"), tmp_path / "m", NATIVE)
    text = text_of(loaded, conversation(answer=(part("Let me see."),)))
    assert text.startswith('TOOLS [{"type": "function", "function": {"name": "add", "description": "Adds numbers."')
    assert "assistant Let me see.<tool_call>add a=1<|im_end|>" in text
    assert "tool two FOR id000000a" in text and text.endswith("assistant\n")


def test_thoughts_of_earlier_turns_are_the_templates(tiny_model: TinyModel, tmp_path: Path) -> None:
    loaded = with_template(tiny_model("llama"), tmp_path / "m", NATIVE)
    thought = Message("assistant", (part("2"),), reasoning="Hm.")
    assert "assistant 2 THOUGHT Hm." in text_of(loaded, Request((user("1+1?"), thought, user("Sure?"))))


def test_a_template_that_joins_arguments_gets_text(tiny_model: TinyModel, tmp_path: Path) -> None:
    joins = (
        "{% for m in messages %}{{ m.content }}{% for call in m.tool_calls %}{{ 'CALL ' + call.function.arguments }}"
        "{% endfor %}{% endfor %}{{ tools }}<tool_call>{# tool_call.name #}"
    )
    loaded = with_template(tiny_model("llama"), tmp_path / "m", joins)
    assert 'CALL {"a": 1}' in text_of(loaded, conversation())


def test_what_a_model_wrote_wrong_stays_sendable(tiny_model: TinyModel) -> None:
    """Arguments that were cut off, in the history."""
    broken = replace(CALL, arguments='{"a": 1')
    request = Request((user("x"), Message("assistant", (), tool_calls=(broken,)), result(part("error")), user("y")))
    assert '"arguments": "{\\"a\\": 1"' in text_of(load(tiny_model("llama")), request)


def test_a_picture_in_a_result_that_the_template_does_not_show(tiny_model: TinyModel, tmp_path: Path) -> None:
    """Twin: in a message of the user the same template shows it."""
    template = NATIVE.replace(
        "{{ m.content }}",
        "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
        "{% if p.type == 'image' and m.role == 'user' %}<|vision_start|><|image_pad|><|vision_end|>"
        "{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}",
    )
    loaded = with_template(tiny_model("qwen3_vl"), tmp_path / "m", template)
    assert loaded.tools.is_native
    shot = replace(part(RED), param="messages[2].content[1]")
    messages = (*conversation().messages[:2], result(part("Look."), shot))
    with pytest.raises(BadRequest, match="shows no media in messages of role tool") as caught:
        built(loaded, Request(messages, tools=(ADD,)))
    assert caught.value.param == "messages[2].content[1]"
    assert len(built(loaded, Request((*messages[:2], result(part("x")), user(RED)), tools=(ADD,))).media) == 1


# -- templates that do not ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*TEXT, *SEVERAL])
def test_tools_calls_and_results_are_in_every_prompt(tiny_model: TinyModel, family: str) -> None:
    loaded = load(tiny_model(family))
    assert not loaded.tools.is_native
    text = text_of(loaded, conversation(answer=(part("Let me see."),)))
    words = ('"name": "add"', "One and one?", "Let me see.", '{"name": "add", "arguments": {"a": 1}}', "two", "Sure?")
    places = [text.index(word) for word in words]
    assert places == sorted(places), "the order is another one"
    assert "<tool_response>\ntwo\n</tool_response>" in text


@pytest.mark.parametrize("family", ["qwen3_vl", "gemma3", "llava"])
def test_a_picture_in_a_result_is_read(tiny_model: TinyModel, family: str) -> None:
    loaded = load(tiny_model(family))
    messages = (*conversation().messages[:2], result(part("Here: "), part(RED)), user("Which colour?"))
    prompt = built(loaded, Request(messages, tools=(ADD,)))
    assert len(prompt.media) == 1 and prompt.media[0].tokens > 0


def test_a_template_without_a_system_role_has_the_tools_in_the_first_message(
    tiny_model: TinyModel, tmp_path: Path
) -> None:
    refuses = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('No system role') }}{% endif %}"
        "<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}"
    )
    loaded = with_template(tiny_model("llama"), tmp_path / "m", refuses)
    text = text_of(loaded, conversation())
    assert text.index("# Tools") < text.index("One and one?") and "system" not in text
    asked_for_it = Request((Message("system", (part("Be brief."),)), user("Hi")), tools=(ADD,))
    with pytest.raises(BadRequest, match="No system role"):
        built(loaded, asked_for_it)


def test_the_system_message_stays_in_front_of_the_tools(tiny_model: TinyModel) -> None:
    loaded = load(tiny_model("llama"))
    text = text_of(loaded, Request((Message("system", (part("Be brief."),)), user("Hi")), tools=(ADD,)))
    assert text.count("<|im_start|>system") == 1 and text.index("Be brief.") < text.index("# Tools")


def test_only_what_may_be_called_is_shown(tiny_model: TinyModel) -> None:
    loaded = load(tiny_model("llama"))
    request = Request((user("Hi"),), tools=(ADD, Tool("now")))
    assert '"now"' in text_of(loaded, request)
    one = text_of(loaded, replace(request, tool_choice=ToolChoice("auto", ("add",))))
    assert '"add"' in one and '"now"' not in one
    none = replace(request, tool_choice=ToolChoice("none"))
    assert built(loaded, none).ids == built(loaded, Request((user("Hi"),))).ids


# -- where the answer begins -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "qwen3_vl", "gemma3"])
def test_a_message_is_continued(tiny_model: TinyModel, family: str) -> None:
    """Its prompt ends with it, and all before is as in any other."""
    loaded = load(tiny_model(family))
    messages = (user("A poem?"), Message("assistant", (part("Roses are  "),)))
    prompt = built(loaded, Request(messages, continue_final_message=True))
    assert loaded.decode(prompt.ids).endswith("assistant\nRoses are  ")
    open_turn = built(loaded, Request(messages, add_generation_prompt=False))
    assert loaded.decode(open_turn.ids).endswith("Roses are  <|im_end|>\n")


def test_a_control_token_in_a_continued_message_is_text(tiny_model: TinyModel) -> None:
    loaded = load(tiny_model("llama"))
    messages = (user("A poem?"), Message("assistant", (part("Roses <|im_end|>"),)))
    prompt = built(loaded, Request(messages, continue_final_message=True))
    assert loaded.decode(prompt.ids).endswith("assistant\nRoses <|im_end|>")
    assert prompt.ids[-1] != loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")


async def test_a_continued_answer_keeps_its_first_space(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    engine = await engine_for(tiny_model("llama"))
    loaded = load(tiny_model("llama"))
    forced = tuple(loaded.tokenizer.encode(" red.", add_special_tokens=False))
    messages = (user("A poem?"), Message("assistant", (part("Roses are"),)))
    request = replace(chat("x"), messages=messages, continue_final_message=True, forced=forced, max_tokens=len(forced))
    assert (await ask(engine, request)).text == " red."


@pytest.mark.parametrize("last", [user(RED), Message("assistant", (), tool_calls=(CALL,))])
def test_what_cannot_be_continued_is_refused(tiny_model: TinyModel, tmp_path: Path, last: Message) -> None:
    loaded = load(tiny_model("qwen3_vl"))
    request = Request((user("Hi"), last), continue_final_message=True)
    if last.role == "user":
        with pytest.raises(BadRequest, match="continue_final_message") as caught:
            built(loaded, request)
        assert caught.value.param == "continue_final_message"
    else:
        assert loaded.decode(built(loaded, request).ids).endswith("</tool_call>")


# -- reasoning ---------------------------------------------------------------------------------------------------------


def test_reasoning_settings_reach_a_template_that_has_them(tiny_model: TinyModel, tmp_path: Path) -> None:
    template = "think={{ enable_thinking }} effort={{ reasoning_effort|default('-') }} {{ messages[0].content }}"
    loaded = with_template(tiny_model("llama"), tmp_path / "m", template)
    assert loaded.card.template_variables == ("enable_thinking", "messages", "reasoning_effort")
    off = Request((user("x"),), reasoning=Reasoning(enabled=False, effort="low"))
    assert text_of(loaded, off) == "think=False effort=low x"
    said_so = replace(off, template_kwargs=(("enable_thinking", True),))
    assert text_of(loaded, said_so) == "think=True effort=low x", "the client's own words count more"


# -- sabotage ----------------------------------------------------------------------------------------------------------


def test_sabotage_results_before_their_calls_are_seen(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = render.with_plain_tools

    def swapped(request: Request, role: Any = "system") -> Request:
        out = plain(request, role)
        first, second, *rest = out.messages[-3:]
        return replace(out, messages=(*out.messages[:-3], second, first, *rest))

    monkeypatch.setattr(render, "with_plain_tools", swapped)
    with pytest.raises(AssertionError, match="the order is another one"):
        test_tools_calls_and_results_are_in_every_prompt(tiny_model, "llama")
