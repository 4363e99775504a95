"""What the tabs share: a question of a page's script always gets a reply."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import BadRequest
from engine.types import Json
from workbench.components import reply_to


async def fine(fields: Json, page: Any) -> Json:
    return {"doubled": 2 * int(fields["count"])}


async def wrong(fields: Json, page: Any) -> Json:
    raise BadRequest("That is no clip.")


@pytest.mark.parametrize(
    ("what", "fields", "reply"),
    [
        ("fine", {"count": 2}, {"doubled": 4}),
        ("wrong", {}, {"error": "That is no clip."}),
        ("fine", {}, {"error": "Something went wrong inside the workbench; its log has the details."}),
        ("fine", {"count": "x"}, {"error": "Something went wrong inside the workbench; its log has the details."}),
        ("nobody", {}, {"error": "Something went wrong inside the workbench; its log has the details."}),
    ],
)
async def test_there_always_is_a_reply(what: str, fields: Json, reply: Json) -> None:
    """Else the script waits for it, and the tab asks nothing more until the page is loaded again."""
    event: Any = SimpleNamespace(what=what, fields=fields, turn=7)
    assert await reply_to({"fine": fine, "wrong": wrong}, SimpleNamespace(), event) == {"turn": 7, **reply}
