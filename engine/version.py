"""Which release of the project this is, and which of other packages are here."""

from __future__ import annotations

import argparse
from typing import Any

PROJECT = "mlx-workbench"


class PrintVersion(argparse.Action):
    """--version. Unlike argparse's own it looks the release up only when it is asked for: that takes longer than all
    else that `--help` needs."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help or "show the program's version number and exit")

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        print(version())
        parser.exit()


def version() -> str:
    """E.g. "0.1.0"; "0" in a checkout that was not installed."""
    return installed_version(PROJECT) or "0"


def installed_version(package: str) -> str | None:
    """Of a package by its name on the index; None where it is not installed."""
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
