"""Which release of the project this is."""

from __future__ import annotations

import importlib.metadata


def version() -> str:
    """E.g. "0.1.0"; "0" in a checkout that was not installed."""
    try:
        return importlib.metadata.version("mlx-workbench")
    except importlib.metadata.PackageNotFoundError:
        return "0"
