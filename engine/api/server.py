"""The port, uvicorn and what bounds its connections. Runs in the caller's thread; makes none."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from engine.config import ServerConfig
from engine.device import raise_file_limit
from engine.errors import EngineError, Unavailable
from engine.types import Snapshot

if TYPE_CHECKING:
    import uvicorn

    from engine.api.http.ending import Ending
    from engine.core import Engine

FORCE_S = 5
"""How long what has been answered may take to be sent, when the port has closed."""

WATCH_S = 1.0


def listen(config: ServerConfig) -> socket.socket:
    """Bind the port before anything slow is done. Raises Unavailable (port_in_use) in words for a person."""
    host = config.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, config.port), family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror or str(error)
        why = f"Cannot listen on {config.host}:{config.port} ({reason}). Try another --port."
        raise Unavailable(why, code="port_in_use") from error
    # Inherited by every connection. asyncio sets it only for sockets that it binds itself; without it the first token
    # waits for the reader to acknowledge the headers (Nagle), 40 ms with Linux's delayed acknowledgements.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def serve_app(
    app: Any,
    listener: socket.socket,
    config: ServerConfig,
    on_started: Callable[[], Awaitable[None]] | None = None,
    ending: Ending | None = None,
) -> None:
    """Serve an ASGI app until SIGINT or SIGTERM, or for a restart. Blocks. Raises BadRequest for more connections than
    can be open.

    on_started runs beside the server once it answers; an exception of it stops the server and is raised here.
    ending: what ends with it.
    """
    asyncio.run(_serve(app, listener, config, on_started, ending))


def uvicorn_config(app: Any, config: ServerConfig) -> uvicorn.Config:
    """How uvicorn serves an app, with a bounded number of connections. Lifts the process's limit of open files as far
    as its operator allows. Raises BadRequest for more connections than fit."""
    import uvicorn

    from engine.api.http.connections import MAX_HEAD_BYTES, Connections, accept_at_once, most_connections

    num_files = raise_file_limit()
    connections = Connections(most_connections(config.max_connections, num_files), idle_s=config.keep_alive_s)
    return uvicorn.Config(
        app,
        http=connections.protocol,  # type: ignore[arg-type]
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_keep_alive=math.ceil(config.keep_alive_s),
        ws="none",
        log_config=None,  # its lines go where all others go
        log_level="warning",
        access_log=False,
        backlog=accept_at_once(num_files),
        timeout_graceful_shutdown=FORCE_S,
    )


async def announce_models(engine: Engine) -> None:
    """Print which models there are, once the default one is loaded. Raises what kept the only one from it, which ends
    the server; of several, each is an error of its own requests."""
    default, *others = engine.config.models
    if default.server is not None:
        await _announce_server(engine, default.served_name, default.server.host)
    elif default.preload is False:
        others = [default, *others]
    else:
        try:
            card = await engine.ready()
            print(f"Model:         {card.id} ({card.model_type}, {card.dtype}) is ready", flush=True)
        except EngineError as error:
            if not others:
                raise
            print(f"Model:         {default.served_name} could not be loaded: {error.message}", flush=True)
    if others:
        names = ", ".join(spec.served_name for spec in others if spec.server is None)
        if names:
            print(f"Others:        {names}, each loaded by the first request for it", flush=True)
        for spec in others:
            if spec.server is not None:
                await _announce_server(engine, spec.served_name, spec.server.host)


async def _announce_server(engine: Engine, name: str, host: str) -> None:
    """A model of another server, and why that cannot be reached where it cannot; it may come up later."""
    try:
        await engine.reached(name)
        print(f"Model:         {name}, served by {host}", flush=True)
    except EngineError as error:
        print(f"Model:         {name}, served by {host}, which does not answer yet: {error.message}", flush=True)


async def until_failed(snapshot: Callable[[], Snapshot]) -> None:
    """Wait for the engine to end for good, and raise Unavailable with its reason."""
    while (latest := snapshot()).state != "failed":
        await asyncio.sleep(WATCH_S)
    raise Unavailable(f"The engine has failed: {latest.error}", code="engine_failed")


async def _serve(
    app: Any,
    listener: socket.socket,
    config: ServerConfig,
    on_started: Callable[[], Awaitable[None]] | None,
    ending: Ending | None,
) -> None:
    from engine.api.http.ending import Ending, EndingServer, end_in_order, until

    ending = ending or Ending()
    server = EndingServer(uvicorn_config(app, config))

    async def run_started() -> None:
        await until(lambda: server.started)
        try:
            if on_started is not None:
                await on_started()
        except Exception:
            server.should_exit = True
            raise

    started = asyncio.create_task(run_started())
    end = asyncio.create_task(end_in_order(server, ending, config.shutdown_s))
    try:
        await server.serve(sockets=[listener])
        if started.done() and not server.is_ending:  # else it only says that the engine was stopped, as was asked for
            started.result()
    finally:
        started.cancel()
        end.cancel()
