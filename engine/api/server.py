"""The port, uvicorn and what bounds its connections. Runs in the caller's thread; makes none."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from engine.config import ServerConfig
from engine.device import raise_file_limit
from engine.errors import Unavailable
from engine.types import Snapshot

if TYPE_CHECKING:
    import uvicorn

GRACE_S = 1.0
"""How long a stopping server lets open answers go on before it ends them with an error."""

FORCE_S = 5
"""How long until what still runs is cut off."""

POLL_S = 0.05
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
    on_stopping: Callable[[], None] | None = None,
) -> None:
    """Serve an ASGI app until SIGINT or SIGTERM. Blocks. Raises BadRequest for more connections than can be open.

    on_started runs beside the server once it answers; an exception of it stops the server and is raised here.
    on_stopping runs when the server is asked to stop and open answers had their grace; it should end those answers.
    """
    asyncio.run(_serve(settings(app, config), listener, on_started, on_stopping))


def settings(app: Any, config: ServerConfig) -> uvicorn.Config:
    """How uvicorn serves an app, with connections that are bounded. Raises the process's limit of open files first, as
    far as its operator allows."""
    import uvicorn

    from engine.api.connections import Connections, accept_at_once, most_connections

    num_files = raise_file_limit()
    return uvicorn.Config(
        app,
        http=Connections(most_connections(config.max_connections, num_files)).protocol,  # type: ignore[arg-type]
        ws="none",
        log_config=None,  # its lines go where all others go
        log_level="warning",
        access_log=False,
        backlog=accept_at_once(num_files),
        timeout_graceful_shutdown=FORCE_S,
    )


async def until_failed(snapshot: Callable[[], Snapshot]) -> None:
    """Wait for the engine to end for good, and raise Unavailable with its reason."""
    while (latest := snapshot()).state != "failed":
        await asyncio.sleep(WATCH_S)
    raise Unavailable(f"The engine has failed: {latest.error}", code="engine_failed")


async def _serve(
    config: uvicorn.Config,
    listener: socket.socket,
    on_started: Callable[[], Awaitable[None]] | None,
    on_stopping: Callable[[], None] | None,
) -> None:
    import uvicorn

    server = uvicorn.Server(config)

    async def attend() -> None:
        await _until(lambda: server.started)
        try:
            if on_started is not None:
                await on_started()
        except Exception:
            server.should_exit = True
            raise

    async def wind_down() -> None:
        await _until(lambda: server.should_exit)
        await asyncio.sleep(GRACE_S)
        if on_stopping is not None:
            on_stopping()

    attendants = [asyncio.create_task(attend()), asyncio.create_task(wind_down())]
    try:
        await server.serve(sockets=[listener])
        if attendants[0].done():
            attendants[0].result()
    finally:
        for attendant in attendants:
            attendant.cancel()


async def _until(condition: Callable[[], bool]) -> None:
    """uvicorn tells its state by flags, not by events."""
    while not condition():
        await asyncio.sleep(POLL_S)
