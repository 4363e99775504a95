"""The JSON of /v1/systemone -> a Request and its questions. Raises BadRequest.

Any JSON may be a state, instructions or what an option means; what is no text is written as JSON. Where a text holds
the name of an asset, its picture stands there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from engine.access.visibility import Caller
from engine.api.decisions.convert import Asked
from engine.api.decisions.schemas import (
    ChoiceOfBody,
    JsonOrText,
    NoulBody,
    SystemOneAsset,
    SystemOneQuestion,
    SystemOneRequest,
)
from engine.errors import BadRequest
from engine.types import YES_NO, Message, Option, Part, Request, TypedQuestion


def systemone_request(body: SystemOneRequest, request_id: str, who: Caller) -> Asked:
    """What is asked about, and the questions in their order."""
    if "" in body.assets:
        raise BadRequest("assets: a placeholder must not be empty.", param="assets")
    reader = _Reader(body.assets)
    state = reader.parts(body.state, "state")
    questions = tuple(reader.question(name, question) for name, question in body.questions.items())
    for name in body.assets:
        if name not in reader.used:
            why = "nothing in state, instructions or criteria holds this placeholder"
            raise BadRequest(f"assets.{name}: {why}.", param=f"assets.{name}")
    return Request(messages=(Message("user", state),), id=request_id, tenant=who.tenant("")), questions


class _Reader:
    """Puts pictures where their placeholders are. used: the placeholders that were there."""

    def __init__(self, assets: Mapping[str, SystemOneAsset]) -> None:
        self._assets = assets
        self.used: set[str] = set()
        # The longest first: one placeholder may be the beginning of another.
        names = sorted(assets, key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, names))) if names else None

    def parts(self, content: JsonOrText | None, param: str) -> tuple[Part, ...]:
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        if content is None or not text:
            return ()
        if self._names is None:
            return (Part("text", text=text, param=param),)
        parts: list[Part] = []
        last = 0
        for match in self._names.finditer(text):
            parts.append(Part("text", text=text[last : match.start()], param=param))
            parts.append(self._picture(match[0]))
            last = match.end()
        parts.append(Part("text", text=text[last:], param=param))
        return tuple(part for part in parts if part.kind != "text" or part.text)

    def _picture(self, name: str) -> Part:
        self.used.add(name)
        asset = self._assets[name]
        url = f"data:image/{asset.format or 'png'};base64,{asset.data_base64}"
        return Part("image", url=url, param=f"assets.{name}")

    def question(self, name: str, raw: SystemOneQuestion) -> TypedQuestion:
        param = f"questions.{name}"
        instructions = self.parts(raw.instructions, f"{param}.instructions")
        where = f"{param}.criteria"
        if isinstance(raw, NoulBody):
            meanings = raw.criteria or {}
            described = zip(YES_NO, ("true", "false"), strict=True)
            options = [Option(text, self.parts(meanings.get(key), f"{where}.{key}")) for text, key in described]  # type: ignore[call-overload]
            return TypedQuestion("predicate", instructions, tuple(options), param)
        if isinstance(raw, ChoiceOfBody):
            options = [Option(text, self.parts(meaning, f"{where}.{text}")) for text, meaning in raw.criteria.items()]
            return TypedQuestion("choice", instructions, tuple(options), param)
        texts = [level if isinstance(level, str) else json.dumps(level, ensure_ascii=False) for level in raw.criteria]
        return TypedQuestion("score", instructions, tuple(map(Option, texts)), param)
