"""Which versions made a result."""

from __future__ import annotations

import platform

from engine.version import PROJECT, installed_version

PACKAGES = (PROJECT, "mlx", "mlx-lm", "mlx-vlm", "transformers", "numpy", "pillow")


def versions() -> dict[str, str]:
    """The version of Python and of each of PACKAGES."""
    return {"python": platform.python_version()} | {package: _version(package) for package in PACKAGES}


def _version(package: str) -> str:
    missing = "from a checkout" if package == PROJECT else "not installed"
    return installed_version(package) or missing
