"""A request as the JSON body that OpenAI's two routes for text take. For what OpenAI has no words for, it has those of
this project's servers and of vLLM's. Only what was asked for is in it. Pure; any thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.types import FrameSampling, Grammar, Json, Message, Part, Request, Tool, ToolChoice

CHAT, COMPLETIONS = "/chat/completions", "/completions"
"""Below a server's /v1."""


def route(request: Request) -> str:
    """Which of the two it is for."""
    return CHAT if request.prompt is None else COMPLETIONS


def openai_body(request: Request, model: str, named: Callable[[Part], str]) -> Json:
    """model: its name at the server. named: the URL of a medium, or what stands for it in the body."""
    body: Json = {"model": model}
    if request.prompt is None:
        body["messages"] = [_message(message, named) for message in request.messages]
    else:
        body["prompt"] = list(request.prompt) if isinstance(request.prompt, tuple) else request.prompt
    return body | _sampling(request) | (_of_chat(request) if request.prompt is None else _of_text(request))


def unsayable(request: Request) -> str:
    """Why such a body cannot ask for it; "" where it can."""
    if request.questions:
        return "only those that are answered with text can"
    if request.prompt is not None and request.media_parts:
        return "it has media within a raw prompt"
    if request.forced or request.prompt_logprobs is not None:
        return "/v1 has no words for what it asked for"
    if any(_chosen(part.frames) for part in request.media_parts) or _chosen(request.frames):
        return "the page chose its frames one by one, and /v1 has no words for that"
    return ""


def _chosen(frames: FrameSampling | None) -> bool:
    return frames is not None and frames.indices is not None


def _given(values: Mapping[str, Any]) -> Json:
    return {name: value for name, value in values.items() if value not in (None, (), [], {}, "", False)}


def _set(values: Mapping[str, Any]) -> Json:
    return {name: value for name, value in values.items() if value is not None}


def _sampling(request: Request) -> Json:
    sampling = {**asdict(request.sampling), "logit_bias": {str(id): bias for id, bias in request.sampling.logit_bias}}
    asked = _set({name: value for name, value in sampling.items() if value != {}} | {"max_tokens": request.max_tokens})
    asked |= _given({
        "min_tokens": request.min_tokens, "ignore_eos": request.ignore_eos, "stop": list(request.stop),
        "stop_token_ids": list(request.stop_token_ids), "bad_words": list(request.bad_words),
        "coordinates": request.coordinates,
    })  # fmt: skip
    return asked | ({"n": request.n} if request.n > 1 else {}) | _grammar(request.grammar)


def _of_text(request: Request) -> Json:
    special = {} if request.add_special_tokens else {"add_special_tokens": False}
    return special | _set({"logprobs": request.logprobs})


def _of_chat(request: Request) -> Json:
    frames, reasoning = request.frames, request.reasoning
    asked = _set({
        "video_fps": frames.fps, "video_max_frames": frames.max_frames, "video_min_frames": frames.min_frames,
        "video_start": frames.start_s, "video_end": frames.end_s, "video_max_pixels": frames.max_pixels,
        "reasoning_effort": reasoning.effort, "thinking_token_budget": reasoning.max_tokens,
        "enable_thinking": reasoning.enabled if reasoning.effort is None else None,
    })  # fmt: skip
    asked |= _given({"chat_template_kwargs": dict(request.template_kwargs), "tools": [_tool(t) for t in request.tools]})
    asked |= _choice(request.tool_choice) if request.tools else {}
    if request.logprobs is not None:
        asked |= {"logprobs": True} | ({"top_logprobs": request.logprobs} if request.logprobs else {})
    if request.continue_final_message:
        return asked | {"continue_final_message": True, "add_generation_prompt": False}
    return asked | ({} if request.add_generation_prompt else {"add_generation_prompt": False})


def _grammar(grammar: Grammar | None) -> Json:
    if grammar is None:
        return {}
    if grammar.kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    if grammar.kind == "json_schema":
        schema = {"name": "answer", "schema": json.loads(grammar.source)}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    value = json.loads(grammar.source) if grammar.kind == "choice" else grammar.source
    return {"structured_outputs": {grammar.kind: value}}


def _tool(tool: Tool) -> Json:
    given = _given({"description": tool.description, "parameters": tool.parameters, "strict": tool.strict})
    return {"type": "function", "function": {"name": tool.name, **given}}


def _choice(choice: ToolChoice) -> Json:
    several = {} if choice.parallel else {"parallel_tool_calls": False}
    if not choice.names:
        return several | ({} if choice.mode == "auto" else {"tool_choice": choice.mode})
    functions = [{"type": "function", "function": {"name": name}} for name in choice.names]
    if choice.mode == "required" and len(functions) == 1:
        return {"tool_choice": functions[0]}
    allowed = {"mode": choice.mode, "tools": functions}
    return several | {"tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}}


def _message(message: Message, named: Callable[[Part], str]) -> Json:
    texts = [part.text for part in message.parts]
    is_text = len(texts) == 1 and message.parts[0].kind == "text"
    content: Any = texts[0] if is_text else [part_body(part, named) for part in message.parts]
    told: Json = {"role": message.role, "content": content if message.parts or message.role != "assistant" else None}
    if message.tool_calls:
        told["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    more = {"tool_call_id": message.tool_call_id, "name": message.name, "reasoning_content": message.reasoning}
    return told | _given(more)


def path_name(part: Part) -> str:
    """The file name of a medium that came as a file; "" for others."""
    return Path(part.path).name if part.path else ""


def part_body(part: Part, named: Callable[[Part], str]) -> Json:
    """A part of a chat's message. named: the URL of a medium."""
    if part.kind == "text":
        return {"type": "text", "text": part.text}
    if part.kind == "document":
        pages = part.document
        own = {"pages": pages.pages, "text": pages.with_text, "max_pixels": part.max_pixels} if pages else {}
        name = (pages.name if pages else "") or path_name(part)
        return {"type": "file", "file": {"file_data": named(part), **_given({"filename": name, **own})}}
    asked = _given({"max_pixels": part.max_pixels, "min_pixels": part.min_pixels})
    asked |= dict(zip(("resized_width", "resized_height"), part.exact_px, strict=True)) if part.exact_px else {}
    if part.kind == "audio":
        return {"type": "audio_url", "audio_url": {"url": named(part)}}
    if part.kind == "image":
        asked |= ({"detail": part.detail} if part.detail != "auto" else {}) | _set({"animated": part.animated})
        asked |= {"crop": list(part.crop_px)} if part.crop_px else {}
        return {"type": "image_url", "image_url": {"url": named(part), **asked}}
    frames = part.frames or FrameSampling()
    asked |= _set({
        "min_frames": frames.min_frames, "max_frames": frames.max_frames, "video_start": frames.start_s,
        "video_end": frames.end_s, "total_pixels": frames.max_pixels, "fps": frames.list_fps or frames.fps,
    })  # fmt: skip
    if part.parts:
        return {"type": "video", "video": [named(frame) for frame in part.parts], **asked}
    return {"type": "video_url", "video_url": {"url": named(part), **asked}}
