"""vllm-mlx completion: what a shell needs to complete the commands of vllm-mlx. shtab writes it from the parsers."""

from __future__ import annotations

import argparse
import importlib

from engine.cli import COMMANDS, serve_parser

SHELLS = ("bash", "zsh", "tcsh")


def parser() -> argparse.ArgumentParser:
    """The command's own --help."""
    made = argparse.ArgumentParser(
        prog="vllm-mlx completion",
        description="Print what makes a shell complete vllm-mlx, its commands and their options.",
        epilog='bash: eval "$(vllm-mlx completion bash)" in ~/.bashrc; zsh: vllm-mlx completion zsh > '
        "~/.zfunc/_vllm-mlx, with that folder in fpath.",
    )
    made.add_argument("shell", choices=SHELLS)
    return made


def run(args: argparse.Namespace) -> None:
    import shtab

    print(shtab.complete(whole_parser(), args.shell))


def whole_parser() -> argparse.ArgumentParser:
    """vllm-mlx with its commands as subparsers, in place of the ones that `main` chooses by the first word."""
    whole = argparse.ArgumentParser(prog="vllm-mlx")
    commands = whole.add_subparsers()
    parsers = {"serve": serve_parser()} | {name: importlib.import_module(COMMANDS[name]).parser() for name in COMMANDS}
    for name, own in parsers.items():
        commands.add_parser(name, parents=[own], add_help=False, help=own.description)
    return whole
