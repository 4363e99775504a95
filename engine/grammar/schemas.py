"""JSON Schemas as models can be held to them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from engine.types import Json

_ONE = ("items", "additionalProperties", "additionalItems")
_MANY = ("anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_ELSEWHERE = frozenset(("anyOf", "oneOf", "$ref", "patternProperties", "minProperties", "additionalProperties"))
"""Beside `properties`, they may say more about an object's properties."""


MAX_LEVELS = 400
"""Of objects and arrays inside each other, where references are followed. llguidance follows them on the stack, which
ends at some 2000: and the process with it."""

MAX_NAMED_REFS = 16
"""References that are no path ("#/$defs/a"): where they lead is not looked up here."""


MAX_LOOKS = 64
"""Schemas that are compiled to find the one that is wrong: each may take as long as the whole."""


def check_depth(schema: Json) -> None:
    """Raise ValueError for a schema that is too deep."""
    heights: dict[int, int] = {}
    named: set[str] = set()

    def height(node: Any, depth: int) -> int:
        """Levels at and below a node; one that is being looked at, as in a schema that refers to itself, has none."""
        if depth + heights.get(id(node), 0) > MAX_LEVELS:
            raise ValueError(f"it is nested deeper than {MAX_LEVELS} levels, references followed")
        if id(node) in heights or not isinstance(node, dict | list):
            return heights.get(id(node), 0)
        heights[id(node)] = 0
        inner = list(node.values()) if isinstance(node, dict) else list(node)
        reference = node.get("$ref") if isinstance(node, dict) else None
        if isinstance(reference, str):
            inner.append(_target(schema, reference))
            named.update({reference} - {"#"} if not reference.startswith("#/") else ())
        tallest = 0
        for one in inner:
            tallest = max(tallest, height(one, depth + 1))
        heights[id(node)] = 1 + tallest
        return 1 + tallest

    height(schema, 1)
    if len(named) > MAX_NAMED_REFS:
        raise ValueError(f"it has {len(named)} references that are no path in it; at most {MAX_NAMED_REFS} are allowed")


def _target(schema: Json, reference: str) -> Any:
    """What a JSON Pointer (RFC 6901) leads to; None where it leads nowhere."""
    node: Any = schema
    for step in reference.split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(node, list):
            node = node[int(name)] if name.isdecimal() and int(name) < len(node) else None
        else:
            node = node.get(name) if isinstance(node, dict) else None
    return node


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
    if not isinstance(properties, dict) or not isinstance(required, list) or node.keys() & _ELSEWHERE:
        return out
    if set(map(str, required)) <= set(properties):
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


def wrong_place(schema: Json, is_wrong: Callable[[Json], bool]) -> str:
    """Where in a wrong schema the fault lies, as a JSON Pointer (RFC 6901); "" for the schema itself.

    is_wrong: whether a schema is refused. It is asked about schemas inside, each with the definitions of the whole, and
    at most MAX_LOOKS times: the place is then that of a schema around it.
    """
    shared: Json = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    place, inner = "", iter(_inner(schema))
    for _ in range(MAX_LOOKS):
        path, one = next(inner, ("", None))
        if one is None:
            break
        if is_wrong({**shared, **one}):
            place, inner = place + path, iter(_inner(one))
    return place


def _inner(node: Json) -> list[tuple[str, Json]]:
    """The schemas directly inside a schema, each with the way to it as a JSON Pointer."""
    found: list[tuple[str, Any]] = []
    for name, value in node.items():
        if name in _MANY and isinstance(value, list):
            found += ((f"/{name}/{i}", one) for i, one in enumerate(value))
        elif name in _NAMED and isinstance(value, dict):
            found += ((f"/{name}/{key.replace('~', '~0').replace('/', '~1')}", one) for key, one in value.items())
        elif name in _ONE:
            found.append((f"/{name}", value))
    return [(path, one) for path, one in found if isinstance(one, dict)]


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
