"""vllm-mlx selftest: from arguments to the table."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

from engine.arguments.engine import add_engine_arguments, engine_config
from engine.arguments.needless import given, refuse
from engine.arguments.types import file_to_write, more_than_zero

if TYPE_CHECKING:
    from engine.measure.selftest.judge import CheckRow

ASKED = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "video_fps", "video_max_frames")
"""Options of how a request is answered that does not say: each of the self-test's does."""


def parser() -> argparse.ArgumentParser:
    """The arguments of vllm-mlx selftest."""
    command = argparse.ArgumentParser(
        prog="vllm-mlx selftest",
        usage="%(prog)s [MODEL] [--image FILE] [options]",
        description="Prove on this machine, with this model and these options, that answers are right: warm = cold, "
        "batched = alone, a picture counts, receipts are true. Ends with status 1 when something fails.",
    )
    command.add_argument("tested", nargs="?", metavar="MODEL", help="the same as --model")
    command.add_argument("--image", metavar="FILE", type=Path, help="test with this picture in place of the drawn one")
    command.add_argument(
        "--churn",
        metavar="MINUTES",
        type=more_than_zero,
        help="afterwards let streams run at once for so long that push each other out of the cache, some of them given "
        "up, and compare every answer",
    )
    command.add_argument(
        "--json", metavar="FILE", type=file_to_write, help="write the table, machine and settings as JSON"
    )
    add_engine_arguments(command)
    return command


def run(args: argparse.Namespace) -> int:
    """Test and print. Returns the exit status. Raises EngineError: no such model, picture that cannot be read."""
    refuse(ASKED, given(parser(), args), "the self-test asks in its own way")
    if args.tested is not None:
        args.model = args.tested
    try:
        return asyncio.run(_run(args))
    except KeyboardInterrupt:
        print("stopped before the end: nothing is proven")
        return 1


async def _run(args: argparse.Namespace) -> int:
    from engine import device
    from engine.measure.selftest import checks, fixtures, report
    from engine.measure.selftest.churn import churn, churning
    from engine.measure.selftest.harness import harnessed

    picture = fixtures.from_file(args.image) if args.image else fixtures.circle()
    config, machine = engine_config(args), device.describe()
    rows: list[CheckRow] = []

    def add(row: CheckRow) -> None:
        rows.append(row)
        print(report.line(row), flush=True)

    async with harnessed(config, picture) as harness:
        card = harness.card
        print(report.head(card, machine), flush=True)
        async for row in checks.rows(harness):
            add(row)
    if args.churn:
        async with harnessed(churning(config), picture) as harness:
            add(await churn(harness, args.churn))
    print("\n" + report.ending(rows, card, machine))
    if args.json:
        table = report.to_json(rows, card, machine, config)
        args.json.write_text(json.dumps(table, indent=1, ensure_ascii=False, default=str), encoding="utf-8")
    return int(report.failed(rows))
