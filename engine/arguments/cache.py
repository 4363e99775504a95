"""What of prompts is kept for later ones: argument group -> CacheConfig.

Imports nothing slow: `--help` must answer at once.
"""

from __future__ import annotations

import argparse

from engine.arguments.needless import given, refuse
from engine.arguments.types import add_numbers, more_than_zero, new_folder, no_kv_connector, share_or_zero
from engine.config import CacheConfig
from engine.errors import BadRequest

DEFAULT_CACHE = CacheConfig()
_OF_PROMPTS = ("paged_cache_block_size", "max_cache_blocks", "prefix_cache_size", "cache_memory_mb", "verify_cache")
_OF_FEATURES = ("mllm_cache_max_mb",)


def add_cache_arguments(parser: argparse.ArgumentParser) -> None:
    """Read back by `cache_config`."""
    cache = DEFAULT_CACHE
    group = parser.add_argument_group("prefix cache", "prompts share what they share, text or pictures")
    group.add_argument(
        "--enable-prefix-cache", dest="prefix_cache", action="store_true", default=True, help="(default)"
    )
    group.add_argument("--disable-prefix-cache", dest="prefix_cache", action="store_false", help="compute every prompt")
    group.add_argument("--use-paged-cache", action="store_true", help="accepted: the cache is made of blocks anyway")
    group.add_argument(
        "--enable-mllm-cache",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep vision features of pictures and frames",
    )
    numbers = {
        "--mllm-cache-max-mb": (cache.max_feature_bytes // 1024**2, "MiB for vision features"),
        "--paged-cache-block-size": (cache.block_tokens, "tokens per block"),
        "--max-cache-blocks": (cache.max_blocks, "blocks held"),
        "--prefix-cache-size": (cache.max_snapshots, "snapshots held, for families whose KV cannot be cut in blocks"),
        "--cache-memory-mb": (cache.max_bytes // 1024**2, "MiB for blocks, and as much for snapshots"),
    }
    add_numbers(group, numbers)
    group.add_argument(
        "--cache-dir",
        metavar="FOLDER",
        type=new_folder,
        help="keep what memory has no room for in this folder, and find it again after a restart (default: off)",
    )
    group.add_argument(
        "--cache-disk-gb",
        metavar="N",
        type=more_than_zero,
        help=f"most GiB in --cache-dir (default: {cache.max_disk_bytes // 1024**3})",
    )
    group.add_argument(
        "--verify-cache",
        metavar="SHARE",
        type=share_or_zero,
        default=cache.verify_share,
        help="share of the hits, 0 to 1, that are computed again in full when nothing else runs, to see that the "
        "answer is the same; /v1/cache/stats counts them (default: %(default)g)",
    )
    group.add_argument("--kv-transfer-config", type=no_kv_connector, help="refused: --cache-dir keeps KV on disk")


def cache_config(args: argparse.Namespace) -> CacheConfig:
    """Raises BadRequest."""
    _check(args)
    return CacheConfig(
        enabled=args.prefix_cache,
        block_tokens=args.paged_cache_block_size,
        max_blocks=args.max_cache_blocks,
        max_snapshots=args.prefix_cache_size,
        max_bytes=args.cache_memory_mb * 1024**2,
        features=args.enable_mllm_cache,
        max_feature_bytes=args.mllm_cache_max_mb * 1024**2,
        disk_folder=args.cache_dir,
        max_disk_bytes=_disk_bytes(args),
        verify_share=args.verify_cache,
    )


def _disk_bytes(args: argparse.Namespace) -> int:
    if args.cache_disk_gb is None:
        return DEFAULT_CACHE.max_disk_bytes
    if args.cache_dir is None:
        raise BadRequest("--cache-disk-gb bounds the folder of --cache-dir, and there is none.", param="cache_disk_gb")
    return int(args.cache_disk_gb * 1024**3)


def _check(args: argparse.Namespace) -> None:
    """Raises BadRequest for the size of a cache that is off."""
    parser = argparse.ArgumentParser()
    add_cache_arguments(parser)
    options = given(parser, args)
    for is_on, names in ((args.prefix_cache, _OF_PROMPTS), (args.enable_mllm_cache, _OF_FEATURES)):
        refuse(() if is_on else names, options, "that cache is off")
