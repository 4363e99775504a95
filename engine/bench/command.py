"""vllm-mlx-bench: arguments, and the way from them to a report. MLX is imported only once it is asked for."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.arguments import add_engine_arguments, engine_config
from engine.assets import asset
from engine.config import DEMO

if TYPE_CHECKING:
    from engine.bench.sources import Sample, Source
    from engine.bench.workloads import Settings

PEERS = ("mlx_lm", "mlx_vlm")


def parser() -> argparse.ArgumentParser:
    """The arguments of vllm-mlx-bench."""
    made = argparse.ArgumentParser(
        prog="vllm-mlx-bench",
        description="Measure time to first token, tokens per second and memory over N prompts, one at a time.",
    )
    group = made.add_argument_group("what is measured")
    group.add_argument("--num-prompts", metavar="N", type=int, default=8, help="default: %(default)s")
    group.add_argument(
        "--prompt-words", metavar="N", type=int, default=64, help="words per prompt (default: %(default)s)"
    )
    group.add_argument(
        "--output-tokens", metavar="N", type=int, default=64, help="tokens per answer (default: %(default)s)"
    )
    group.add_argument(
        "--image", metavar="WxH", type=_size, help="a picture of this size in every prompt, each another"
    )
    group.add_argument("--seed", type=int, default=0, help="other prompts and pictures (default: %(default)s)")
    group.add_argument(
        "--warm-up", metavar="N", type=int, default=1, help="rounds that do not count (default: %(default)s)"
    )
    group.add_argument("--vs", choices=PEERS, help="ask this library's own stream_generate in turns, and print ratios")
    group.add_argument("--base-url", metavar="URL", help="ask an OpenAI server instead of an engine in this process")
    group.add_argument("--api-key", metavar="KEY", help="key of that server")
    group.add_argument("--output", metavar="FILE", type=Path, help="write every sample and the settings as JSON")
    add_engine_arguments(made)
    return made


def run(args: argparse.Namespace) -> None:
    """Measure and print. Raises EngineError: model not found, server not reached."""
    asyncio.run(_run(args))


async def _run(args: argparse.Namespace) -> None:
    from engine.bench.run import samples
    from engine.bench.workloads import Settings

    settings = Settings(args.num_prompts, args.prompt_words, args.output_tokens, args.image, args.seed)
    async with _main_source(args) as (source, path, about):
        sources = [source, *_peers(args.vs, path)]
        taken: list[Sample] = []
        async for sample in samples(sources, settings, args.warm_up):
            taken.append(sample)
            print(f"\r{len(taken)} of {settings.num_prompts * len(sources)} ", end="", file=sys.stderr, flush=True)
        shared = args.vs and not args.base_url  # a peer in the engine's process has its model in the same count
        about["peak_memory_bytes"] = None if shared else await source.memory_bytes()
    print(file=sys.stderr)
    _say(taken, [s.name for s in sources], settings, about, args)


@asynccontextmanager
async def _main_source(args: argparse.Namespace) -> AsyncIterator[tuple[Source, str, dict[str, Any]]]:
    """What is measured, the model's folder for a peer, and facts for the report."""
    from engine import device
    from engine.bench.sources import EngineSource, HttpSource
    from engine.core import Engine

    about: dict[str, Any] = {"machine": asdict(device.describe()), "base_url": args.base_url}
    if args.base_url:
        path = str(asset("demo-model")) if args.model == DEMO else args.model
        yield HttpSource(args.base_url, args.api_key), path, about
        return
    engine = Engine(engine_config(args))
    engine.start()
    try:
        card = await engine.ready()
        about["model"] = asdict(card)
        yield EngineSource(engine), card.path, about
    finally:
        engine.stop()


def _peers(name: str | None, path: str) -> list[Source]:
    from engine.bench import peers

    return [peers.load(name, path)] if name else []


def _say(taken: list[Sample], names: list[str], settings: Settings, about: dict[str, Any], args: Any) -> None:
    from engine.bench import report

    by_name = {name: [sample for sample in taken if sample.source == name] for name in names}
    summaries = {name: report.summary(found) for name, found in by_name.items()}
    print(report.table(summaries))
    result = {**about, "settings": asdict(settings), "summaries": summaries}
    if len(names) == 2:
        result["ratios"] = report.ratios(by_name[names[0]], by_name[names[1]])
        print(report.ratio_line(names[0], names[1], result["ratios"]))
    if about["peak_memory_bytes"]:
        print(f"peak MLX memory: {about['peak_memory_bytes'] / 2**20:.1f} MiB")
    if args.output:
        args.output.write_text(json.dumps({**result, "samples": [asdict(sample) for sample in taken]}, indent=1))


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text)
    if not match or "0" in match.groups():
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 448x448")
    return int(match[1]), int(match[2])
