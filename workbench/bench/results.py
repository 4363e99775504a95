"""Runs -> the texts of the Benchmark tab's tables: rows, ratios, facts, the machine. Pure.

Every number is one of Result.json(), with three significant digits.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.measure.bench import compare
from engine.measure.bench.report import NAMES
from engine.measure.bench.result import UNITS, GiB
from engine.measure.bench.stats import Ratio
from engine.measure.bench.store import StoredRun
from engine.types import Json
from workbench.bench.charts import mark
from workbench.bench.live import DisplayedRun, Live, case_in_words
from workbench.language import catalogued, number, t
from workbench.words import percent, plural, size

COLUMNS = ("ttft", "tpot", "itl", "e2e", "generation_tps", "prompt_tps", "total_tps")
WITH_TAIL = ("ttft", "itl")
"""Metrics that show p95 besides the median."""

TOKENS = ("prompt", "cached", "completion")

HEADS = {**NAMES, "e2e": "E2E"}
ENGINE_WORDS = (
    catalogued("Text"),
    catalogued("Pictures by resolution"),
    catalogued("Clips by frames"),
    catalogued("What the prefix cache saves"),
    catalogued("Many questions about one picture"),
    catalogued("Many streams"),
    catalogued("end to end"),
    catalogued("decode tok/s"),
    catalogued("prompt tok/s"),
    catalogued("output tok/s"),
)
"""Titles of suites and names of metrics (engine.measure.bench), here for the catalogue."""

WIDEST = 100.0
"""An interval whose ends differ by more than this factor is not shown."""


def digits(value: float) -> str:
    """Three significant digits: 0.0123, 1.23, 12.3, 123, 1,234."""
    if abs(value) >= 100:
        return number(value, ",.0f")
    return number(value, ".1f" if abs(value) >= 10 else ".2f" if abs(value) >= 1 else ".3g")


def tables(runs: Sequence[DisplayedRun]) -> list[Json]:
    """A table for each run: column heads, and rows with their cells, marks and notes."""
    return [_table(run) for run in runs if run.rows]


def _table(run: DisplayedRun) -> Json:
    several = len({row["target"] for row in run.rows}) > 1
    names = [name for name in COLUMNS if any(row.get(name) for row in run.rows) and _is_informative(name, run)]
    heads = [t("case"), *([t("target")] if several else []), t("answers")]
    heads += [f"{t(HEADS[name])}{_unit(name)}" for name in names] + [t("prompt tokens (cached)"), t("output tokens")]
    rows = []
    for row in run.rows:
        each = max(row["answers"], 1)
        cells = [case_in_words(row["case"]), *([row["target"]] if several else []), str(row["answers"])]
        cells += [_cell(row.get(name), name) for name in names]
        prompt, cached, output = (number(row[f"{name}_tokens"] / each, ",.0f") for name in TOKENS)
        cells += [f"{prompt} ({cached})", output]
        rows.append({"key": f"{row['target']}/{row['case']}", "cells": cells, "marks": marks(row), "more": more(row)})
    return {"key": run.key, "name": run.name, "heads": heads, "rows": rows}


def _is_informative(name: str, run: DisplayedRun) -> bool:
    """Throughput of all streams is left out where there is only one stream."""
    return name != "total_tps" or any("streams" in row["labels"] for row in run.rows)


def _unit(name: str) -> str:
    return " ms" if UNITS[name] == "ms" else ""


def _cell(numbers: Json | None, name: str) -> str:
    if not numbers:
        return "–"
    tail = f" ({digits(numbers['p95'])})" if name in WITH_TAIL and numbers["n"] > 1 else ""
    return f"{digits(numbers['median'])}{tail}"


def marks(row: Json) -> Json:
    """canary: "good", "false", "unknown", or "" while the case runs. noise: whether the numbers are less reliable."""
    ok = row["canary"]["ok"]
    canary = {True: "good", False: "false", None: "" if row["running"] else "unknown"}[ok]
    return {"canary": canary, "noise": mark(row) == "noisy" or bool(row["noise"]), "running": row["running"]}


def more(row: Json) -> list[Json]:
    """The checks of the canary, then noise and errors."""
    lamps = {True: "good", False: "false", None: "unknown"}
    lines = [
        {"lamp": lamps[check["ok"]], "words": f"{check['name']}: {check['said']}"} for check in row["canary"]["checks"]
    ]
    if row["right"] is not None:
        lines.append({"lamp": "", "words": t("right answers: {share}", share=percent(row["right"]))})
    lines += [{"lamp": "noise", "words": words} for words in row["noise"]]
    return lines + [{"lamp": "false", "words": words} for words in row["errors"]]


def ratio_table(triples: Sequence[tuple[str, str, Ratio]]) -> Json:
    """(case, metric, Ratio) as from compare.ratios -> a row for each case, a column for each metric."""
    names = list(dict.fromkeys(name for _, name, _ in triples))
    cases = list(dict.fromkeys(case for case, _, _ in triples))
    ratios = {(case, name): ratio for case, name, ratio in triples}
    rows = [
        {
            "key": case,
            "case": case_in_words(case.partition(": ")[2]),
            "cells": [_ratio(name, ratios.get((case, name))) for name in names],
        }
        for case in cases
    ]
    return {"heads": [t("case"), *(t(HEADS[name]) for name in names)], "rows": rows}


def _ratio(name: str, ratio: Ratio | None) -> Json:
    """verdict: of compare.verdict; "even" also where there is no interval because of a single round."""
    if ratio is None:
        return {"value": "–", "interval": "", "verdict": "even"}
    if ratio.low is None or ratio.high is None:
        return {"value": number(ratio.value, ".3g"), "interval": "", "verdict": "even"}
    interval = (
        t("too few rounds to tell")
        if ratio.high > WIDEST * ratio.low
        else t("{low} to {high}", low=number(ratio.low, ".3g"), high=number(ratio.high, ".3g"))
    )
    return {"value": number(ratio.value, ".3g"), "interval": interval, "verdict": compare.verdict(name, ratio)}


def facts(result_json: Json) -> list[Json]:
    """The ratios and facts of a run. Without their goals: those are the project's own, not the reader's."""
    rows = []
    for item in result_json["compared"]:
        ratio = item["ratio"]
        interval = (
            ""
            if ratio["low"] is None
            else " ({})".format(
                t("{low} to {high}", low=number(ratio["low"], ".3g"), high=number(ratio["high"], ".3g"))
            )
        )
        title = item["title"] if item["metric"] in item["title"] else f"{item['title']}, {t(NAMES[item['metric']])}"
        rows.append({"title": title, "value": f"{number(ratio['value'], '.3g')} ×{interval}"})
    facts = [
        {"title": item["title"], "value": f"{digits(item['value'])} {item['unit']}"} for item in result_json["facts"]
    ]
    return rows + facts


def entry(run: StoredRun) -> str:
    """The line under a saved run's name in the list."""
    when = run.started.replace("T", " ")[:16]
    stopped = [t("stopped early")] if run.stopped else []
    return " · ".join(part for part in (when, ", ".join(run.suites), run.model, run.chip, *stopped) if part)


def machine(facts: Json) -> list[str]:
    """The hardware line."""
    hardware, model = facts.get("machine", {}), facts.get("model", {})
    if not hardware:
        return []
    bandwidth = hardware["memory_bandwidth_gbs"]
    words = [
        hardware["chip_name"],
        t("{count} cores", count=hardware["num_cores"]),
        size(hardware["total_memory_gb"] * GiB),
    ]
    words += [t("{count} GPU cores", count=hardware["gpu_cores"])] if hardware["gpu_cores"] else []
    words.append(
        f"{number(bandwidth, 'g')} GB/s ({hardware['bandwidth_source']})"
        if bandwidth
        else t("memory bandwidth not known")
    )
    words += [t("MLX on {device}", device=hardware["mlx_device"]), hardware["os"]]
    return words + ([f"{model['name']} {model['hash'][:8]}"] if model else [])


def roofline(facts: Json, measured: Json) -> Json:
    """How near decoding is to the memory's bandwidth. measured: as in Result.json(), {} before anything was decoded."""
    bandwidth = facts.get("machine", {}).get("memory_bandwidth_gbs")
    num_bytes = measured.get("bytes_per_token") or facts.get("model", {}).get("bytes_per_token")
    if measured:
        words = t(
            "{rate} tok/s is {share} of {limit}",
            rate=digits(measured["decode_tps"]),
            share=percent(measured["share"]),
            limit=digits(measured["limit_tps"]),
        )
        return {
            "share": measured["share"],
            "number": percent(measured["share"]),
            "words": f"{words}: {_limit(measured['bandwidth_gbs'], num_bytes)}",
        }
    if bandwidth and num_bytes:
        limit = bandwidth * 1e9 / num_bytes
        return {
            "share": 0.0,
            "number": "–",
            "words": t("at most {limit} tok/s: {why}", limit=digits(limit), why=_limit(bandwidth, num_bytes)),
        }
    return {}


def _limit(bandwidth: float, num_bytes: int) -> str:
    return t(
        "each token reads {size} of weights, memory gives {bandwidth} GB/s",
        size=size(num_bytes),
        bandwidth=number(bandwidth, "g"),
    )


def remaining_words(seconds: float | None) -> str:
    """The remaining time, rounded."""
    if seconds is None:
        return ""
    if seconds < 5:
        return t("a few seconds left")
    if seconds < 90:
        return t("about {count} s left", count=5 * round(seconds / 5))
    return t("about {count} min left", count=round(seconds / 60))


def settings_words(live: Live) -> str:
    """The suite and its settings."""
    settings = live.settings
    return " · ".join([t(live.title), *([t("quick")] if settings.quick else []), plural(settings.prompts, "prompt")])
