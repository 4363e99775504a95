"""A seal on a result: the hash of all that is in it, so that who gets the file sees whether it was changed. Pure.

The hash is sha256 over canonical JSON: names sorted, no spaces, UTF-8, whole numbers without a fraction (1.0 is 1), so
that a file that was read and written again by other programs keeps its seal.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from engine.errors import BadRequest

NAME = "seal"
SHOWS = "Nothing in this file was changed since it was written: the seal of changed content does not fit."
SHOWS_NOT = (
    "It does not show who measured, nor that anybody did: other numbers can be sealed just as well. Look at the "
    "canary's checks, the model's hash and the versions; to be sure, measure it yourself."
)


def seal_of(result: dict[str, Any]) -> str:
    """sha256 of a result's JSON in hexadecimal digits, whether it is sealed or not."""
    content = _canonical({name: value for name, value in result.items() if name != NAME})
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def sealed(result: dict[str, Any]) -> dict[str, Any]:
    """The result with its seal, as a file has it."""
    seal = {
        "sha256": seal_of(result),
        "over": "all but this, as JSON in UTF-8 with sorted names, without spaces, 1.0 written as 1",
        "shows": SHOWS,
        "does_not_show": SHOWS_NOT,
    }
    return {**result, NAME: seal}


def check(result: dict[str, Any], where: str) -> None:
    """Raises BadRequest for a result whose seal does not fit; nothing for one without. where: its file, for people."""
    if NAME not in result:
        return
    seal = result[NAME]
    said = seal.get("sha256") if isinstance(seal, dict) else None
    if said != (found := seal_of(result)):
        raise BadRequest(
            f"{where} was changed after it was written: its seal is {str(said)[:16]}, and its content gives "
            f"{found[:16]}. Ask for it again; without its field {NAME!r} it is read as a file that is not sealed.",
            param="compare",
        )


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _canonical(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
