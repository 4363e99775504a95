"""Several processes for one model: argument group -> the settings of it.

Imports nothing slow: `--help` must answer at once.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from engine.arguments.types import positive
from engine.ranks.place import rank_place


def add_ranks_arguments(parser: argparse.ArgumentParser) -> None:
    """Read back by `ranks`."""
    group = parser.add_argument_group("several processes")
    group.add_argument(
        "--tensor-parallel-size",
        "-tp",
        metavar="N",
        type=positive,
        default=1,
        help="divide the model among N processes, which mlx.launch starts on one machine or several (default: 1)",
    )


def ranks(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of EngineConfig, of a command that has these arguments; {} of any other. Raises BadRequest."""
    size = getattr(args, "tensor_parallel_size", 1)
    return {} if size == 1 else {"ranks": rank_place(size, os.environ)}
