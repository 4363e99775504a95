"""workbench.header: a snapshot in words."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from engine.types import DeviceInfo, ModelCard, ModelState, Running, Snapshot
from workbench import header, words
from workbench.models import listing

DEVICE = DeviceInfo("macOS 26.1", "Apple M4 Max", "Metal GPU", 64 * 2**30, 16, "Accelerate", "0.32.4")
CARD = ModelCard("demo", "/models/demo", "qwen3_vl", "float32", 2_280_000, 9_120_000, 4096, vision=True, video=True)
READY = Snapshot("ready", DEVICE, (CARD,), active_bytes=3 * 2**30, cache_bytes=2**30, process_bytes=2**29)
status = partial(header.status, manages=True)


def test_a_ready_engine():
    words = status(READY)
    assert words["model"] == "demo"
    assert words["takes"] == ["image", "video"]
    assert words["toy"] == ""
    assert words["device"] == "Apple M4 Max · Metal GPU"
    assert words["memory"] == "4.0 GB of 64 GB"
    assert words["running"] == "0 running"
    assert "2.28 M parameters" in words["about"]
    assert "pictures, clips" in words["about"]


def test_a_long_name_is_told_whole():
    card = replace(CARD, id="mlx-community/Qwen3-VL-4B-Instruct-4bit")
    assert status(replace(READY, models=(card,)))["model"] == card.id


def test_a_model_that_nobody_has_asked_yet_has_its_name():
    state = ModelState("small", "org/small", is_default=True)
    words = status(replace(READY, models=(), states=(state, ModelState("other", "org/other"))))
    assert words["model"] == "small" and words["takes"] is None
    assert words["about"] == "It is loaded by the first message."
    failed = replace(state, stage="failed", error="There is no such model.")
    assert status(replace(READY, models=(), states=(failed,)))["about"] == "There is no such model."


def test_a_visitor_is_not_told_why_a_model_could_not_be_loaded():
    """The reason may name a folder of this machine, be it of the default model or of the engine that did not start."""
    why = "/home/somebody/models/mine has no config.json."
    state = ModelState("mine", "/home/somebody/models/mine", is_default=True, stage="failed", error=why)
    for snapshot in (replace(READY, models=(), states=(state,)), Snapshot("failed", DEVICE, error=why)):
        told = header.status(snapshot, manages=False)
        assert told["about"] == "It could not be loaded." and "/home/somebody" not in str(told)
        assert header.status(snapshot, manages=True)["about"] == why


def test_a_model_that_has_left_memory_is_still_the_one():
    state = ModelState(CARD.id, "demo", is_default=True, card=CARD)
    other = replace(CARD, id="other")
    words = status(replace(READY, models=(other,), states=(state, ModelState("other", "org/other", card=other))))
    assert words["model"] == CARD.id


def test_what_another_model_describes_may_be_sent():
    blind = replace(CARD, id="words", vision=False, video=False, described_by="d")
    eyes = ModelState("demo", "demo", aliases=("d",))
    known = replace(READY, models=(blind,), states=(ModelState("words", "org/words", is_default=True), eyes))
    assert listing.takes(blind, known.states) == ["image"], "whether it takes clips is known once it was loaded"
    loaded = replace(known, states=(known.states[0], replace(eyes, card=CARD)))
    words = status(loaded)
    assert words["takes"] == ["image", "video"] and "takes text, pictures, clips (described by d)" in words["about"]
    assert listing.takes(replace(blind, described_by=""), loaded.states) == []


def test_a_toy_is_said_to_be_one():
    assert status(replace(READY, models=(replace(CARD, toy="It knows shapes."),)))["toy"] == "It knows shapes."


def test_running_requests_are_counted():
    row = Running("a", "decode", 10, 10, 3, 50.0, "api")
    assert status(replace(READY, running=(row, replace(row, id="b"))))["running"] == "2 running"


@pytest.mark.parametrize(
    ("state", "words"),
    [("loading", "Loading the model…"), ("starting", "Loading the model…"), ("failed", "Model failed to load")],
)
def test_states_without_a_model(state, words):
    snapshot = Snapshot(state, DEVICE, error="no such folder")
    assert status(snapshot)["model"] == words
    assert status(snapshot)["about"] == "no such folder"
    assert status(snapshot)["takes"] is None


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (2048, "2 KB"), (9_120_000, "9 MB"), (1.9 * 2**30, "1.9 GB"), (64 * 2**30, "64 GB")],
)
def test_size(num_bytes, text):
    assert words.size(num_bytes) == text
