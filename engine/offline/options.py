"""Keywords of LLM, MLXLanguageModel and MLXMultimodalLM -> EngineConfig. Pure.

Their names are vLLM's where it has one (https://docs.vllm.ai/en/latest/api/vllm/entrypoints/llm.html).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from engine.config import CacheConfig, EngineConfig, MediaLimits, ModelSpec
from engine.errors import BadRequest
from engine.ranks.place import rank_place

MAX_SEQS = 256
"""As vLLM has it: a list of prompts is one batch, as far as memory has room."""

MEDIA_KINDS = ("image", "video", "audio")


class ModelOptions(TypedDict, total=False):
    """How a model is loaded and what it may cost; all of them may be left out.

    revision: branch, tag or commit of a hub model. trust_remote_code: run Python that the model's folder brings. dtype:
    "auto", "float32", "float16" or "bfloat16". max_model_len: context in tokens, at most the model's own.
    max_num_seqs: prompts worked on at once. gpu_memory_utilization: share of the device's memory.
    limit_mm_per_prompt: most media of a prompt, {"image": 4}. enable_prefix_caching: prompts share what they share.
    text_only: load only the language part of a model that sees.
    allowed_local_media_path: the folder whose files the URLs of a chat's messages may name. allow_private_urls: fetch
    from this machine and its network, too. allowed_media_domains: the only hosts to fetch from.
    tensor_parallel_size: processes that divide the model, as many as mlx.launch has started of the script; the lines
    behind the LLM run in the first one only (engine.runtime.following). pipeline_parallel_size: 1.
    """

    revision: str | None
    trust_remote_code: bool
    dtype: str
    max_model_len: int | None
    max_num_seqs: int
    gpu_memory_utilization: float
    limit_mm_per_prompt: Mapping[str, int]
    enable_prefix_caching: bool
    text_only: bool
    allowed_local_media_path: str | Path | None
    allow_private_urls: bool
    allowed_media_domains: list[str] | None
    tensor_parallel_size: int
    pipeline_parallel_size: int


DTYPES = ("float32", "float16", "bfloat16")


def engine_config(model: str | Path, options: Mapping[str, Any]) -> EngineConfig:
    """Raises BadRequest for a keyword that is not known, or a value that it cannot have."""
    known = ModelOptions.__annotations__
    for name in options:
        if name not in known:
            why = f"this keyword is not known; there are {', '.join(sorted(known))}"
            raise BadRequest(f"{name}: {why}.", param=name, code="unknown_parameter")
    given = {name: value for name, value in options.items() if value is not None}
    if given.get("pipeline_parallel_size", 1) != 1:
        why = "the layers of a model are not dealt out to processes here, but each is divided (tensor_parallel_size)"
        number = f"so it must be 1, not {given['pipeline_parallel_size']!r}"
        raise BadRequest(
            f"pipeline_parallel_size: {why}, {number}.", param="pipeline_parallel_size", code="unsupported_parameter"
        )
    size = given.get("tensor_parallel_size", 1)
    if not _is_whole(size, least=1):
        why = f"it must be a whole number of at least 1, not {size!r}"
        raise BadRequest(f"tensor_parallel_size: {why}.", param="tensor_parallel_size")
    limits = given.get("limit_mm_per_prompt", {})
    for kind, most in limits.items():
        if kind not in MEDIA_KINDS or not _is_whole(most, least=0):
            why = f"it holds a number of at least 0 for {', '.join(MEDIA_KINDS)}"
            raise BadRequest(f"limit_mm_per_prompt: {why}.", param="limit_mm_per_prompt")
    dtype = given.get("dtype", "auto")
    if dtype not in ("auto", *DTYPES):
        raise BadRequest(f"dtype: it must be auto, {', '.join(DTYPES)}, not {dtype!r}.", param="dtype")
    for name in ("max_model_len", "max_num_seqs"):
        if name in given and not _is_whole(given[name], least=1):
            raise BadRequest(f"{name}: it must be a whole number of at least 1.", param=name)
    share = given.get("gpu_memory_utilization", EngineConfig().memory_utilization)
    if not 0 < share <= 1:
        why = f"it must be more than 0 and at most 1, not {share!r}"
        raise BadRequest(f"gpu_memory_utilization: {why}.", param="gpu_memory_utilization")
    root = given.get("allowed_local_media_path")
    return EngineConfig(
        model=ModelSpec(
            str(model),
            revision=given.get("revision"),
            text_only=given.get("text_only", False),
            trust_remote_code=given.get("trust_remote_code", False),
            dtype=None if dtype == "auto" else dtype,
        ),
        media=MediaLimits(
            max_images=limits.get("image"),
            max_videos=limits.get("video"),
            max_audios=limits.get("audio"),
            media_root=Path(root).expanduser() if root else None,
            allow_private_urls=given.get("allow_private_urls", False),
            allowed_media_domains=tuple(given.get("allowed_media_domains", ())),
        ),
        cache=CacheConfig(enabled=given.get("enable_prefix_caching", True)),
        max_model_len=given.get("max_model_len"),
        max_num_seqs=given.get("max_num_seqs", MAX_SEQS),
        memory_utilization=share,
        ranks=rank_place(size, os.environ, script=True),
    )


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
