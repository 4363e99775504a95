"""All that is known of one row, as the page shows it when the row is opened. Pure."""

from __future__ import annotations

from engine.types import FeatureUse, Json, MediaReceipt
from workbench.batch.table import TableLine
from workbench.chat.receipts import reuse_of, sizes
from workbench.language import t
from workbench.words import NAMES, milliseconds, plural


def row_json(line: TableLine, drawn: Json, record: Json | None) -> Json:
    """drawn: the row as the table draws it. record: None of a row that waits.

    "media": a line for each medium; "cost": of the whole row; "decisions": with the options of each in their order.
    """
    record = record or {}
    return {
        **drawn,
        "page": line.row.page,
        "columns": line.row.columns,
        "whole": record.get("answer") or "",
        "model_answer": record.get("model_answer"),
        "decisions": [_decision(one) for one in record.get("decisions") or ()],
        "media": [_medium(one) for one in record.get("media") or ()],
        "cost": _cost(record) if "prompt_tokens" in record else "",
    }


def _decision(one: Json) -> Json:
    names = ("question", "answer", "confidence", "edited", "model_answer")
    bars = [{"label": label, "probability": share} for label, share in one["probabilities"].items()]
    return {**{name: one.get(name) for name in names}, "bars": bars}


def _medium(one: Json) -> Json:
    """A receipt of a record (engine.batch_run.task), in a line, with the hash of its content."""
    receipt = MediaReceipt(
        kind=one["kind"],
        num_bytes=0,
        decoded_px=(one["decoded"][0], one["decoded"][1]),
        seen_px=(one["seen"][0], one["seen"][1]),
        tokens=one["tokens"],
        sha256=one["sha256"],
        features=FeatureUse(**one["features"]) if one["features"] else None,
    )
    words = [t(NAMES[receipt.kind])]
    if receipt.kind != "audio":
        words[0] += f" {sizes(receipt)}"
    if one["frames"]:
        words.append(plural(one["frames"], "frame"))
    words.append(plural(receipt.tokens, "token"))
    words += [reuse_of(receipt)] if reuse_of(receipt) else []
    return {"line": " · ".join([*words, *one["notes"]]), "sha256": receipt.sha256}


def _cost(record: Json) -> str:
    prompt = t(
        "{tokens} read, {count} of them from the cache",
        tokens=plural(record["prompt_tokens"], "token"),
        count=record["cached_tokens"],
    )
    written = t("{tokens} written", tokens=plural(record["completion_tokens"], "token"))
    return " · ".join([prompt, written, milliseconds(record["ms"])])
