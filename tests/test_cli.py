"""The commands as a user runs them: help, refusals, and a server that starts, answers and ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from engine import cli
from engine.api.server import listen
from engine.arguments.engine import engine_config
from engine.arguments.server import secured, server_config
from engine.assets import data_folder
from engine.config import EngineConfig, ServerConfig
from engine.measure.bench import command
from tests.commands import ROOT, SERVE, Running
from tests.endless import endless_request
from workbench.app import main as chat

OPTIONS = """
--host --port --api-key --media-root --allow-private-urls --max-tokens --max-model-len --temperature --top-p --top-k
--allowed-media-domains --min-p --served-model-name --text-only --trust-remote-code --revision --max-num-seqs
--prefill-step-size --max-queue --root-path --max-upload-mb --log-level --allowed-host --video-fps --video-max-frames
--cache-dir --cache-disk-gb --max-waiting-media-mb
"""
BENCH = [sys.executable, "-c", "import sys; from engine.cli import bench; sys.exit(bench())"]
CHAT = [sys.executable, "-m", "workbench.app"]


def run(*arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)


@pytest.mark.parametrize("command_line", [SERVE, BENCH, CHAT], ids=["vllm-mlx", "vllm-mlx-bench", "vllm-mlx-chat"])
def test_help_loads_nothing_slow(command_line: list[str]) -> None:
    program = (
        "import sys, runpy\nsys.argv[1:] = ['--help']\n"
        "try:\n    {}\nexcept SystemExit as end:\n    assert not end.code\n"
        "slow = {{'mlx', 'mlx_lm', 'mlx_vlm', 'gradio', 'fastapi', 'pydantic', 'uvicorn', 'cv2'}} & set(sys.modules)\n"
        "slow |= {{'numpy', 'PIL', 'importlib.metadata'}} & set(sys.modules)\n"
        "assert not slow, slow\n"
        "assert len(sys.modules) < 260, f'{{len(sys.modules)}} modules'"
    )
    start = {
        id(SERVE): "runpy.run_module('engine', run_name='__main__')",
        id(BENCH): "from engine.cli import bench; bench()",
        id(CHAT): "from workbench.app import main; main()",
    }[id(command_line)]
    done = run(sys.executable, "-c", program.format(start))
    assert done.returncode == 0, done.stderr
    assert "--model" in done.stdout and "usage:" in done.stdout


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_commands_have_a_help_of_their_own(name: str) -> None:
    done = run(*SERVE, name, "--help")
    assert done.returncode == 0 and f"vllm-mlx {name}" in done.stdout and "--help" in done.stdout
    assert name in run(*SERVE, "--help").stdout


def test_families_prints_the_table() -> None:
    done = run(*SERVE, "families")
    assert done.returncode == 0
    assert done.stdout.startswith("| family | `model_type` |") and "| Gemma 4 | `gemma4` |" in done.stdout


def test_help_is_complete() -> None:
    said = run(*SERVE, "--help").stdout
    for option in OPTIONS.split():
        assert f" {option} " in said.replace("\n", " "), option
    assert "serve" in said and "MODEL" in said


def parsed(*options: str) -> tuple[EngineConfig, ServerConfig]:
    args = cli.serve_parser().parse_intermixed_args(options)
    return engine_config(args), server_config(args)


def test_defaults_are_the_configs_own() -> None:
    engine, server = parsed()
    assert replace(engine, max_tokens=EngineConfig().max_tokens) == EngineConfig()
    assert server == ServerConfig(data_folder=data_folder())
    assert engine.max_tokens >= EngineConfig().max_tokens, "an API client gets long answers unless it says otherwise"


def test_every_option_arrives(tmp_path: Path) -> None:
    line = (
        "--model org/name --served-model-name me --revision r1 --text-only --trust-remote-code --max-tokens 7 "
        "--max-model-len 99 --temperature 0.5 --top-p 0.9 --top-k 3 --min-p 0.1 --max-num-seqs 2 "
        "--max-waiting-media-mb 3 "
        f"--prefill-step-size 64 --max-queue 5 --media-root {tmp_path} --allow-private-urls --video-fps 1.5 "
        "--video-max-frames 12 --host ::1 --port 1 --api-key bob=s3cret --api-key plain== "
        "--root-path /x/ --max-upload-mb 2 "
        "--allowed-host box --allowed-media-domains A.org b.example"
    )
    engine, server = parsed(*line.split())
    model, media, sampling = engine.model, engine.media, engine.sampling
    assert (model.source, model.name, model.revision) == ("org/name", "me", "r1")
    assert model.text_only and model.trust_remote_code
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.5, 0.9, 3, 0.1)
    assert (engine.max_tokens, engine.max_model_len, engine.max_num_seqs) == (7, 99, 2)
    assert (engine.prefill_chunk_tokens, engine.max_queue) == (64, 5)
    assert engine.max_waiting_media_bytes == 3 * 1024 * 1024
    assert media.media_root == tmp_path.resolve() and media.allow_private_urls
    assert media.allowed_media_domains == ("a.org", "b.example")
    assert (engine.frames.fps, engine.frames.max_frames) == (1.5, 12)
    assert (server.host, server.port, server.root_path, server.allowed_hosts) == ("::1", 1, "/x", ("box",))
    assert server.api_keys == (("bob", "s3cret"), ("user2", "plain==")) and server.max_upload_bytes == 2 * 1024 * 1024


@pytest.mark.parametrize(
    "line", ["serve demo --port 8001", "serve --port 8001 demo", "--model demo --port 8001", "--port 8001"]
)
def test_ways_to_say_serve(line: str) -> None:
    args = cli.serve_parser().parse_intermixed_args(line.split())
    assert (args.served or args.model) == "demo" and args.port == 8001 and args.command == "serve"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--temperature -1", "at least 0"),
        ("--temperature inf", "must be"),
        ("--top-p 0", "more than 0"),
        ("--top-p 2", "at most 1"),
        ("--max-tokens 0", "at least 1"),
        ("--max-tokens many", "not a whole number"),
        ("--port 99999", "at most 65535"),
        ("--media-root /no/such/folder", "no folder"),
        ("--log-level loud", "invalid choice"),
        ("--allowed-media-domains https://a.org", "not the name of a host"),
        (f"--cache-dir {__file__}", "is a file"),
        ("--cache-disk-gb 0", "more than 0"),
        ('--kv-transfer-config {"kv_connector":"LMCacheConnectorV1"}', "use --cache-dir"),
        ("launch nobody", "invalid choice"),
        ("--allowed-origins localhost", "is not an origin"),
        ("--api-key-file /no/such/file", "cannot read"),
        ("--rate-limit 0", "at least 1"),
        ("--timeout 0", "more than 0"),
        ("--keep-alive 0", "more than 0"),
        ("--shutdown-timeout -1", "at least 0"),
        ("--nonsense", "unrecognized"),
    ],
)
def test_wrong_options_are_refused_in_words(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(line.split())
    assert ended.value.code == 2 and words in capsys.readouterr().err


def test_a_disk_cache_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Off by default; the folder need not be there yet; a limit without a folder is a mistake and not ignored."""
    assert EngineConfig().cache.disk_folder is None
    engine, _ = parsed("--cache-dir", str(tmp_path / "new"), "--cache-disk-gb", "0.5")
    assert (engine.cache.disk_folder, engine.cache.max_disk_bytes) == ((tmp_path / "new").resolve(), 1 << 29)
    assert cli.main(["--port", "0", "--cache-disk-gb", "2"]) == 1
    assert "--cache-dir" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--disable-prefix-cache --max-cache-blocks 5", "--max-cache-blocks: that cache is off"),
        ("--no-enable-mllm-cache --mllm-cache-max-mb 5", "--mllm-cache-max-mb: that cache is off"),
        ("selftest demo --top-p 0.5 --temperature 1", "--temperature, --top-p: the self-test asks in its own way"),
    ],
)
def test_options_that_would_do_nothing_are_refused(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(line.split()) == 1 and words in capsys.readouterr().err


def test_a_server_for_no_link_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert chat(["--share-server", "frp.example:7000", "--check"]) == 1
    assert "--share-server" in capsys.readouterr().err


def test_off_loopback_there_is_always_a_key() -> None:
    opened = secured(ServerConfig(host="0.0.0.0"))
    ((name, key),) = opened.api_keys
    assert name and len(key) > 24 and key != secured(ServerConfig(host="0.0.0.0")).api_keys[0][1]
    for config in (ServerConfig(), ServerConfig(host="::1"), ServerConfig(host="0.0.0.0", api_keys=(("a", "b"),))):
        assert secured(config) == config
    assert all(secured(ServerConfig(host=host)).api_keys for host in ("::", "box"))
    assert not secured(ServerConfig(host="0.0.0.0", open_access=True)).api_keys


def test_a_server_from_start_to_end(started: list[Running]) -> None:
    server = Running("serve", "demo")
    started.append(server)
    assert httpx.get(f"{server.url}/health").status_code == 200, "it answers while the model loads"
    assert "demo" in server.line(), "and says when the model is ready"
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60).json()
    assert answer["usage"]["completion_tokens"] >= 1
    assert httpx.get(server.url).json()["openai_api"] == "/v1"
    status, said = server.end()
    assert status == 0 and "Traceback" not in said and "terminate called" not in said
    assert not re.search("PyTorch|Warning|deprecat", said), "a first start prints no stranger's warning"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_while_it_answers(started: list[Running], how: signal.Signals) -> None:
    server = Running("--model", "demo", "--shutdown-timeout", "1")
    started.append(server)
    server.line()
    body = {**endless_request(), "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as response:
        lines = response.iter_lines()
        next(lines)
        server.process.send_signal(how)
        last = [line for line in lines if line][-1]
    assert "error" in json.loads(last.removeprefix("data: ")), "the answer is ended in words, not cut off"
    _, said = server.process.communicate(timeout=30)
    assert server.process.returncode == 0
    assert "terminate called" not in said and "Traceback" not in said


@pytest.mark.parametrize(
    ("how", "in_background"), [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)]
)
def test_it_ends_cleanly_while_the_model_loads(
    started: list[Running], how: signal.Signals, in_background: bool
) -> None:
    server = Running("serve", "demo", in_background=in_background)
    started.append(server)
    assert httpx.get(f"{server.url}/health").status_code == 200
    status, said = server.end(how)
    assert status == 0 and "error" not in said and "Traceback" not in said, said


def test_sigterm_comes_up_in_no_task() -> None:
    program = (
        "import asyncio, os, signal\nfrom engine.cli import sigterm_as_sigint\nsigterm_as_sigint()\n"
        "async def work():\n    try:\n        os.kill(os.getpid(), signal.SIGTERM)\n        await asyncio.sleep(60)\n"
        "    except BaseException as end:\n        print(type(end).__name__)\n        raise\n"
        "async def main():\n    async with asyncio.TaskGroup() as group:\n        group.create_task(work())\n"
        "try:\n    asyncio.run(main())\nexcept KeyboardInterrupt:\n    print('Ctrl-C')"
    )
    done = run(sys.executable, "-c", program)
    assert (done.stdout.split(), done.stderr) == (["CancelledError", "Ctrl-C"], "")


def test_what_was_stopped_as_asked_for_is_no_error() -> None:
    program = (
        "import os, signal\nfrom engine.api.server import listen, serve_app\nfrom engine.config import ServerConfig\n"
        "from engine.errors import Unavailable\n"
        "async def started():\n    {}\n    raise Unavailable('It was stopped.')\n"
        "config = ServerConfig(port=0)\n"
        "with listen(config) as listener:\n"
        "    try:\n        serve_app(lambda *_: None, listener, config, started)\n"
        "    except KeyboardInterrupt:\n        pass\n"
    )
    asked = run(sys.executable, "-c", program.format("os.kill(os.getpid(), signal.SIGINT)"))
    assert asked.returncode == 0, asked.stderr
    failed = run(sys.executable, "-c", program.format("pass"))
    assert failed.returncode == 1 and "It was stopped." in failed.stderr


def test_a_generated_key_is_printed_and_works(started: list[Running]) -> None:
    server = Running("--host", "0.0.0.0")
    started.append(server)
    key = re.search(r"sk-\S+", server.line())
    assert key
    assert httpx.get(f"{server.url}/v1/models").status_code == 401
    assert httpx.get(f"{server.url}/v1/models", headers={"Authorization": f"Bearer {key[0]}"}).status_code == 200


def test_a_taken_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(*SERVE, "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1 and "Cannot listen" in done.stderr and "--port" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    done = run(*SERVE, "--port", "0", "--model", str(tmp_path / "nothing"))
    assert done.returncode == 1 and "error: " in done.stderr and "Traceback" not in done.stderr


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}')
    done = run(*SERVE, "--port", "0", "--model", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: Could not load")


def test_serve_works_without_gradio(started: list[Running], tmp_path: Path) -> None:
    """A Gradio that cannot be imported stands in for one that is not installed."""
    (tmp_path / "gradio.py").write_text("raise ImportError('not installed')")
    server = Running(environment={"PYTHONPATH": str(tmp_path)})
    started.append(server)
    assert httpx.get(f"{server.url}/health").status_code == 200
    assert "ready" in server.line()


def test_arguments_of_the_benchmark() -> None:
    line = "--prompts 3 --suite image --case 64x32 --vs mlx_vlm --model demo --disable-prefix-cache"
    args = command.parse(line.split())
    assert (args.prompts, args.suite, args.case, args.vs) == (3, ["image"], ["64x32"], ["mlx_vlm"])
    assert args.engine_arguments == ["--model", "demo", "--disable-prefix-cache"]
    plain = command.parse([])
    assert (plain.prompts, plain.max_tokens, plain.temperature, plain.warmup) == (5, 256, 0.7, 1)
    for wrong in ("--suite all", "--prompts x", "--prompts -1", "--compare one"):
        with pytest.raises(SystemExit):
            command.parse(wrong.split())


def test_small_writes_are_sent_at_once() -> None:
    """Else the first token waits for the reader to acknowledge the headers: 40 ms on Linux."""
    with listen(ServerConfig(port=0)) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
