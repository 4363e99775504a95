"""vllm-mlx run: one prompt over a folder, files, the pages of a PDF or the lines of a table."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import glob
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.arguments.engine import add_engine_arguments, engine_config
from engine.arguments.types import count, file_to_write, positive
from engine.config import given_folder

if TYPE_CHECKING:
    from engine.batch_run.journal import Journal
    from engine.batch_run.rows import BatchRow
    from engine.batch_run.run import BatchRun
    from engine.batch_run.task import BatchTask
    from engine.config import EngineConfig
    from engine.types import Json, TypedQuestion

MAX_TOKENS = 1024
PAUSED = 130
"""The exit status of what Ctrl-C has ended, as shells have it."""


def parser() -> argparse.ArgumentParser:
    """The arguments of vllm-mlx run."""
    command = argparse.ArgumentParser(
        prog="vllm-mlx run",
        usage='%(prog)s FOLDER|FILE... --prompt "..." --output OUT.jsonl|csv|parquet|coco.json [options]',
        description="Ask one thing about many pictures, clips, sounds, PDF pages or lines of a CSV. What was answered "
        "is in a journal beside the output: after a kill, Ctrl-C or a failure the same command goes on where it was. "
        "Ends with status 1 where a row has no answer.",
    )
    command.add_argument("inputs", nargs="+", metavar="FOLDER|FILE", type=given_folder, help="what is asked about")
    asked = command.add_argument_group("what is asked")
    asked.add_argument(
        "--prompt",
        metavar="TEXT",
        default="",
        help="the same for every row, with {name}, {page} and {COLUMN} of a CSV filled in",
    )
    asked.add_argument("--system", metavar="TEXT", default="", help="a system prompt before it")
    forms = asked.add_mutually_exclusive_group()
    forms.add_argument("--schema", metavar="FILE.json", type=Path, help="answers are JSON that keeps to this schema")
    forms.add_argument(
        "--questions",
        metavar="FILE.csv",
        type=Path,
        help="in place of an answer: typed questions with probabilities (columns question, type, options)",
    )
    output = command.add_argument_group("what comes of it")
    output.add_argument(
        "--output",
        metavar="FILE",
        type=file_to_write,
        required=True,
        help="ends in .jsonl, .csv, .parquet or .coco.json",
    )
    output.add_argument("--captions", action="store_true", help="write each answer beside its picture, as NAME.txt")
    output.add_argument("--overwrite-captions", action="store_true", help="also where another caption is there already")
    output.add_argument("--strict", action="store_true", help="end with status 1 where a row has a warning, too")
    pace = command.add_argument_group("how")
    pace.add_argument(
        "--concurrency", metavar="N", type=positive, help="rows at once (default: as many as --max-num-seqs)"
    )
    pace.add_argument(
        "--retries",
        metavar="N",
        type=count,
        default=1,
        help="how often a row is asked again whose failure was not its own fault (default: %(default)s)",
    )
    add_engine_arguments(command, max_tokens=MAX_TOKENS)
    return command


def run(args: argparse.Namespace) -> int:
    """Ask and write. Returns the exit status. Raises EngineError for what is wrong before the first row."""
    try:
        return asyncio.run(_run(args))
    except KeyboardInterrupt:
        _say("Stopped before the first row.")
        return PAUSED


async def _run(args: argparse.Namespace) -> int:
    from engine.batch_run.journal import Journal, settings_digest
    from engine.batch_run.output import check_captions, check_output
    from engine.batch_run.rows import read_inputs
    from engine.batch_run.run import BatchRun, check_run, run_settings
    from engine.batch_run.runner import Runner
    from engine.core import Engine

    task, config = _task(args), engine_config(args)
    check_output(args.output)
    inputs = read_inputs(args.inputs, config.media)
    if inputs.left_out:
        _say(f"{len(inputs.left_out):,} other files of the folder are left out, e.g. {inputs.left_out[0].name}.")
    engine = Engine(config)
    engine.start()
    try:
        card = await check_run(engine, task, inputs.rows)
        concurrency = _concurrency(args, config)
        settings = run_settings(task, config, card)
        digest = settings_digest(settings)
        _say_other_runs(args.output, digest, settings)
        journal = Journal(_journal_path(args.output, digest), settings)
        try:
            if args.captions:
                check_captions(inputs.rows, journal, overwrite=args.overwrite_captions)
            run = BatchRun(engine, task, inputs.rows, Runner(journal, concurrency, retries=args.retries))
            paused = await _ask_all(run)
            return _write(args, inputs.rows, journal, paused=paused)
        finally:
            journal.close()
    finally:
        engine.stop()


def _task(args: argparse.Namespace) -> BatchTask:
    """What is asked of every row. Raises BadRequest for a file that cannot be read, and for nothing to ask."""
    from engine.batch_run.task import BatchTask
    from engine.errors import BadRequest
    from engine.types import Sampling

    questions = _questions(args.questions) if args.questions else ()
    if not args.prompt.strip() and not questions:
        raise BadRequest("--prompt: it must not be empty, unless there are --questions.", param="prompt")
    if args.overwrite_captions and not args.captions:
        raise BadRequest("--overwrite-captions: it says something about --captions only.", param="overwrite_captions")
    sampling = Sampling(temperature=args.temperature or 0.0, top_p=args.top_p, top_k=args.top_k, min_p=args.min_p)
    schema = _schema(args.schema) if args.schema else None
    return BatchTask(args.prompt, args.system, schema, questions, sampling, args.max_tokens, marks="--")


def _schema(path: Path) -> Json | bool:
    from engine.errors import BadRequest

    try:
        schema = json.loads(_text(path, "--schema"))
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"--schema: {path} is not JSON: {error}.", param="schema") from error
    if not isinstance(schema, dict | bool):
        raise BadRequest(f"--schema: {path} is not a JSON Schema: it must be an object, true or false.", param="schema")
    return schema


def _questions(path: Path) -> tuple[TypedQuestion, ...]:
    from engine.batch_run.question_table import read_csv, typed_questions
    from engine.errors import EngineError
    from engine.runtime.decisions.decide import check_questions

    try:
        questions = typed_questions(read_csv(_text(path, "--questions")))
        check_questions(questions)
    except EngineError as error:
        raise (error if error.message.startswith("--") else error.told(f"--questions: {path}: ")) from None
    return questions


def _text(path: Path, option: str) -> str:
    from engine.errors import BadRequest

    try:
        return path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not a text in UTF-8"
        raise BadRequest(f"{option}: {path} cannot be read: {why}.", param=option.strip("-")) from error


def _concurrency(args: argparse.Namespace, config: EngineConfig) -> int:
    from engine.errors import BadRequest

    at_once = config.of(config.model).max_at_once
    most = at_once + config.max_queue
    if args.concurrency and args.concurrency > most:
        why = f"at most {most} are taken at once (--max-num-seqs and --max-queue), got {args.concurrency}"
        raise BadRequest(f"--concurrency: {why}.", param="concurrency")
    return args.concurrency or at_once


def _journal_path(output: Path, digest: str) -> Path:
    return output.with_name(f"{output.name}.{digest}.journal")


def _say_other_runs(output: Path, digest: str, settings: Json) -> None:
    """A changed setting is a new run: say so, and what has changed."""
    own = _journal_path(output, digest)
    others = sorted(output.parent.glob(f"{glob.escape(output.name)}.{'[0-9a-f]' * 16}.journal"))
    if own.exists() or not others:
        return
    latest = max(others, key=lambda path: path.stat().st_mtime)
    changed = ""
    with contextlib.suppress(OSError, ValueError, KeyError, AttributeError), latest.open("rb") as file:
        before = json.loads(file.readline())["settings"]
        names = [name for name in settings if before.get(name) != json.loads(json.dumps(settings[name]))]
        changed = f": another {', '.join(names)}" if names else ""
    _say(f"This is a new run{changed}. The answers of the earlier one stay in {latest.name}.")


async def _ask_all(run: BatchRun) -> bool:
    """Ask for what has no answer yet. Returns whether it was paused before the end."""
    from engine.batch_run.progress import RunProgress

    num_there = run.num_answered
    if num_there:
        _say(f"{num_there:,} of {len(run.rows):,} rows are answered already.")
    progress = RunProgress(len(run.rows), num_there, sys.stderr)
    run.runner.on_record = progress.note
    work = asyncio.create_task(run.ask())
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        return True
    finally:
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(name)
        progress.end()
    return False


def _write(args: argparse.Namespace, rows: Sequence[BatchRow], journal: Journal, *, paused: bool) -> int:
    """Write what there is, and say it. Returns the exit status."""
    from engine.batch_run.output import whole_records, write_captions, write_output
    from engine.batch_run.progress import summary

    records = list(whole_records(rows, journal))
    write_output(args.output, records)
    num_captions = write_captions(rows, journal) if args.captions else None
    print(summary(records, len(rows), args.output, num_captions))
    if paused:
        _say(f"Paused. The same command goes on; its answers are in {journal.path.name}.")
        return PAUSED
    is_wrong = any(record["error"] or (args.strict and record["warnings"]) for record in records)
    return int(is_wrong)


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
