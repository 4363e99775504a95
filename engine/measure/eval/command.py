"""vllm-mlx eval gsm8k: from arguments to a score."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engine.arguments.engine import add_engine_arguments, engine_config
from engine.arguments.types import file_to_write, positive
from engine.config import DEMO

if TYPE_CHECKING:
    from engine.measure.eval.gsm8k import Problem
    from engine.measure.eval.run import Results
    from engine.measure.eval.sources import Source

MAX_TOKENS = 512


def parser() -> argparse.ArgumentParser:
    """The arguments of vllm-mlx eval."""
    command = argparse.ArgumentParser(
        prog="vllm-mlx eval",
        usage="%(prog)s gsm8k [--file FILE | --sample] [--base-url URL | --port N] [options]",
        description="Ask GSM8K's questions with five worked examples before each, and score the last number of every "
        "answer. The engine runs in this process with the options below, unless a server is named.",
    )
    command.add_argument("benchmark", choices=["gsm8k"], help="gsm8k is the only one")
    questions = command.add_argument_group("what is asked")
    data = questions.add_mutually_exclusive_group()
    data.add_argument(
        "--file", metavar="FILE", type=Path, help="questions as GSM8K's own JSONL (default: its test set)"
    )
    data.add_argument("--sample", action="store_true", help="twenty questions that ship with this, for a quick look")
    questions.add_argument("--num-questions", metavar="N", type=positive, help="only the first N")
    questions.add_argument(
        "--num-shots", metavar="N", type=int, choices=range(6), default=5, help="worked examples, 0 to 5 (default: 5)"
    )
    questions.add_argument(
        "--concurrency", metavar="N", type=positive, default=8, help="questions at once (default: %(default)s)"
    )
    questions.add_argument(
        "--output",
        metavar="FILE.json",
        type=file_to_write,
        help="keep the answers here; a run that was stopped goes on",
    )
    server = command.add_argument_group("who is asked, if not the engine in this process")
    where = server.add_mutually_exclusive_group()
    where.add_argument("--base-url", metavar="URL", help="a server's OpenAI address, with its /v1")
    where.add_argument("--port", metavar="N", type=int, help="the same as --base-url http://127.0.0.1:N/v1")
    server.add_argument("--api-key", metavar="KEY", help="key of that server; its model is --model, or else its first")
    add_engine_arguments(command, max_tokens=MAX_TOKENS)
    return command


def run(args: argparse.Namespace) -> None:
    """Ask the questions and print the score. Raises EngineError: no questions, no model, server not reached."""
    asyncio.run(_run(args))


async def _run(args: argparse.Namespace) -> None:
    from engine.measure.eval import gsm8k
    from engine.measure.eval.run import EvalSettings, Results, evaluate

    questions = _questions(args)
    async with _source(args) as source:
        settings = EvalSettings(
            source=source.name,
            questions=gsm8k.digest(questions),
            num_shots=args.num_shots,
            max_tokens=args.max_tokens,
            temperature=args.temperature or 0.0,
        )
        results = Results(settings, args.output)
        if num_answers := results.load():
            print(f"{num_answers} answers are in {args.output} already.", file=sys.stderr)
        count = len(questions[: args.num_questions])
        try:
            await evaluate(
                source, questions[:count], results, args.concurrency, lambda partial: _progress(partial, count)
            )
        finally:
            print(f"\n{source.name}: {_score(results)}")


def _questions(args: argparse.Namespace) -> list[Problem]:
    from engine.errors import BadRequest
    from engine.measure.eval import gsm8k

    problems = gsm8k.sample() if args.sample else gsm8k.read(args.file) if args.file else gsm8k.download()
    if not problems:
        raise BadRequest(f"--file: {args.file} holds no question.", param="file")
    return problems


@asynccontextmanager
async def _source(args: argparse.Namespace) -> AsyncIterator[Source]:
    from engine.core import Engine
    from engine.measure.eval.sources import EngineSource, HttpSource

    url = f"http://127.0.0.1:{args.port}/v1" if args.port else args.base_url
    if url:
        server = HttpSource(url, args.api_key, "" if args.model == DEMO else args.model)
        try:
            await server.open()
            yield server
        finally:
            await server.close()
        return
    engine = Engine(engine_config(args))
    engine.start()
    try:
        card = await engine.ready()
        yield EngineSource(engine, f"{card.id} ({card.model_type}, {card.dtype})")
    finally:
        engine.stop()


def _progress(results: Results, count: int) -> None:
    right = sum(answer.is_right for answer in results.answers.values())
    print(
        f"\r{len(results.answers)} of {max(count, len(results.answers))}, {right} right ",
        end="",
        file=sys.stderr,
        flush=True,
    )


def _score(results: Results) -> str:
    from engine.measure.eval.run import summary

    totals = summary(list(results.answers.values()))
    if not totals["questions"]:
        return "nothing was answered"
    share, error = 100 * totals["accuracy"], 100 * totals["stderr"]
    more = {"no_number": "without a number", "cut_off": "cut off at --max-tokens", "failed": "failed"}
    rest = "".join(f", {totals[name]} {words}" for name, words in more.items() if totals[name])
    return f"{totals['right']} of {totals['questions']} right, {share:.1f} % ± {error:.1f} (standard error){rest}"
