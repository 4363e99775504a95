"""What the page says of a model that another server answers for. Pure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gradio import EventData

from engine.config import EngineConfig
from engine.inventory.memory_fit import MachineMemory
from engine.types import (
    Done,
    FrameSampling,
    ModelCard,
    ModelState,
    Request,
    Sampling,
    ServedBy,
    Snapshot,
    Timing,
    Usage,
)
from tests.workbench.test_header import DEVICE
from workbench.bench.runs import settings_of, why_unsupported
from workbench.cache.tab import why_nothing
from workbench.chat.convert import note
from workbench.chat.cost import _known_later
from workbench.chat.parts import cost_note
from workbench.chat.settings import FIELDS, SettingsPanel
from workbench.compare.comparison import result
from workbench.conversations.json_forms import done_from_json, done_json
from workbench.conversations.types import Turn
from workbench.header import status
from workbench.models.listing import Here, choice, details, models_json

HOST = "gpu.example.org"
CARD = ModelCard("far", "", "", "", 0, 0, 0, vision=True, server=HOST, takes_known=False)
STATE = ModelState("far", f"http://{HOST}/v1", stage="ready", is_default=True, card=CARD, server=HOST)
AWAY = replace(STATE, stage="failed", error=f"{HOST} cannot be reached: connection refused.")
DONE = Done("stop", Usage(28, 7, 20), Timing(ttft_ms=50, total_ms=90), served_by=ServedBy(HOST, "org/m"))


def test_what_it_is_told_of_an_answer() -> None:
    assert note(DONE).startswith(f"served by {HOST} · 28 tokens in (20 cached there) · 7 out · first token 50 ms")
    silent = replace(DONE, usage=Usage(0, 0), served_by=ServedBy(HOST, "m", tells_usage=False, num_media=1))
    assert note(silent) == (
        f"served by {HOST} · it does not tell its tokens · first token 50 ms · it does not tell what it saw"
    )
    assert note(replace(DONE, served_by=None)).startswith("28 tokens in (20 from cache)")
    told = result(Turn("a", "assistant", state="done", done=silent))
    assert told["prompt_tokens"] is None and told["completion_tokens"] is None and told["is_here"] is False
    assert result(Turn("a", "assistant", state="done", done=DONE))["prompt_tokens"] == 28


def test_a_kept_answer_knows_who_gave_it() -> None:
    assert done_from_json(done_json(DONE)).served_by == DONE.served_by
    assert "served_by" not in done_json(replace(DONE, served_by=None))


def test_a_stopped_answer_whose_tokens_nobody_told() -> None:
    assert cost_note(Turn("a", "assistant", text="Once", state="stopped")) == "stopped"
    assert cost_note(Turn("a", "assistant", state="stopped")) == "stopped before the first token"


def test_the_header_says_whether_it_can_be_reached() -> None:
    there = Snapshot("ready", DEVICE, states=(STATE,))
    assert (status(there, manages=True)["state"], status(there, manages=True)["model"]) == ("ready", "far")
    assert status(there, manages=True)["about"] == f"served by {HOST} · it does not tell which media it takes"
    away = replace(there, states=(AWAY,))
    assert status(away, manages=True)["state"] == "failed"
    assert status(away, manages=True)["about"] == AWAY.error
    assert status(away, manages=False)["about"] == f"{HOST} does not answer"


def test_the_list_offers_no_load_of_it() -> None:
    for state in (STATE, AWAY, replace(STATE, stage="known")):
        here = Here((), (state,), Snapshot("ready", DEVICE, states=(state,)), MachineMemory(2**33, 0.9, 0))
        [row] = models_json(here, manages=True)["models"]
        assert not row["can_load"] and not row["can_unload"] and HOST in row["stage_words"] and row["size"] == ""
        assert choice(state, (state,))["is_here"] is False
    known = replace(CARD, takes_known=True, context_tokens=4096, model_type="qwen3_vl", num_params=2_000_000)
    assert details(known) == (
        f"served by {HOST} · qwen3_vl · 2 M parameters · 4,096 tokens of context · takes text, pictures"
    )


def test_what_cannot_be_told_of_it() -> None:
    assert HOST in _known_later(Request(), CARD) and _known_later(Request(), replace(CARD, server="")) == ""
    assert HOST in why_nothing(Snapshot("ready", DEVICE, states=(STATE,)))


def test_what_a_benchmark_can_ask_of_it() -> None:
    assert [why_unsupported(suite, CARD) for suite in ("text", "image", "decisions", "concurrency")] == [""] * 4
    assert why_unsupported("video", CARD) == f"{HOST} does not say that it takes clips."
    assert why_unsupported("video", replace(CARD, takes_known=True)) == "far takes no clips."
    asked = EventData(None, {"prompts": 1, "max_tokens": 4})
    assert (settings_of(CARD, asked).context, settings_of(CARD, asked).pictures) == (None, False)
    told = settings_of(replace(CARD, context_tokens=4096, takes_known=True), asked)
    assert (told.context, told.pictures) == (4096, True)


def test_an_empty_field_is_up_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    import gradio as gr

    with gr.Blocks():
        panel = SettingsPanel()
    config = EngineConfig(frames=FrameSampling(fps=1.5))
    values = panel.own_values(config, replace(CARD, sampling=Sampling(temperature=0.5)))
    shown = dict(zip(FIELDS, [value.placeholder for value in values], strict=True))
    assert (shown["temperature"], shown["fps"], shown["max_tokens"]) == ("0.5", "1.5", "as the server says")
