"""models.yaml: which models a server has, and the settings of each -> ModelSpec. Errors name the line and the key.

Read before the server starts. Imports nothing slow before it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from engine.config import ADAPTER_NAME, DEFAULT_MODEL, DEMO, ModelSpec, VisionMode, VisionProxy, given_folder, is_hub_id
from engine.errors import BadRequest, EngineError, Unavailable, say_bytes
from engine.types import RemoteServer

Key = tuple[str | int, ...]
"""Where something stands in the document, as pydantic says it: ("models", 0, "params", "mem")."""


_OF_REMOTE = frozenset(
    ("name", "aliases", "default", "capabilities", "server_url", "server_key", "server_key_env", "server_model")
)
"""The keys of a model that another server answers for."""

AdapterName = Annotated[StrictStr, Field(pattern=f"^{ADAPTER_NAME}$")]


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ModelParams(_Keys):
    """params: of a model."""

    mem: StrictInt | None = Field(default=None, ge=1)
    dtype: Literal["float32", "bfloat16", "float16", "8bit", "4bit"] | None = None
    max_num_seqs: StrictInt | None = Field(default=None, ge=1)
    max_model_len: StrictInt | None = Field(default=None, ge=1)
    prefill_chunk_size: StrictInt | None = Field(default=None, ge=1)


class ModelCapabilities(_Keys):
    """capabilities: of a model."""

    vision_mode: VisionMode = "native"


class ProxyEntry(_Keys):
    """vision_proxy: of a model."""

    model: StrictStr | None = Field(default=None, min_length=1)
    hf_id: StrictStr | None = Field(default=None, min_length=1)
    prompt_template: StrictStr = Field(default=VisionProxy("").prompt_template, min_length=1)


class ModelEntry(_Keys):
    """One of models:."""

    name: StrictStr = Field(min_length=1, max_length=200)
    path: StrictStr | None = Field(default=None, min_length=1)
    hf_id: StrictStr | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    params: ModelParams = ModelParams()
    capabilities: ModelCapabilities = ModelCapabilities()
    vision_proxy: ProxyEntry | None = None
    aliases: list[StrictStr] = Field(default_factory=list)
    adapter_path: StrictStr | None = Field(default=None, min_length=1)
    adapters: dict[AdapterName, StrictStr] = Field(default_factory=dict)
    draft_model: StrictStr | None = Field(default=None, min_length=1)
    idle_unload_secs: float | None = Field(default=None, gt=0, strict=True, allow_inf_nan=False)
    default: StrictBool = False
    preload: StrictBool | None = None
    server_url: StrictStr | None = Field(default=None, min_length=1)
    server_key: StrictStr | None = Field(default=None, min_length=1)
    server_key_env: StrictStr | None = Field(default=None, pattern=r"^[A-Za-z_]\w*$")
    server_model: StrictStr | None = Field(default=None, min_length=1)


class ModelsDocument(_Keys):
    """The whole file."""

    models: list[ModelEntry] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the models have to fit. memory_bytes: for weights and KV."""

    memory_bytes: int


def read_models(file: Path, base: ModelSpec, machine: Machine) -> tuple[ModelSpec, ...]:
    """The models of a file, the default one first. base: what holds for all of them. Raises BadRequest."""
    document = _parse(file)
    entries = _validated(file, document)
    places = _Places(file, document)
    specs = [_spec(entry, i, base, places) for i, entry in enumerate(entries)]
    adapters = [
        _adapters(entry, spec, ("models", i), places)
        for i, (entry, spec) in enumerate(zip(entries, specs, strict=True))
    ]
    _check_names(specs, adapters, places)
    defaults = [i for i, entry in enumerate(entries) if entry.default]
    if len(defaults) > 1:
        raise places.error(("models", defaults[1], "default"), "only one model can be the default one")
    for i, spec in enumerate(specs):
        _check_folder(spec, ("models", i), places, machine)
    proxies = [_proxied(specs, adapters, i, base, places) for i, spec in enumerate(specs) if spec.vision_proxy]
    first = defaults[0] if defaults else 0
    ordered = [specs[first], *specs[:first], *specs[first + 1 :], *(one for of_model in adapters for one in of_model)]
    known = {spec.source for spec in specs}
    return (*ordered, *dict.fromkeys(proxy for proxy in proxies if proxy.source not in known))


# -- the document ------------------------------------------------------------------------------------------------------


def _parse(file: Path) -> Any:
    """The document, whose mappings and lists know their lines. Raises BadRequest."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return YAML().load(file.read_text(encoding="utf-8"))
    except MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        raise BadRequest(f"{file}:{line}: {e.problem or 'it cannot be read as YAML'}.", param="models_config") from e
    except (OSError, UnicodeDecodeError, YAMLError) as e:
        reason = getattr(e, "strerror", None) or str(e).splitlines()[0]
        raise BadRequest(f"{file}: it cannot be read: {reason}.", param="models_config") from e


def _validated(file: Path, document: Any) -> list[ModelEntry]:
    """Its entries. Raises BadRequest for the first of all that is wrong, in the order of the lines."""
    try:
        return ModelsDocument.model_validate(_plain(document)).models
    except ValidationError as e:
        places = _Places(file, document)
        wrong = [(places.line(key := tuple(error["loc"])), key, error) for error in e.errors()]
        _, key, error = min(wrong, key=lambda one: one[0])
        raise places.error(key, _expected(error, key)) from e


def _plain(value: Any) -> Any:
    """Mappings and lists as pydantic takes them."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


_SECRETS: dict[str | int, str] = {
    "server_key": "it should be a text of at least one character",
    # it may be the key itself, by mistake
    "server_key_env": "it should be the name of an environment variable: letters, digits and underscores",
}


def _expected(error: Any, key: Key) -> str:
    """What was expected there, in words."""
    kind, given = error["type"], error["input"]
    if secret := _SECRETS.get(key[-1] if key else ""):
        return secret  # what was given is not said
    if kind == "extra_forbidden":
        return f"this key is not known here; known are {', '.join(_known(key))}"
    if kind == "missing":
        return "this key is missing"
    if kind == "model_type":
        return f"it should be a mapping of keys to values, got {given!r}"
    said: str = error["msg"].replace("Input should", "it should")
    return f"{said}, got {given!r}"


def _known(key: Key) -> list[str]:
    """The keys that may stand beside this one."""
    inside: dict[str, type[BaseModel]] = {
        "params": ModelParams,
        "capabilities": ModelCapabilities,
        "vision_proxy": ProxyEntry,
    }
    if len(key) == 1:
        return list(ModelsDocument.model_fields)
    return list(inside.get(str(key[-2]), ModelEntry).model_fields)


@dataclass(frozen=True, slots=True)
class _Places:
    """Lines of a file, by keys."""

    file: Path
    document: Any

    def line(self, key: Key) -> int:
        """Of a key, or of what it is missing in; from 1."""
        found: int = 1
        at: Any = self.document
        for part in key:
            try:
                lines: Any = at.lc  # ruamel.yaml's
                found = (lines.key(part) if isinstance(at, dict) else lines.item(part))[0] + 1
                at = at[part]
            except (KeyError, IndexError, TypeError, AttributeError):
                break
        return found

    def error(self, key: Key, why: str) -> BadRequest:
        names = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")
        return BadRequest(f"{self.file}:{self.line(key)}: {names or 'the file'}: {why}.", param="models_config")


# -- what it means -----------------------------------------------------------------------------------------------------


def _spec(entry: ModelEntry, i: int, base: ModelSpec, places: _Places) -> ModelSpec:
    key: Key = ("models", i)
    if sum(one is not None for one in (entry.path, entry.hf_id, entry.server_url)) != 1:
        raise places.error(key, "say one of path (a folder, or demo), hf_id (org/name) and server_url")
    if entry.server_url is not None:
        return _remote_spec(entry, entry.server_url, key, places)
    for name in ("server_key", "server_key_env", "server_model"):
        if getattr(entry, name) is not None:
            raise places.error((*key, name), "it belongs to server_url")
    mode, proxy = entry.capabilities.vision_mode, entry.vision_proxy
    if (mode == "proxy") != (proxy is not None):
        raise places.error(key, "vision_proxy belongs to capabilities.vision_mode: proxy, and the other way round")
    if proxy is not None and (proxy.model is None) == (proxy.hf_id is None):
        raise places.error((*key, "vision_proxy"), "say either model (a name of this file) or hf_id (org/name)")
    dtype = entry.params.dtype
    bits = int(dtype.removesuffix("bit")) if dtype and dtype.endswith("bit") else None
    return replace(
        base,
        source=entry.hf_id or _folder(entry.path or "", places.file),
        name=entry.name,
        aliases=tuple(entry.aliases),
        max_bytes=entry.params.mem * 1024**2 if entry.params.mem else None,
        bits=bits,
        dtype=None if bits else dtype,
        max_seqs=entry.params.max_num_seqs,
        max_model_len=entry.params.max_model_len or base.max_model_len,
        prefill_chunk_tokens=entry.params.prefill_chunk_size,
        idle_unload_s=entry.idle_unload_secs,
        preload=entry.preload,
        vision=mode,
        vision_proxy=_vision_proxy(proxy, key, places) if proxy else None,
        adapter_path=_adapter(entry.adapter_path, (*key, "adapter_path"), places) if entry.adapter_path else None,
        draft_model=_draft(entry.draft_model, (*key, "draft_model"), places) if entry.draft_model else None,
    )


def _remote_spec(entry: ModelEntry, url: str, key: Key, places: _Places) -> ModelSpec:
    """A model that another server answers for."""
    for name in sorted(entry.model_fields_set - _OF_REMOTE):
        raise places.error((*key, name), "it is about a model in this process, and server_url names one elsewhere")
    if entry.capabilities.vision_mode == "proxy":
        why = "describing media to a model is done for those in this process only: native or disabled"
        raise places.error((*key, "capabilities", "vision_mode"), why)
    if entry.server_key is not None and entry.server_key_env is not None:
        raise places.error((*key, "server_key_env"), "say either server_key or server_key_env")
    given = entry.server_key
    if entry.server_key_env is not None and not (given := os.environ.get(entry.server_key_env, "").strip()):
        # not the name: a key that was written here by mistake may look like one
        raise places.error((*key, "server_key_env"), "the environment has no variable of this name")
    try:
        server = RemoteServer.at(url, given, entry.server_model)
    except BadRequest as e:
        name, _, why = e.message.partition(": ")
        raise places.error((*key, name), why.rstrip(".")) from e
    return ModelSpec.remote(server, entry.name, aliases=tuple(entry.aliases), vision=entry.capabilities.vision_mode)


def _adapters(entry: ModelEntry, spec: ModelSpec, key: Key, places: _Places) -> list[ModelSpec]:
    """The adapters of a model, each as one more model."""
    if entry.adapters and entry.adapter_path:
        why = "a model is loaded with one adapter (adapter_path), or shares its weights with several (adapters)"
        raise places.error((*key, "adapters"), why)
    return [
        spec.with_adapter(name, _adapter(path, (*key, "adapters", name), places))
        for name, path in entry.adapters.items()
    ]


def _adapter(path: str, key: Key, places: _Places) -> str:
    folder = _folder(path, places.file)
    if not Path(folder).is_dir():
        raise places.error(key, f"there is no folder {path!r}")
    return folder


def _draft(source: str, key: Key, places: _Places) -> str:
    """A folder where there is one, else a hub id."""
    folder = _folder(source, places.file)
    if Path(folder).is_dir():
        return folder
    if not is_hub_id(source):
        raise places.error(key, f"there is no folder {source!r}, and no hub id is written so")
    return source


def _vision_proxy(proxy: ProxyEntry, key: Key, places: _Places) -> VisionProxy:
    try:
        return VisionProxy(proxy.model or proxy.hf_id or "", proxy.prompt_template)
    except BadRequest as e:
        raise places.error((*key, "vision_proxy", "prompt_template"), e.message) from e


def _folder(path: str, file: Path) -> str:
    """A path as it is meant: beside the file, unless it begins at the root or at the home folder."""
    folder = given_folder(path)
    return path if path == DEMO else str(folder if folder.is_absolute() else file.resolve().parent / folder)


def _check_names(specs: Sequence[ModelSpec], adapters: Sequence[Sequence[ModelSpec]], places: _Places) -> None:
    owners: dict[str, int] = {DEFAULT_MODEL: -1}
    for i, spec in enumerate(specs):
        names = [(spec.served_name, "name"), *((alias, "aliases") for alias in spec.aliases)]
        names += [(name, "adapters") for one in adapters[i] for name in (one.served_name, *one.aliases)]
        for name, key in names:
            if name in owners:
                other = f"models[{owners[name]}] has" if owners[name] >= 0 else "the default model has"
                raise places.error(("models", i, key), f"{other} the name {name!r} already")
            owners[name] = i


def _check_folder(spec: ModelSpec, key: Key, places: _Places, machine: Machine) -> None:
    """What can be said of a model that is on this machine: whether it is one, and whether it fits."""
    from engine.models.checkpoint import expected_bytes
    from engine.models.locate import locate_here

    if spec.server is not None:
        return
    try:
        folder = locate_here(spec)
    except EngineError as e:
        raise places.error((*key, "path"), e.message.rstrip(".")) from e
    if folder is None:
        return
    if (spec.bits or spec.dtype) and _model_config(folder, key, places).get("quantization"):
        raise places.error((*key, "params", "dtype"), "this model is quantized already; leave dtype out")
    try:
        size = expected_bytes(folder, spec)
    except Unavailable:
        return  # its first load says so; the others can be served
    limit = min(machine.memory_bytes, spec.max_bytes or machine.memory_bytes)
    if size > limit:
        where = (*key, "params", "mem") if spec.max_bytes and limit == spec.max_bytes else key
        why = f"its weights take {say_bytes(size)}, and it may have {say_bytes(limit)} of memory"
        raise places.error(where, why)


def _model_config(folder: Path, key: Key, places: _Places) -> dict[str, Any]:
    from engine.models.json_files import read_object

    try:
        return read_object(folder / "config.json")
    except ValueError as e:
        raise places.error((*key, "path"), f"in {folder}: {str(e).rstrip('.')}") from e


def _proxied(
    specs: Sequence[ModelSpec], adapters: Sequence[Sequence[ModelSpec]], i: int, base: ModelSpec, places: _Places
) -> ModelSpec:
    """Who looks at pictures for a model; one that is not in the file comes by its hub id. Raises BadRequest."""
    from engine.models.locate import is_multimodal, locate_here

    spec, key = specs[i], ("models", i, "vision_proxy")
    name = spec.vision_proxy.model if spec.vision_proxy else ""
    found = (
        (place, one)
        for place, of_model in enumerate(zip(specs, adapters, strict=True))
        for one in (of_model[0], *of_model[1])
        if name in one.names
    )
    at, other = next(found, (0, None))
    if other is None:
        if "hf_id" not in places.document["models"][i]["vision_proxy"]:
            raise places.error((*key, "model"), f"there is no model {name!r} in this file")
        return replace(base, source=name)
    if other is spec:
        raise places.error(key, "a model cannot be its own proxy")
    if other.server is not None:
        raise places.error(key, f"{other.served_name} is served by another server, and cannot look for others")
    folder = locate_here(other)
    sees = folder is None or is_multimodal(folder, _model_config(folder, ("models", at), places))
    if other.vision != "native" or other.text_only or not sees:
        raise places.error(key, f"{other.served_name} sees nothing, so it cannot look for others")
    return other
