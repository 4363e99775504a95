"""The benchmark on the real demo model: every source gives true counts, and the turns are fair."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engine.bench.peers import load
from engine.bench.run import samples
from engine.bench.sources import EngineSource, HttpSource, Sample
from engine.bench.workloads import Settings, Workload, make
from engine.cli import bench
from engine.errors import BadRequest, Unavailable

SETTINGS = Settings(num_prompts=3, prompt_words=6, output_tokens=8)


class Noted:
    """A source that only notes what it is asked."""

    def __init__(self, name: str, asked: list[tuple[str, str]]) -> None:
        self.name = name
        self._asked = asked

    async def ask(self, workload: Workload) -> Sample:
        self._asked.append((self.name, workload.text.split()[0]))
        return Sample(self.name, 0.1, 0.1, 1, 2, "")

    async def memory_bytes(self) -> int | None:
        return None


async def test_everyone_gets_every_question_and_turns_change() -> None:
    asked: list[tuple[str, str]] = []
    taken = [sample async for sample in samples([Noted("a", asked), Noted("b", asked)], SETTINGS, warm_up=1)]
    assert Counter(sample.source for sample in taken) == {"a": 3, "b": 3}
    warm, counted = asked[:2], asked[2:]
    assert counted == [("a", "0"), ("b", "0"), ("b", "1"), ("a", "1"), ("a", "2"), ("b", "2")]
    assert {text for _, text in warm}.isdisjoint({text for _, text in counted})


@pytest.mark.parametrize("image_px", [None, (64, 48)])
async def test_engine_and_http_see_the_same(demo_server: Any, image_px: tuple[int, int] | None) -> None:
    (workload,) = make(Settings(1, 6, 8, image_px))
    direct = await EngineSource(demo_server.engine).ask(workload)
    for url in (demo_server.url, f"{demo_server.url}/v1/"):
        over_http = await HttpSource(url).ask(workload)
        assert (over_http.prompt_tokens, over_http.completion_tokens) == (
            direct.prompt_tokens,
            direct.completion_tokens,
        )
        assert over_http.text_sha256 == direct.text_sha256
    assert direct.prompt_tokens > 6 and 1 <= direct.completion_tokens <= 8
    assert direct.ttft_s > 0 and direct.decode_s >= 0
    assert await HttpSource(demo_server.url).memory_bytes() == await EngineSource(demo_server.engine).memory_bytes()


@pytest.mark.parametrize(("peer", "image_px"), [("mlx_lm", None), ("mlx_vlm", (64, 48))])
async def test_the_libraries_by_themselves_say_the_same(
    demo_engine: Any, peer: str, image_px: tuple[int, int] | None
) -> None:
    card = await demo_engine.ready()
    sources = [EngineSource(demo_engine), load(peer, card.path)]
    taken = [sample async for sample in samples(sources, Settings(2, 6, 8, image_px), warm_up=0)]
    ours = sorted((s for s in taken if s.source == "engine"), key=lambda s: s.text_sha256)
    theirs = sorted((s for s in taken if s.source == peer), key=lambda s: s.text_sha256)
    assert [(s.prompt_tokens, s.completion_tokens, s.text_sha256) for s in ours] == [
        (s.prompt_tokens, s.completion_tokens, s.text_sha256) for s in theirs
    ]


async def test_what_cannot_be_measured_is_said(demo_server: Any) -> None:
    (seeing,) = make(Settings(1, 6, 8, (64, 48)))
    (reading,) = make(Settings(1, 6, 10**7))
    with pytest.raises(BadRequest, match="cannot see"):
        await load("mlx_lm", str((await demo_server.engine.ready()).path)).ask(seeing)
    with pytest.raises(BadRequest, match="answered 400"):
        await HttpSource(demo_server.url).ask(reading)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await HttpSource("http://127.0.0.1:1").ask(reading)


def test_the_command_writes_what_it_measured(
    demo_server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.json"
    line = f"--base-url {demo_server.url} --num-prompts 2 --prompt-words 5 --output-tokens 6 --output {file}"
    assert bench(line.split()) == 0
    said = capsys.readouterr().out
    assert "TTFT" in said and "http" in said and "peak MLX memory" in said
    written = json.loads(file.read_text())
    assert written["settings"]["output_tokens"] == 6 and written["machine"]["chip"]
    assert len(written["samples"]) == 2 and written["summaries"]["http"]["answers"] == 2
    assert bench(["--base-url", "http://127.0.0.1:1", "--num-prompts", "1"]) == 1
    assert "error: " in capsys.readouterr().err
