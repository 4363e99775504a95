"""The JSON of both routes.

https://platform.openai.com/docs/api-reference/embeddings; https://jina.ai/reranker
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from engine.api.bodies.generation import MAX_COUNT, TokenId
from engine.api.bodies.json_body import WholeNumbers, check_readable
from engine.api.bodies.refused import Refusals, other_than
from engine.runtime.intake.embedding import MAX_DOCUMENTS

NEVER_CUT = "a text that is too long is refused, never cut"


class TextsBody(WholeNumbers):
    """What both take."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _readable(cls, body: Any) -> Any:
        check_readable(body)
        return body

    model: str | None = None


class EmbeddingsRequest(TextsBody):
    """POST /v1/embeddings."""

    refusals: ClassVar[Refusals] = {
        "messages": (bool, "texts are read by themselves; say input"),
        "add_special_tokens": (other_than(True), "a text is read with the tokenizer's own tokens; send token ids"),
        "normalize": (other_than(True), "every vector has the length 1"),
        "truncate": (other_than(False), NEVER_CUT),
        "embed_dtype": (other_than("float32"), "numbers are float32"),
    }

    input: str | list[str] | list[TokenId] | list[list[TokenId]] = Field(description="texts, or texts as token ids")
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="numbers (the default), or float32 in little-endian bytes as base64"
    )
    dimensions: StrictInt | None = Field(
        None, ge=1, le=MAX_COUNT, description="only the first so many numbers, brought to the length 1 again"
    )
    prompt_name: str | None = Field(
        None, description="which of the model's prompts stands before each text, as in sentence-transformers"
    )
    user: str | None = Field(None, description="read by nobody here")


class DocumentBody(BaseModel):
    """A document with its text by name."""

    model_config = ConfigDict(extra="allow")
    text: str


class RerankRequest(TextsBody):
    """POST /v1/rerank."""

    refusals: ClassVar[Refusals] = {
        "max_chunks_per_doc": (other_than(1), NEVER_CUT),
        "max_tokens_per_doc": (other_than(), NEVER_CUT),
        "rank_fields": (other_than(["text"]), "of a document its text is read"),
        "priority": (other_than(0), "not served"),
    }

    query: str = Field(min_length=1)
    documents: list[Annotated[str | DocumentBody, Field(description="a text, or an object with text")]] = Field(
        min_length=1, max_length=MAX_DOCUMENTS
    )
    top_n: StrictInt | None = Field(None, ge=1, le=MAX_COUNT, description="only the best so many")
    return_documents: StrictBool | None = Field(None, description="each result with its document's text")
    instruction: str | None = Field(
        None, min_length=1, description="what makes a document a good answer, where the model reads such words"
    )
