"""/v1/decisions through the real OpenAI client, /v1/systemone over plain HTTP, both on the demo model: right answers
about a drawing, true usage, and errors that name the field."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types import Decision
from PIL import Image, ImageDraw

from engine.api.decisions.items import read_input
from engine.config import MediaLimits
from engine.errors import BadRequest
from tests.pictures import data_url, encode


@pytest.fixture(autouse=True)
def the_server_goes_on(http: httpx.Client) -> Iterator[None]:
    yield
    assert http.get("/health").json()["running"] == 0


def drawing() -> Image.Image:
    """A small red circle at the top left and a blue square at the bottom right."""
    image = Image.new("RGB", (256, 256), "#fafafa")
    draw = ImageDraw.Draw(image)
    draw.ellipse((30, 30, 90, 90), fill="red")
    draw.rectangle((160, 150, 230, 220), fill="blue")
    return image


PICTURE: Any = {"type": "input_image", "image_url": data_url(encode(drawing()))}
SEEN: Any = [{"role": "user", "content": [PICTURE]}]


def user(*parts: Any) -> Any:
    return [{"role": "user", "content": list(parts)}]


def output(kind: str, field: str) -> dict[str, str]:
    return {"type": kind, field: "Some words."}


def choice(instructions: str, *values: str | bool, **more: Any) -> dict[str, Any]:
    return {
        "type": "choice",
        "instructions": instructions,
        "choices": [{"value": value} for value in values],
        **more,
    }


def predicate(instructions: Any, **more: Any) -> dict[str, Any]:
    return {"type": "predicate", "instructions": instructions, **more}


def score(instructions: str, *labels: str, **more: Any) -> dict[str, Any]:
    return {"type": "score", "instructions": instructions, "levels": [{"label": label} for label in labels], **more}


def decide(client: openai.OpenAI, *questions: Any, about: Any = SEEN, **more: Any) -> Decision:
    return client.decisions.create(model="default", input=about, questions=questions, **more)


def test_the_demo_model_answers_right_with_every_kind_of_question(client: openai.OpenAI) -> None:
    decided = decide(
        client,
        choice("What color is the circle?", "red", "green", "blue", "yellow", name="color"),
        choice("Where is the square?", "top left", "top right", "bottom left", "bottom right", "center"),
        predicate("Is there a red circle?", name="circle"),
        predicate("Is there a green triangle?"),
        score("How many shapes are there?", "none", "one", "two", "three"),
        choice("Is the square blue?", True, False, "maybe"),
    )
    color, where, there, not_there, count, blue = decided.answers
    assert (color.type, color.name, color.choice) == ("choice", "color", "red") and color.confidence > 0.9
    assert where.choice == "bottom right" and where.name is None
    assert there.type == "predicate" and there.probability > 0.9
    assert not_there.probability < 0.1
    assert count.type == "score" and count.score == pytest.approx(2, abs=0.3) and count.confidence > 0.5
    assert [(p.label, p.value) for p in count.probabilities] == [("none", 0), ("one", 1), ("two", 2), ("three", 3)]
    assert [p.value for p in blue.probabilities] == [True, False, "maybe"]
    assert decided.model == "demo"
    for answer in (color, where, count, blue):
        assert sum(p.probability for p in answer.probabilities) == pytest.approx(1.0)


def test_usage_counts_what_is_shared_once(client: openai.OpenAI) -> None:
    about = [{"role": "user", "content": [*SEEN[0]["content"], {"type": "input_text", "text": "Look. " * 40}]}]
    one, two = predicate("Is there a circle?"), choice("What color is it?", "red", "blue")
    key = {"prompt_cache_key": "usage"}
    first = decide(client, one, about=about, **key).usage
    both = decide(client, one, two, about=about, **key).usage
    again = decide(client, one, two, one, one, about=about, **key).usage
    assert first.input_tokens_details.cached_tokens == 0 and first.output_tokens == 0
    shared = first.input_tokens_details.cache_write_tokens
    assert both.input_tokens_details.cached_tokens == shared - 1, "all but the token that must be computed"
    assert shared < first.input_tokens < both.input_tokens < shared + 60
    asked = first.input_tokens - shared
    assert again.input_tokens == both.input_tokens + 2 * asked
    assert again.total_tokens == again.input_tokens
    other_key = decide(client, one, about=about, prompt_cache_key="other").usage
    assert other_key.input_tokens_details.cached_tokens == 0
    cold = decide(client, one, about=about, **key, prompt_cache_options={"mode": "explicit", "ttl": "30m"}).usage
    assert (cold.input_tokens_details.cached_tokens, cold.input_tokens_details.cache_write_tokens) == (0, 0)
    marked = [{**about[0], "content": [{**about[0]["content"][0], "prompt_cache_breakpoint": {"mode": "explicit"}}]}]
    decide(client, one, about=marked, **key)
    options = {"mode": "explicit", "ttl": "30m"}
    warm = decide(client, one, about=marked, **key, prompt_cache_options=options).usage
    assert warm.input_tokens_details.cached_tokens > 0


def test_the_order_of_values_and_of_questions_changes_nothing(client: openai.OpenAI) -> None:
    values = ("red", "green", "blue", "yellow")
    one, other = choice("What color is the circle?", *values), choice("What color is the circle?", *values[::-1])
    answers = decide(client, one, predicate("Is it red?"), other).answers
    by_value = [{p.value: p.probability for p in answer.probabilities} for answer in (answers[0], answers[2])]
    assert by_value[0] == by_value[1]


@pytest.mark.parametrize(
    "about",
    [
        "The sky is blue.",
        [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Who are you?"}],
        [
            {"type": "message", "role": "user", "content": [{"type": "input_json", "data": {"ticket": [1, None]}}]},
            {"role": "assistant", "content": [output("output_text", "text"), output("refusal", "refusal")]},
        ],
        [
            {"type": "function_call", "call_id": "a", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": [output("input_text", "text"), PICTURE]},
            {"type": "custom_tool_call", "call_id": "b", "name": "ask", "input": "What?"},
            {"type": "custom_tool_call_output", "call_id": "b", "output": "Nothing."},
        ],
    ],
)  # fmt: skip
def test_every_form_of_input_is_read(client: openai.OpenAI, about: Any) -> None:
    (answer,) = decide(client, predicate("Is it?"), about=about).answers
    assert answer.type == "predicate" and 0 < answer.probability < 1


def test_a_clip_and_a_picture_of_a_question(client: openai.OpenAI, clip_path: Any) -> None:
    clip = {"type": "video_url", "video_url": {"url": data_url(clip_path.read_bytes(), "video/mp4")}}
    about = [{"role": "user", "content": [clip]}]
    decided = decide(client, choice("What shape is it?", "circle", "square"), predicate("Does it move?"), about=about)
    assert len(decided.answers) == 2 and decided.usage.model_extra["media"][0]["kind"] == "video"
    own = [PICTURE, {"type": "input_text", "text": "What color is the circle?"}]
    asked = {**choice("", "red", "blue", "green"), "instructions": own}
    (answer,) = decide(client, asked, about="Look.").answers
    assert answer.choice == "red"


def test_text_alone_makes_no_control_token(client: openai.OpenAI) -> None:
    """A question that spells the end of a turn is asked like any other."""
    plain, spelled = (
        decide(client, predicate(f"Is it {x}?"), about="Hi.").usage.input_tokens for x in ("a", "<|im_end|>")
    )
    assert spelled > plain + 3


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "input", "required"),
        ({"input": ""}, "input", "must not be empty"),
        ({"input": []}, "input", "at least one item"),
        ({"input": 4}, "input", "got 4"),
        ({"input": "x", "questions": []}, "questions", "at least 1"),
        ({"input": "x", "questions": [predicate("a")] * 401}, "questions", "at most 400"),
        ({"input": "x", "questions": [{"type": "guess"}]}, "questions[0]", "'predicate', 'choice', 'score'"),
        ({"input": "x", "questions": [{"instructions": "a"}]}, "questions[0]", "discriminator"),
        ({"input": "x", "questions": [{"type": "choice", "instructions": "a"}]}, "questions[0].choices", "required"),
        ({"input": "x", "questions": [choice("a", "b")]}, "questions[0].choices", "at least 2"),
        ({"input": "x", "questions": [choice("a", *map(str, range(256)))]}, "questions[0].choices", "at most 255"),
        ({"input": "x", "questions": [choice("a", "b", "b")]}, "questions[0].choices[1].value", "unique"),
        ({"input": "x", "questions": [score("a", "b")]}, "questions[0].levels", "at least 2"),
        ({"input": "x", "questions": [choice("a", "b", 4)]}, "questions[0].choices[1].value", "got 4"),  # type: ignore[arg-type]
        ({"input": "x", "questions": [predicate(" ")]}, "questions[0].instructions", "must not be empty"),
        ({"input": "x", "questions": [predicate("a", weight=2)]}, "questions[0].weight", "not permitted"),
        ({"input": "x", "questions": [predicate("a", name="n" * 513)]}, "questions[0].name", "at most 512"),
        ({"input": "x", "questions": [predicate([{}])]}, "questions[0].instructions[0].type", "input_text"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", "one of user, developer"),
        ({"input": [{"type": "reasoning"}]}, "input[0].type", "one of message, function_call"),
        ({"input": [{"type": "function_call_output", "call_id": "a", "output": "x"}]}, "input[0].call_id", "no call"),
        ({"input": user({"type": "input_image", "file_id": "f"})}, "input[0].content[0].file_id", "image_url"),
        ({"input": user({"type": "input_json", "data": [1]})}, "input[0].content[0].data", "array of objects"),
        ({"input": "x", "prompt_cache_key": ""}, "prompt_cache_key", "must not be empty"),
        ({"input": "x", "prompt_cache_options": {"ttl": "1h"}}, "prompt_cache_options.ttl", "'30m'"),
        ({"input": "x", "model": "gpt-6-luna"}, "model", "not loaded"),
    ],
)  # fmt: skip
def test_an_error_names_the_field_and_the_limit(http: httpx.Client, body: Any, param: str, words: str) -> None:
    response = http.post("/v1/decisions", json={"questions": [predicate("a?")], **body})
    error = response.json()["error"]
    assert response.status_code in (400, 404), response.text
    assert error["param"] == param and words in error["message"], error


def test_json_has_limits() -> None:
    def read(data: Any) -> None:
        read_input([{"role": "user", "content": [{"type": "input_json", "data": data}]}], MediaLimits())

    deep: Any = {}
    for _ in range(31):
        deep = {"a": deep}
    read(deep)
    for data, words in (
        ({"a": deep}, "33 levels; at most 32"),
        ({"a": [0] * 10_000}, "10,002 values; at most 10,000"),
        ({"a": "x" * 256 * 1024}, "bytes; at most 262,144"),
    ):
        with pytest.raises(BadRequest, match=words):
            read(data)


def test_a_field_nobody_knows_is_named(http: httpx.Client) -> None:
    response = http.post("/v1/decisions", json={"input": "x", "questions": [predicate("a?")], "mood": "good"})
    assert response.headers["x-ignored-fields"] == "mood"


# -- systemone ---------------------------------------------------------------------------------------------------------

PNG = base64.b64encode(encode(drawing())).decode()
ASKED = {
    "color": {"type": "choice", "instructions": "What color is the circle?", "criteria": {"red": None, "blue": None}},
    "there": {"type": "noul", "instructions": "Is there a red circle?"},
    "count": {"type": "score", "instructions": "How many shapes are there?", "criteria": ["none", "one", "two"]},
}


def systemone(http: httpx.Client, **body: Any) -> httpx.Response:
    given = {
        "state": "IMG",
        "questions": ASKED,
        "assets": {"IMG": {"type": "image", "format": "png", "data_base64": PNG}},
    }
    return http.post("/v1/systemone", json={"model": "default", **given, **body})


def test_systemone_answers_as_transformers_does(http: httpx.Client) -> None:
    """The answers' shape and numbers are those of transformers' own Question.answer for these probabilities."""
    from transformers.decision import DecisionConfig
    from transformers.decision.template_utils import parse_questions

    answered = systemone(http).json()
    assert set(answered) == {"model", "answers", "usage"} and answered["model"] == "default"
    assert answered["usage"]["output_tokens"] == 0 < answered["usage"]["input_tokens"]
    answers = answered["answers"]
    assert answers["color"]["choice"] == "red" and answers["there"]["noul"] > 0.9
    assert answers["count"]["score"] == pytest.approx(2, abs=0.3)
    for question in parse_questions(ASKED, DecisionConfig()):
        ours = answers[question.name]
        ps = [ours["noul"], 1 - ours["noul"]] if question.type == "noul" else list(ours["probabilities"].values())
        expected = question.answer(ps)
        assert set(expected) == set(ours)
        for name, value in expected.items():
            is_number = isinstance(value, float)
            assert ours[name] == (pytest.approx(value) if is_number or name == "probabilities" else value)


def test_both_protocols_give_the_same_numbers(http: httpx.Client, client: openai.OpenAI) -> None:
    (color,) = decide(client, choice("What color is the circle?", "red", "blue")).answers
    ours = systemone(http).json()["answers"]["color"]["probabilities"]
    assert {p.value: p.probability for p in color.probabilities} == pytest.approx(ours, abs=1e-4)


def test_a_state_is_any_json_and_pictures_stand_where_they_are_named(http: httpx.Client) -> None:
    asked = {"like": {"type": "noul", "instructions": "Is IMG red?", "criteria": {"true": "as OTHER", "false": None}}}
    picture = {"type": "image", "data_base64": PNG}
    answered = systemone(http, state={"a": [1, None, "é"]}, questions=asked, assets={"IMG": picture, "OTHER": picture})
    assert answered.status_code == 200, answered.text
    assert 0 < answered.json()["answers"]["like"]["noul"] < 1


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"questions": {}}, "questions", "at least 1"),
        ({"questions": {str(i): ASKED["there"] for i in range(65)}}, "questions", "at most 64"),
        ({"questions": {"a": {"type": "choice", "criteria": {}}}}, "questions.a.criteria", "at least 1"),
        ({"questions": {"a": {"type": "what"}}}, "questions.a", "'noul', 'choice', 'score'"),
        ({"assets": {"NOT": {"data_base64": PNG}}}, "assets.NOT", "holds this placeholder"),
        ({"assets": {str(i): {"data_base64": PNG} for i in range(5)}}, "assets", "at most 4"),
        ({"assets": {"IMG": {"data_base64": "AAAA"}}}, "assets.IMG", "not a picture"),
        ({"mood": 1}, "mood", "not permitted"),
    ],
)
def test_systemone_names_the_field(http: httpx.Client, body: Any, param: str, words: str) -> None:
    response = systemone(http, **body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param and words in response.json()["error"]["message"]
