"""grounding.coordinates: an answer's text and calls in pixels of the original, whatever pieces it streams in."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.errors import BadRequest
from engine.grounding.coordinates import CoordinateWriter, check_coordinates, why_not, with_own_coordinates
from engine.grounding.forms import FORMS
from engine.grounding.notation import MOST_HELD, GrowingText, Rewriter
from engine.grounding.place import MediumSize
from engine.types import (
    CoordinatesGiven,
    Delta,
    Done,
    Message,
    Part,
    Request,
    Timing,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from engine.types.media import Media

PICTURE = MediumSize("image", (2000, 500), (1000, 250))
DONE = Done("stop", Usage(1, 1), Timing())


def writer(model_type: str, *media: MediumSize, why: str = "") -> CoordinateWriter:
    return CoordinateWriter(FORMS.get(model_type), lambda: media or (PICTURE,), why)


def streamed(model_type: str, pieces: Iterable[str], *media: MediumSize) -> str:
    pieces = list(pieces)
    write = writer(model_type, *media)
    deltas = [Delta(piece) for piece in pieces[:-1]] + [Delta(pieces[-1], finish_reason="stop")]
    out = [told for delta in deltas for told in write.write(delta)]
    assert isinstance(out[-1], Delta) and out[-1].finish_reason == "stop"
    return "".join(told.text for told in out if isinstance(told, Delta))


WRITTEN = [
    ("qwen3_vl", 'a [{"bbox_2d": [100, 200, 300, 400], "label": "5, 6"}] (1,2)',
     'a [{"bbox_2d": [200, 100, 600, 200], "label": "5, 6"}] (1,2)'),
    ("qwen3_vl", '{"point_2d": [1000, 1000]}', '{"point_2d": [1999, 499]}'),
    ("qwen3_vl", '{"bbox_2d": [-5, 0, 1200, 1000]}', '{"bbox_2d": [0, 0, 2000, 500]}'),
    ("qwen3_vl", '{"bbox_2d": [[1, 2, 3, 4],\n [10,20, 30 ,40]]}', '{"bbox_2d": [[2, 1, 6, 2],\n [20,10, 60 ,20]]}'),
    ("qwen3_vl", '{"bbox_2d": [1, 2, 3]} {"point": [1, 2, 3, 4]} "box": [5', None),
    ("qwen3_vl", '"bbox_2d is [100, 200, 300, 400]" and "box": none', None),
    ("qwen2_5_vl", '{"bbox_2d": [10, 20, 30, 40]}', '{"bbox_2d": [20, 40, 60, 80]}'),
    ("gemma4", '{"box_2d": [200, 100, 400, 300]}', '{"box_2d": [100, 200, 200, 600]}'),
    ("qwen2_vl", "the dog(100,200),(300, 400) (5,6) (7", "the dog(200,100),(600, 200) (5,6) (7"),
    ("paligemma", "<loc0512><loc0256><loc1024><loc0000> cat <loc0001>",
     "<loc0250><loc0500><loc0500><loc0000> cat <loc0001>"),
    ("deepseek_vl_v2", "cat[[0, 999, 333, 666], [999, 0, 0, 0]] [[a, 1]] [link]",
     "cat[[0, 500, 667, 333], [2000, 0, 0, 0]] [[a, 1]] [link]"),
    ("glm4v", '{"bbox_2d": [100, 200, 300, 400]}<|begin|>[[100, 200, 300, 400]]',
     '{"bbox_2d": [200, 100, 600, 200]}<|begin|>[[200, 100, 600, 200]]'),
    ("molmo", 'At <points x1="1.5" y1="20" x2="100" y2=" 0.2" alt="cats 3">cats</points> < 5',
     'At <points x1="30" y1="100" x2="1999" y2="1" alt="cats 3">cats</points> < 5'),
]  # fmt: skip
"""Of a picture of 2000 x 500, seen at half its size: by hand. None: nothing changes."""


@pytest.mark.parametrize(("model_type", "text", "expected"), WRITTEN)
def test_each_way_of_writing_in_pieces_of_any_size(model_type: str, text: str, expected: str | None) -> None:
    rng = random.Random(text)
    assert streamed(model_type, [text]) == (expected or text)
    assert streamed(model_type, text) == (expected or text), "letter by letter"
    for _ in range(50):
        cuts = sorted(rng.randint(0, len(text)) for _ in range(rng.randint(1, 6)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert streamed(model_type, pieces) == (expected or text)


def test_sabotage_pieces_that_are_changed_one_by_one_would_be_wrong() -> None:
    """Twin: without holding back, a number that is cut in two stays as it was."""
    text = WRITTEN[0][1]
    alone = "".join(streamed("qwen3_vl", [piece]) for piece in (text[:20], text[20:]))
    assert alone == text != streamed("qwen3_vl", [text[:20], text[20:]])


def test_words_go_on_at_once_and_only_coordinates_wait() -> None:
    write = writer("qwen3_vl")

    def shown(text: str) -> str:
        return "".join(told.text for told in write.write(Delta(text)) if isinstance(told, Delta))

    assert shown("The red circle is here: ") == "The red circle is here: "
    assert shown('{"label": "red", "b') == '{"label": "red", '
    assert shown('ox": [1') == ""
    assert shown("00, 200, 3") == ""
    assert shown("00, 400], ") == '"box": [200, 100, 600, 200], '
    assert shown('"bird",') == '"bird",'


def test_a_list_without_an_end_is_not_held_back_for_ever() -> None:
    text = '{"bbox_2d": [' + "[1, 2, 3, 4], " * (MOST_HELD // 10)
    write = writer("qwen3_vl")
    out = [told for at in range(0, len(text), 500) for told in write.write(Delta(text[at : at + 500]))]
    assert "".join(told.text for told in out if isinstance(told, Delta)) == text
    (done,) = write.write(DONE)
    assert isinstance(done, Done) and done.coordinates is not None
    assert done.coordinates.given_in == "original" and "longer than" in done.coordinates.why


def test_thoughts_tokens_and_choices_are_kept_apart() -> None:
    write = writer("qwen3_vl")
    thought = Delta('{"box": [100, 200, 300, 400]}', channel="reasoning")
    assert list(write.write(thought)) == [thought], "what it thought is not its answer"
    first = list(write.write(Delta('{"point": [100, ', index=0)))
    second = list(write.write(Delta("b: plain", index=1)))
    rest = list(write.write(Delta("100]", index=0, finish_reason="length")))
    assert [[told.text for told in each if isinstance(told, Delta)] for each in (first, second, rest)] == [
        ["{"], ["b: plain"], ['"point": [200, 50]'],
    ]  # fmt: skip


def calls(model_type: str, *deltas: Delta) -> tuple[list[ToolCallDelta], str, CoordinatesGiven | None]:
    write = writer(model_type)
    out = [told for delta in (*deltas, DONE) for told in write.write(delta)]
    text = "".join(told.text for told in out if isinstance(told, Delta))
    done = out[-1]
    assert isinstance(done, Done)
    return [told.tool_call for told in out if isinstance(told, Delta) and told.tool_call], text, done.coordinates


def call(text: str, index: int = 0, id: str = "", last: bool = False) -> Delta:
    piece = ToolCallDelta(index, id, "click" if id else "", text)
    return Delta("", channel="tool", tool_call=piece, finish_reason="tool_calls" if last else None)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"action": "left_click", "coordinate": [500, 500]}, {"action": "left_click", "coordinate": [1000, 250]}),
        ({"x": 100, "y": 200, "clicks": 2}, {"x": 200, "y": 100, "clicks": 2}),
        ({"start_x": 0, "start_y": 0, "end_x": 1000.0, "end_y": 999}, {"start_x": 0, "start_y": 0, "end_x": 1999,
                                                                       "end_y": 499}),
        ({"at": {"x1": "10", "y1": "20"}}, {"at": {"x1": "20", "y1": "10"}}),
        ({"start_box": "(100,200)", "boxes": [{"bbox_2d": [[1, 2, 3, 4]]}]},
         {"start_box": "(200,100)", "boxes": [{"bbox_2d": [[2, 1, 6, 2]]}]}),
        ({"x": 5, "text": "[1, 2]", "y": None, "point": "near 3", "box": True}, None),
    ],
)  # fmt: skip
def test_the_arguments_of_a_call(arguments: dict[str, Any], expected: dict[str, Any] | None) -> None:
    text = json.dumps(arguments)
    (told,), _, given = calls("qwen3_vl", call(text[:5], id="a"), call(text[5:9]), call(text[9:], last=True))
    assert (told.id, told.name, json.loads(told.arguments)) == ("a", "click", expected or arguments)
    assert given == CoordinatesGiven("original")


def test_names_say_the_order_where_no_notation_does() -> None:
    text = json.dumps({"coordinate": [100, 200], "box_2d": [200, 100, 400, 300]})
    (told,), _, _ = calls("gemma4", call(text, id="a", last=True))
    assert json.loads(told.arguments) == {"coordinate": [200, 100], "box_2d": [100, 200, 200, 600]}


def test_text_and_several_calls_stay_in_order() -> None:
    told, text, _ = calls(
        "qwen3_vl",
        Delta('Look: "box'),
        call('{"coordinate": [500, ', id="a"),
        Delta(""),
        call("0]}"),
        call('{"x": 1, "y": 2}', 1, id="b"),
        Delta('!"point": [0, 1000]', finish_reason="stop"),
    )
    assert [(one.index, one.id, one.arguments) for one in told] == [
        (0, "a", '{"coordinate": [1000, 0]}'), (1, "b", '{"x": 2, "y": 1}'),
    ]  # fmt: skip
    assert text == 'Look: "box!"point": [0, 499]'


def test_arguments_that_are_no_json_are_told() -> None:
    (told,), _, given = calls("qwen3_vl", call('{"x": 1, "y"', id="a", last=True))
    assert told.arguments == '{"x": 1, "y"'
    assert given is not None and "no JSON" in given.why


@pytest.mark.parametrize("depth", [400, 900, 5000])
def test_arguments_that_are_too_deep_stay_as_they_are(depth: int) -> None:
    text = '{"a":' * depth + "1" + "}" * depth
    (told,), _, given = calls("qwen3_vl", call(text, id="a", last=True))
    assert told.arguments == text and given is not None and "no JSON" in given.why


ASKED = Request(messages=(Message("user", (Part("image", url="data:"),)),), coordinates="original")


@pytest.mark.parametrize(
    ("request_", "model_type", "why"),
    [
        (ASKED, "qwen3_vl", ""),
        (ASKED, "llava", "what coordinates of llava count is not known"),
        (replace(ASKED, logprobs=0), "qwen3_vl", "log-probabilities"),
        (Request(messages=(Message("user", ()),), coordinates="original"), "llava", "no picture or clip"),
    ],
)
def test_what_cannot_be_done_is_said(request_: Request, model_type: str, why: str) -> None:
    told = why_not(request_, model_type)
    assert why in told and bool(why) == bool(told)
    if why and request_.media_parts:
        with pytest.raises(BadRequest, match=f"^coordinates: .*{why}") as caught:
            check_coordinates(request_, model_type)
        assert caught.value.param == "coordinates"
    else:
        check_coordinates(request_, model_type)
    check_coordinates(replace(request_, coordinates=None), model_type)


@pytest.mark.parametrize(
    ("media", "why"),
    [((MediumSize("image", (10, 10)),), "size that the model saw"), ((MediumSize("audio", (0, 0)),), "no picture")],
)
def test_an_answer_that_stays_says_why(media: tuple[MediumSize, ...], why: str) -> None:
    write, text = writer("qwen2_5_vl", *media), '{"point": [1, 2]}'
    assert list(write.write(Delta(text))) == [Delta(text)]
    (done,) = write.write(DONE)
    assert isinstance(done, Done) and done.coordinates is not None
    assert done.coordinates.given_in == "model" and why in done.coordinates.why


def medium(width: int, height: int) -> Media:
    return Media("image", np.zeros((1, 1, 3), np.uint8), "", 1, (width, height))


def test_earlier_answers_are_what_the_model_wrote() -> None:
    """Each by the last picture before it; and back again they are the same."""
    picture, said = Part("image", url="data:"), '{"point_2d": [777, 333]}'

    def answer(width: int, height: int) -> Message:
        text = streamed("qwen3_vl", [said], MediumSize("image", (width, height)))
        click = ToolCall("a", "click", json.dumps({"coordinate": [round(0.777 * width), round(0.333 * height)]}))
        return Message("assistant", (Part("text", text=text),), (click,))

    request = Request(
        messages=(
            Message("assistant", (Part("text", text=said),)),
            Message("user", (picture,)),
            answer(4000, 3000),
            Message("user", (picture, Part("text", text=said))),
            answer(1500, 2200),
        ),
        coordinates="original",
    )
    mapped = with_own_coordinates(request, (medium(4000, 3000), medium(1500, 2200)), "qwen3_vl")
    assert [message.parts[-1].text for message in mapped.messages] == [said, "", said, said, said]
    assert [json.loads(message.tool_calls[0].arguments) for message in mapped.messages if message.tool_calls] == [
        {"coordinate": [777, 333]}
    ] * 2
    assert with_own_coordinates(request, (medium(4000, 3000), medium(1500, 2200)), "qwen2_5_vl") is request


HOSTILE = [
    ("qwen3_vl", '{"bbox_2d": [1, 2, 3, 4], "label": "a"}, ', ""),
    ("qwen3_vl", '"box":[', ""),
    ("qwen3_vl", "[1,2,3,4],", '"box":['),
    ("qwen3_vl", " ", '"box"'),
    ("qwen2_vl", "(", ""),
    ("qwen2_vl", "(1,2),", ""),
    ("qwen2_vl", "(1,2),(3,4)", ""),
    ("qwen2_vl", " ", "("),
    ("qwen2_vl", "( 1", ""),
    ("glm4v", "[[1,2,3,4]] ", ""),
    ("glm4v", "[[1,2,3,4],", ""),
    ("glm4v", "[1,2,3,4],", "["),
    ("glm4v", '"box":[[1,2,3,4]', ""),
    ("glm4v", "[ ", ""),
    ("glm4v", " ", "[[1,2,3]"),
    ("paligemma", "<loc0001>", ""),
    ("paligemma", "<", ""),
    ("molmo", '<point x="1" y="2">a</point> ', ""),
    ("molmo", "<point ", ""),
    ("molmo", "x1", "<point "),
    ("molmo", "x ", "<points "),
]
"""What is repeated, and what stands before it."""


@pytest.mark.parametrize("end", ["", "x"])
@pytest.mark.parametrize(("model_type", "again", "before"), HOSTILE)
def test_a_text_four_times_as_long_takes_no_sixteen_times_as_long(
    model_type: str, again: str, before: str, end: str
) -> None:
    rewriter = Rewriter(FORMS[model_type], lambda number, axis, *, is_point: 2 * number)

    def grow(text: str) -> None:
        growing = GrowingText(rewriter)
        growing.add(text)
        growing.end()

    short, long = ((before + again * (num // len(again)))[:num] + end for num in (3_000, 12_000))
    for change in (rewriter.whole, grow):
        assert took_s(change, long) < 8 * took_s(change, short) + 2e-3, change


def took_s(work: Callable[[str], object], text: str) -> float:
    """Of this process, at best."""
    times = []
    for _ in range(2):
        began_s = time.process_time()
        work(text)
        times.append(time.process_time() - began_s)
    return min(times)
