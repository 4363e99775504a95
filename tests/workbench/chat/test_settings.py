"""workbench.chat.settings: text fields -> ChatSettings."""

from __future__ import annotations

import pytest

from engine.errors import BadRequest
from engine.types import FrameSampling, Sampling
from workbench.chat.convert import ChatSettings
from workbench.chat.settings import FIELDS, settings


def test_empty_fields_choose_nothing():
    assert settings(dict.fromkeys(FIELDS, "")) == settings(dict.fromkeys(FIELDS)) == settings({}) == ChatSettings()


def test_every_field_reaches_its_place():
    numbers = {
        "temperature": "0",
        "max_tokens": " 64 ",
        "top_p": "0,9",
        "top_k": "40",
        "min_p": ".05",
        "seed": "7",
        "fps": "1.5",
        "max_frames": "8",
    }
    assert set(numbers) == set(FIELDS)
    assert settings(numbers, "Be brief.") == ChatSettings(
        system="Be brief.",
        sampling=Sampling(temperature=0.0, top_p=0.9, top_k=40, min_p=0.05, seed=7),
        max_tokens=64,
        frames=FrameSampling(fps=1.5, max_frames=8),
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("temperature", "hot"),
        ("temperature", "-1"),
        ("temperature", "nan"),
        ("temperature", "inf"),
        ("seed", "1.5"),
        ("max_tokens", "0"),
        ("top_p", "0"),
        ("top_p", "1.01"),
        ("min_p", "2"),
        ("fps", "0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name, text):
    with pytest.raises(BadRequest) as error:
        settings({name: text})
    assert FIELDS[name].label in error.value.message
    assert text in error.value.message


@pytest.mark.parametrize(("name", "text"), [("temperature", "0"), ("top_p", "1"), ("top_k", "0"), ("min_p", "0")])
def test_the_ends_of_the_ranges_are_in(name, text):
    assert settings({name: text}) == ChatSettings(sampling=Sampling(**{name: float(text)}))
