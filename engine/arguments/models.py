"""Which models there are: argument groups -> ModelSpec of each.

Imports nothing slow: `--help` must answer at once.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from engine.arguments.types import folder, more_than_zero, named_adapter, named_model, positive
from engine.config import DEMO, SERVER_KEY_VARIABLE, ModelSpec
from engine.errors import BadRequest
from engine.types import RemoteServer


class OneOfModels(argparse.Action):
    """--model, which may be given again: args.model is the first, args.models all of them."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        namespace.models = [*(getattr(namespace, "models", None) or ()), values]
        namespace.model = namespace.models[0]


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """For every command that loads a model. Read back by `model_specs`."""
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


def add_several_models_arguments(parser: argparse.ArgumentParser) -> None:
    """For a command that serves several models. Read back by `model_specs` and `several_models`."""
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


def add_remote_arguments(parser: argparse.ArgumentParser) -> None:
    """For a command that may hand its requests on to another server. Read back by `model_specs`."""
    group = parser.add_argument_group(
        "another server", "one with OpenAI's routes answers; nothing is loaded for it in this process"
    )
    group.add_argument(
        "--server-url",
        metavar="URL",
        help="this server answers as the default model, e.g. http://localhost:8000/v1; --model adds models in this "
        "process beside it",
    )
    group.add_argument(
        "--server-key",
        metavar="KEY",
        help=f"the key that it asks for (default: the environment's {SERVER_KEY_VARIABLE}, which other users of this "
        "machine do not see in the list of processes)",
    )
    group.add_argument(
        "--server-model", metavar="NAME", help="which of its models (default: the first of its /v1/models)"
    )


def model_specs(args: argparse.Namespace) -> list[ModelSpec]:
    """The models that were asked for, the default one first. Raises BadRequest."""
    if getattr(args, "models_config", None) is not None:
        return _models_of_file(args)
    if (server := _server(args)) is not None:
        return _beside(args, server)
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


def _server(args: argparse.Namespace) -> RemoteServer | None:
    """That of --server-url. Raises BadRequest."""
    url = getattr(args, "server_url", None)
    if url is None:
        for name in ("server_key", "server_model"):
            if getattr(args, name, None) is not None:
                option = "--" + name.replace("_", "-")
                raise BadRequest(f"{option}: it belongs to --server-url, which is not given.", param=name)
        return None
    key = args.server_key or os.environ.get(SERVER_KEY_VARIABLE, "").strip() or None
    return RemoteServer.at(url, key, args.server_model)


def _beside(args: argparse.Namespace, server: RemoteServer) -> list[ModelSpec]:
    """The model of another server first, and those of --model in this process. Raises BadRequest."""
    given = args.models or ([args.model] if args.model != DEMO or getattr(args, "served", None) else [])
    if not given:
        said = {"revision": args.revision, "text-only": args.text_only, "trust-remote-code": args.trust_remote_code}
        said |= {"adapter-path": args.adapter_path, "lora-modules": getattr(args, "lora_modules", None)}
        said |= {"max-model-len": args.max_model_len}
        for name in (name for name, value in said.items() if value):
            why = "it is about a model in this process, and --server-url names one elsewhere"
            raise BadRequest(f"--{name}: {why}.", param=name.replace("-", "_"))
    name, args.served_model_name = args.served_model_name, None
    models = [_model(args, *named_model(text)) for text in dict.fromkeys(given)]
    return [ModelSpec.remote(server, name), *models, *(_adapters(args, models) if models else ())]


def several_models(args: argparse.Namespace) -> dict[str, Any]:
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


def _model(args: argparse.Namespace, name: str | None, source: str) -> ModelSpec:
    return ModelSpec(
        source=source,
        name=args.served_model_name or name,
        revision=args.revision,
        text_only=args.text_only,
        trust_remote_code=args.trust_remote_code,
        adapter_path=str(args.adapter_path) if args.adapter_path else None,
    )


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
    said |= {"server-url": getattr(args, "server_url", None), "server-key": getattr(args, "server_key", None)}
    said |= {"server-model": getattr(args, "server_model", None)}
    for name in (name for name, value in said.items() if value):
        raise BadRequest(f"--{name}: --models-config says which models there are.", param=name)
    memory_bytes = device.describe().memory_bytes
    if args.models_memory_mb:
        memory_bytes = min(memory_bytes, args.models_memory_mb * 1024**2)
    base = ModelSpec(text_only=args.text_only, trust_remote_code=args.trust_remote_code)
    return [*read_models(args.models_config, base, Machine(memory_bytes))]
