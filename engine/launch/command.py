"""vllm-mlx launch: from arguments to settings files that are written, or restored, and a program that is started."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping

from engine.config import KEY_VARIABLE
from engine.errors import BadRequest
from engine.launch.change import Change, apply, set_up, take_back
from engine.launch.recipe import Recipe
from engine.launch.recipes import RECIPES
from engine.launch.record import Records


def parser() -> argparse.ArgumentParser:
    """The command's own --help."""
    made = argparse.ArgumentParser(
        prog="vllm-mlx launch",
        description="Set a program up for this server: shows what would change in its settings, asks, writes it, and "
        "starts the program where it is installed. --undo restores what was there. Without NAME: the list of programs.",
    )
    made.add_argument("name", nargs="?", metavar="NAME", choices=sorted(RECIPES), help=", ".join(sorted(RECIPES)))
    made.add_argument("--undo", action="store_true", help="take the settings back")
    made.add_argument("--yes", action="store_true", help="do not ask")
    made.add_argument("--no-start", action="store_true", help="write the settings only")
    made.add_argument("--url", help="where the server is (default: port 8000, then 7860 of this machine)")
    made.add_argument("--model", metavar="NAME", help="the model to use (default: the first in /v1/models)")
    made.add_argument(
        "--api-key", metavar="KEY", help=f"key of the server, where it asks for one (default: {KEY_VARIABLE})"
    )
    return made


def run(args: argparse.Namespace) -> int:
    """Returns the exit status. Raises EngineError with what is wrong, in words for a person."""
    environment = os.environ
    records = Records(environment)
    if args.name is None:
        _list(records, environment)
        return 0
    recipe = RECIPES[args.name]
    if args.undo:
        return _undo(recipe, records, args.yes)
    from engine.launch.port import find_port

    api_key = args.api_key or environment.get(KEY_VARIABLE) or None
    recipe = recipe.filled(find_port(args.url, args.model, api_key).facts())
    changes = set_up(recipe, records, environment)
    if not _confirmed(changes, args.yes):
        return 1
    apply(recipe, changes, records)
    if recipe.note:
        print(recipe.note)
    print(f"`vllm-mlx launch {recipe.name} --undo` takes this back.", flush=True)
    return 0 if args.no_start else _start(recipe, environment)


def _list(records: Records, environment: Mapping[str, str]) -> None:
    for name, recipe in sorted(RECIPES.items()):
        states = ["set up"] if records.read(name) else []
        states += ["installed"] if _program(recipe, environment) else []
        print(f"{name:12} {recipe.title:12} {', '.join(states)}".rstrip())


def _undo(recipe: Recipe, records: Records, is_sure: bool) -> int:
    if not records.read(recipe.name):
        print(f"{recipe.title} was not set up by this command; there is nothing to take back.")
        return 0
    changes = take_back(recipe, records)
    if not _confirmed(changes, is_sure):
        return 1
    apply(recipe, changes, records)
    print(f"{recipe.title} is as it was.")
    return 0


def _confirmed(changes: list[Change], is_sure: bool) -> bool:
    """Show what would change, and ask. Raises BadRequest where there is nobody to ask."""
    differences = [change.diff() for change in changes if change.now != change.after]
    if not differences:
        print("The settings are there already.")
        return True
    print("\n".join(differences), flush=True)
    if is_sure:
        return True
    if not sys.stdin.isatty():
        raise BadRequest("Nothing was written, as nobody can be asked here; --yes writes it.")
    if input("Write this? [y/N] ").strip().lower() in ("y", "yes"):
        return True
    print("Nothing was written.")
    return False


def _program(recipe: Recipe, environment: Mapping[str, str]) -> str | None:
    return shutil.which(recipe.command[0], path=environment.get("PATH"))


def _start(recipe: Recipe, environment: Mapping[str, str]) -> int:
    """Become the program. Returns only where it is not installed."""
    program = _program(recipe, environment)
    if program is None:
        print(f"{recipe.title} is not installed here ({recipe.install}).")
        return 0
    variables = {str(x.path[0]): str(x.value) for f in recipe.files if f.format == "env" for x in f.settings}
    os.execve(program, [program, *recipe.command[1:]], {**environment, **variables})
