"""Options of the port, shared by vllm-mlx and vllm-mlx-chat: argument groups -> ServerConfig.

Imports nothing slow: `--help` must answer at once.
"""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import replace

from engine.arguments.types import (
    add_numbers,
    at_least_zero,
    key_file,
    more_than_zero,
    new_folder,
    origins,
    port_number,
    positive,
)
from engine.assets import data_folder
from engine.config import KEY_VARIABLE, ServerConfig
from engine.errors import BadRequest

NAMED_KEY = re.compile(r"([A-Za-z][\w.-]{0,31})=([^=\s]\S*)")
LOG_LEVELS = ("debug", "info", "warning", "error")
DEFAULT_SERVER = ServerConfig()


def add_server_arguments(parser: argparse.ArgumentParser, port: int = 8000) -> None:
    """How the port is opened. Read back by `server_config`."""
    group = parser.add_argument_group("server")
    group.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 opens it (default: %(default)s)"
    )
    group.add_argument(
        "--port", type=port_number, default=port, help="port to listen on, 0 for any free one (default: %(default)s)"
    )
    group.add_argument("--root-path", metavar="PATH", default="", help="path prefix when a reverse proxy adds one")
    group.add_argument("--check", action="store_true", help="only look whether the options are right; start nothing")
    group.add_argument(
        "--data-dir",
        metavar="FOLDER",
        type=new_folder,
        help=f"where conversations of the page, files and batches are kept (default: {data_folder()})",
    )
    group.add_argument("--log-level", choices=LOG_LEVELS, default="warning", help="default: %(default)s")
    _add_access_arguments(parser)
    _add_limit_arguments(parser)


def _add_access_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("who may ask")
    group.add_argument(
        "--api-key",
        metavar="NAME=KEY",
        action="append",
        default=[],
        help="ask for this key; may be given several times, a plain KEY is fine too. Off loopback one is always asked "
        "for: without this option it is made and printed. Of several the first is the operator's, who sees everything; "
        "the others see what they sent themselves",
    )
    group.add_argument(
        "--api-key-file",
        metavar="FILE",
        type=key_file,
        default=[],
        help="keys as in --api-key, one a line; lines that begin with # are left out. Where neither option is given, "
        f"the environment's {KEY_VARIABLE} is the key",
    )
    group.add_argument(
        "--rate-limit",
        metavar="N",
        type=positive,
        help="POST requests that each key may send per minute, before 429; the page is not counted (default: no limit)",
    )
    group.add_argument(
        "--allowed-host",
        metavar="NAME",
        action="append",
        default=[],
        help="answer under this name too, as behind a proxy (without a key, a loopback server answers localhost only)",
    )
    group.add_argument(
        "--allowed-origins",
        metavar="ORIGIN",
        nargs="+",
        action="extend",
        type=origins,
        default=[],
        help="let web pages of these origins use the routes (CORS), e.g. http://localhost:3000; * is any page that its "
        "user opens, so give it together with --api-key (default: none)",
    )


def _add_limit_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits of the port")
    group.add_argument(
        "--max-upload-mb",
        metavar="N",
        type=positive,
        default=256,
        help="largest request or upload in MiB (default: %(default)s)",
    )
    group.add_argument(
        "--max-uploads-mb",
        metavar="N",
        type=positive,
        help="MiB of all uploads together that are being read or answered, before 429 (default: 4 times "
        "--max-upload-mb)",
    )
    numbers = {
        "--max-files": (DEFAULT_SERVER.max_stored_files, "most files that each key may keep on /v1/files"),
        "--max-files-mb": (DEFAULT_SERVER.max_stored_bytes // 1024**2, "MiB of all files that each key may keep"),
        "--max-batch-requests": (DEFAULT_SERVER.max_batch_requests, "most requests of one batch"),
    }
    add_numbers(group, numbers)
    group.add_argument(
        "--upload-timeout",
        metavar="S",
        type=more_than_zero,
        default=DEFAULT_SERVER.upload_stall_s,
        help="seconds that an upload may stall before 408 (default: %(default)g)",
    )
    group.add_argument(
        "--max-connections",
        metavar="N",
        type=positive,
        help="most connections open at once; one that sends no request is closed after seconds, and sooner where its "
        "place is needed (default: half of `ulimit -n`, which is raised as far as it may be)",
    )
    group.add_argument(
        "--keep-alive",
        metavar="S",
        type=more_than_zero,
        default=DEFAULT_SERVER.keep_alive_s,
        help="seconds that a connection may wait for its next request (default: %(default)g)",
    )
    group.add_argument(
        "--shutdown-timeout",
        metavar="S",
        type=at_least_zero,
        default=DEFAULT_SERVER.shutdown_s,
        help="seconds that running answers may go on after SIGTERM or Ctrl-C, while new requests get 503; a second "
        "signal ends them at once (default: %(default)g)",
    )
    group.add_argument(
        "--exit-on-failure",
        action="store_true",
        help="end with status 1 when the engine has failed for good, so that a supervisor starts it anew (without this "
        "the server goes on, and /health tells the reason with a 503)",
    )


def server_config(args: argparse.Namespace) -> ServerConfig:
    """ServerConfig from arguments declared by `add_server_arguments`; makes no key (see `secured`)."""
    all_uploads_mb = args.max_uploads_mb or 4 * args.max_upload_mb
    if all_uploads_mb < args.max_upload_mb:
        why = f"--max-uploads-mb {all_uploads_mb} is less than --max-upload-mb {args.max_upload_mb}."
        raise BadRequest(why, param="max_uploads_mb")
    return ServerConfig(
        host=args.host,
        port=args.port,
        api_keys=_api_keys(args),
        root_path=args.root_path.rstrip("/"),
        max_upload_bytes=args.max_upload_mb * 1024 * 1024,
        max_uploads_bytes=all_uploads_mb * 1024 * 1024,
        upload_stall_s=args.upload_timeout,
        max_connections=args.max_connections,
        exit_on_failure=args.exit_on_failure,
        allowed_hosts=tuple(args.allowed_host),
        allowed_origins=tuple(dict.fromkeys(origin for given in args.allowed_origins for origin in given)),
        keep_alive_s=args.keep_alive,
        shutdown_s=args.shutdown_timeout,
        requests_per_minute=args.rate_limit,
        data_folder=args.data_dir or data_folder(),
        max_stored_files=args.max_files,
        max_stored_bytes=args.max_files_mb * 1024**2,
        max_batch_requests=args.max_batch_requests,
    )


def secured(config: ServerConfig) -> ServerConfig:
    """A port that others can reach asks for a key: make one where none was given."""
    if config.on_loopback or config.api_keys or config.open_access:
        return config
    import secrets  # and hashlib with it

    return replace(config, api_keys=(("user", "sk-" + secrets.token_urlsafe(24)),))


def _api_keys(args: argparse.Namespace) -> tuple[tuple[str, str], ...]:
    """(name, key) of each key. "NAME=KEY", or KEY alone, which may itself end in "=" as base64 does.

    Raises BadRequest where two keys have one name: they would share what each sent.
    """
    given = [*args.api_key, *args.api_key_file] or [key for key in [os.environ.get(KEY_VARIABLE, "").strip()] if key]
    keys = []
    for number, text in enumerate(given, 1):
        named = NAMED_KEY.fullmatch(text)
        keys.append((named[1], named[2]) if named else ("user" if number == 1 else f"user{number}", text))
    if len({name for name, _ in keys}) < len(keys):
        raise BadRequest("--api-key: two keys have the same name.", param="api_key")
    return tuple(keys)
