"""What all tests share: tiny models, real engines on them, a real server, pictures and clips. One engine per model and
session: starting one takes longer than most tests.

    model = tiny_model("qwen3_vl", "bfloat16")             a checkpoint folder        (tests/tiny.py)
    engine = await engine_for(model, max_num_seqs=4)       a started engine, shared by the tests that ask for it
    demo_engine, demo_server                               the embedded model; the same behind uvicorn on loopback
    smollm2, smollm2_server                                a trained language model's folder; a server on it
    clip_path                                              a small .mp4
"""

from __future__ import annotations

import functools
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine import device

# Before anything imports MLX, and before Gradio or the hub client read their settings.
# Before the BLAS is loaded: with a thread on every core it would leave none to the browser of the browser tests.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
device.prepare()
# A shell that runs this in the background has told it to ignore Ctrl-C, and so its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", GRADIO_ANALYTICS_ENABLED="False", TOKENIZERS_PARALLELISM="false")

import httpx._transports.default as httpx_transport  # noqa: E402

from engine.config import EngineConfig, ModelSpec, ServerConfig  # noqa: E402
from tests import commands, gates, pictures, smollm2, tiny  # noqa: E402

# Each client of httpx, and so each httpx.get and each openai.OpenAI, reads all the machine's certificates: more work
# than most of the tests' requests are, and what waits for a server to start asks a hundred times a second.
httpx_transport.create_ssl_context = functools.cache(httpx_transport.create_ssl_context)

ROOT = Path(__file__).resolve().parent.parent
EngineFor = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module", autouse=True)
def what_is_here_stays() -> None:
    """Every engine that stops collects garbage: what libraries and the files of tests before made at import need not be
    walked each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this session's checkpoints are written."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def tiny_model(models_dir: Path) -> Callable[..., Path]:
    """tiny_model(family, dtype="float32") -> folder of a tiny random model, written at first use."""

    def make(family: str, dtype: tiny.Dtype = "float32") -> Path:
        return tiny.build(family, dtype, models_dir)

    return make


class EnginePool:
    """Started engines by their configuration. `start` keeps an engine for the session, `borrow` keeps only the few
    that were borrowed last: an idle engine still publishes its snapshot once a second."""

    max_borrowed = 4

    def __init__(self) -> None:
        self._kept: dict[EngineConfig, Any] = {}
        self._borrowed: dict[EngineConfig, Any] = {}

    def start(self, config: EngineConfig) -> Any:
        if config not in self._kept:
            self._kept[config] = self._borrowed.pop(config, None) or self._new(config)
        return self._kept[config]

    def borrow(self, config: EngineConfig) -> Any:
        if config in self._kept:
            return self._kept[config]
        self._borrowed[config] = self._borrowed.pop(config, None) or self._new(config)
        while len(self._borrowed) > self.max_borrowed:
            self._borrowed.pop(next(iter(self._borrowed))).stop()
        return self._borrowed[config]

    def _new(self, config: EngineConfig) -> Any:
        from engine.core import Engine

        engine = Engine(config)
        engine.start()
        return engine

    def stop_all(self) -> None:
        for engine in (*self._kept.values(), *self._borrowed.values()):
            engine.stop()


@pytest.fixture(scope="session")
def engine_pool() -> Iterator[EnginePool]:
    import mlx_vlm  # noqa: F401

    gc.collect()
    gc.freeze()
    pool = EnginePool()
    yield pool
    pool.stop_all()


@pytest.fixture(scope="session")
def engine_for(engine_pool: EnginePool) -> EngineFor:
    """await engine_for(folder, **EngineConfig fields) -> a real, ready engine, shared by all who ask for the same."""

    async def make(source: Path | str, **settings: Any) -> Any:
        engine = engine_pool.borrow(EngineConfig(model=ModelSpec(str(source)), **settings))
        await engine.ready()
        return engine

    return make


@pytest.fixture(scope="session")
def demo_engine(engine_pool: EnginePool) -> Any:
    """A started engine on the embedded demo model. `await demo_engine.ready()` where the test does not stream."""
    return engine_pool.start(EngineConfig())


@dataclass(frozen=True)
class Server:
    """A real server on a loopback port. `url` has no trailing slash; the OpenAI client's base_url is url + "/v1"."""

    url: str
    engine: Any


class ServerThread:
    """uvicorn on a loopback port (0: a free one), in a thread; a context manager that gives the base URL."""

    def __init__(self, app: Any, port: int = 0) -> None:
        import uvicorn

        listener = socket.socket()  # bound here for good: between two binds another process could take the port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        self._port = listener.getsockname()[1]
        # A page that is open listens for as long as it is.
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=0.5))
        serving = functools.partial(self._server.run, sockets=[listener])
        self._thread = threading.Thread(target=serving, name="test-server", daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started:
            assert self._thread.is_alive() and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
        return f"http://127.0.0.1:{self._port}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=20)
        assert not self._thread.is_alive(), "the server did not stop"


@pytest.fixture(scope="session")
def serve() -> Callable[[Any], ServerThread]:
    """with serve(app) as url: ... runs any ASGI app on a free loopback port."""
    return ServerThread


@pytest.fixture(scope="session")
def demo_server(demo_engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The /v1 routes on the demo model over a real socket; no key asked for, files kept."""
    from engine.api.app import create_app

    config = ServerConfig(data_folder=tmp_path_factory.mktemp("data"))
    with ServerThread(create_app(demo_engine, config)) as url:
        yield Server(url, demo_engine)


@pytest.fixture
def started() -> Iterator[list[commands.Running]]:
    """Append commands to it: whichever still runs at the end is killed."""
    processes: list[commands.Running] = []
    yield processes
    for running in processes:
        running.kill()


@pytest.fixture(scope="session", name="smollm2")
def smollm2_folder() -> Path:
    """The folder of a small trained language model, for what needs sense in the words (tests/smollm2.py)."""
    return smollm2.folder()


@pytest.fixture(scope="session")
def smollm2_server(smollm2: Path, engine_pool: EnginePool) -> Iterator[Server]:
    """The /v1 routes on the trained language model over a real socket; no key asked for."""
    from engine.api.app import create_app

    engine = engine_pool.start(EngineConfig(model=ModelSpec(str(smollm2)), max_num_seqs=8))
    with ServerThread(create_app(engine, ServerConfig())) as url:
        yield Server(url, engine)


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 60 drawings, called by what they show."""
    return pictures.sixty(tmp_path_factory.mktemp("drawings"))


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> gates.Gate:
    """Holds back the rows of batch runs; none may pass until the test says so."""
    return gates.Gate(monkeypatch)


@pytest.fixture(scope="session")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .mp4 of two seconds at 4 fps: eight frames that all differ."""
    return pictures.write_clip(tmp_path_factory.mktemp("clips") / "walk.mp4", pictures.numbered_frames(8), fps=4.0)
