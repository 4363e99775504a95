"""Rows -> a table for a terminal, the sentence to file, and JSON. Pure, but for the versions it looks up."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from engine.config import EngineConfig
from engine.measure.selftest.judge import CheckRow
from engine.types import DeviceInfo, ModelCard

MARKS = {"ok": "✓", "tie": "≈", "fault": "✗", "n/a": "–"}
PACKAGES = ("mlx-workbench", "mlx", "mlx-lm", "mlx-vlm", "transformers", "numpy", "pillow")


def versions() -> dict[str, str]:
    """What is installed, by package, and Python itself."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "from a checkout" if package == "mlx-workbench" else "not installed"
    return found


def head(card: ModelCard, device: DeviceInfo) -> str:
    """Which model, which machine, which versions: what any report about the table below must carry."""
    chip = f"{device.chip}, {device.num_cores} cores, {device.memory_bytes / 2**30:.0f} GiB"
    listed = ", ".join(f"{name} {version}" for name, version in versions().items())
    return (
        f"model     {card.id} ({card.model_type}, {card.dtype}, {card.num_params / 1e6:.1f} M parameters)\n"
        f"machine   {chip}, {device.os}; {device.mlx_device}, {device.blas}\n"
        f"versions  {listed}\n"
    )


def line(row: CheckRow) -> str:
    """A row of the table. A row that cannot be asked says so in words."""
    detail = f"not applicable: {row.detail}" if row.outcome == "n/a" else row.detail
    return f"{MARKS[row.outcome]} {row.name:<49} {detail}"


def failed(rows: Sequence[CheckRow]) -> bool:
    """Whether any row is a fault; a near tie is none."""
    return any(row.outcome == "fault" for row in rows)


def ending(rows: Sequence[CheckRow], card: ModelCard, device: DeviceInfo) -> str:
    """What it comes to, and what to do about it."""
    count = {outcome: sum(row.outcome == outcome for row in rows) for outcome in MARKS}
    said = [f"{count['ok']} passed"]
    if count["tie"]:
        why = f"two tokens nearer to each other than the noise of {card.dtype}: neither proof nor fault"
        said.append(f"{count['tie']} parted at a near tie ({why})")
    if count["fault"]:
        said.append(f"{count['fault']} FAILED")
    if count["n/a"]:
        said.append(f"{count['n/a']} not applicable")
    text = ", ".join(said) + "."
    if not failed(rows):
        return text
    names = "; ".join(row.name for row in rows if row.outcome == "fault")
    title = f"selftest: “{names}” fails with {card.model_type} ({card.dtype}) on {device.chip}, {device.mlx_device}"
    return (
        f"{text}\nPlease file it. Title: {title}\n"
        "Paste everything above, from the line of the model on, with your command; or attach the file of --json."
    )


def to_json(rows: Sequence[CheckRow], card: ModelCard, device: DeviceInfo, config: EngineConfig) -> dict[str, Any]:
    """Everything that the table says, and the settings."""
    return {
        "passed": not failed(rows),
        "rows": [asdict(row) for row in rows],
        "model": asdict(card),
        "machine": asdict(device),
        "versions": versions(),
        "settings": asdict(config),
    }
