"""grounding.place: coordinates land on the medium as it came, whatever the model saw of it.

The numbers that a model would write are computed here from where a shape is drawn, by the geometry of each family's
way of writing; the reader must give the shape's pixels back within one pixel, and half a step where a step is larger.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from engine.grounding.forms import FORMS, Form
from engine.grounding.place import RegionReader, place, with_regions
from engine.grounding.read import Mark, read_marks
from engine.types import Delta, Done, MediaReceipt, Timing, Usage

PICTURE = MediaReceipt("image", 1, (640, 480), (320, 256), 1, "ab")
CLIP = replace(PICTURE, kind="video", frames=((0, 0.0), (12, 0.5), (24, 1.0)))
QWEN = FORMS["qwen3_vl"]


def written(form: Form, receipt: MediaReceipt, box: tuple[float, ...]) -> list[float]:
    """What a model that sees perfectly writes for a box in the picture's own pixels."""
    (width, height), seen = receipt.decoded_px, receipt.seen_px
    x_unit, y_unit = (form.steps, form.steps) if form.steps else seen
    numbers = [box[0] / width * x_unit, box[1] / height * y_unit, box[2] / width * x_unit, box[3] / height * y_unit]
    rounded = [round(number, 1) if form.steps == 100 else float(round(number)) for number in numbers]
    return [rounded[i] for i in (1, 0, 3, 2)] if form.y_first else rounded


@pytest.mark.parametrize("model_type", sorted(FORMS))
def test_a_thousand_pictures_of_odd_sizes(model_type: str) -> None:
    form, rng = FORMS[model_type], random.Random(model_type)
    for _ in range(1000):
        width, height = rng.randint(30, 6000), rng.randint(30, 6000)
        seen = (rng.randint(1, 60) * 28, rng.randint(1, 60) * 28)
        receipt = replace(PICTURE, decoded_px=(width, height), seen_px=seen)
        left, right = sorted((rng.uniform(0, width), rng.uniform(0, width)))
        top, bottom = sorted((rng.uniform(0, height), rng.uniform(0, height)))
        numbers = written(form, receipt, (left, top, right, bottom))
        region = place(Mark("box", tuple(numbers)), form, receipt)
        assert region is not None and region.written == tuple(numbers)
        for got, true, side, unit in zip(region.px, (left, top, right, bottom), (width, height) * 2,
                                         (form.steps or seen[0], form.steps or seen[1]) * 2, strict=True):  # fmt: skip
            step = side / unit / (10 if form.steps == 100 else 1)
            assert abs(got - true) <= max(1.0, 0.5 * step + 0.05)


def test_sabotage_sizes_that_are_mixed_up_are_seen() -> None:
    """Twin: mapped by the size that the model saw in place of the picture's, as everybody who hides it must."""
    region = place(Mark("box", (500, 500, 1000, 1000)), QWEN, replace(PICTURE, decoded_px=PICTURE.seen_px))
    assert region is not None and region.px == (160, 128, 320, 256)
    region = place(Mark("box", (500, 500, 1000, 1000)), QWEN, PICTURE)
    assert region is not None and region.px == (320, 240, 640, 480)


def test_y_first_pixels_and_points() -> None:
    def px(model_type: str, mark: Mark) -> tuple[float, ...]:
        region = place(mark, FORMS[model_type], PICTURE)
        assert region is not None
        return region.px

    assert px("gemma4", Mark("box", (0, 500, 500, 1000))) == (320, 0, 640, 240)
    assert px("gemma4", Mark("point", (250, 500))) == (320, 120)
    assert px("qwen2_5_vl", Mark("box", (0, 0, 160, 128))) == (0, 0, 320, 240)
    assert px("molmo", Mark("point", (50, 25))) == (320, 120)
    assert px("qwen3_vl", Mark("box", (1000, 1000, 500, 500))) == (320, 240, 640, 480), "the lower corner came first"


def test_outside_of_the_picture() -> None:
    region = place(Mark("box", (-50, 0, 2000, 1000)), QWEN, PICTURE)
    assert region is not None and region.is_cut and region.px == (0, 0, 640, 480)
    assert region.written == (-50, 0, 2000, 1000), "what the model wrote stays beside"
    region = place(Mark("box", (0, 0, 1001, 1000)), QWEN, PICTURE)
    assert region is not None and not region.is_cut, "less than a pixel"


def test_pixels_of_what_nobody_knows_are_not_guessed() -> None:
    assert place(Mark("point", (1, 1)), FORMS["qwen2_5_vl"], replace(PICTURE, seen_px=(0, 0))) is None


@pytest.mark.parametrize(
    ("mark", "time_s"),
    [
        (Mark("point", (1, 1)), None),
        (Mark("point", (1, 1), time_s=0.6), 0.5),
        (Mark("point", (1, 1), time_s=99.0), 1.0),
        (Mark("point", (1, 1), frame=2), 1.0),
        (Mark("point", (1, 1), frame=3), None),
        (Mark("point", (1, 1), frame=-1), None),
    ],
)
def test_the_time_on_a_clip(mark: Mark, time_s: float | None) -> None:
    region = place(mark, QWEN, CLIP)
    assert region is not None and region.time_s == time_s
    on_picture = place(mark, QWEN, PICTURE)
    assert on_picture is not None and on_picture.time_s is None


def test_which_medium_and_which_choice() -> None:
    sound = replace(PICTURE, kind="audio", decoded_px=(0, 0), seen_px=(0, 0))
    first, last = PICTURE, replace(PICTURE, decoded_px=(100, 100))
    texts = {0: '{"point_2d": [500, 500]}', 1: "none", 2: '{"point_2d": [0, 0], "label": "a"}'}
    media = with_regions((first, last, sound), texts, QWEN)
    assert (media[0].regions, media[2].regions) == ((), ())
    assert [(region.px, region.choice, region.label) for region in media[1].regions] == [
        ((50, 50), 0, ""),
        ((0, 0), 2, "a"),
    ]
    assert with_regions((sound,), texts, QWEN) == (sound,)
    assert with_regions((), texts, QWEN) == ()


def test_an_answer_is_read_as_it_streams() -> None:
    text = "It is " + json.dumps({"bbox_2d": [0, 0, 500, 500], "label": "circle"})
    done = Done("stop", Usage(1, 1), Timing(), media=(PICTURE,))
    reader = RegionReader(QWEN)
    for letter in text:
        delta = Delta(letter)
        assert reader.read(delta) is delta
    thought = Delta('{"point_2d": [1, 1]}', channel="reasoning")
    assert reader.read(thought) is thought, "what it thought is not its answer"
    last = reader.read(done)
    assert isinstance(last, Done) and [region.px for region in last.media[0].regions] == [(0, 0, 320, 240)]
    for without in (RegionReader(None), RegionReader(FORMS["molmo"])):
        without.read(Delta(text))
        last = without.read(done)
        assert isinstance(last, Done) and last.media == (PICTURE,)


def test_marks_and_forms_fit_together() -> None:
    """Each family's own example is read by its own form."""
    assert read_marks('{"bbox_2d": [1, 2, 3, 4]}', FORMS["glm4v"]) and not read_marks("[[1, 2, 3, 4]]", QWEN)
