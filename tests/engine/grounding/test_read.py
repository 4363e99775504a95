"""grounding.read: the places in what a model wrote, whatever stands around them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from engine.grounding.forms import FORMS, markdown
from engine.grounding.read import MOST_MARKS, Mark, read_marks


def read(model_type: str, text: str) -> list[tuple[str, tuple[float, ...], str]]:
    return [(mark.kind, mark.numbers, mark.label) for mark in read_marks(text, FORMS[model_type])]


FENCED = """Here it is:
```json
[
  {"bbox_2d": [102, 200.5, 310, 405], "label": "red circle"},
  {"point_2d": [5, 7], "label": "a \\"quoted\\" one"}
]
```"""


@pytest.mark.parametrize(
    ("model_type", "text", "expected"),
    [
        ("qwen3_vl", FENCED, [("box", (102, 200.5, 310, 405), "red circle"), ("point", (5, 7), 'a "quoted" one')]),
        ("qwen3_vl", '{"bbox_2d": [1, 2, 3, 4]}', [("box", (1, 2, 3, 4), "")]),
        ("qwen3_vl", '{"bbox_2d": [[1, 2, 3, 4], [5, 6, 7, 8]], "label": "two"}',
         [("box", (1, 2, 3, 4), "two"), ("box", (5, 6, 7, 8), "two")]),
        ("qwen3_vl", 'cut off: [{"bbox_2d": [1, 2, 3, 4], "label": "a"}, {"bbox_2d": [5, 6',
         [("box", (1, 2, 3, 4), "a")]),
        ("qwen3_vl", '[{"point_2d": [400, 200], "label": "red circle"red circle"}]',
         [("point", (400, 200), "red circle")]),
        ("qwen3_vl", '{"label": "a", "bbox_2d": [1, 2, 3, 4]}, {"bbox_2d": [5, 6, 7, 8], "label": "b"',
         [("box", (1, 2, 3, 4), "a"), ("box", (5, 6, 7, 8), "b")]),
        ("qwen2_vl", "the dog(12,30),(400,500) and a cat (1, 2), (3, 4)",
         [("box", (12, 30, 400, 500), "the dog"), ("box", (1, 2, 3, 4), "and a cat")]),
        ("gemma4", '[{"box_2d": [10, 20, 30, 40], "label": "cup"}]', [("box", (10, 20, 30, 40), "cup")]),
        ("paligemma", "<loc0010><loc0020><loc0512><loc1023> cat ; <loc0001><loc0002><loc0003><loc0004> dog",
         [("box", (10, 20, 512, 1023), "cat"), ("box", (1, 2, 3, 4), "dog")]),
        ("deepseek_vl_v2", "The cat[[1, 2, 3, 4], [5, 6, 7, 8]] sleeps.",
         [("box", (1, 2, 3, 4), "The cat"), ("box", (5, 6, 7, 8), "The cat")]),
        ("internvl_chat", "<ref>cat</ref><box>[[10, 20, 30, 40]]</box>", [("box", (10, 20, 30, 40), "")]),
        ("glm4v", "<|begin_of_box|>[[10, 20, 30, 40]]<|end_of_box|>", [("box", (10, 20, 30, 40), "")]),
        # What two notations could read is one place.
        ("glm4v", '{"bbox_2d": [[1, 2, 30, 40]], "label": "cat"}', [("box", (1, 2, 30, 40), "cat")]),
        (
            "glm4v",
            '{"bbox_2d": [[1, 2, 3, 4], [5, 6, 7, 8]], "label": "a"}, b [[9, 9, 10, 10]]',
            [("box", (1, 2, 3, 4), "a"), ("box", (5, 6, 7, 8), "a"), ("box", (9, 9, 10, 10), "b")],
        ),
        ("molmo", 'At <point x="61.5" y="40.6" alt="the dog">dog</point>.', [("point", (61.5, 40.6), "the dog")]),
        ("molmo", '<points x1="1" y1="2" x2="3.5" y2="4" alt="cats">cats</points>',
         [("point", (1, 2), "cats"), ("point", (3.5, 4), "cats")]),
    ],
)  # fmt: skip
def test_each_way_of_writing(model_type: str, text: str, expected: list[tuple[str, tuple[float, ...], str]]) -> None:
    assert read(model_type, text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no place at all (see 3, 4)",
        '{"bbox_2d": [1, 2, 3]}',
        '{"bbox_2d": [1, 2, 3, "4"]}',
        '{"bbox_2d": [1, 2, 3, true]}',
        '{"bbox_2d": [1, 2, 3, NaN]}',
        '{"bbox_2d": [1, 2, 3, Infinity]}',
        '{"bbox_2d": [1, 2, 3, 1e308]}',
        '{"bbox_2d": {"x": 1}}',
        '{"bbox_2d": [01, 2, 3, 4]}',
        '{"bbox_2d": "1, 2, 3, 4"}',
        "{{{{[[[[",
        '<point x="1">half</point>',
        '<point y="1" x="a">words</point>',
        "<loc0001><loc0002><loc0003>",
        "[[1, 2, 3, 4, 5]] [[a, b, c, d]] [[]]",
    ],
)
def test_what_is_no_place_is_left_out(text: str) -> None:
    for form in FORMS.values():
        assert read_marks(text, form) == ()


@pytest.mark.parametrize(
    ("value", "mark"),
    [
        ({"time": 2.5}, Mark("point", (1, 2), time_s=2.5)),
        ({"time": "1:02"}, Mark("point", (1, 2), time_s=62.0)),
        ({"timestamp": "2.5s"}, Mark("point", (1, 2), time_s=2.5)),
        ({"time": "soon"}, Mark("point", (1, 2))),
        ({"time": True}, Mark("point", (1, 2))),
        ({"frame": 3}, Mark("point", (1, 2), frame=3)),
        ({"frame": "3"}, Mark("point", (1, 2))),
    ],
)
def test_the_frame_that_it_names(value: dict[str, object], mark: Mark) -> None:
    text = json.dumps({"point_2d": [1, 2], **value})
    assert read_marks(text, FORMS["qwen3_vl"]) == (mark,)


def test_an_endless_answer_is_bounded() -> None:
    text = '{"point_2d": [1, 2]}' * (MOST_MARKS + 50)
    assert len(read_marks(text, FORMS["qwen3_vl"])) == MOST_MARKS


def test_nothing_that_is_written_breaks_the_reader() -> None:
    """Pieces of every notation in any order, as a model writes that is no longer itself."""
    rng = random.Random(7)
    pieces = ['{"bbox_2d":', "[1, 2, 3, 4]", "}", "[[", "]]", "(1,2),", "(3,4)", "<loc0001>", "<point ", 'x="1" ']
    pieces += ['y="2"', ">", '"', "-", "𝄞", "\n", "\\"]
    for _ in range(300):
        text = "".join(rng.choices(pieces, k=60))
        for form in FORMS.values():
            for mark in read_marks(text, form):
                assert len(mark.numbers) == (4 if mark.kind == "box" else 2)


def test_the_docs_have_every_family() -> None:
    page = (Path(__file__).parents[3] / "assets" / "docs" / "boxes.md").read_text("utf-8")
    assert markdown() in page
