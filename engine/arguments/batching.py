"""How requests share the model: argument group -> the settings of it.

Imports nothing slow: `--help` must answer at once.
"""

from __future__ import annotations

import argparse
from typing import Any

from engine.arguments.types import add_numbers, more_than_zero, positive, share, speculation
from engine.config import LEAST_ROWS, EngineConfig

DEFAULTS = EngineConfig()


def add_batching_arguments(parser: argparse.ArgumentParser) -> None:
    """Read back by `batching`."""
    group = parser.add_argument_group("batching")
    group.add_argument(
        "--continuous-batching",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="requests share the batch; without it they are answered one at a time",
    )
    numbers = {
        "--max-num-seqs": (
            DEFAULTS.max_num_seqs,
            "requests worked on at once, prompts and answers together, as far as memory has room for them; /health "
            "says what bounds them",
        ),
        "--prefill-batch-size": (DEFAULTS.prefill_batch_size, "prompts that take turns, chunk by chunk"),
        "--prefill-step-size": (DEFAULTS.prefill_chunk_tokens, "prompt tokens computed at a time while others decode"),
        "--stream-interval": (DEFAULTS.stream_interval, "tokens handed out together"),
        "--max-queue": (DEFAULTS.max_queue, "requests that may wait beyond those worked on, before 429"),
        "--max-waiting-media-mb": (
            DEFAULTS.max_waiting_media_bytes // 1024**2,
            "MiB of media of all requests that have not begun to answer, decoded or as sent elsewhere, before 429",
        ),
    }
    add_numbers(group, numbers)
    group.add_argument(
        "--completion-batch-size",
        metavar="N",
        type=positive,
        help=f"answers decoded together (default: --max-num-seqs, and at least {LEAST_ROWS}); with less than that, at "
        "most --prefill-batch-size more requests are worked on",
    )
    group.add_argument(
        "--speculative-config",
        metavar="JSON",
        type=speculation,
        help='{"method": "ngram"}: an answer that copies from its prompt is written several tokens at a time in the '
        'same words; {"method": "draft_model", "model": FOLDER or hub id}: so are others, which a small text model of '
        "the same vocabulary proposes (default: off)",
    )
    group.add_argument(
        "--timeout",
        metavar="S",
        type=more_than_zero,
        help="seconds from the arrival of a request to the last token of its answer, before 504 (default: no limit)",
    )
    group.add_argument(
        "--gpu-memory-utilization",
        metavar="SHARE",
        type=share,
        default=DEFAULTS.memory_utilization,
        help="share of the device's memory for weights, stored and running KV; prompts wait for room (default: "
        "%(default)s)",
    )
    group.add_argument(
        "--wired-limit",
        metavar="N",
        type=positive,
        help="on macOS: MiB of memory that the system may not page out (default: it may page out all)",
    )


def batching(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of EngineConfig."""
    return {
        "prefill_chunk_tokens": args.prefill_step_size,
        "max_num_seqs": args.max_num_seqs if args.continuous_batching else 1,
        "memory_utilization": args.gpu_memory_utilization,
        "wired_limit_bytes": args.wired_limit * 1024**2 if args.wired_limit else None,
        "prefill_batch_size": args.prefill_batch_size,
        "completion_batch_size": args.completion_batch_size,
        "speculation": args.speculative_config,
        "request_timeout_s": args.timeout,
        "stream_interval": args.stream_interval,
        "max_queue": args.max_queue,
        "max_waiting_media_bytes": args.max_waiting_media_mb * 1024**2,
    }
