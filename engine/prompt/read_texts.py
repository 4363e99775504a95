"""The tokens of texts that are read for a vector or a score (engine.models.text_modules). No MLX call; any thread.

A control token in a text from outside is text, here as in a chat.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.errors import BadRequest, ContextOverflow
from engine.models.control_tokens import ControlTokens
from engine.models.registry import Loaded
from engine.prompt.option_tree import Tokens
from engine.types import DocumentsToRank, Json, TextsToEmbed

_MARKS = ("7c1f0e", "b83d52", "5e90aa")
"""Stand for a query, a document and an instruction where it is found out what a template writes."""


class ReadTexts:
    """Builds them for one model. control: encodes texts, and is safe in any thread."""

    def __init__(self, loaded: Loaded, control: ControlTokens) -> None:
        self._loaded = loaded
        self._modules = loaded.modules
        self._control = control
        own = loaded.card.context_tokens
        self._max_tokens = min(own, self._modules.max_tokens or own)

    def to_embed(self, asked: TextsToEmbed) -> list[Tokens]:
        """Raises BadRequest for a prompt that the model does not have, a text without tokens, ids outside the
        vocabulary and a model that gives no vectors, ContextOverflow for a text that is too long."""
        if self._modules.pooling is None:
            raise self._refusal("no embeddings", "it scores documents; ask /v1/rerank")
        if asked.dimensions is not None and not 1 <= asked.dimensions <= self._modules.width:
            why = f"this model's vectors have {self._modules.width} numbers, and it takes 1 to that many"
            raise BadRequest(f"dimensions: {why}.", param="dimensions")
        prompt = self._prompt(asked)
        is_one = len(asked.texts) == 1
        found = []
        for i, text in enumerate(asked.texts):
            param = "input" if is_one else f"input[{i}]"
            ids = self._text(prompt + text) if isinstance(text, str) else text
            found.append(self._checked(ids, param))
        return found

    def to_rank(self, asked: DocumentsToRank) -> list[Tokens]:
        """A prompt for each document. Raises BadRequest for a model that ranks nothing, ContextOverflow for a document
        that is too long beside the query."""
        if self._modules.tokens is None:
            raise self._refusal("no scores of documents", "it makes vectors of texts; ask /v1/embeddings")
        is_typed = self._is_typed()
        if asked.instruction is not None and _MARKS[2] not in self._rendered(*_MARKS, is_typed):
            why = "this model's chat template does not write it"
            raise BadRequest(f"instruction: {why}.", param="instruction", code="unsupported_parameter")
        aside = self._control.set_aside()
        query = aside.text(asked.query)
        instruction = None if asked.instruction is None else aside.text(asked.instruction)
        documents = [aside.text(document) for document in asked.documents]
        texts = [self._rendered(query, document, instruction, is_typed) for document in documents]
        adds_special_tokens = False  # the template writes them
        return [
            self._checked(
                tuple(self._control.encode(text, aside.texts, add_special_tokens=adds_special_tokens)),
                f"documents[{i}]",
            )
            for i, text in enumerate(texts)
        ]

    def _refusal(self, what: str, instead: str) -> BadRequest:
        modules, name = self._modules, self._loaded.card.id
        why = modules.why_not or instead
        return BadRequest(f"model: {name} gives {what}: {why}.", param="model", code="unsupported_model")

    def _prompt(self, asked: TextsToEmbed) -> str:
        prompts, name = self._modules.prompts, asked.prompt_name
        if name is None:
            return prompts.get(self._modules.default_prompt or "", "")
        if name and not all(isinstance(text, str) for text in asked.texts):
            raise BadRequest("prompt_name: no prompt stands before token ids.", param="prompt_name")
        if name and name not in prompts:
            has = f"it has {', '.join(sorted(prompts))}" if prompts else "it has none"
            raise BadRequest(f"prompt_name: this model has no such prompt; {has}.", param="prompt_name")
        return prompts.get(name, "")

    def _text(self, text: str) -> Tokens:
        aside = self._control.set_aside()
        return tuple(self._control.encode(aside.text(text), aside.texts, add_special_tokens=True))

    def _checked(self, ids: Sequence[int], param: str) -> Tokens:
        if not ids:
            raise BadRequest(f"{param}: it must not be empty.", param=param)
        if not (min(ids) >= 0 and max(ids) < self._loaded.num_ids):
            raise BadRequest(f"{param} has a token id outside the vocabulary of {self._loaded.num_ids}.", param=param)
        if len(ids) > self._max_tokens:
            raise ContextOverflow(
                f"{param} has {len(ids):,} tokens; this model reads at most {self._max_tokens:,}.", param=param
            )
        return tuple(ids)

    def _is_typed(self) -> bool:
        """Whether the template wants a content as typed parts. Raises BadRequest for one that leaves something out."""
        for is_typed in (False, True):
            try:
                text = self._rendered(*_MARKS[:2], None, is_typed)
            except BadRequest:
                continue
            if all(mark in text for mark in _MARKS[:2]):
                return is_typed
        raise self._refusal(
            "no scores of documents", "its chat template does not write messages of the roles query and document"
        )

    def _rendered(self, query: str, document: str, instruction: str | None, is_typed: bool) -> str:
        from jinja2 import TemplateError

        modules = self._modules
        if instruction is None:
            instruction = modules.prompts.get(modules.default_prompt or "")

        def message(role: str, text: str) -> Json:
            content: Any = [{"type": "text", "text": text}] if is_typed else text
            return {"role": role, "content": content}

        before = [] if instruction is None else [message("system", instruction)]
        messages = [*before, message("query", query), message("document", document)]
        try:
            settings = {"add_generation_prompt": False, **modules.template_settings}
            return str(self._loaded.tokenizer.apply_chat_template(messages, tokenize=False, **settings))
        except (TemplateError, TypeError, ValueError) as e:
            raise BadRequest(f"The model's chat template refused the query: {e}", param="query") from e
