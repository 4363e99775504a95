"""Options of the engine, shared by vllm-mlx, vllm-mlx-chat and vllm-mlx-bench: argument groups -> frozen settings.

Imports nothing slow: `--help` must answer at once.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.argument_types import (
    at_least_zero,
    count,
    file_to_write,
    folder,
    host,
    media_limits,
    more_than_zero,
    named_adapter,
    named_model,
    new_folder,
    no_kv_connector,
    positive,
    share,
    share_or_zero,
)
from engine.config import DEMO, LEAST_ROWS, CacheConfig, EngineConfig, MediaLimits, ModelSpec
from engine.errors import BadRequest
from engine.types import FrameSampling, Sampling

DEFAULTS = EngineConfig()


def add_engine_arguments(parser: argparse.ArgumentParser, max_tokens: int = DEFAULTS.max_tokens) -> None:
    """Which model, how it generates, batches and caches, what media may cost. Read back by `engine_config`."""
    _add_model_arguments(parser)
    _add_generation_arguments(parser, max_tokens)
    _add_batch_arguments(parser)
    _add_cache_arguments(parser)
    _add_media_arguments(parser)


def engine_config(args: argparse.Namespace) -> EngineConfig:
    """EngineConfig from arguments declared by `add_engine_arguments`."""
    model, *more_models = _models(args)
    return EngineConfig(
        model=model,
        more_models=tuple(more_models),
        **_several(args),
        **_request_log(args),
        media=MediaLimits(
            max_images=args.limit_mm_per_prompt.get("image"),
            max_videos=args.limit_mm_per_prompt.get("video"),
            max_audios=args.limit_mm_per_prompt.get("audio"),
            media_root=args.media_root,
            allow_private_urls=args.allow_private_urls,
            allowed_media_domains=tuple(args.allowed_media_domains),
        ),
        cache=CacheConfig(
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
        ),
        sampling=Sampling(temperature=args.temperature, top_p=args.top_p, top_k=args.top_k, min_p=args.min_p),
        frames=FrameSampling(fps=args.video_fps, max_frames=args.video_max_frames),
        max_tokens=args.max_tokens,
        max_model_len=args.max_model_len,
        prefill_chunk_tokens=args.prefill_step_size,
        max_num_seqs=args.max_num_seqs if args.continuous_batching else 1,
        memory_utilization=args.gpu_memory_utilization,
        wired_limit_bytes=args.wired_limit * 1024**2 if args.wired_limit else None,
        prefill_batch_size=args.prefill_batch_size,
        completion_batch_size=args.completion_batch_size,
        request_timeout_s=args.timeout,
        stream_interval=args.stream_interval,
        media_first=args.media_first,
        max_queue=args.max_queue,
        max_waiting_media_bytes=args.max_waiting_media_mb * 1024**2,
    )


def add_request_log_arguments(parser: argparse.ArgumentParser) -> None:
    """For a command that serves. Read back by `engine_config`, too."""
    group = parser.add_argument_group("request log", "what GET /v1/requests and the Requests tab show")
    group.add_argument(
        "--request-log",
        metavar="N",
        type=count,
        default=DEFAULTS.request_log.num_requests,
        help="keep the last N requests in memory, with messages, answers and times; 0: none (default: %(default)s)",
    )
    group.add_argument(
        "--request-log-mb",
        metavar="N",
        type=positive,
        default=DEFAULTS.request_log.max_bytes // 1024**2,
        help="MiB of memory that they may take with their media; the oldest leave first (default: %(default)s)",
    )
    group.add_argument(
        "--request-log-file",
        metavar="FILE",
        type=file_to_write,
        help="also write each to this file as a line of JSON, and its media to FILE.media; at 64 MiB it becomes FILE.1",
    )


def _request_log(args: argparse.Namespace) -> dict[str, Any]:
    """{} for a command that does not serve."""
    if "request_log" not in args:
        return {}
    if args.request_log_file is not None and not args.request_log:
        raise BadRequest("--request-log-file writes what --request-log keeps, and that is 0.", param="request_log_file")
    limits = replace(
        DEFAULTS.request_log,
        num_requests=args.request_log,
        max_bytes=args.request_log_mb * 1024**2,
        file=args.request_log_file,
    )
    return {"request_log": limits}


class OneOfModels(argparse.Action):
    """--model, which may be given again: args.model is the first, args.models all of them."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        namespace.models = [*(getattr(namespace, "models", None) or ()), values]
        namespace.model = namespace.models[0]


def add_models_arguments(parser: argparse.ArgumentParser) -> None:
    """For a command that serves several models. Read back by `engine_config`, too."""
    group = parser.add_argument_group("several models", "give --model again, as NAME=SOURCE, for each")
    group.add_argument(
        "--models-config",
        metavar="FILE",
        type=Path,
        help="a YAML file that says which models there are, and the settings of each; in place of --model",
    )
    group.add_argument(
        "--max-loaded-models",
        metavar="N",
        type=positive,
        help="most models in memory at once; who was used longest ago makes room (default: as many as fit)",
    )
    group.add_argument(
        "--models-memory-mb",
        metavar="N",
        type=positive,
        help="MiB of memory for the weights and KV of all (default: as --gpu-memory-utilization says)",
    )
    group.add_argument(
        "--idle-unload-secs",
        metavar="S",
        type=more_than_zero,
        help="a model that nobody has used for so long leaves memory until the next request for it (default: it stays)",
    )
    group.add_argument(
        "--lora-modules",
        metavar="NAME=FOLDER",
        nargs="+",
        action="extend",
        type=named_adapter,
        default=[],
        help="LoRA adapters of the default model, each asked for by its name, or as MODEL:NAME; they share the model's "
        "weights",
    )
    group.add_argument(
        "--models-dir",
        metavar="FOLDER",
        type=folder,
        action="append",
        default=[],
        help="models in this folder are listed beside those of the hub's cache, and can be loaded and deleted on the "
        "page; may be given several times",
    )


def _models(args: argparse.Namespace) -> list[ModelSpec]:
    """The models that were asked for, the default one first. Raises BadRequest."""
    if getattr(args, "models_config", None) is not None:
        return _models_of_file(args)
    given = [args.model, *(other for other in args.models or () if other != args.model)]
    if len(given) > 1 and "max_loaded_models" not in args:
        raise BadRequest("--model: this command takes one model.", param="model")
    if len(given) > 1 and args.served_model_name:
        why = "with several models, give each its name as --model NAME=SOURCE"
        raise BadRequest(f"--served-model-name: {why}.", param="served_model_name")
    if len(given) > 1 and args.adapter_path:
        why = "with several models, give each its adapters by --lora-modules or in --models-config"
        raise BadRequest(f"--adapter-path: {why}.", param="adapter_path")
    models = [_model(args, *named_model(text)) for text in given]
    return [*models, *_adapters(args, models)]


def _adapters(args: argparse.Namespace, models: list[ModelSpec]) -> list[ModelSpec]:
    """Those of --lora-modules, each as one more model. Raises BadRequest."""
    given = getattr(args, "lora_modules", ())
    if given and args.adapter_path:
        why = "a model is loaded with one adapter, or shares its weights with several: leave --adapter-path out"
        raise BadRequest(f"--lora-modules: {why}.", param="lora_modules")
    found = []
    for adapter in given:
        model = next((one for one in models if adapter.model is None or adapter.model in one.names), None)
        if model is None:
            raise BadRequest(f"--lora-modules: there is no model {adapter.model!r}.", param="lora_modules")
        found.append(model.with_adapter(adapter.name, adapter.path, short=True))
    return found


def _models_of_file(args: argparse.Namespace) -> list[ModelSpec]:
    """Those of --models-config. Raises BadRequest."""
    from engine import device
    from engine.models_file import Machine, read_models

    said = {"model": args.models or args.model != DEMO, "served-model-name": args.served_model_name}
    said |= {"revision": args.revision, "adapter-path": args.adapter_path, "lora-modules": args.lora_modules}
    for name in (name for name, value in said.items() if value):
        raise BadRequest(f"--{name}: --models-config says which models there are.", param=name)
    memory_bytes = device.describe().memory_bytes
    if args.models_memory_mb:
        memory_bytes = min(memory_bytes, args.models_memory_mb * 1024**2)
    base = ModelSpec(text_only=args.text_only, trust_remote_code=args.trust_remote_code)
    return [*read_models(args.models_config, base, Machine(memory_bytes))]


def _model(args: argparse.Namespace, name: str | None, source: str) -> ModelSpec:
    return ModelSpec(
        source=source,
        name=args.served_model_name or name,
        revision=args.revision,
        text_only=args.text_only,
        trust_remote_code=args.trust_remote_code,
        adapter_path=str(args.adapter_path) if args.adapter_path else None,
    )


def _several(args: argparse.Namespace) -> dict[str, Any]:
    """Settings of several models; {} for a command that has one."""
    if "max_loaded_models" not in args:
        return {}
    memory_mb = args.models_memory_mb
    return {
        "max_loaded_models": args.max_loaded_models,
        "max_models_bytes": memory_mb * 1024**2 if memory_mb else None,
        "idle_unload_s": args.idle_unload_secs,
        "models_folders": tuple(args.models_dir),
    }


def _disk_bytes(args: argparse.Namespace) -> int:
    if args.cache_disk_gb is None:
        return DEFAULTS.cache.max_disk_bytes
    if args.cache_dir is None:
        raise BadRequest("--cache-disk-gb bounds the folder of --cache-dir, and there is none.", param="cache_disk_gb")
    return int(args.cache_disk_gb * 1024**3)


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        "--m",
        metavar="[NAME=]MODEL",
        action=OneOfModels,
        default=DEMO,
        help=f"a folder, a hub id (org/name), or {DEMO!r}, the model that ships with this (default); NAME is what "
        "/v1/models says",
    )
    parser.set_defaults(models=None)
    group.add_argument("--served-model-name", metavar="NAME", help="name in /v1/models (default: from --model)")
    group.add_argument("--revision", metavar="REV", help="branch, tag or commit of a hub model")
    group.add_argument("--text-only", action="store_true", help="load only the language part of a model that sees")
    group.add_argument(
        "--trust-remote-code", action="store_true", help="run Python that the model's folder brings (off by default)"
    )
    group.add_argument(
        "--adapter-path",
        metavar="FOLDER",
        type=folder,
        help="load the model with this LoRA adapter: adapter_config.json and adapters.safetensors of mlx-lm or mlx-vlm",
    )
    group.add_argument("--max-model-len", metavar="N", type=positive, help="context in tokens, at most the model's own")


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


def _add_batch_arguments(parser: argparse.ArgumentParser) -> None:
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
            "MiB of decoded media of all requests that have not begun to answer, before 429",
        ),
    }
    _add_numbers(group, numbers)
    group.add_argument(
        "--completion-batch-size",
        metavar="N",
        type=positive,
        help=f"answers decoded together (default: --max-num-seqs, and at least {LEAST_ROWS}); with less than that, at "
        "most --prefill-batch-size more requests are worked on",
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


def _add_cache_arguments(parser: argparse.ArgumentParser) -> None:
    cache = DEFAULTS.cache
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
    _add_numbers(group, numbers)
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


def _add_numbers(group: argparse._ArgumentGroup, numbers: dict[str, tuple[int, str]]) -> None:
    """Options that take a whole number of at least 1: name -> (default, help)."""
    for name, (default, text) in numbers.items():
        group.add_argument(name, metavar="N", type=positive, default=default, help=f"{text} (default: %(default)s)")


def _add_media_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("media")
    group.add_argument("--media-root", metavar="FOLDER", type=folder, help="API requests may name files in this folder")
    group.add_argument(
        "--allow-private-urls",
        action="store_true",
        help="fetch media from private, loopback and link-local addresses too",
    )
    group.add_argument(
        "--allowed-media-domains",
        metavar="HOST",
        nargs="+",
        action="extend",
        type=host,
        default=[],
        help="fetch media from these hosts only, redirects included (default: from any)",
    )
    group.add_argument(
        "--limit-mm-per-prompt",
        metavar="image=4,video=1,audio=1",
        type=media_limits,
        default={},
        help="most pictures, clips and sounds of one prompt; JSON is fine too",
    )
    group.add_argument(
        "--media-first",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="read a question after its picture, so that another question reuses the picture",
    )
    group.add_argument("--video-fps", metavar="FPS", type=more_than_zero, help="frames per second taken from a clip")
    group.add_argument("--video-max-frames", metavar="N", type=positive, help="most frames taken from a clip")
