"""Runs -> the words of the Benchmark tab's tables: rows, ratios, facts, the machine. Pure.

Every number is one of Result.json(), in three figures.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.measure.bench.report import NAMES
from engine.measure.bench.result import LESS_IS_BETTER, UNITS
from engine.measure.bench.stats import Ratio
from engine.measure.bench.store import StoredRun
from engine.types import Json
from workbench.bench.charts import mark
from workbench.bench.live import Live, Shown
from workbench.words import size

COLUMNS = ("ttft", "tpot", "itl", "e2e", "generation_tps", "prompt_tps", "total_tps")
WITH_TAIL = ("ttft", "itl")
"""Metrics whose p95 stands beside the median."""

HEADS = {**NAMES, "e2e": "E2E"}
WIDEST = 100.0
"""An interval whose ends are further apart than this says nothing."""


def digits(value: float) -> str:
    """Three figures that count: 0.0123, 1.23, 12.3, 123, 1,234."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def tables(runs: Sequence[Shown]) -> list[Json]:
    """A table for each run: heads, and rows of cells with what is known of them."""
    return [_table(run) for run in runs if run.rows]


def _table(run: Shown) -> Json:
    several = len({row["target"] for row in run.rows}) > 1
    names = [name for name in COLUMNS if any(row.get(name) for row in run.rows) and _says(name, run)]
    heads = ["case", *(["target"] if several else []), "answers"]
    heads += [f"{HEADS[name]}{_unit(name)}" for name in names] + ["tokens (cached)"]
    rows = []
    for row in run.rows:
        each = max(row["answers"], 1)
        cells = [row["case"], *([row["target"]] if several else []), str(row["answers"])]
        cells += [_cell(row.get(name), name) for name in names]
        cells.append(f"{row['prompt_tokens'] / each:,.0f} ({row['cached_tokens'] / each:,.0f})")
        rows.append({"key": f"{row['target']}/{row['case']}", "cells": cells, "marks": marks(row), "more": more(row)})
    return {"key": run.key, "name": run.name, "heads": heads, "rows": rows}


def _says(name: str, run: Shown) -> bool:
    """Throughput of all streams is decode speed with the prompt in it, where there is one stream."""
    return name != "total_tps" or any("streams" in row["labels"] for row in run.rows)


def _unit(name: str) -> str:
    return " ms" if UNITS[name] == "ms" else ""


def _cell(found: Json | None, name: str) -> str:
    if not found:
        return "–"
    tail = f" ({digits(found['p95'])})" if name in WITH_TAIL and found["n"] > 1 else ""
    return f"{digits(found['median'])}{tail}"


def marks(row: Json) -> Json:
    """canary: "good", "false", "unknown" or "" where nothing is known yet. noise: whether to read with care."""
    ok = row["canary"]["ok"]
    canary = {True: "good", False: "false", None: "" if row["running"] else "unknown"}[ok]
    return {"canary": canary, "noise": mark(row) == "noisy" or bool(row["noise"]), "running": row["running"]}


def more(row: Json) -> list[Json]:
    """What the canary looked at, then noise and errors."""
    lamps = {True: "good", False: "false", None: "unknown"}
    said = [
        {"lamp": lamps[check["ok"]], "words": f"{check['name']}: {check['said']}"} for check in row["canary"]["checks"]
    ]
    if row["right"] is not None:
        said.append({"lamp": "", "words": f"right answers: {row['right']:.0%}"})
    said += [{"lamp": "noise", "words": words} for words in row["noise"]]
    return said + [{"lamp": "false", "words": words} for words in row["errors"]]


def ratio_table(found: Sequence[tuple[str, str, Ratio]]) -> Json:
    """(case, metric, Ratio) as compare has them -> a row for each case, a column for each metric."""
    names = list(dict.fromkeys(name for _, name, _ in found))
    cases = list(dict.fromkeys(case for case, _, _ in found))
    ratios = {(case, name): ratio for case, name, ratio in found}
    rows = [
        {
            "key": case,
            "case": case.partition(": ")[2],
            "cells": [_ratio(name, ratios.get((case, name))) for name in names],
        }
        for case in cases
    ]
    return {"heads": ["case", *(HEADS[name] for name in names)], "rows": rows}


def _ratio(name: str, ratio: Ratio | None) -> Json:
    """verdict: "even" where the interval holds 1, or a single round gives none."""
    if ratio is None:
        return {"value": "–", "interval": "", "verdict": "even"}
    if ratio.low is None or ratio.high is None:
        return {"value": f"{ratio.value:.3g}", "interval": "", "verdict": "even"}
    better = (ratio.value < 1) == (name in LESS_IS_BETTER)
    verdict = "even" if ratio.low <= 1 <= ratio.high else "better" if better else "worse"
    interval = "too few rounds to tell" if ratio.high > WIDEST * ratio.low else f"{ratio.low:.3g} to {ratio.high:.3g}"
    return {"value": f"{ratio.value:.3g}", "interval": interval, "verdict": verdict}


def facts(whole: Json) -> list[Json]:
    """Ratios and facts that a run measured itself, with their goals."""
    found = []
    for one in whole["compared"]:
        ratio, goal = one["ratio"], one["goal"]
        interval = "" if ratio["low"] is None else f" ({ratio['low']:.3g} to {ratio['high']:.3g})"
        title = one["title"] if one["metric"] in one["title"] else f"{one['title']}, {NAMES[one['metric']]}"
        reached = None if goal is None else ratio["value"] >= goal
        found.append(_fact(title, f"{ratio['value']:.3g} ×{interval}", reached, f"at least {goal:g}" if goal else ""))
    for one in whole["facts"]:
        kind = "at most" if one["at_most"] else "at least"
        goal = f"{kind} {one['goal']:g}" if one["goal"] is not None else ""
        found.append(_fact(one["title"], f"{digits(one['value'])} {one['unit']}", one["reached"], goal))
    return found


def _fact(title: str, value: str, reached: bool | None, goal: str) -> Json:
    return {"title": title, "value": value, "lamp": {True: "good", False: "missed", None: ""}[reached], "goal": goal}


def entry(one: StoredRun) -> str:
    """What the list says of a kept run, beside its name."""
    when = one.started.replace("T", " ")[:16]
    stopped = ["stopped early"] if one.stopped else []
    return " · ".join(part for part in (when, ", ".join(one.suites), one.model, one.chip, *stopped) if part)


def machine(facts: Json) -> list[str]:
    """The hardware line."""
    found, model = facts.get("machine", {}), facts.get("model", {})
    if not found:
        return []
    bandwidth = found["memory_bandwidth_gbs"]
    words = [found["chip_name"], f"{found['num_cores']} cores", f"{found['total_memory_gb']:g} GB"]
    words += [f"{found['gpu_cores']} GPU cores"] if found["gpu_cores"] else []
    words.append(f"{bandwidth:g} GB/s ({found['bandwidth_source']})" if bandwidth else "memory bandwidth not known")
    words += [f"MLX on {found['mlx_device']}", found["os"]]
    return words + ([f"{model['name']} {model['hash'][:8]}"] if model else [])


def roofline(facts: Json, found: Json) -> Json:
    """How near to the memory's limit decoding runs. found: as in Result.json(), {} before anything was decoded."""
    bandwidth = facts.get("machine", {}).get("memory_bandwidth_gbs")
    num_bytes = found.get("bytes_per_token") or facts.get("model", {}).get("bytes_per_token")
    if found:
        words = f"{digits(found['decode_tps'])} tok/s is {found['share']:.0%} of {digits(found['limit_tps'])}"
        return {
            "share": found["share"],
            "number": f"{found['share']:.0%}",
            "words": f"{words}: {_limit(found['bandwidth_gbs'], num_bytes)}",
        }
    if bandwidth and num_bytes:
        limit = bandwidth * 1e9 / num_bytes
        return {"share": 0.0, "number": "–", "words": f"at most {digits(limit)} tok/s: {_limit(bandwidth, num_bytes)}"}
    return {}


def _limit(bandwidth: float, num_bytes: int) -> str:
    return f"each token reads {size(num_bytes)} of weights, memory gives {bandwidth:g} GB/s"


def left(seconds: float | None) -> str:
    """Time left in words that do not pretend to know it to the second."""
    if seconds is None:
        return ""
    if seconds < 5:
        return "a few seconds left"
    if seconds < 90:
        return f"about {5 * round(seconds / 5)} s left"
    return f"about {round(seconds / 60)} min left"


def asked_for(live: Live) -> str:
    """The run in words: suite and settings."""
    settings = live.settings
    prompts = "1 prompt" if settings.prompts == 1 else f"{settings.prompts} prompts"
    return " · ".join([live.title, *(["quick"] if settings.quick else []), prompts])
