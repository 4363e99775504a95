"""Checks of what is installed: versions, the console commands, codecs. Each returns a Diagnosis."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from engine.assets import asset
from engine.doctor.diagnosis import Diagnosis
from engine.version import PROJECT, installed_version

COMMANDS = {"vllm-mlx": "engine.cli", "vllm-mlx-chat": "workbench.app", "vllm-mlx-bench": "engine.cli"}
"""Our console commands, and the module that each starts."""

DECODERS = {"H.264": ("h264",), "HEVC": ("hevc",), "AV1": ("libdav1d", "av1"), "VP9": ("vp9",), "MPEG-4": ("mpeg4",)}
"""The most common codecs of clips, and the decoders of FFmpeg that read them."""


def python() -> Diagnosis:
    """Whether this Python is new enough, and 64 bit."""
    said = f"Python {sys.version.split()[0]} at {sys.executable}"
    if sys.version_info < (3, 11) or sys.maxsize < 2**32:
        return Diagnosis("python", "fail", said, "Make an environment with a 64-bit Python 3.11 or newer.")
    return Diagnosis("python", "ok", said)


def requirements(
    needed: Sequence[str] | None = None, installed: Mapping[str, str] | None = None, tested: Path | None = None
) -> Diagnosis:
    """The packages that the project needs, as installed: missing, outside the allowed range, or other than tested.

    needed: requirement lines, None for the project's own. installed: versions by name, None for this environment.
    """
    if needed is None:
        try:
            needed = importlib.metadata.requires(PROJECT) or ()
        except importlib.metadata.PackageNotFoundError:
            why = f"{PROJECT} runs from a checkout that was not installed, so its packages were not compared"
            return Diagnosis("packages", "warn", why, "Install it with `pip install .`.")
    lines = [Requirement(line) for line in needed]
    mine = [one for one in lines if one.marker is None or one.marker.evaluate({"extra": ""})]
    found = {one.name: _version(one.name, installed) for one in mine}
    missing = sorted(name for name, version in found.items() if version is None)
    outside = [one for one in mine if (has := found[one.name]) and not one.specifier.contains(has, prereleases=True)]
    if missing or outside:
        wrong = [f"{name} is missing" for name in missing]
        wrong += [f"{one.name} is {found[one.name]}, and {one.specifier} is needed" for one in outside]
        names = " ".join(f"'{one.name}{one.specifier}'" for one in mine if one.name in missing or one in outside)
        return Diagnosis("packages", "fail", "; ".join(wrong), f"Run `{sys.executable} -m pip install {names}`.")
    wanted = tested_versions(tested)
    other = [
        f"{name} {has} (tested {want})"
        for name, has in found.items()
        if (want := wanted.get(canonicalize_name(name))) and has != want
    ]
    if other:
        text = f"{len(found)} packages are in range; other than tested: {', '.join(sorted(other))}"
        return Diagnosis(
            "packages", "warn", text, "Nothing has to be done; if something is odd, install the tested ones."
        )
    return Diagnosis("packages", "ok", f"{len(found)} packages, all as tested" if wanted else f"{len(found)} packages")


def _version(name: str, installed: Mapping[str, str] | None) -> str | None:
    return installed_version(name) if installed is None else installed.get(name)


def tested_versions(file: Path | None = None) -> dict[str, str]:
    """By canonical name; {} where the list is not there. file: None for the one that ships."""
    in_checkout = Path(__file__).resolve().parents[2] / "tests" / "constraints.txt"
    shipped = asset("tested-versions.txt")
    file = file or (shipped if shipped.is_file() else in_checkout)
    if not file.is_file():
        return {}
    pairs = (line.partition("==") for line in file.read_text(encoding="utf-8").splitlines() if "==" in line)
    return {canonicalize_name(name): version for name, _, version in pairs}


def console_commands(folder: Path | None = None, path: str | None = None) -> list[Diagnosis]:
    """Whether each of our commands starts this project: not another package's of the same name.

    folder: where this environment's commands lie. path: PATH, None for this process's.
    """
    folder = folder or Path(sysconfig.get_path("scripts"))
    return [_command(name, module, folder, path) for name, module in COMMANDS.items()]


def _command(name: str, module: str, folder: Path, path: str | None) -> Diagnosis:
    title, own = f"command {name}", folder / name
    again = f"`{sys.executable} -m pip install --force-reinstall --no-deps {PROJECT}`, or its folder"
    if not own.is_file():
        why = f"it is not in {folder}"
        return Diagnosis(title, "warn", why, "Install the project there with pip, or run `python -m engine`.")
    if not _starts(own, module):
        why = f"{own} starts another package, which installs a command of this name (vllm-mlx does)"
        return Diagnosis(title, "fail", why, f"Give the two packages environments of their own; then {again}.")
    first = shutil.which(name, path=path)
    if first is not None and not _starts(Path(first), module):
        why = f"the shell finds {first} first, which starts another package"
        return Diagnosis(title, "warn", why, f"Run {own}, or put {folder} first in PATH.")
    if first is None:
        return Diagnosis(title, "ok", f"{own}, which is not in PATH")
    return Diagnosis(title, "ok", first)


def _starts(script: Path, module: str) -> bool:
    """Whether a console script of pip's or uv's imports this module; also where it is a binary launcher with one."""
    try:
        return re.search(rb"\b%s\b" % re.escape(module).encode(), script.read_bytes()) is not None
    except OSError:
        return False


def codecs() -> Diagnosis:
    """What of the common codecs this build of FFmpeg reads, and whether HEIC pictures and sound can be."""
    from av.codec import codecs_available

    missing = [name for name, decoders in DECODERS.items() if not codecs_available & set(decoders)]
    missing += [what for what, module in (("HEIC", "pillow_heif"), ("sound", "miniaudio")) if not _is_there(module)]
    if missing:
        text = f"not read: {', '.join(missing)}"
        remedy = (
            f"Run `{sys.executable} -m pip install --force-reinstall --only-binary :all: av pillow-heif miniaudio`."
        )
        return Diagnosis("codecs", "warn", text, remedy)
    return Diagnosis("codecs", "ok", f"{', '.join(DECODERS)}, HEIC, sound")


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
