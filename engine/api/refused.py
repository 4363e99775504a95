"""Fields that are known elsewhere and not served here: refused by name when they ask for something."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from engine.errors import BadRequest

Refusals = tuple[tuple[str, Callable[[Any], bool], str], ...]
"""(field, whether this value asks for something, why it is not done)."""


def refuse(body: BaseModel, refusals: Refusals) -> None:
    """Raise BadRequest for the first field of a body that asks for what is not done."""
    given: Mapping[str, Any] = {
        **(body.model_extra or {}),
        **{name: getattr(body, name) for name in body.model_fields_set},
    }
    for name, is_asked_for, why in refusals:
        if name in given and is_asked_for(given[name]):
            raise BadRequest(f"{name}: {why}.", param=name, code="unsupported_parameter")
