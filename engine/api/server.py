"""The port and uvicorn. Runs in the caller's thread; makes none."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from engine.config import ServerConfig
from engine.errors import Unavailable

GRACE_S = 3
"""How long a stopping server waits for open answers."""

STARTED_POLL_S = 0.02


def listen(config: ServerConfig) -> socket.socket:
    """Bind the port before anything slow is done. Raises Unavailable (port_in_use) in words for a person."""
    host = config.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, config.port), family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror or str(error)
        why = f"Cannot listen on {config.host}:{config.port} ({reason}). Try another --port."
        raise Unavailable(why, code="port_in_use") from error


def serve_app(app: Any, listener: socket.socket, on_started: Callable[[], Awaitable[None]] | None = None) -> None:
    """Serve an ASGI app until SIGINT or SIGTERM. Blocks.

    on_started runs beside the server once it answers; an exception of it stops the server and is raised here.
    """
    asyncio.run(_serve(app, listener, on_started))


async def _serve(app: Any, listener: socket.socket, on_started: Callable[[], Awaitable[None]] | None) -> None:
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_S)
    server = uvicorn.Server(config)

    async def attend() -> None:
        while not server.started:
            await asyncio.sleep(STARTED_POLL_S)
        try:
            if on_started is not None:
                await on_started()
        except Exception:
            server.should_exit = True
            raise

    attendant = asyncio.create_task(attend())
    try:
        await server.serve(sockets=[listener])
        if attendant.done():
            attendant.result()
    finally:
        attendant.cancel()
