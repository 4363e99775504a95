"""The commands vllm-mlx and vllm-mlx-bench. Nothing slow is imported before it is needed: `--help` answers at once.

vllm-mlx serve demo            the /v1 routes of one model, without the page
vllm-mlx --model org/name      the same
vllm-mlx run FOLDER            one prompt over many pictures, clips, sounds, pages or lines (engine.batch_run)
vllm-mlx families              what runs, and what each family takes, as a table (engine.models.families_table)
vllm-mlx selftest org/name     is it right on this machine (engine.measure.selftest)
vllm-mlx eval gsm8k            how well does it answer, or any OpenAI server (engine.measure.eval)
vllm-mlx replay FILE.zip        a downloaded request is asked again, and compared (engine.measure.replay)
vllm-mlx launch codex          set another program up for this server (engine.launch)
vllm-mlx doctor                is everything here as it should be (engine.doctor)
vllm-mlx service install       keep it running: systemd, launchd, an app (engine.service)
vllm-mlx completion bash       for a shell (engine.completion)
vllm-mlx-bench --model ...     how fast is it, and against the libraries beneath (engine.measure.bench)
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from engine.arguments.engine import add_engine_arguments, engine_config
from engine.arguments.models import add_remote_arguments, add_several_models_arguments
from engine.arguments.ranks import add_ranks_arguments
from engine.arguments.request_log import add_request_log_arguments
from engine.arguments.server import add_server_arguments, secured, server_config
from engine.config import ServerConfig
from engine.errors import EngineError
from engine.own_process import OwnProcess, Restart
from engine.version import PrintVersion

if TYPE_CHECKING:
    from engine.core import Engine

COMMANDS = {
    "selftest": "engine.measure.selftest.command",
    "run": "engine.batch_run.command",
    "eval": "engine.measure.eval.command",
    "replay": "engine.measure.replay.command",
    "families": "engine.models.families_table",
    "launch": "engine.launch.command",
    "doctor": "engine.doctor.command",
    "service": "engine.service.command",
    "completion": "engine.completion",
}
"""Commands of vllm-mlx besides serve, which have a parser() and a run(args) of their own."""


def main(argv: Sequence[str] | None = None) -> int:
    """vllm-mlx. Returns the exit status: 0 when stopped by hand, 1 when it could not serve or a test failed."""
    is_command = argv is None
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in COMMANDS:
        command = importlib.import_module(COMMANDS[argv[0]])
        asked = command.parser().parse_intermixed_args(argv[1:])
        return _ending(lambda: command.run(asked))
    args = serve_parser().parse_intermixed_args(argv)
    if args.served is not None:
        args.model = args.served
    process = OwnProcess(restart=Restart.of_this_process() if is_command else Restart())
    return _ending(lambda: _serve(args, process))


def bench(argv: Sequence[str] | None = None) -> int:
    """vllm-mlx-bench. Returns the exit status."""
    from engine.measure.bench import command

    args = command.parse(argv)
    return _ending(lambda: command.run(args))


def serve_parser() -> argparse.ArgumentParser:
    """vllm-mlx without a command's name, or with serve."""
    parser = argparse.ArgumentParser(
        prog="vllm-mlx",
        usage="%(prog)s serve [MODEL] [options]\n       %(prog)s --model MODEL [options]\n"
        "       %(prog)s run FOLDER --prompt TEXT --output FILE [options]\n"
        "       %(prog)s selftest [MODEL] [options]\n       %(prog)s eval gsm8k [options]\n       %(prog)s families\n"
        "       %(prog)s replay FILE.zip --base-url URL [options]\n"
        "       %(prog)s launch [NAME] [options]\n       %(prog)s doctor [options]\n       %(prog)s service ACTION"
        " [options]\n       %(prog)s completion SHELL",
        description="Serve one model on OpenAI's /v1 routes; the other commands have a --help of their own.",
        epilog="The page with the chat is another command: vllm-mlx-chat.",
    )
    parser.add_argument(
        "command", nargs="?", choices=["serve"], default="serve", help="serve is the only one, and may be left out"
    )
    parser.add_argument("served", nargs="?", metavar="MODEL", help="the same as --model")
    parser.add_argument("--version", action=PrintVersion)
    add_engine_arguments(parser, max_tokens=32_768)
    add_several_models_arguments(parser)
    add_ranks_arguments(parser)
    add_remote_arguments(parser)
    add_request_log_arguments(parser)
    add_server_arguments(parser)
    return parser


def _serve(args: argparse.Namespace, process: OwnProcess) -> int:
    """Returns the exit status."""
    from engine import logs
    from engine.api.app import add_pointer, create_app
    from engine.api.http.ending import Ending
    from engine.api.server import listen, serve_app
    from engine.core import Engine
    from engine.runtime.following import follow_unless_first

    config = secured(given := server_config(args))
    if args.check:
        engine_config(args)
        return 0
    process.log = logs.configure(args.log_level)
    engine_settings = engine_config(args)
    follow_unless_first(engine_settings)
    with listen(config) as listener:
        port = listener.getsockname()[1]
        process.restart.keep(given, replace(config, port=port))
        process.restart.is_of_several = engine_settings.ranks is not None
        engine = Engine(engine_settings)
        engine.start()
        try:
            app = add_pointer(create_app(engine, config, process=process))
            engine.finish_imports()
            announce = partial(_announce, engine, config, port)
            serve_app(app, listener, config, announce, Ending(engine, process.restart))
        finally:
            engine.stop()
    return process.restart.ended()


async def _announce(engine: Engine, config: ServerConfig, port: int) -> None:
    """Say where the server is, then wait for the model. Raises what kept it from loading, which ends the server.

    With --exit-on-failure, and as one of several ranks, it goes on to watch, and raises what ended the engine.
    """
    from engine.api.server import announce_models, until_failed

    host = f"[{config.host}]" if ":" in config.host else config.host
    print(f"OpenAI API:    http://{host}:{port}/v1", flush=True)
    for name, key in config.api_keys:
        print(f"API key:       {key}   ({name})", flush=True)
    await announce_models(engine)
    if config.exit_on_failure or engine.config.ranks is not None:
        await until_failed(engine.snapshot)


def sigterm_as_sigint() -> None:
    """From now on SIGTERM is Ctrl-C. It is passed on as that signal, for which asyncio has a handler: an exception from
    here could come up in the middle of any task."""

    def pass_on(*_: object) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGTERM, pass_on)


def _ending(run: Callable[[], int | None]) -> int:
    """Run a command to its exit status (None is 0), with errors as one line. SIGTERM ends as Ctrl-C does: in order."""
    sigterm_as_sigint()
    try:
        return run() or 0
    except EngineError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
