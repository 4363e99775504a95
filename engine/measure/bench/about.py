"""Machine, model and versions for a result; the roofline: how near decoding is to the memory's bandwidth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from engine.measure.bench.bytes_per_token import model_facts
from engine.measure.bench.hardware import detect_hardware
from engine.measure.bench.result import Point
from engine.measure.versions import versions


def about(model_path: str) -> dict[str, Any]:
    """machine, model and versions by name, for Run(..., about=). Takes up to a second: not on an event loop."""
    return {"machine": asdict(detect_hardware()), "model": model_facts(model_path), "versions": versions()}


def roofline(points: Sequence[Point], target: str, machine: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Decode rate of one stream over memory bandwidth / bytes per token. Returns {} where one of them is not known.

    After "Roofline" (Williams, Waterman, Patterson 2009): a decode step of one stream is bound by reading the weights.
    """
    bandwidth, num_bytes = machine.get("memory_bandwidth_gbs"), model.get("bytes_per_token")
    rates = [
        numbers.median
        for point in points
        if point.target == target
        and point.case.suite in ("text", "image", "video")
        and not any(sample.came_at_once for sample in point.samples)
        and (numbers := point.metric("generation_tps"))
    ]
    if not bandwidth or not num_bytes or not rates:
        return {}
    limit = bandwidth * 1e9 / num_bytes
    return {
        "decode_tps": max(rates),
        "bytes_per_token": num_bytes,
        "bandwidth_gbs": bandwidth,
        "source": machine.get("bandwidth_source", ""),
        "limit_tps": limit,
        "share": max(rates) / limit,
    }
