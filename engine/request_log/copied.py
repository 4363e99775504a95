"""A request as a text that sends it again: for a shell, Python, JavaScript or pytest. Pure.

The key is never in it: each reads OPENAI_API_KEY, and OPENAI_BASE_URL for another server.
"""

from __future__ import annotations

import json
import pprint
import re
from collections.abc import Callable
from typing import Any, Literal, get_args

from engine.errors import BadRequest, Conflict, say_bytes
from engine.request_body import CHAT
from engine.request_log.body import RequestBody
from engine.types import Json

CopyForm = Literal["curl", "python", "javascript", "pytest"]
FORMS: tuple[CopyForm, ...] = get_args(CopyForm)
MAX_MEDIA_BYTES = 1024**2
"""Media stand in the text as base64; what is larger is for a zip."""

_URL = re.compile(r"https?://[A-Za-z0-9._:\[\]-]+(/[A-Za-z0-9._~/-]*)?")
_OPENAI = frozenset((
    "model", "messages", "prompt", "temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias",
    "seed", "max_tokens", "stop", "n", "response_format", "tools", "tool_choice", "parallel_tool_calls", "logprobs",
    "top_logprobs", "reasoning_effort",
))  # fmt: skip
"""What openai's client takes by name; the rest goes into extra_body."""


def copied(form: str, asked: RequestBody, base_url: str, answer: Json | None = None) -> str:
    """base_url: of the server, with its /v1. answer: its first choice as the log has it, which the pytest compares with
    where the temperature is 0. Raises BadRequest for another form, and Conflict where the media are too large."""
    if form not in FORMS:
        raise BadRequest(f"form: it must be one of {', '.join(FORMS)}.", param="form")
    if not _URL.fullmatch(base_url):
        raise BadRequest("base_url: it must be an http or https URL.", param="base_url")
    if asked.media_bytes > MAX_MEDIA_BYTES:
        have, most = say_bytes(asked.media_bytes), say_bytes(MAX_MEDIA_BYTES)
        why = f"Its media have {have}, and a text takes at most {most}. Download it as a zip."
        raise Conflict(why, code="too_large")
    if form == "pytest":
        return _pytest(asked, base_url, answer or {})
    write: dict[str, Callable[[RequestBody, str], str]] = {"curl": _curl, "python": _python, "javascript": _javascript}
    return write[form](asked, base_url)


def _curl(asked: RequestBody, base_url: str) -> str:
    # A line of JSON never is the word JSON alone, so nothing in it ends the text.
    return (
        f'curl -sS "${{OPENAI_BASE_URL:-{base_url}}}{asked.path}" \\\n'
        '  -H "Authorization: Bearer ${OPENAI_API_KEY:-none}" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  --data-binary @- <<'JSON'\n{json.dumps(asked.filled(), indent=2, ensure_ascii=False)}\nJSON\n"
    )


def _javascript(asked: RequestBody, base_url: str) -> str:
    said = "message.content" if asked.path == CHAT else "text"
    return (
        f"const body = {json.dumps(asked.filled(), indent=2)};\n\n"
        f'const base = process.env.OPENAI_BASE_URL ?? "{base_url}";\n'
        f"const response = await fetch(`${{base}}{asked.path}`, {{\n"
        '  method: "POST",\n'
        "  headers: {\n"
        '    "Authorization": `Bearer ${process.env.OPENAI_API_KEY ?? "none"}`,\n'
        '    "Content-Type": "application/json",\n'
        "  },\n"
        "  body: JSON.stringify(body),\n"
        "});\n"
        "const answer = await response.json();\n"
        "if (!response.ok) throw new Error(answer.error.message);\n"
        f"for (const choice of answer.choices) console.log(choice.{said});\n"
    )


def _python(asked: RequestBody, base_url: str) -> str:
    said = "choice.message.content" if asked.path == CHAT else "choice.text"
    return f"{_client(asked, base_url)}\n\nanswer = ask()\nfor choice in answer.choices:\n    print({said})\n"


def _pytest(asked: RequestBody, base_url: str, answer: Json) -> str:
    message = "choice.message" if asked.path == CHAT else "choice"
    text = "choice.message.content or ''" if asked.path == CHAT else "choice.text"
    calls = [(call["name"], call["arguments"]) for call in answer.get("tool_calls", ())]
    lines = ["", "", "def test_it_answers():", "    choice = ask().choices[0]"]
    if asked.body.get("temperature") != 0 or not answer:
        lines += [f"    assert {text}" + (f" or {message}.tool_calls" if asked.path == CHAT else "")]
    else:
        lines += [f"    assert ({text}) == {_literal(answer['text'], 8)}"]
        lines += [f"    assert choice.finish_reason == {answer['finish_reason']!r}"]
    if calls and asked.body.get("temperature") == 0:
        lines += ["    calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls]"]
        lines += [f"    assert calls == {_literal(calls, 8)}"]
    return _client(asked, base_url) + "\n".join(lines) + "\n"


def _client(asked: RequestBody, base_url: str) -> str:
    body = asked.filled()
    own = {name: value for name, value in body.items() if name in _OPENAI}
    if rest := {name: value for name, value in body.items() if name not in _OPENAI}:
        own["extra_body"] = rest
    create = "chat.completions.create" if asked.path == CHAT else "completions.create"
    return (
        "import os\n\nfrom openai import OpenAI\n\n"
        f"REQUEST = {_literal(own)}\n\n\n"
        "def ask():\n"
        f'    base_url = os.environ.get("OPENAI_BASE_URL", "{base_url}")\n'
        '    client = OpenAI(base_url=base_url, api_key=os.environ.get("OPENAI_API_KEY", "none"))\n'
        f"    return client.{create}(**REQUEST)\n"
    )


def _literal(value: Any, indent: int = 0) -> str:
    """As Python's source."""
    text = pprint.pformat(value, width=110 - indent, sort_dicts=False)
    return text.replace("\n", "\n" + " " * indent) if not isinstance(value, str) else repr(value)
