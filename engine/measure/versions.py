"""Which versions made a result."""

from __future__ import annotations

import importlib.metadata
import platform

PROJECT = "mlx-workbench"
PACKAGES = (PROJECT, "mlx", "mlx-lm", "mlx-vlm", "transformers", "numpy", "pillow")


def versions() -> dict[str, str]:
    """The version of Python and of each of PACKAGES."""
    return {"python": platform.python_version()} | {package: _version(package) for package in PACKAGES}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "from a checkout" if package == PROJECT else "not installed"
