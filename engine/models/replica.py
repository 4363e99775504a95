"""What a rank other than 0 holds: its part of the model, and its part of every row's KV under rank 0's names. It does
what it is told (engine.models.mirror) and decides nothing. Engine thread of that process only.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

from engine.cache import tensors
from engine.config import EngineConfig
from engine.errors import Internal
from engine.models import registry
from engine.models.adapter import Adapter
from engine.models.array_messages import from_parts
from engine.models.loading import in_portions
from engine.models.locate import locate
from engine.models.mirror import drawn_ids
from engine.models.mlx_memory import return_memory
from engine.models.sharding import digest

log = logging.getLogger(__name__)

RankMessage = dict[str, Any]


class Replica:
    """config: as rank 0 was given it. answer: tells rank 0 that the model is loaded."""

    def __init__(self, config: EngineConfig, group: mx.distributed.Group, answer: Callable[..., None]) -> None:
        self._config = config
        self._group = group
        self._answer = answer
        self._adapter: Adapter | None = None
        self._held: dict[int, Any] = {}

    def do(self, message: RankMessage, parts: Sequence[bytes]) -> None:
        """Carry out a message. Raises what the libraries raise, and Internal for a message that it does not know."""
        what = message["do"]
        if what == "load":
            self._load()
        elif what == "unload":
            self._adapter, self._held = None, {}
            mx.clear_cache()
        elif what == "read":
            self._read(message, parts)
        elif (step := _STEPS.get(what)) is not None:
            step(self, message)
        elif what == "return_memory":
            return_memory()
        elif what != "release":
            raise Internal(f"rank 0 has told this rank to {what!r}, which it cannot: is its version another one?")
        for name in message.get("gone", ()):
            self._held.pop(name, None)

    def _load(self) -> None:
        self._adapter, self._held = None, {}
        spec = next(spec for spec in self._config.models if spec.server is None)
        path = locate(spec)
        found = registry.open_checkpoint(path, spec, self._group)
        part: Any = getattr(found.model, "language_model", found.model)  # rank 0 alone sees
        num_bytes = 0
        for num_bytes, _ in in_portions(part):
            log.debug("%d bytes of weights are here", num_bytes)
        self._adapter = Adapter(found.model, found.vision, found.family)
        self._answer(digest=digest(path), num_bytes=num_bytes)

    def _read(self, message: RankMessage, parts: Sequence[bytes]) -> None:
        """A pass, begun in the order of the messages and evaluated as a whole, as on rank 0."""
        adapter, layers = self._loaded(), self._held[message["of"]]
        layers[-1].deltas = message["deltas"]
        if (shape := message.get("drawn")) is not None:
            ids = drawn_ids(mx.zeros(shape, mx.int32), self._group)
        else:
            ids = from_parts(message["ids"], parts)
        arguments = from_parts(message["arguments"], parts)
        mx.async_eval(adapter.follow(ids, layers, arguments, states_only=message["states_only"]))
        if ids.shape[1] > 1:
            mx.clear_cache()

    def _loaded(self) -> Adapter:
        if self._adapter is None:
            raise Internal("rank 0 has told this rank to read before it was told to load")
        return self._adapter

    # What is done with layers: `of` and `by` name them, `new` is the name of what comes of it.

    def _make(self, message: RankMessage) -> None:
        self._held[message["new"]] = self._loaded().make_cache()

    def _merge(self, message: RankMessage) -> None:
        rows = [self._held[name] for name in message["of"]]
        self._held[message["new"]] = [layers[0].merge(list(layers)) for layers in zip(*rows, strict=True)]

    def _extend(self, message: RankMessage) -> None:
        for layer, other in zip(self._held[message["of"]], self._held[message["by"]], strict=True):
            layer.extend(other)

    def _filter(self, message: RankMessage) -> None:
        for layer in self._held[message["of"]]:
            layer.filter(message["keep"])

    def _extract(self, message: RankMessage) -> None:
        self._held[message["new"]] = [layer.extract(message["index"]) for layer in self._held[message["of"]]]

    def _prepare(self, message: RankMessage) -> None:
        for layer in self._held[message["of"]]:
            layer.prepare(**message["padding"])

    def _finalize(self, message: RankMessage) -> None:
        for layer in self._held[message["of"]]:
            layer.finalize()

    def _trim_rows(self, message: RankMessage) -> None:
        tensors.trim_rows(self._held[message["of"]], message["nums"])

    def _ragged(self, message: RankMessage) -> None:
        self._held[message["new"]] = tensors.ragged(self._held[message["of"]])

    def _fork(self, message: RankMessage) -> None:
        self._held[message["new"]] = tensors.fork(self._held[message["of"]])

    def _copy(self, message: RankMessage) -> None:
        self._held[message["new"]] = copy.deepcopy(self._held[message["of"]])

    def _widen(self, message: RankMessage) -> None:
        self._held[message["new"]] = tensors.widened(self._held[message["of"]], message["num"])

    def _branch(self, message: RankMessage) -> None:
        wide = self._held[message["of"]]
        self._held[message["new"]] = tensors.branched(wide, message["stems"], message["lengths"])

    def _cut(self, message: RankMessage) -> None:
        payloads = tensors.cut(self._held[message["of"]], [(start, end) for start, end in message["spans"]])
        self._held.update(zip(message["new"], payloads, strict=True))

    def _join(self, message: RankMessage) -> None:
        parts = [(self._held[name], num_tokens) for name, num_tokens in message["parts"]]
        tensors.join(parts, self._held[message["of"]])


_STEPS: dict[str, Callable[[Replica, RankMessage], None]] = {
    "make": Replica._make,
    "merge": Replica._merge,
    "extend": Replica._extend,
    "filter": Replica._filter,
    "extract": Replica._extract,
    "prepare": Replica._prepare,
    "finalize": Replica._finalize,
    "trim_rows": Replica._trim_rows,
    "ragged": Replica._ragged,
    "fork": Replica._fork,
    "copy": Replica._copy,
    "widen": Replica._widen,
    "branch": Replica._branch,
    "cut": Replica._cut,
    "join": Replica._join,
}
