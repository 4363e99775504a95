"""JSON Schemas as models can be held to them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.types import Json

_ONE = ("items", "additionalProperties", "additionalItems")
_MANY = ("anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_ELSEWHERE = frozenset(("anyOf", "oneOf", "$ref", "patternProperties", "minProperties", "additionalProperties"))
"""Beside `properties`, they may say more about an object's properties."""


def closed(schema: Json) -> Json:
    """The schema, in which objects have no properties but those that it names.

    JSON Schema allows any others, and a model that may go on inventing them may never end. What is valid under the
    result is valid under the schema. Left as it is: an object that says itself what else it may have, and a schema in
    which one object's properties are spread over several places (allOf, or a choice beside them).
    """
    is_spread = any(
        "allOf" in node or ("properties" in node and node.keys() & {"anyOf", "oneOf", "$ref"})
        for node in _nodes(schema)
    )
    return schema if is_spread else _closed(schema)


def _closed(node: Json) -> Json:
    out = _with_inner(node, _closed)
    properties, required = node.get("properties"), node.get("required", [])
    is_open = isinstance(properties, dict) and not node.keys() & _ELSEWHERE
    if is_open and isinstance(required, list) and set(map(str, required)) <= set(properties):
        out["additionalProperties"] = False
    return out


def _nodes(schema: Json) -> list[Json]:
    """It and every schema inside it."""
    found = []

    def note(node: Json) -> Json:
        found.append(node)
        return _with_inner(node, note)

    note(schema)
    return found


def _with_inner(node: Json, change: Callable[[Json], Json]) -> Json:
    """A schema with what becomes of each schema directly inside it. Others than objects (true, false) stay."""

    def changed(inner: Any) -> Any:
        return change(inner) if isinstance(inner, dict) else inner

    out = dict(node)
    for name, value in node.items():
        if name in _MANY and isinstance(value, list):
            out[name] = [changed(inner) for inner in value]
        elif name in _NAMED and isinstance(value, dict):
            out[name] = {key: changed(inner) for key, inner in value.items()}
        elif name in _ONE:
            out[name] = changed(value)
    return out
