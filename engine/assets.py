"""Where files are: those that ship with the project (in the wheel beside this package, in a checkout in `assets/`), and
those that a user keeps."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def asset(name: str) -> Path:
    """Path of a shipped file or folder, e.g. "demo-model" or "icon.png". It may not exist: the caller checks."""
    in_wheel = _PACKAGE / "assets" / name
    return in_wheel if in_wheel.exists() else _PACKAGE.parent / "assets" / name


def data_folder() -> Path:
    """This project's folder among the user's data, by the convention of the system."""
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "mlx-workbench"
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "mlx-workbench"
