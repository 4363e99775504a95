"""The port and uvicorn. Runs in the caller's thread; makes none."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from engine.config import ServerConfig
from engine.errors import Unavailable

GRACE_S = 1.0
"""How long a stopping server lets open answers go on before it ends them with an error."""

FORCE_S = 5
"""How long until what still runs is cut off."""

POLL_S = 0.05


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
    on_started: Callable[[], Awaitable[None]] | None = None,
    on_stopping: Callable[[], None] | None = None,
) -> None:
    """Serve an ASGI app until SIGINT or SIGTERM. Blocks.

    on_started runs beside the server once it answers; an exception of it stops the server and is raised here.
    on_stopping runs when the server is asked to stop and open answers had their grace; it should end those answers.
    """
    asyncio.run(_serve(app, listener, on_started, on_stopping))


async def _serve(
    app: Any,
    listener: socket.socket,
    on_started: Callable[[], Awaitable[None]] | None,
    on_stopping: Callable[[], None] | None,
) -> None:
    import uvicorn

    config = uvicorn.Config(app, ws="none", log_level="warning", access_log=False, timeout_graceful_shutdown=FORCE_S)
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
