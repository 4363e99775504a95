"""One process, one port: the page and the OpenAI routes over one engine. `main` is the command vllm-mlx-chat.

    create_app = engine.api.app.create_app (the routes, declared first) + the page mounted at "/"

The only module of the project that makes server and tunnel threads. Gradio is imported inside functions: `--help`
answers at once, and the environment it reads on import is set before.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import logs
from engine.arguments.engine import add_engine_arguments, engine_config
from engine.arguments.models import add_remote_arguments, add_several_models_arguments
from engine.arguments.ranks import add_ranks_arguments
from engine.arguments.request_log import add_request_log_arguments
from engine.arguments.server import add_server_arguments, secured, server_config
from engine.arguments.types import more_than_zero
from engine.assets import asset
from engine.cli import sigterm_as_sigint
from engine.config import ServerConfig
from engine.errors import BadRequest, EngineError
from engine.own_process import OwnProcess, Restart

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import APIRouter, FastAPI
    from starlette.datastructures import State

    from engine.core import Engine
    from engine.runtime.intake.tickets import ClosedFor
    from workbench.compare.tab import Comparisons
    from workbench.conversations.library import ConversationLibrary
    from workbench.conversations.routes import PageLogin
    from workbench.requests.live import Passes
    from workbench.shared import Shared

TITLE = "MLX Workbench"
PACKING = 4
"""zlib's level for the page: 6 takes more than twice the time for 6 % less."""

NOTHING_QUEUED_S = 1.0

NOT_PACKED = (
    *("application/*", "audio/*", "font/*", "image/*", "multipart/*", "video/*"),
    *("text/css", "text/csv", "text/event-stream", "text/javascript", "text/markdown", "text/plain"),
)
"""All but pages: files are packed already or sent in pieces, and events must not wait until there is enough to pack."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How the command shows the server to people, beside the ServerConfig that says how the port is opened."""

    browser: bool = True
    share: bool = False
    share_server: str | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """vllm-mlx-chat. Returns the exit status: 0 when stopped by hand, 1 when it could not serve."""
    args = _parser().parse_args(argv)
    process = OwnProcess(restart=Restart.of_this_process("--no-browser") if argv is None else Restart())
    sigterm_as_sigint()
    try:
        return _serve(args, process)
    except EngineError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vllm-mlx-chat",
        description="Chat with a model about pictures and clips in the browser; /v1 is on the same port.",
    )
    page = parser.add_argument_group("page")
    page.add_argument("--no-browser", action="store_true", help="do not open the page in a browser")
    page.add_argument(
        "--share", action="store_true", help="also make a public link to the page and /v1; asks for a key"
    )
    page.add_argument("--share-server", metavar="HOST:PORT", help="your own FRP server for --share")
    page.add_argument(
        "--no-history",
        action="store_true",
        help="keep conversations in memory only: they are lost when this ends; /v1/files keeps nothing either",
    )
    page.add_argument(
        "--unwatched-minutes",
        metavar="N",
        type=more_than_zero,
        default=ServerConfig().unwatched_s / 60,
        help="how long an answer goes on that no page looks at (default: %(default)g)",
    )
    add_engine_arguments(parser)
    add_several_models_arguments(parser)
    add_ranks_arguments(parser)
    add_remote_arguments(parser)
    add_request_log_arguments(parser)
    add_server_arguments(parser, port=7860)
    return parser


def _serve(args: argparse.Namespace, process: OwnProcess) -> int:
    """Open the port, begin to load the model, build the page meanwhile, serve until stopped. Returns the exit status.
    Raises EngineError."""
    from engine.api.http.ending import Ending
    from engine.api.server import listen, serve_app
    from engine.core import Engine
    from engine.runtime.following import follow_unless_first

    if args.share_server and not args.share:
        raise BadRequest("--share-server: it is the server for --share; give both.", param="--share-server")
    in_a_space = os.environ.get("SYSTEM") == "spaces"
    launch = Launch(not (args.no_browser or in_a_space), args.share and not in_a_space, args.share_server)
    given = kept(server_config(args), args)
    config = open_to(given, shared=launch.share, in_a_space=in_a_space)
    if args.check:
        engine_config(args)
        return 0
    process.log = logs.configure(args.log_level)
    engine_settings = engine_config(args)
    follow_unless_first(engine_settings)
    with listen(config) as listener, tempfile.TemporaryDirectory(prefix="mlx-workbench-") as uploads:
        config = replace(config, port=listener.getsockname()[1])
        process.restart.keep(given, config)
        prepare_gradio(Path(uploads))
        process.restart.is_of_several = engine_settings.ranks is not None
        engine = Engine(engine_settings)
        engine.start()
        try:
            app = create_app(engine, config, process)
            engine.finish_imports()
            announce = partial(_announce, engine, config, launch)
            serve_app(app, listener, config, announce, Ending(EngineOfPages(engine, app), process.restart))
        finally:
            engine.stop()
    return process.restart.ended()


@dataclass(frozen=True, slots=True)
class EngineOfPages:
    """The engine, at whose end the pages' connections to Gradio end, too: those stay open as long as a page does, and
    the server would wait for them, end them by force and log that. As engine.api.http.ending.Answering."""

    engine: Engine
    app: FastAPI

    @property
    def num_open(self) -> int:
        return self.engine.num_open

    def drain(self, why: ClosedFor) -> None:
        self.engine.drain(why)

    def stop(self) -> None:
        self.app.state.gradio.stop_event.set()
        self.engine.stop()


def kept(config: ServerConfig, args: argparse.Namespace) -> ServerConfig:
    """The config with what is kept of conversations."""
    folder = None if args.no_history else config.data_folder
    return replace(config, data_folder=folder, unwatched_s=60 * args.unwatched_minutes)


def open_to(config: ServerConfig, *, shared: bool, in_a_space: bool) -> ServerConfig:
    """The config with a key where others can come in: an address of the network, or a public link to a loopback port.

    One secret is the API key and the page's login, for the page's events are a way to the engine too. A Space is the
    stated exception: it is made to be open, and its platform has its own door.
    """
    if in_a_space:
        return replace(config, open_access=True)
    if shared:
        return replace(secured(replace(config, host="0.0.0.0")), host=config.host, public_link=True)
    return secured(config)


def prepare_gradio(uploads: Path) -> None:
    """Set what Gradio reads from the environment. Before Gradio is imported.

    uploads: a folder only this user may read. Gradio's default is shared by all its apps and users of the machine.
    """
    uploads.chmod(0o700)
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # Gradio builds a data frame of all its events after each of them; nobody reads it here.
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = "1000"
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1000"


def create_app(engine: Engine, config: ServerConfig, process: OwnProcess | None = None) -> FastAPI:
    """The whole server: /v1 and the page. Call `prepare_gradio` first."""
    from engine.api.app import create_app as create_api

    return mount(create_api(engine, config, process=process), engine, config)


def mount(app: FastAPI, engine: Engine, config: ServerConfig) -> FastAPI:
    """Mount the page at "/" of an app whose own routes are already declared: the mount answers everything after it."""
    import gradio as gr
    from starlette.middleware.gzip import GZipMiddleware

    from workbench import files, theme
    from workbench.batch.desk import BatchDesk
    from workbench.batch.routes import batch_routes
    from workbench.compare.routes import compare_routes
    from workbench.compare.tab import Comparisons
    from workbench.conversations.library import ConversationLibrary
    from workbench.conversations.routes import PageLogin
    from workbench.install import install_routes
    from workbench.language import InLanguage
    from workbench.login import LoginPage
    from workbench.requests.live import Passes
    from workbench.requests.routes import request_routes

    shared = _shared(config)
    library = ConversationLibrary(engine, config, shared.uploads)
    passes, comparisons = Passes(), Comparisons()
    page = create_ui(engine, shared, library, passes, comparisons)
    login = PageLogin(needs_login=bool(config.api_keys))
    app.state.batch_desk = desk = BatchDesk(engine, config, app.state.batch_places)
    app.include_router(_routes(engine, shared, library, login, app.state))
    app.include_router(batch_routes(desk, config, login))
    app.include_router(install_routes())
    app.include_router(files.file_routes())
    app.include_router(request_routes(engine, passes))
    app.include_router(compare_routes(engine, comparisons))
    # Gradio skips its check "did a page upload this file?" until launch() sets this, and a mounted app never launches:
    # without it any client may read any file of this machine. tests/workbench/test_app.py tries.
    page.has_launched = True
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        page,
        path="/",
        auth=list(config.api_keys) or None,
        root_path=config.root_path or None,
        max_file_size=config.max_upload_bytes,
        favicon_path=str(asset("icon.png")),
        theme=theme.theme(),
        head=files.head(),
        footer_links=[],
        ssr_mode=False,  # Node in front would answer /v1 with the page
        run_history=False,
        show_error=True,
    )
    # Nothing of the page waits in Gradio's queue, which looks for work a thousand times a second.
    page._queue.sleep_when_free = page._queue.progress_update_sleep_when_free = NOTHING_QUEUED_S
    mounted.add_middleware(InLanguage)
    gradio: Any = mounted.routes[-1]
    login.page = app.state.gradio = gradio.app
    gradio.app = LoginPage(files.EarlyFiles(gradio.app), login.is_known)
    # Around all the others, for SafeHeaders reads the page. Gradio packs its own files, but not the page.
    mounted.add_middleware(GZipMiddleware, compresslevel=PACKING, exclude_content_types=NOT_PACKED)
    return mounted


def _routes(engine: Engine, shared: Shared, library: ConversationLibrary, login: PageLogin, state: State) -> APIRouter:
    """The plain routes of the page, beside Gradio's. state: of the app."""
    from workbench import header, theme
    from workbench.chat.convert import media_kind
    from workbench.chat.turns import LiveAnswer
    from workbench.conversations.feed import Voices
    from workbench.conversations.routes import Files, conversation_routes
    from workbench.models.live import LiveModels
    from workbench.models.routes import model_routes
    from workbench.server.routes import server_news, server_routes

    live = LiveModels(engine)
    process: OwnProcess = state.process
    voices = Voices(
        lambda manages: header.words(engine, shared.history, manages=manages),
        LiveAnswer,
        theme.version(),
        lambda manages: live.news(manages=manages),
        state.batch_desk.news,
        server=lambda runs: server_news(engine, shared.server, process, runs=runs),
    )
    router = conversation_routes(library, shared.server, login, voices, Files(shared.uploaded, media_kind))
    router.include_router(model_routes(engine, shared.server, login, live))
    router.include_router(server_routes(engine, shared.server, login, process))
    return router


def create_ui(
    engine: Engine, shared: Shared, library: ConversationLibrary, passes: Passes, comparisons: Comparisons
) -> gr.Blocks:
    """The page: header and tabs. A tab is listed here once it works."""
    import gradio as gr

    from workbench import header
    from workbench.batch import tab as batch
    from workbench.bench import tab as bench
    from workbench.cache import tab as cache
    from workbench.chat import tab as chat
    from workbench.compare import tab as compare
    from workbench.components import QUIET, Page, static
    from workbench.decide import tab as decide
    from workbench.models import tab as models
    from workbench.requests import tab as requests
    from workbench.video import tab as video

    page = Page(title=TITLE, fill_height=True, fill_width=True, delete_cache=(3600, 86400))
    with page:
        header.build(engine, shared.history)
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:  # static/tabs.css makes one line of it
            with gr.Tab(static("Chat"), id="chat", elem_id="tab-chat"):
                chat_tab = chat.build(engine, shared, library)
            with gr.Tab(static(compare.NAME), elem_id="tab-compare"):
                compare.build(engine, shared, library, comparisons)
            with gr.Tab(static(video.NAME), elem_id="tab-video"):
                video.build(engine, shared, chat_tab, tabs)
            with gr.Tab(static(decide.NAME), elem_id="tab-decide"):
                decide.build(engine, shared)
            with gr.Tab(static(batch.NAME), elem_id="tab-batch"):
                batch.build()
            with gr.Tab(static(cache.NAME), elem_id="tab-cache"):
                cache_tab = cache.build(engine, shared)
            with gr.Tab(static(requests.NAME), elem_id="tab-requests"):
                requests.build(engine, shared, passes)
            with gr.Tab(static(models.NAME), elem_id="tab-models"):
                models.build()
            with gr.Tab(static(bench.NAME), elem_id="tab-benchmark"):
                bench_tab = bench.build(engine, shared)
        cache_tab.follow(tabs)
        bench_tab.follow(tabs)
        page.load(chat_tab.offer_media, chat_tab.settings.model, chat_tab.offered, **QUIET)
    return page


def _shared(config: ServerConfig) -> Shared:
    from gradio.utils import get_upload_folder

    from workbench import samples
    from workbench.shared import Shared

    uploads = Path(get_upload_folder())
    return Shared(uploads, samples.load(asset("samples"), uploads / "samples"), config)


async def _announce(engine: Engine, config: ServerConfig, launch: Launch) -> None:
    """Say where the page is, show it, make the tunnel; then wait for the model.

    Raises what kept the model from loading, which ends the server; with --exit-on-failure, and as one of several ranks,
    also what ended the engine.
    """
    import asyncio

    from engine.api.server import announce_models, until_failed

    url = local_url(config)
    print(f"{TITLE}: {url}\nOpenAI API:    {url}/v1", flush=True)
    for name, secret in config.api_keys:
        print(f"Login:         {name}\nPassword:      {secret}   (also the API key)", flush=True)
    if launch.browser:
        await asyncio.to_thread(webbrowser.open, url)
    if launch.share:
        # A blocked tunnel may hang far beyond its own time limit, so it must not hold up the server or its end.
        threading.Thread(target=_share, args=(config, launch), name="tunnel", daemon=True).start()
    await announce_models(engine)
    if config.exit_on_failure or engine.config.ranks is not None:
        await until_failed(engine.snapshot)


def local_url(config: ServerConfig) -> str:
    """What a browser on this machine opens; a wildcard address is not one."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)
    return f"http://[{host}]:{config.port}" if ":" in host else f"http://{host}:{config.port}"


def _share(config: ServerConfig, launch: Launch) -> None:
    """Thread "tunnel": make a public link by hand and print it. Never raises: without one the server goes on locally.

    By hand, because the page of Gradio's own share mode loads its script from another machine for every visitor.
    """
    from gradio.networking import setup_tunnel

    try:
        url = setup_tunnel("127.0.0.1", config.port, secrets.token_urlsafe(32), launch.share_server, None)
    except Exception as error:  # whatever Gradio, httpx or the tunnel program raise: it is one line for the user
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        print(f"Public link:   none ({reason}). The page goes on at {local_url(config)}", flush=True)
    else:
        print(f"Public link:   {url}\nPublic API:    {url}/v1", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
