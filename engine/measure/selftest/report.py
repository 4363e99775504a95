"""Rows -> a table for a terminal, the text of a bug report, and JSON. Pure, except that it looks up versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from engine.config import EngineConfig
from engine.measure.selftest.judge import CheckRow
from engine.measure.versions import versions
from engine.types import DeviceInfo, ModelCard

MARKS = {"ok": "✓", "tie": "≈", "fault": "✗", "n/a": "–"}


def head(card: ModelCard, device: DeviceInfo) -> str:
    """Model, machine and versions: the lines above the table."""
    chip = f"{device.chip}, {device.num_cores} cores, {device.memory_bytes / 2**30:.0f} GiB"
    listed = ", ".join(f"{name} {version}" for name, version in versions().items())
    return (
        f"model     {card.id} ({card.model_type}, {card.dtype}, {card.num_params / 1e6:.1f} M parameters)\n"
        f"machine   {chip}, {device.os}; {device.mlx_device}, {device.blas}\n"
        f"versions  {listed}\n"
    )


def line(row: CheckRow) -> str:
    """A row of the table."""
    detail = f"not applicable: {row.detail}" if row.outcome == "n/a" else row.detail
    return f"{MARKS[row.outcome]} {row.name:<49} {detail}"


def failed(rows: Sequence[CheckRow]) -> bool:
    """Whether any row is a fault. A near tie is not one."""
    return any(row.outcome == "fault" for row in rows)


def ending(rows: Sequence[CheckRow], card: ModelCard, device: DeviceInfo) -> str:
    """The counts, and after a fault how to report it."""
    count = {outcome: sum(row.outcome == outcome for row in rows) for outcome in MARKS}
    parts = [f"{count['ok']} passed"]
    if count["tie"]:
        why = f"two tokens nearer to each other than the noise of {card.dtype}: neither proof nor fault"
        parts.append(f"{count['tie']} parted at a near tie ({why})")
    if count["fault"]:
        parts.append(f"{count['fault']} FAILED")
    if count["n/a"]:
        parts.append(f"{count['n/a']} not applicable")
    text = ", ".join(parts) + "."
    if not failed(rows):
        return text
    names = "; ".join(row.name for row in rows if row.outcome == "fault")
    title = f"selftest: “{names}” fails with {card.model_type} ({card.dtype}) on {device.chip}, {device.mlx_device}"
    return (
        f"{text}\nPlease file it. Title: {title}\n"
        "Paste everything above, from the line of the model on, with your command; or attach the file of --json."
    )


def to_json(rows: Sequence[CheckRow], card: ModelCard, device: DeviceInfo, config: EngineConfig) -> dict[str, Any]:
    """The table, model, machine, versions and settings."""
    return {
        "passed": not failed(rows),
        "rows": [asdict(row) for row in rows],
        "model": asdict(card),
        "machine": asdict(device),
        "versions": versions(),
        "settings": asdict(config),
    }
