"""Where in a schema the fault lies that llguidance does not place."""

from __future__ import annotations

from typing import Any

import pytest

from engine.grammar.schemas import MAX_LOOKS, wrong_place


def has_not(schema: Any) -> bool:
    """Whether "not" is anywhere in it, as a compiler would find out that knows it nowhere."""
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    return (isinstance(schema, dict) and "not" in schema) or any(has_not(one) for one in inner)


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"not": {}}, ""),
        ({"properties": {"a": {}, "b": {"items": {"anyOf": [{}, {"not": {}}]}}}}, "/properties/b/items/anyOf/1"),
        ({"properties": {"a/b~c": {"not": {}}}}, "/properties/a~1b~0c"),
        ({"prefixItems": [{}, {"properties": {"x": {"not": {}}}}]}, "/prefixItems/1/properties/x"),
        ({"additionalProperties": {"not": {}}}, "/additionalProperties"),
        ({"type": "wat"}, ""),
    ],
)
def test_the_innermost_schema_that_is_wrong(schema: Any, place: str) -> None:
    assert wrong_place(schema, has_not) == place


def test_looking_has_an_end() -> None:
    looks = 0

    def is_wrong(schema: Any) -> bool:
        nonlocal looks
        looks += 1
        return has_not(schema)

    wide = {"properties": {str(i): {} for i in range(10_000)} | {"last": {"not": {}}}}
    assert wrong_place(wide, is_wrong) == "" and looks == MAX_LOOKS


def test_definitions_of_the_whole_are_at_hand() -> None:
    schema = {"$defs": {"a": {}}, "properties": {"x": {"not": {}, "$ref": "#/$defs/a"}}}
    seen: list[Any] = []
    wrong_place(schema, lambda part: bool(seen.append(part)) or has_not(part))
    assert all(part["$defs"] == {"a": {}} for part in seen)
