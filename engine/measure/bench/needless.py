"""Options of vllm-mlx-bench that would do nothing beside others: they are refused. Pure."""

from __future__ import annotations

import argparse

from engine.arguments.needless import refuse

ASKED_OF_A_SERVER = {"model", "models", "max_tokens", "temperature", "text_only"}
"""Options of the engine that say what is asked, and so hold for a server that runs, too."""

FETCHED_HERE = {"allow_private_urls", "allowed_media_domains"}
"""And with --video-url, what is fetched here."""


def check_measures_nothing(args: argparse.Namespace) -> None:
    """For --runs and --compare. Raises BadRequest."""
    which = "compare" if args.compare else "runs"
    refuse(set(args.given) - {which}, args.given, f"--{which} measures nothing")


def check_options(args: argparse.Namespace) -> None:
    """For a run. Raises BadRequest."""
    own = set(args.bench_options) | ASKED_OF_A_SERVER | (FETCHED_HERE if args.video_url else set())
    if args.base_url:
        refuse(set(args.given) - own, args.given, "a server of --base-url has its own settings")
    else:
        refuse({"api_key"}, args.given, "it is the key of --base-url, and none is given")
    named = {*(args.suite or ()), *(("image",) if args.mllm else ())}
    named |= {"video"} if args.video or args.video_path or args.video_url else set()
    if named and "text" not in named:
        refuse({"prompt_words"}, args.given, "it is the length of --suite text's prompts, which is not measured")
