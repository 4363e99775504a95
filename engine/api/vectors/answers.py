"""Vectors and scores -> the JSON of both routes. Pure.

The JSON of many vectors takes seconds, so it is written piece by piece, for a thread that lets others run in between.
"""

from __future__ import annotations

import base64
import json
import sys
from array import array

from engine.api.vectors.schemas import EmbeddingsRequest, RerankRequest
from engine.types import Embedded, Json, Ranked


def embeddings_text(body: EmbeddingsRequest, embedded: Embedded, model: str) -> bytes:
    """OpenAI's list of embeddings."""
    write = _base64 if body.encoding_format == "base64" else _numbers
    pieces = [
        f'{{"object":"embedding","index":{i},"embedding":{write(vector)}}}' for i, vector in enumerate(embedded.vectors)
    ]
    rest = json.dumps({"model": model, "usage": _usage(embedded.num_tokens)})
    return f'{{"object":"list","data":[{",".join(pieces)}],{rest[1:]}'.encode()


def rerank_json(body: RerankRequest, ranked: Ranked, model: str, request_id: str) -> Json:
    """The results, the best first; of equal ones the first."""
    order = sorted(range(len(ranked.scores)), key=lambda i: (-ranked.scores[i], i))
    return {
        "id": request_id,
        "model": model,
        "usage": _usage(ranked.num_tokens),
        "results": [_result(body, i, ranked.scores[i]) for i in order[: body.top_n]],
    }


def document_text(body: RerankRequest, place: int) -> str:
    """A document as the model reads it."""
    document = body.documents[place]
    return document if isinstance(document, str) else document.text


def _result(body: RerankRequest, place: int, score: float) -> Json:
    result: Json = {"index": place, "relevance_score": score}
    return {**result, "document": {"text": document_text(body, place)}} if body.return_documents else result


def _numbers(vector: bytes) -> str:
    floats = array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    # Nine digits tell every float32 from its neighbours.
    return f"[{','.join(format(number, '.9g') for number in floats)}]"


def _base64(vector: bytes) -> str:
    return f'"{base64.b64encode(vector).decode()}"'


def _usage(num_tokens: int) -> Json:
    return {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
