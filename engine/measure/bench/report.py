"""A result as plain text for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.errors import say_bytes
from engine.measure.bench.plan import case_words
from engine.measure.bench.result import LESS_IS_BETTER, Comparison, GiB, MiB, Point, Result, is_noisy
from engine.measure.bench.stats import Numbers

NAMES = {
    "ttft": "TTFT",
    "tpot": "TPOT",
    "itl": "ITL",
    "e2e": "end to end",
    "generation_tps": "decode tok/s",
    "prompt_tps": "prompt tok/s",
    "total_tps": "output tok/s",
    "requests_per_s": "requests/s",
    "cpu": "CPU to first text",
    "memory": "memory",
}
COLUMNS = ("ttft", "tpot", "itl", "e2e")
RATES = ("generation_tps", "prompt_tps", "total_tps", "requests_per_s")
PEERS = "peers"


def table(result: Result) -> str:
    """A result for a person to read."""
    parts = [
        _about(result),
        _latencies(result.points),
        _rates(result.points),
        _summary(result.points),
        *_sums(result),
        *([_compared(result)] if result.compared else []),
        *([_side_by_side(result)] if PEERS in result.suites else []),
        *([_facts(result)] if result.facts else []),
        *([_roofline(result)] if result.roofline else []),
        *([memory] if (memory := _memory(result)) else []),
        _canary(result),
        _notes(result),
    ]
    return "\n\n".join(part for part in parts if part)


def rows_to_text(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 2) -> str:
    """A table in columns: the first `left` of them aligned to the left, the others to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _about(result: Result) -> str:
    """What was measured, and on which machine."""
    lines, model, machine = [], result.model, result.machine
    if model:
        size = f"{model['num_bytes'] / MiB:,.0f} MiB of weights"
        lines.append(f"model: {model['name']} ({model['model_type']}, {size}, {model['hash'][:8]})")
    if machine:
        gpu = f", {machine['gpu_cores']} GPU cores" if machine["gpu_cores"] else ""
        memory = say_bytes(machine["total_memory_gb"] * GiB)
        lines.append(
            f"machine: {machine['chip_name']}, {machine['num_cores']} cores{gpu}, {memory}, "
            f"MLX on {machine['mlx_device']}, {machine['os']}"
        )
    if result.versions:
        lines.append(f"versions: {', '.join(f'{name} {version}' for name, version in result.versions.items())}")
    return "\n".join(lines)


def _summary(points: Sequence[Point]) -> str:
    """The average, the fastest and the slowest answer of each case."""
    names = ("ttft", "generation_tps")
    head = ["case", "target"]
    for name in names:
        head += [f"{NAMES[name]}{' ms' if name in LESS_IS_BETTER else ''}: average", "fastest", "slowest"]
    rows = []
    for point in _answered(points):
        row = [_marked(point), point.target]
        for name in names:
            found = point.metric(name)
            ends = () if found is None else (found.min, found.max) if name in LESS_IS_BETTER else (found.max, found.min)
            row += [_number(found.mean), *map(_number, ends)] if found else ["-"] * 3
        rows.append(row)
    return rows_to_text(head, rows)


def _sums(result: Result) -> list[str]:
    """Of each target: all its answers, their tokens, and its throughputs. The total counts prompt and answer, as
    `vllm bench serve` does.

    The time is that of its rounds, each from the start of its first answer to the end of its last.
    """
    lines = []
    for target in result.targets:
        rounds = [samples for point in result.points if point.target == target for samples in point.rounds if samples]
        samples = [sample for one_round in rounds for sample in one_round]
        time_s = sum(
            max(sample.started_s + sample.e2e_s for sample in one) - min(sample.started_s for sample in one)
            for one in rounds
        )
        if not samples or time_s <= 0:
            continue
        prompt, answer = (sum(getattr(s, name) for s in samples) for name in ("prompt_tokens", "completion_tokens"))
        cached = sum(sample.cached_tokens or 0 for sample in samples)
        lines.append(
            f"sum of {target}: {len(samples)} answers in {time_s:.2f} s; {prompt:,} prompt tokens ({cached:,} cached), "
            f"{answer:,} answer tokens; output throughput {_number(answer / time_s)} tok/s, total throughput (prompt "
            f"and answer) {_number((prompt + answer) / time_s)} tok/s"
        )
    return ["\n".join(lines)] if lines else []


def _latencies(points: Sequence[Point]) -> str:
    """Median, p95 and p99 of each latency in milliseconds."""
    head = ["case", "target", "n"]
    for name in COLUMNS:
        head += [f"{NAMES[name]} ms", "p95", "p99"]
    rows = []
    for point in _answered(points):
        row = [_marked(point), point.target, str(len(point.samples))]
        for name in COLUMNS:
            numbers = point.metric(name)
            row += [_number(numbers.median), _number(numbers.p95), _number(numbers.p99)] if numbers else ["-"] * 3
        rows.append(row)
    return rows_to_text(head, rows) + "\n(medians; * noisy: more than 15 % spread from round to round)"


def _rates(points: Sequence[Point]) -> str:
    head = ["case", "target", *(NAMES[name] for name in RATES), "prompt tok", "cached", "answer tok", "seen", "right"]
    rows = []
    for point in _answered(points):
        samples = point.samples
        count = max(len(samples), 1)
        cached = [sample.cached_tokens for sample in samples if sample.cached_tokens is not None]
        media = samples[0].seen if samples and samples[0].seen else ()
        graded = [sample.right for sample in samples if sample.right is not None]
        rows.append(
            [
                _marked(point),
                point.target,
                *(_median(point.metric(name)) for name in RATES),
                _number(sum(sample.prompt_tokens for sample in samples) / count),
                _number(sum(cached) / len(cached)) if cached else "-",
                _number(sum(sample.completion_tokens for sample in samples) / count),
                " ".join(f"{medium.px[0]}×{medium.px[1]}/{medium.tokens}" for medium in media) or "-",
                f"{sum(graded)}/{len(graded)}" if graded else "-",
            ]
        )
    return (
        rows_to_text(head, rows)
        + "\n(medians; tokens per answer; seen: pixels/tokens of the media as the model got them)"
    )


def compared_row(comparison: Comparison, *, goals: bool) -> list[str]:
    """Cells of one ratio: title, metric, case, ratio, interval, number of pairs, and the goal where goals are told."""
    kind = "at most" if comparison.at_most else "at least"
    goal = (
        ""
        if comparison.goal is None or not goals
        else f"{'reached' if comparison.reached else 'MISSED'}, goal {kind} {comparison.goal:g}"
    )
    interval = "" if comparison.ratio.low is None else f"{comparison.ratio.low:.3g} to {comparison.ratio.high:.3g}"
    better = "less is better" if not goal and comparison.metric in LESS_IS_BETTER else ""
    return [
        comparison.title,
        NAMES[comparison.metric],
        case_words(comparison.case),
        f"{comparison.ratio.value:.3g}",
        interval,
        str(comparison.ratio.pairs),
        goal or better,
    ]


def _tells_goals(result: Result) -> bool:
    """The goals are this project's own, against its peers; they say nothing of another model by itself."""
    return PEERS in result.suites


def _compared(result: Result) -> str:
    head = ["ratio", "metric", "case or target", "value", "95 % interval", "pairs", ""]
    return rows_to_text(head, (compared_row(one, goals=_tells_goals(result)) for one in result.compared), left=3)


def _side_by_side(result: Result) -> str:
    """The suite `peers`: a row for each case and metric, a column for each peer."""
    cases = {point.name for point in result.points if point.case.suite == PEERS}
    by_key = {
        (comparison.case, comparison.metric, comparison.under): comparison
        for comparison in result.compared
        if comparison.case in cases
    }
    peers = dict.fromkeys(under for _, _, under in by_key)
    rows = []
    for case, metric in dict.fromkeys((case, metric) for case, metric, _ in by_key):
        ratios = [by_key.get((case, metric, peer)) for peer in peers]
        cells = [
            f"{comparison.good}{'' if comparison.reached else ' !'}" if comparison else "-" for comparison in ratios
        ]
        rows.append([case_words(case), NAMES[metric], *cells])
    legend = (
        "times as good as they: above 1 is better for tokens per second and for times and bytes; ! goal not reached"
    )
    return rows_to_text(["case", "metric", *peers], rows) + f"\n({legend})"


def _facts(result: Result) -> str:
    lines = []
    for target, fact in result.facts:
        line = f"{fact.title} ({target}): {_number(fact.value)} {fact.unit}"
        if fact.goal is not None and _tells_goals(result):
            kind = "at most" if fact.at_most else "at least"
            line += f" ({'reached' if fact.reached else 'MISSED'}, goal {kind} {fact.goal:g})"
        lines.append(line)
    return "\n".join(lines)


def _roofline(result: Result) -> str:
    roofline = result.roofline
    limit = f"{roofline['bandwidth_gbs']:.0f} GB/s ({roofline['source']}) allow {_number(roofline['limit_tps'])} tok/s"
    size = f"{roofline['bytes_per_token'] / MiB:.0f} MiB"
    measured = f"{_number(roofline['decode_tps'])}: {roofline['share']:.0%}"
    return f"roofline: each token reads {size}; {limit}; measured {measured}"


def _memory(result: Result) -> str:
    """The largest value of each kind of memory during the run."""
    if not result.loads:
        return ""
    kinds: dict[str, list[int | None]] = {
        "process": [load.process_bytes for load in result.loads],
        "MLX peak": [load.mlx_peak_bytes for load in result.loads],
        "MLX active": [load.mlx_active_bytes for load in result.loads],
        "MLX cache": [load.mlx_cache_bytes for load in result.loads],
        "system in use": [*(load.used_bytes for load in result.loads)],
        "swap": [*(load.swap_bytes for load in result.loads)],
    }
    parts = [
        f"{name} {max(values) / MiB:,.0f} MiB"
        for name, readings in kinds.items()
        if (values := [n for n in readings if n is not None])
    ]
    if total_gb := result.machine.get("total_memory_gb"):
        parts = [f"{part} of {total_gb * 1024:,.0f}" if part.startswith("system") else part for part in parts]
    cpu = [load.cpu_percent for load in result.loads[1:]] or [0.0]
    return (
        f"most memory: {', '.join(parts)}; CPU {sum(cpu) / len(cpu):.0f} % on average, load {result.loads[-1].load:.1f}"
    )


def _canary(result: Result) -> str:
    """One line if all checks passed, else a line for every check that failed."""
    failed = [(point, check) for point in result.points for check in point.canary.failed]
    lines = [f"CANARY: {point.words} of {point.target}: {check.name}: {check.said}" for point, check in failed]
    if lines:
        return "\n".join([*lines, "These numbers are not to be believed."])
    checks = [check for point in result.points for check in point.canary.checks]
    num_passed = sum(check.ok is True for check in checks)
    if not checks:
        return "canary: nothing to check"
    unknown = dict.fromkeys(f"{check.name}: {check.said}" for check in checks if check.ok is None)
    return "\n".join(
        [
            f"canary: {num_passed} of {len(checks)} checks passed, none failed",
            *(f"  not known: {words}" for words in unknown),
        ]
    )


def _notes(result: Result) -> str:
    errors = [f"{point.words} of {point.target}: {error}" for point in result.points for error in point.errors]
    others = [f"{point.words} of {point.target}: {words}" for point in result.points for words in point.noise]
    notes = [f"note: {note}" for note in (*result.notes, *others)] + [f"error: {error}" for error in errors]
    return "\n".join([*notes, *(["stopped before the end; this is what was measured"] if result.stopped else [])])


def _marked(point: Point) -> str:
    return f"{point.words}{' *' if is_noisy(point) else ''}"


def _answered(points: Sequence[Point]) -> list[Point]:
    """Those with an answer; why the others have none stands below the tables."""
    return [point for point in points if point.samples]


def _median(numbers: Numbers | None) -> str:
    return _number(numbers.median) if numbers else "-"


def _number(value: float) -> str:
    """Three significant digits."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
