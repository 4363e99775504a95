"""Options of the engine, shared by vllm-mlx, vllm-mlx-chat and vllm-mlx-bench: all groups -> EngineConfig.

Imports nothing slow: `--help` must answer at once.
"""

from __future__ import annotations

import argparse

from engine.arguments.batching import add_batching_arguments, batching
from engine.arguments.cache import add_cache_arguments, cache_config
from engine.arguments.media import add_media_arguments, frame_sampling, media_config
from engine.arguments.models import add_model_arguments, model_specs, several_models
from engine.arguments.ranks import ranks
from engine.arguments.request_log import request_log
from engine.arguments.types import at_least_zero, count, positive, share, share_or_zero
from engine.config import EngineConfig
from engine.types import Sampling

DEFAULTS = EngineConfig()


def add_engine_arguments(parser: argparse.ArgumentParser, max_tokens: int = DEFAULTS.max_tokens) -> None:
    """Which model, how it generates, batches and caches, what media may cost. Read back by `engine_config`."""
    add_model_arguments(parser)
    _add_generation_arguments(parser, max_tokens)
    add_batching_arguments(parser)
    add_cache_arguments(parser)
    add_media_arguments(parser)


def engine_config(args: argparse.Namespace) -> EngineConfig:
    """EngineConfig from arguments declared by `add_engine_arguments`; by `add_several_models_arguments`,
    `add_ranks_arguments` and `add_request_log_arguments` too, where a command has them. Raises BadRequest."""
    model, *more_models = model_specs(args)
    return EngineConfig(
        model=model,
        more_models=tuple(more_models),
        **several_models(args),
        **request_log(args),
        **batching(args),
        **ranks(args),
        media=media_config(args),
        cache=cache_config(args),
        sampling=Sampling(temperature=args.temperature, top_p=args.top_p, top_k=args.top_k, min_p=args.min_p),
        frames=frame_sampling(args),
        max_tokens=args.max_tokens,
        max_model_len=args.max_model_len,
        media_first=args.media_first,
        coordinates=args.coordinates,
    )


def _add_generation_arguments(parser: argparse.ArgumentParser, max_tokens: int) -> None:
    group = parser.add_argument_group(
        "defaults of a request", "used where a request does not say; unset: the model's own"
    )
    group.add_argument(
        "--max-tokens",
        metavar="N",
        type=positive,
        default=max_tokens,
        help="longest answer in tokens, clamped to what the context leaves (default: %(default)s)",
    )
    group.add_argument("--temperature", metavar="T", type=at_least_zero, help="0 is greedy")
    group.add_argument("--top-p", metavar="P", type=share)
    group.add_argument("--top-k", metavar="K", type=count, help="0 is off")
    group.add_argument("--min-p", metavar="P", type=share_or_zero)
