"""OpenAI's JSON to Request: what is understood, and the field that every refusal names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from engine.access.visibility import Caller
from engine.api.bodies.json_body import explain, json_path
from engine.api.bodies.refused import refuse
from engine.api.chat.convert import chat_request
from engine.api.chat.schemas import ChatRequest
from engine.api.completions.convert import text_requests
from engine.api.completions.schemas import TextRequest
from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.types import FrameSampling, PageChoice, Part, Request

HELLO = [{"role": "user", "content": "hello"}]
LIMITS = MediaLimits()
DATA_URL = "data:image/png;base64,AAAA"

CLIP_FIELDS = {"fps": 3, "min_frames": 2, "max_frames": 8, "video_start": 1, "video_end": 2.5, "total_pixels": 1000}
OWN_FRAMES = FrameSampling(fps=3, min_frames=2, max_frames=8, start_s=1, end_s=2.5, max_pixels=1000)


def chat(messages: Any = None, **fields: Any) -> Request:
    body = ChatRequest.model_validate({"messages": HELLO if messages is None else messages, **fields})
    refuse(body)
    return chat_request(body, LIMITS, "id-1")


def text(**fields: Any) -> Request:
    body = TextRequest.model_validate(fields)
    refuse(body)
    return text_requests(body, "id-2", Caller())[0]


def refused(call: Any, *args: Any, **fields: Any) -> BadRequest:
    """The error of a request, whether the schema or the conversion finds it."""
    try:
        call(*args, **fields)
    except BadRequest as error:
        return error
    except ValidationError as error:
        body = {"messages": args[0] if args else HELLO, **fields}
        errors = [{**found, "loc": ("body", *found["loc"])} for found in error.errors()]
        return explain(errors, body)
    raise AssertionError("it was accepted")


def content(*parts: Any, role: str = "user") -> list[dict[str, Any]]:
    return [{"role": role, "content": list(parts)}]


def one(part: dict[str, Any]) -> Part:
    """What becomes of the only part of the only message."""
    ((found,),) = (message.parts for message in chat(content(part)).messages)
    return found


def test_a_string_is_a_text_part() -> None:
    request = chat()
    assert request.id == "id-1" and request.source == "api" and request.prompt is None
    (message,) = request.messages
    assert message.role == "user" and message.parts == (Part("text", text="hello", param="messages[0].content"),)


def test_everything_left_out_is_left_to_the_server() -> None:
    request = chat()
    assert request == Request(messages=request.messages, id="id-1")
    assert chat(temperature=None, max_tokens=None, stop=None, seed=None, tools=None, stream=None) == request


def test_all_settings_arrive() -> None:
    request = chat(
        temperature=0,
        top_p=0.9,
        top_k=40,
        min_p=0.05,
        repetition_penalty=1.1,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logit_bias={"7": -100, "3": 2.5},
        seed=-5,
        max_tokens=12,
        stop=["a", "b"],
        video_fps=1.5,
        video_max_frames=9,
        chat_template_kwargs={"enable_thinking": False},
    )
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.0, 0.9, 40, 0.05)
    assert (sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty) == (1.1, 0.5, -0.5)
    assert sampling.logit_bias == ((3, 2.5), (7, -100.0)) and sampling.seed == -5
    assert request.max_tokens == 12 and request.stop == ("a", "b")
    assert (request.frames.fps, request.frames.max_frames) == (1.5, 9)
    assert request.template_kwargs == (("enable_thinking", False),)


def test_small_equivalences() -> None:
    assert chat(stop="end").stop == ("end",)
    assert chat(max_completion_tokens=5).max_tokens == 5 == chat(max_completion_tokens=5, max_tokens=5).max_tokens
    assert chat(top_k=-1).sampling.top_k == 0
    assert chat([{"role": "developer", "content": "be brief"}, *HELLO]).messages[0].role == "system"
    assert chat([*HELLO, {"role": "assistant", "content": None}, *HELLO]).messages[1].parts == ()


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "text", "text": "hi"}, Part("text", text="hi", param="messages[0].content[1].text")),
        (
            {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}},
            Part("image", url=DATA_URL, detail="low", param="messages[0].content[1].image_url.url"),
        ),
        (
            {"type": "image_url", "image_url": "https://host/a.png"},
            Part("image", url="https://host/a.png", param="messages[0].content[1].image_url"),
        ),
        (
            {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "high", "max_pixels": 9}},
            Part("image", url=DATA_URL, detail="high", max_pixels=9, param="messages[0].content[1].image_url.url"),
        ),
        (
            {"type": "image", "image": {"url": DATA_URL}, "max_pixels": 100},
            Part("image", url=DATA_URL, max_pixels=100, param="messages[0].content[1].image.url"),
        ),
        ({"type": "image", "url": DATA_URL}, Part("image", url=DATA_URL, param="messages[0].content[1].url")),
        (
            {"type": "image", "base64": "AAAA"},
            Part("image", url="data:;base64,AAAA", param="messages[0].content[1].base64"),
        ),
        (
            {
                "type": "video",
                "video": DATA_URL,
                "fps": 3,
                "min_frames": 2,
                "max_frames": 8,
                "video_start": 1,
                "video_end": 2.5,
                "total_pixels": 1000,
            },
            Part("video", url=DATA_URL, param="messages[0].content[1].video", frames=OWN_FRAMES),
        ),
        (
            {"type": "video", "video": [DATA_URL, {"url": "http://host/b.png"}], "fps": 4},
            Part(
                "video",
                parts=(
                    Part("image", url=DATA_URL, param="messages[0].content[1].video[0]"),
                    Part("image", url="http://host/b.png", param="messages[0].content[1].video[1].url"),
                ),
                frames=FrameSampling(list_fps=4),
                param="messages[0].content[1].video",
            ),
        ),
        (
            {"type": "video_url", "video_url": {"url": "data:video/jpeg;base64,AA,BB"}},
            Part(
                "video",
                parts=tuple(
                    Part("image", url=f"data:image/jpeg;base64,{x}", param=f"messages[0].content[1].video_url.url[{i}]")
                    for i, x in enumerate(("AA", "BB"))
                ),
                param="messages[0].content[1].video_url.url",
            ),
        ),
        ({"type": "image", "image": DATA_URL}, Part("image", url=DATA_URL, param="messages[0].content[1].image")),
        (
            {"type": "video_url", "video_url": {"url": "http://host/a.mp4"}},
            Part("video", url="http://host/a.mp4", param="messages[0].content[1].video_url.url"),
        ),
        ({"type": "video", "video": DATA_URL}, Part("video", url=DATA_URL, param="messages[0].content[1].video")),
        (
            {"type": "audio_url", "audio_url": {"url": "http://host/a.wav"}},
            Part("audio", url="http://host/a.wav", param="messages[0].content[1].audio_url.url"),
        ),
        ({"type": "audio", "audio": DATA_URL}, Part("audio", url=DATA_URL, param="messages[0].content[1].audio")),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            Part("audio", url="data:audio/mp3;base64,AAAA", param="messages[0].content[1].input_audio.data"),
        ),
    ],
)
def test_parts(part: dict[str, Any], expected: Part) -> None:
    request = chat(content({"type": "text", "text": "look"}, part))
    assert request.messages[0].parts[1] == expected


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ([{"role": "assistant", "content": "I am here."}], "messages"),
        ([{"role": "user", "content": "   "}], "messages"),
        ([{"role": "user", "content": []}], "messages"),
        ([{"role": "wizard", "content": "x"}], "messages[0].role"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": ["user"], "content": "x"}], "messages[0].role"),
        ([*HELLO, {"role": "function", "content": "x", "name": "f"}], "messages[1].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": {"type": "text"}}], "messages[0].content"),
        ([*HELLO, {"role": "assistant", "content": None, "tool_calls": [{}]}], "messages[1].tool_calls[0].function"),
        (content("x"), "messages[0].content[0]"),
        (content({"text": "x"}), "messages[0].content[0].type"),
        (content({"type": "hologram"}), "messages[0].content[0].type"),
        (content({"type": "text"}), "messages[0].content[0].text"),
        (content({"type": "text", "text": 5}), "messages[0].content[0].text"),
        (content({"type": "image_url"}), "messages[0].content[0].image_url"),
        (content({"type": "image_url", "image_url": {}}), "messages[0].content[0].image_url.url"),
        (content({"type": "image_url", "image_url": {"url": " "}}), "messages[0].content[0].image_url.url"),
        (content({"type": "image_url", "image_url": {"url": ["x"]}}), "messages[0].content[0].image_url.url"),
        (
            content({"type": "image_url", "image_url": {"url": DATA_URL, "detail": "huge"}}),
            "messages[0].content[0].image_url.detail",
        ),
        (content({"type": "image", "image": DATA_URL, "max_pixels": 0}), "messages[0].content[0].max_pixels"),
        (content({"type": "video", "video": DATA_URL, "fps": 0}), "messages[0].content[0].fps"),
        (content({"type": "video", "video": DATA_URL, "max_pixels": 0}), "messages[0].content[0].max_pixels"),
        (
            content({"type": "image", "image": DATA_URL, "min_pixels": 9, "max_pixels": 8}),
            "messages[0].content[0].min_pixels",
        ),
        (content({"type": "image", "image": DATA_URL, "resized_height": 9}), "messages[0].content[0].resized_width"),
        (content({"type": "video", "video": DATA_URL, "resized_width": 9}), "messages[0].content[0].resized_height"),
        (content({"type": "video", "video": DATA_URL, "sample_fps": 2}), "messages[0].content[0].sample_fps"),
        (
            content({"type": "video", "video": [DATA_URL], "fps": 2, "sample_fps": 2}),
            "messages[0].content[0].sample_fps",
        ),
        (content({"type": "video", "video": DATA_URL, "video_start": -1}), "messages[0].content[0].video_start"),
        (
            content({"type": "video", "video": DATA_URL, "video_start": 2, "video_end": 2}),
            "messages[0].content[0].video_end",
        ),
        (
            content({"type": "video", "video": DATA_URL, "min_frames": 9, "max_frames": 8}),
            "messages[0].content[0].min_frames",
        ),
        (content({"type": "video", "video": []}), "messages[0].content[0].video"),
        (content({"type": "video", "video": [DATA_URL] * 769}), "messages[0].content[0].video"),
        (content({"type": "video", "video": [DATA_URL, 5]}), "messages[0].content[0].video[1]"),
        (content({"type": "image", "image": [DATA_URL]}), "messages[0].content[0].image"),
        (content({"type": "input_audio", "input_audio": {}}), "messages[0].content[0].input_audio.data"),
        ("hello", "messages"),
        (["hello"], "messages[0]"),
        ({"role": "user"}, "messages"),
    ],
)
def test_wrong_messages_are_named(messages: Any, param: str) -> None:
    error = refused(chat, messages)
    assert error.status == 400 and error.param == param
    assert error.message.startswith(param)


@pytest.mark.parametrize(
    ("part", "where", "takes"),
    [
        ({"type": "image_url", "image_url": {"url": DATA_URL, "fps": 2}}, "image_url.fps", "resized_width, animated"),
        ({"type": "image_url", "image_url": {"url": DATA_URL}, "num_crops": 9}, "num_crops", "max_pixels"),
        ({"type": "image", "image": DATA_URL, "resize_height": 9}, "resize_height", "resized_height"),
        ({"type": "image", "image": DATA_URL, "url": DATA_URL}, "url", "detail"),
        ({"type": "video_url", "video_url": {"url": DATA_URL, "num_frames": 9}}, "video_url.num_frames", "nframes"),
        ({"type": "video", "video": DATA_URL, "detail": "low"}, "detail", "total_pixels"),
        ({"type": "video", "video": [{"url": DATA_URL, "time": 3}]}, "video[0].time", "url"),
        ({"type": "audio_url", "audio_url": {"url": DATA_URL, "rate": 9}}, "audio_url.rate", "url"),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "rate": 9}}, "input_audio.rate", "data, format"),
        ({"type": "file", "file": {"file_data": "AAAA", "dpi": 9}}, "file.dpi", "pages"),
        ({"type": "file", "file": {"file_data": "AAAA"}, "pages": "1"}, "pages", ""),
    ],
)
def test_an_option_that_is_not_known_is_named(part: dict[str, Any], where: str, takes: str) -> None:
    error = refused(chat, content(part))
    assert error.param == f"messages[0].content[0].{where}" and error.code == "unknown_parameter"
    assert "not known here" in error.message and takes in error.message


def test_sizes_in_the_words_of_qwens_tools() -> None:
    sizes = {"min_pixels": 9, "max_pixels": 99, "resized_height": 7, "resized_width": 8}
    wanted = {"min_pixels": 9, "max_pixels": 99, "exact_px": (8, 7)}
    where = "messages[0].content[0]"
    for kind in ("image", "video"):
        here = Part(kind, url=DATA_URL, param=f"{where}.{kind}", **wanted)
        assert one({"type": kind, kind: DATA_URL, **sizes}) == here
        inside = {"type": f"{kind}_url", f"{kind}_url": {"url": DATA_URL, **sizes}}
        assert one(inside) == replace(here, param=f"{where}.{kind}_url.url")
    listed = one({"type": "video", "video": [DATA_URL, DATA_URL], "sample_fps": 3})
    assert listed.frames == FrameSampling(list_fps=3)


def test_hints_about_caching_ask_for_nothing() -> None:
    part = {"type": "image_url", "image_url": {"url": DATA_URL, "detail": None}, "uuid": "a", "cache_control": {}}
    assert one(part) == Part("image", url=DATA_URL, param="messages[0].content[0].image_url.url")


@pytest.mark.parametrize("role", ["system", "developer", "assistant", "user"])
def test_media_in_messages_of_every_role(role: str) -> None:
    request = chat([*content({"type": "image_url", "image_url": {"url": DATA_URL}}, role=role), *HELLO])
    assert request.messages[0].parts[0].kind == "image"


@pytest.mark.parametrize("field", ["images", "image_url", "video", "files", "attachments"])
def test_media_beside_the_content_are_refused(field: str) -> None:
    error = refused(chat, [{**HELLO[0], field: ["AAAA"]}])
    assert error.param == f"messages[0].{field}" and "media are parts of content" in error.message
    assert chat([{**HELLO[0], field: None}]) == chat()


@pytest.mark.parametrize("animated", [True, False, None])
def test_whether_an_animated_picture_is_a_clip(animated: bool | None) -> None:
    assert one({"type": "image_url", "image_url": {"url": DATA_URL, "animated": animated}}).animated is animated
    assert one({"type": "image", "image": DATA_URL, "animated": animated}).animated is animated
    assert refused(chat, content({"type": "image", "image": DATA_URL, "animated": "yes"})).param.endswith("animated")


def test_a_number_of_frames() -> None:
    part = one({"type": "video", "video": DATA_URL, "nframes": 6})
    assert part.frames == FrameSampling(min_frames=6, max_frames=6)
    error = refused(chat, content({"type": "video", "video": DATA_URL, "nframes": 6, "fps": 2}))
    assert error.param == "messages[0].content[0].nframes" and "fps" in error.message


def test_a_document() -> None:
    file = {"filename": "a.pdf", "file_data": "AAAA", "pages": "1-3, 7", "text": True, "max_pixels": 1000}
    part = one({"type": "file", "file": file})
    where = "messages[0].content[0].file.file_data"
    choice = PageChoice("a.pdf", "1-3, 7", True)
    assert part == Part("document", url="data:;base64,AAAA", max_pixels=1000, document=choice, param=where)
    data = one({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}})
    assert data.url == "data:application/pdf;base64,AAAA" and data.document == PageChoice()
    assert one({"type": "file", "file": {"file_url": "https://a.org/b.pdf"}}).url == "https://a.org/b.pdf"


@pytest.mark.parametrize(
    ("file", "where", "words"),
    [
        ("AAAA", "", "an object"),
        ({}, ".file_data", "a string"),
        ({"file_data": ""}, ".file_data", "a string"),
        ({"file_data": 5}, ".file_data", "a string"),
        ({"file_id": "file-1"}, ".file_id", "cannot be uploaded to this server yet; send the file itself as file_data"),
        ({"file_data": "AAAA", "pages": "one"}, ".pages", 'like "1-3,7"'),
        ({"file_data": "AAAA", "pages": "1-"}, ".pages", 'like "1-3,7"'),
        ({"file_data": "AAAA", "text": "yes"}, ".text", "boolean"),
        ({"file_data": "AAAA", "max_pixels": 0}, ".max_pixels", "greater than"),
        ({"file_url": "ftp://a/b"}, ".file_url", "ftp: URLs are not read"),
    ],
)
def test_a_wrong_document_is_named(file: Any, where: str, words: str) -> None:
    error = refused(chat, content({"type": "file", "file": file}))
    assert error.param == f"messages[0].content[0].file{where}"
    assert words in error.message


@pytest.mark.parametrize(
    ("field", "value", "limit"),
    [
        ("temperature", -0.1, "0"),
        ("temperature", float("nan"), "finite"),
        ("temperature", "hot", "number"),
        ("top_p", 0, "0"),
        ("top_p", 1.01, "1"),
        ("top_k", -2, "-1"),
        ("min_p", 1.5, "1"),
        ("max_completion_tokens", 0, "1"),
        ("stop", "", "empty"),
        ("stop", ["a", ""], "empty"),
        ("stop", ["a"] * 17, "16"),
        ("stop", 5, "string"),
        ("stream", "yes", "boolean"),
        ("stream_options", {"include_usage": True}, "stream is true"),
        ("model", 5, "string"),
        ("video_fps", 0, "0"),
        ("video_max_frames", 0, "1"),
        ("video_max_frames", 769, "768"),
        ("video_min_frames", 769, "768"),
        ("video_min_frames", 0, "1"),
        ("video_start", -1, "0"),
        ("video_end", 0, "0"),
        ("video_max_pixels", 0, "1"),
        ("chat_template_kwargs", [], "dictionary"),
    ],
)
def test_wrong_values_are_named_with_their_limit(field: str, value: Any, limit: str) -> None:
    error = refused(chat, **{field: value})
    assert error.status == 400 and error.param == field
    assert error.message.startswith(f"{field}: ") and limit in error.message


def test_settings_of_clips_that_contradict_each_other() -> None:
    error = refused(chat, video_start=3, video_end=2.5)
    assert error.param == "video_end" and "2.5 s" in error.message and "3 s" in error.message
    error = refused(chat, video_min_frames=9, video_max_frames=8)
    assert error.param == "video_min_frames" and "8" in error.message


def test_extra_body_is_as_the_client_would_have_merged_it() -> None:
    """Twin: what stands at the top level wins."""
    assert chat(extra_body={"video_fps": 3, "top_k": 5}) == chat(video_fps=3, top_k=5)
    assert chat(extra_body={"video_fps": 3}, video_fps=4) == chat(video_fps=4)
    assert refused(chat, extra_body={"video_fps": 0}).param == "video_fps"


def test_a_wrong_bias_is_named_by_its_token() -> None:
    assert refused(chat, logit_bias={"7": -101}).param == "logit_bias.7"
    assert refused(chat, logit_bias={"seven": 1}).param == "logit_bias.seven"


def test_two_limits_that_differ() -> None:
    assert refused(chat, max_tokens=5, max_completion_tokens=6).param == "max_tokens"


@pytest.mark.parametrize("prompt", ["once upon", ["once upon"]])
def test_a_text_prompt(prompt: Any) -> None:
    request = text(prompt=prompt, max_tokens=3)
    assert request.prompt == "once upon" and request.messages == () and request.max_tokens == 3


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2, 3]]])
def test_a_prompt_of_token_ids(prompt: Any) -> None:
    assert text(prompt=prompt).prompt == (1, 2, 3)


@pytest.mark.parametrize(
    ("prompt", "param"),
    [("", "prompt"), ([], "prompt"), ([""], "prompt[0]"), ([[1], []], "prompt[1]"), (["a"] * 1025, "prompt")],
)
def test_wrong_prompts(prompt: Any, param: str) -> None:
    assert refused(text, prompt=prompt).param == param


def test_a_location_without_type_names() -> None:
    body = {"prompt": [1, -2], "stop": 5}
    assert json_path(("body", "prompt", "list[constrained-int]", 1), body) == "prompt[1]"
    assert json_path(("body", "stop", "str"), body) == "stop"
    assert json_path(("body", "messages"), {}) == "messages"
    assert json_path(("body",), "text") is None
    assert json_path(("query", "limit"), None) == "limit"
