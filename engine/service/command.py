"""vllm-mlx service: install, start, stop, status, logs and uninstall of a service, and the app of a Mac."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from engine.arguments.types import port_number, positive
from engine.errors import BadRequest
from engine.service.bundle import write_app
from engine.service.supervisors import check_options, supervisor
from engine.service.unit import ServiceUnit, program_of

ACTIONS = ("install", "start", "stop", "status", "logs", "uninstall", "app")
PAGE_PORT = 7860


def parser() -> argparse.ArgumentParser:
    """The command's own --help."""
    made = argparse.ArgumentParser(
        prog="vllm-mlx service",
        usage="%(prog)s ACTION [options] [-- OPTIONS OF THE SERVER]",
        description="Run the server as a service of this user, by systemd or launchd: it is there after a login and is "
        "started anew when it fails.",
        epilog="Example: vllm-mlx service install -- --model mlx-community/Qwen3-4B-4bit --port 8001",
    )
    made.add_argument("action", choices=ACTIONS, help="app: write MLX Workbench.app, which starts the page by a click")
    made.add_argument("--name", default="server", help="of the service, where there are several (default: %(default)s)")
    made.add_argument("--page", action="store_true", help="install: with the page, as vllm-mlx-chat; else /v1 alone")
    made.add_argument("--lines", metavar="N", type=positive, default=100, help="logs: so many (default: %(default)s)")
    made.add_argument("--follow", action="store_true", help="logs: go on as they come")
    made.add_argument(
        "--folder", type=Path, default=Path("~/Applications"), help="app: where it is written (default: %(default)s)"
    )
    made.add_argument("--port", type=port_number, default=PAGE_PORT, help="app: of the page (default: %(default)s)")
    made.add_argument("options", nargs="*", metavar="OPTION", help="install, app: options of the server, behind --")
    return made


def run(args: argparse.Namespace) -> int:
    """Returns the exit status. Raises BadRequest."""
    if args.options and args.action not in ("install", "app"):
        raise BadRequest(f"{args.action}: options of the server belong to install and app.", param="options")
    if args.action == "app":
        return _app(args)
    unit = ServiceUnit(args.name, program_of(sys.executable, args.options, page=args.page))
    manager = supervisor()
    file = manager.file_of(unit)
    if args.action == "install":
        check_options(unit.program)
        status = manager.install(unit)
        print(f"Written: {file}\nStart it with `vllm-mlx service start{_named(args.name)}`.", flush=True)
        return status
    if not file.is_file():
        why = f"there is no service {args.name!r}; make it with `vllm-mlx service install{_named(args.name)}`"
        raise BadRequest(f"{args.action}: {why}.", param="name")
    if args.action == "logs":
        return manager.logs(unit, args.lines, args.follow)
    actions = {
        "start": manager.start,
        "stop": manager.stop,
        "status": manager.status,
        "uninstall": manager.uninstall,
    }
    return actions[args.action](unit)


def _app(args: argparse.Namespace) -> int:
    check_options((sys.executable, "-m", "workbench.app", "--port", str(args.port), *args.options))
    bundle = write_app(args.folder.expanduser(), sys.executable, args.options, args.port)
    print(f"Written: {bundle}", flush=True)
    if sys.platform != "darwin":
        print("It is for a Mac with this Python at the same place.", flush=True)
    return 0


def _named(name: str) -> str:
    return "" if name == "server" else f" --name {name}"
