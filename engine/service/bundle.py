"""MLX Workbench.app: a click starts the server and opens the page. A script in a bundle; nothing is signed.

https://developer.apple.com/library/archive/documentation/CoreFoundation/Conceptual/CFBundles/BundleTypes/BundleTypes.html
"""

from __future__ import annotations

import plistlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from engine.assets import asset
from engine.errors import BadRequest
from engine.version import version

NAME = "MLX Workbench"
EXECUTABLE = "mlx-workbench"
IDENTIFIER = "local.mlx-workbench"


def write_app(folder: Path, python: str, options: Sequence[str], port: int) -> Path:
    """Write the bundle into a folder and return its path. port: of the page. Raises BadRequest where it cannot be
    written, or something else of its name is there."""
    bundle = folder / f"{NAME}.app"
    contents = bundle / "Contents"
    if bundle.exists() and not _is_ours(contents):
        raise BadRequest(f"{bundle} is there already, and was not made by this.", param="folder")
    try:
        for part in ("MacOS", "Resources"):
            (contents / part).mkdir(parents=True, exist_ok=True)
        (contents / "Info.plist").write_bytes(plistlib.dumps(_info()))
        _write_icon(contents / "Resources" / "icon.icns")
        program = contents / "MacOS" / EXECUTABLE
        program.write_text(start_script(python, options, port), encoding="utf-8")
        program.chmod(0o755)
    except OSError as error:
        raise BadRequest(f"{bundle} cannot be written ({error.strerror}).", param="folder") from error
    return bundle


def start_script(python: str, options: Sequence[str], port: int) -> str:
    """Opens the page of a server that runs, or else starts one, which opens its page itself. What it prints goes into
    the log that Console shows."""
    command = shlex.join([python, "-m", "workbench.app", "--port", str(port), *options])
    return (
        "#!/bin/sh\n"
        f"url=http://127.0.0.1:{port}\n"
        'if curl --silent --fail --max-time 2 --output /dev/null "$url/health/live"; then\n'
        '  exec open "$url"\n'
        "fi\n"
        'log="$HOME/Library/Logs/mlx-workbench"\n'
        'mkdir -p "$log"\n'
        f'exec {command} >>"$log/app.log" 2>&1\n'
    )


def _info() -> dict[str, object]:
    return {
        "CFBundleName": NAME,
        "CFBundleDisplayName": NAME,
        "CFBundleIdentifier": IDENTIFIER,
        "CFBundleExecutable": EXECUTABLE,
        "CFBundleIconFile": "icon",
        "CFBundlePackageType": "APPL",
        "CFBundleShortVersionString": version(),
        "CFBundleVersion": version(),
        "LSMinimumSystemVersion": "14.0",
        "NSHighResolutionCapable": True,
    }


def _is_ours(contents: Path) -> bool:
    try:
        return bool(plistlib.loads((contents / "Info.plist").read_bytes()).get("CFBundleIdentifier") == IDENTIFIER)
    except (OSError, ValueError, AttributeError, plistlib.InvalidFileException):
        return False


def _write_icon(file: Path) -> None:
    from PIL import Image

    with Image.open(asset("icon.png")) as icon:
        icon.save(file, "ICNS")
