"""What of the requests is kept: argument group -> RequestLogLimits.

Imports nothing slow: `--help` must answer at once.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from engine.arguments.types import count, file_to_write, positive
from engine.config import EngineConfig
from engine.errors import BadRequest

DEFAULT_LOG = EngineConfig().request_log


def add_request_log_arguments(parser: argparse.ArgumentParser) -> None:
    """For a command that serves. Read back by `request_log`."""
    group = parser.add_argument_group("request log", "what GET /v1/requests and the Requests tab show")
    group.add_argument(
        "--request-log",
        metavar="N",
        type=count,
        default=DEFAULT_LOG.num_requests,
        help="keep the last N requests in memory, with messages, answers and times; 0: none (default: %(default)s)",
    )
    group.add_argument(
        "--request-log-mb",
        metavar="N",
        type=positive,
        default=DEFAULT_LOG.max_bytes // 1024**2,
        help="MiB of memory that they may take with their media; the oldest leave first (default: %(default)s)",
    )
    group.add_argument(
        "--request-log-file",
        metavar="FILE",
        type=file_to_write,
        help="also write each to this file as a line of JSON, and its media to FILE.media; at 64 MiB it becomes FILE.1",
    )


def request_log(args: argparse.Namespace) -> dict[str, Any]:
    """{} for a command that does not serve."""
    if "request_log" not in args:
        return {}
    if args.request_log_file is not None and not args.request_log:
        raise BadRequest("--request-log-file writes what --request-log keeps, and that is 0.", param="request_log_file")
    limits = replace(
        DEFAULT_LOG,
        num_requests=args.request_log,
        max_bytes=args.request_log_mb * 1024**2,
        file=args.request_log_file,
    )
    return {"request_log": limits}
