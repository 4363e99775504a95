"""One question in every protocol that this server speaks, and what each answer says in the same words."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import httpx

from tests import pictures

ANTHROPIC = {"x-api-key": "unused", "anthropic-version": "2023-06-01"}


@dataclass(frozen=True)
class Told:
    """text: of the answer. prompt, cached, completion: tokens as usage has them."""

    text: str
    prompt: int
    cached: int
    completion: int
    is_cut: bool


def chat(text: str, max_tokens: int, image: bytes | None = None, stream: bool = False) -> tuple[str, dict[str, Any]]:
    url = {"type": "image_url", "image_url": {"url": pictures.data_url(image)}} if image else None
    content = [part for part in (url, {"type": "text", "text": text}) if part]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": max_tokens}
    return "/v1/chat/completions", {**body, "temperature": 0, "stream": stream}


def responses(
    text: str, max_tokens: int, image: bytes | None = None, stream: bool = False
) -> tuple[str, dict[str, Any]]:
    url = {"type": "input_image", "image_url": pictures.data_url(image)} if image else None
    content = [part for part in (url, {"type": "input_text", "text": text}) if part]
    body = {"input": [{"role": "user", "content": content}], "max_output_tokens": max_tokens}
    return "/v1/responses", {**body, "temperature": 0, "stream": stream}


def messages(
    text: str, max_tokens: int, image: bytes | None = None, stream: bool = False
) -> tuple[str, dict[str, Any]]:
    data = base64.b64encode(image).decode() if image else ""
    source = {"type": "base64", "media_type": "image/png", "data": data}
    block = {"type": "image", "source": source} if image else None
    content = [part for part in (block, {"type": "text", "text": text}) if part]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": max_tokens}
    return "/v1/messages", {**body, "temperature": 0, "stream": stream}


def ollama(text: str, max_tokens: int, image: bytes | None = None, stream: bool = False) -> tuple[str, dict[str, Any]]:
    images = {"images": [base64.b64encode(image).decode()]} if image else {}
    body = {"model": "demo", "messages": [{"role": "user", "content": text, **images}]}
    return "/api/chat", {**body, "options": {"temperature": 0, "num_predict": max_tokens}, "stream": stream}


def generate(
    text: str, max_tokens: int, image: bytes | None = None, stream: bool = False
) -> tuple[str, dict[str, Any]]:
    images = {"images": [base64.b64encode(image).decode()]} if image else {}
    body = {"model": "demo", "prompt": text, **images}
    return "/api/generate", {**body, "options": {"temperature": 0, "num_predict": max_tokens}, "stream": stream}


ASK = {"chat": chat, "responses": responses, "messages": messages, "ollama": ollama, "generate": generate}


def read(protocol: str, answer: dict[str, Any]) -> Told:
    """A whole answer."""
    if protocol == "chat":
        (choice,), usage = answer["choices"], answer["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        counts = (usage["prompt_tokens"], cached, usage["completion_tokens"])
        return Told(choice["message"]["content"], *counts, choice["finish_reason"] == "length")
    if protocol == "responses":
        (item,), usage = answer["output"], answer["usage"]
        counts = (usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"], usage["output_tokens"])
        return Told(item["content"][0]["text"], *counts, answer["status"] == "incomplete")
    if protocol == "messages":
        (block,), usage = answer["content"], answer["usage"]
        cached = usage["cache_read_input_tokens"]
        prompt = usage["input_tokens"] + cached + usage["cache_creation_input_tokens"]
        return Told(block["text"], prompt, cached, usage["output_tokens"], answer["stop_reason"] == "max_tokens")
    text = answer["message"]["content"] if protocol == "ollama" else answer["response"]
    counts = (answer["prompt_eval_count"], answer["cached_tokens"], answer["eval_count"])
    return Told(text, *counts, answer["done_reason"] == "length")


def ask(http: httpx.Client, protocol: str, text: str, max_tokens: int, image: bytes | None = None) -> Told:
    path, body = ASK[protocol](text, max_tokens, image)
    answer = http.post(path, json=body, headers=ANTHROPIC if protocol == "messages" else {})
    assert answer.status_code == 200, answer.text
    return read(protocol, answer.json())


def ask_streamed(http: httpx.Client, protocol: str, text: str, max_tokens: int, image: bytes | None = None) -> Told:
    """The same, put together from what is streamed."""
    path, body = ASK[protocol](text, max_tokens, image, stream=True)
    if protocol == "chat":
        body["stream_options"] = {"include_usage": True}
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return read(protocol, _together(protocol, events(answer.text)))


def events(text: str) -> list[dict[str, Any]]:
    """The JSON of every server-sent event, or of every line."""
    lines = (line.removeprefix("data: ") for line in text.splitlines() if line and not line.startswith(("event:", ":")))
    return [json.loads(line) for line in lines if line != "[DONE]"]


def _together(protocol: str, sent: list[dict[str, Any]]) -> dict[str, Any]:
    if protocol == "chat":
        choices = [choice for chunk in sent for choice in chunk["choices"]]
        text = "".join(choice["delta"].get("content") or "" for choice in choices)
        reason = next(choice["finish_reason"] for choice in choices if choice["finish_reason"])
        return {"choices": [{"message": {"content": text}, "finish_reason": reason}], "usage": sent[-1]["usage"]}
    if protocol == "responses":
        text = "".join(event["delta"] for event in sent if event["type"] == "response.output_text.delta")
        return {**sent[-1]["response"], "output": [{"content": [{"text": text}]}]}
    if protocol == "messages":
        deltas = [event["delta"] for event in sent if event["type"] == "content_block_delta"]
        text, last = "".join(delta["text"] for delta in deltas), sent[-2]
        return {"content": [{"text": text}], "usage": last["usage"], "stop_reason": last["delta"]["stop_reason"]}
    text = "".join((line.get("message") or {"content": line.get("response")})["content"] for line in sent)
    return {**sent[-1], "message": {"content": text}, "response": text}
