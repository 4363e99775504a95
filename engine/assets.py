"""Where the files that ship with the project are: in the wheel beside this package, in a checkout in `assets/`."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def asset(name: str) -> Path:
    """Path of a shipped file or folder, e.g. "demo-model" or "icon.png". It may not exist: the caller checks."""
    in_wheel = _PACKAGE / "assets" / name
    return in_wheel if in_wheel.exists() else _PACKAGE.parent / "assets" / name
