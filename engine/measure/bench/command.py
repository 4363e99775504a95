"""vllm-mlx-bench: from arguments to a report. MLX is imported only when a model is measured."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.arguments.engine import add_engine_arguments, engine_config
from engine.arguments.needless import given
from engine.arguments.types import count, positive
from engine.config import DEMO, EngineConfig
from engine.errors import BadRequest
from engine.measure.bench.needless import check_measures_nothing, check_options
from engine.types import SpeculationConfig

if TYPE_CHECKING:
    from engine.core import Engine
    from engine.measure.bench.plan import BenchSettings, Suite
    from engine.measure.bench.result import Result
    from engine.measure.bench.targets import Target

SUITE_NAMES = (
    *("text", "image", "video", "cache", "decisions", "concurrency", "structured"),
    *("speculation", "estimates", "equal", "peers", "startup"),
)
LIBRARIES = ("mlx_lm", "mlx_vlm")
SERVE = "serve"
"""What --vs calls this project's own server, which is held against the engine in this process."""

SERVE_NOT = {"peers", "speculation", "startup"}

INSTALLED = (*LIBRARIES, "mlx_lm.server", "mlx_vlm.server")
"""What the suite `peers` measures without --vs: the peers among this project's own dependencies."""

BAR = 30


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of vllm-mlx-bench. Its `engine_arguments`: those that `vllm-mlx serve` takes too, as given; its
    `given`: the options that are not as without being given, by their names. Its `bench_options`: its own names."""
    own = _add_arguments(argparse.ArgumentParser(add_help=False))
    parser = argparse.ArgumentParser(
        prog="vllm-mlx-bench",
        description="Measure a model on this machine, with a proof that what was measured was real.",
        parents=[own],
    )
    add_engine_arguments(parser, max_tokens=256)
    parser.set_defaults(temperature=0.7)
    args = parser.parse_args(argv)
    args.given, args.bench_options = given(parser, args), set(own.parse_args([]).__dict__)
    _, args.engine_arguments = own.parse_known_args(argv)
    if "peers" in (args.suite or ()):
        args.vs = args.vs or list(INSTALLED)
    return args


def _add_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the options that only the benchmark has."""
    suites = parser.add_argument_group("what is measured", "--max-tokens is 256 and --temperature 0.7 here")
    suites.add_argument(
        "--suite",
        metavar="NAME",
        action="append",
        choices=SUITE_NAMES,
        help=f"{', '.join(SUITE_NAMES)}; may be given several times (default: image for a model that sees, else text)",
    )
    suites.add_argument("--mllm", action="store_true", help="the same as --suite image")
    suites.add_argument("--video", action="store_true", help="the same as --suite video")
    suites.add_argument("--video-path", metavar="FILE", type=Path, help="--suite video with this clip")
    suites.add_argument("--video-url", metavar="URL", help="--suite video with a clip from the web, fetched once")
    suites.add_argument("--quick", action="store_true", help="fewer cases and answers of at most 64 tokens")
    suites.add_argument(
        "--case", metavar="NAME", action="append", default=[], help='only this case, e.g. "448x448"; several are fine'
    )
    rounds = parser.add_argument_group("how")
    rounds.add_argument(
        "--prompts", metavar="N", type=positive, default=5, help="rounds that count (default: %(default)s)"
    )
    rounds.add_argument(
        "--warmup", metavar="N", type=count, default=1, help="rounds before them that do not (default: %(default)s)"
    )
    rounds.add_argument(
        "--prompt-words", metavar="N", type=count, default=64, help="length of the text suite's prompts (default: 64)"
    )
    rounds.add_argument(
        "--seed", metavar="N", type=count, default=0, help="other prompts and pictures (default: drawn)"
    )
    targets = parser.add_argument_group(
        "against whom", "targets answer the same questions in turns; ratios are of pairs"
    )
    targets.add_argument(
        "--vs",
        metavar="WHO",
        action="append",
        default=[],
        help="mlx_lm or mlx_vlm: the library's own generator in this process; mlx_lm.server, mlx_vlm.server or "
        "NAME='COMMAND with {model} and {port}': a server that is started for it, our own then beside it "
        "(--suite peers without --vs: all four); serve, alone: vllm-mlx serve, held against the engine in this process",
    )
    targets.add_argument(
        "--base-url",
        metavar="URL",
        action="append",
        default=[],
        help="an OpenAI server that runs, instead of an engine in this process; a second one is held against the first",
    )
    targets.add_argument("--api-key", metavar="KEY", help="key of these servers")
    output = parser.add_argument_group("what becomes of it")
    output.add_argument(
        "--output", metavar="FILE", type=Path, help="write everything that was measured: .json, .csv or .parquet"
    )
    output.add_argument(
        "--card",
        metavar="FILE",
        type=Path,
        help="write the run as a picture to show, FILE.png, and beside it as sealed FILE.json, for others to --compare",
    )
    output.add_argument("--save", metavar="NAME", help="keep the run under this name; the Benchmark tab lists it too")
    output.add_argument("--runs", action="store_true", help="measure nothing: list the runs that are kept")
    output.add_argument(
        "--compare",
        metavar="RUN",
        nargs=2,
        help="measure nothing: print the second over the first of two files (JSON, Parquet) or kept runs",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Measure and print. Raises EngineError: model not found, server not reached, a file that cannot be written."""
    from engine.measure.bench import compare, files, store

    runs = store.Store()
    if args.runs or args.compare:
        check_measures_nothing(args)
    if args.runs:
        print(store.table(runs.list()))
        return
    if args.compare:
        print(
            compare.judged(
                *(files.read(Path(name)) if Path(name).is_file() else runs.load(name) for name in args.compare)
            )
        )
        return
    if args.output:
        files.check(args.output)
    if args.card:
        files.check_card(args.card)
    if args.save:
        runs.check(args.save)
    import asyncio

    asyncio.run(_run(args))


async def _run(args: argparse.Namespace) -> None:
    from asyncio import CancelledError

    from engine.measure.bench.run import Run

    check_options(args)
    async with _targets(args) as (measured, about):
        suites = _suites(args, measured.pictures)
        run = Run(suites, measured.targets, _settings(args, measured), about)
        try:
            await _read(run)
        except CancelledError:
            print("\nstopped", file=sys.stderr)
        finally:
            _report(run.result(), args)


async def _read(run: Any) -> None:
    """Read the events, and draw a progress bar."""
    from engine.measure.bench.events import Progress
    from engine.measure.bench.plan import case_words

    try:
        async for event in run.events():
            if isinstance(event, Progress):
                done = BAR * event.done // max(event.total, 1)
                name = case_words(event.case.name) if event.case else ""
                line = f"[{'#' * done}{'.' * (BAR - done)}] {event.done} of {event.total}  {event.target}: {name}"
                print(f"\r{line[:110]:<110}", end="", file=sys.stderr, flush=True)
    finally:
        print(file=sys.stderr)


def _report(result: Result, args: argparse.Namespace) -> None:
    """Print the result and write it, if anything was measured."""
    from engine.measure.bench import files, report
    from engine.measure.bench.store import Store

    if not any(point.samples for point in result.points):
        return
    print(report.table(result))
    if args.output:
        files.write(result, args.output)
    if args.card:
        files.write_card(result, args.card)
    if args.save:
        Store().save(args.save, result)


def _suites(args: argparse.Namespace, pictures: bool) -> list[Suite]:
    from engine.measure.bench.suites import SUITES

    names = list(args.suite or [])
    names += ["image"] if args.mllm else []
    names += ["video"] if args.video or args.video_path or args.video_url else []
    return [SUITES[name] for name in dict.fromkeys(names or ["image" if pictures else "text"])]


def _settings(args: argparse.Namespace, measured: Measured) -> BenchSettings:
    from engine.measure.bench.clips import download
    from engine.measure.bench.plan import BenchSettings

    if args.video_url and args.video_path:
        raise BadRequest("--video-url and --video-path name two clips; give one.", param="video_path")
    video = args.video_path
    if video and not video.is_file():
        raise BadRequest(f"--video-path: there is no file {str(video)!r}.", param="video_path")
    if args.video_url:
        video = download(args.video_url, engine_config(args).media)
    return BenchSettings(
        prompts=args.prompts,
        max_tokens=args.max_tokens,
        temperature=args.temperature,
        warmup=args.warmup,
        quick=args.quick,
        seed=args.seed,
        prompt_words=args.prompt_words,
        only=tuple(args.case),
        video=video,
        pictures=measured.pictures,
        context=measured.context,
    )


@asynccontextmanager
async def _targets(args: argparse.Namespace) -> AsyncIterator[tuple[Measured, dict[str, Any]]]:
    """Yields what is measured, and the facts for the result."""
    from engine.measure.bench.about import about

    if args.vs and args.adapter_path:
        raise BadRequest("--vs compares without an adapter: leave --adapter-path out.", param="adapter_path")
    async with AsyncExitStack() as stack:
        fresh = _only_starts(args)
        measured = await _first_targets(args, stack, fresh=fresh)
        for peer in args.vs:
            measured.targets.append(await _peer(peer, measured.path, args, fresh=fresh))
            stack.push_async_callback(measured.targets[-1].close)
        yield replace(measured, pictures=measured.pictures and not args.text_only), about(measured.path)


@dataclass(frozen=True, slots=True)
class Measured:
    """targets: the measured one first. path: the model's folder, "" where it is not known. pictures: whether it takes
    them. context: tokens of its context, None where that is not known."""

    targets: list[Target]
    path: str
    pictures: bool
    context: int | None = None


async def _first_targets(args: argparse.Namespace, stack: AsyncExitStack, *, fresh: bool) -> Measured:
    from engine.measure.bench import servers
    from engine.measure.bench.plan import CACHE_OFF, SPECULATION_OFF
    from engine.measure.bench.remote import HttpTarget, Server
    from engine.measure.bench.targets import EngineTarget

    if args.base_url:
        path = "" if args.model == DEMO else args.model
        http_targets = [HttpTarget(url, Server(api_key=args.api_key, model_path=path)) for url in args.base_url]
        for target in http_targets:
            stack.push_async_callback(target.close)
        first = http_targets[0]
        return Measured([*http_targets], path, await first.has_vision(), await first.context())
    if fresh or any(peer not in (*LIBRARIES, SERVE) for peer in args.vs):
        path = _model_folder(args)
        command = servers.our_command(args.engine_arguments)
        server = await _server(servers.OURS, command, path, fresh=fresh)
        stack.push_async_callback(server.close)
        in_process = [EngineTarget(await _engine(stack, engine_config(args)))] if set(args.vs) & set(LIBRARIES) else []
        return Measured([server, *in_process], path, _has_vision(path))
    config = engine_config(args)
    speculates = "speculation" in (args.suite or ())
    if speculates:
        config = replace(config, speculation=config.speculation or SpeculationConfig())
    engine = await _engine(stack, config)
    card = await engine.ready()
    targets: list[Target] = [EngineTarget(engine)]
    if "cache" in (args.suite or ()) and engine.config.cache.enabled:
        off = replace(engine.config, cache=replace(engine.config.cache, enabled=False, features=False))
        targets.append(EngineTarget(await _engine(stack, off), CACHE_OFF))
    if speculates:
        targets.append(EngineTarget(await _engine(stack, replace(config, speculation=None)), SPECULATION_OFF))
    return Measured(targets, card.path, card.vision, card.context_tokens)


def _only_starts(args: argparse.Namespace) -> bool:
    """Whether every question starts a server anew. Raises BadRequest for options that contradict each other."""
    starts = "startup" in (args.suite or ())
    if SERVE in args.vs and (len(args.vs) > 1 or args.base_url or SERVE_NOT & set(args.suite or ())):
        raise BadRequest(
            "--vs serve is held against the engine in this process: give no other target, and none of the suites "
            f"{', '.join(sorted(SERVE_NOT))}, which have targets of their own.",
            param="vs",
        )
    if "peers" in (args.suite or ()) and args.base_url:
        raise BadRequest("--suite peers starts servers itself; name them with --vs.", param="suite")
    if starts and (args.base_url or len(args.suite) > 1 or set(args.vs) & set(LIBRARIES)):
        raise BadRequest(
            "--suite startup starts servers itself: give it alone, and only servers to --vs.", param="suite"
        )
    return starts


async def _engine(stack: AsyncExitStack, config: EngineConfig) -> Engine:
    """A started engine, stopped when the stack closes. Raises ModelNotFound, Unavailable."""
    from engine.core import Engine

    engine = Engine(config)
    engine.start()
    stack.callback(engine.stop)
    await engine.ready()
    return engine


async def _server(name: str, command: str, path: str, *, fresh: bool) -> Target:
    from engine.measure.bench.servers import FreshTarget, ServerTarget

    return FreshTarget(name, command, path) if fresh else await ServerTarget.open(name, command, path)


async def _peer(peer: str, path: str, args: argparse.Namespace, *, fresh: bool) -> Target:
    """The target that --vs names."""
    from engine.measure.bench.servers import COMMANDS, our_command

    if not path:
        raise BadRequest("--vs needs the model's folder: give --model.", param="model")
    if peer in LIBRARIES:
        from engine.measure.bench import peers

        return peers.load(peer, path)
    name, _, command = peer.partition("=")
    command = our_command(args.engine_arguments) if peer == SERVE else COMMANDS.get(peer, command)
    if "{port}" not in command:
        names = ", ".join((*LIBRARIES, *COMMANDS, SERVE))
        raise BadRequest(f"--vs {peer}: it must be {names} or NAME='COMMAND with {{port}}'.", param="vs")
    return await _server(name, command, path, fresh=fresh)


def _model_folder(args: argparse.Namespace) -> str:
    """The model's folder. Downloads a model that is not here yet."""
    from engine import device

    device.prepare()
    from engine.models.locate import locate

    return str(locate(engine_config(args).model))


def _has_vision(path: str) -> bool:
    from engine import device

    device.prepare()
    from engine.models.locate import is_multimodal

    return is_multimodal(Path(path), json.loads(Path(path, "config.json").read_text(encoding="utf-8")))
