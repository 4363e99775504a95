"""The document is true: every field of real answers is in it, every status it names is one, and nothing is a 500."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from engine.api.app import create_app
from engine.api.http.described import ANSWERS
from engine.config import EngineConfig, ServerConfig
from engine.core import Engine
from tests import pictures
from tests.waiting import TIMEOUT_S

SCHEMATHESIS = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
HELLO = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def document(demo_server: Any) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{demo_server.url}/openapi.json", timeout=TIMEOUT_S).json()
    return answer


def closed(schema: Any) -> Any:
    """The schema with no room for fields that it does not name."""
    if isinstance(schema, list):
        return [closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(value) for name, value in schema.items()}
    return {**inner, "additionalProperties": False} if isinstance(inner.get("properties"), dict) else inner


def check(document: dict[str, Any], method: str, path: str, response: httpx.Response) -> None:
    """An answer has the shape that the document gives for its status, and no field beside."""
    described = document["paths"][path][method]["responses"]
    assert str(response.status_code) in described, f"{response.status_code}: {response.text}"
    schema = described[str(response.status_code)]["content"]["application/json"]["schema"]
    whole = {**schema, "components": {"schemas": closed(document["components"]["schemas"])}}
    errors = [
        f"{error.instance_path}: {error.message}"
        for error in jsonschema_rs.validator_for(whole).iter_errors(response.json())
    ]
    assert errors == [], f"{method} {path}"


AS_A_FILE = {
    "/v1/files/{file_id}/content",
    "/v1/requests/{request_id}/zip",
    "/v1/requests/{request_id}/as/{form}",
}
"""What is not answered in JSON."""


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    """With what it answers and what goes wrong, and without the 422 that never comes."""
    operations = {(method, path): op for path, ops in document["paths"].items() for method, op in ops.items()}
    assert set(ANSWERS) <= set(operations)
    for (method, path), operation in operations.items():
        responses = operation["responses"]
        assert "422" not in responses and {"400", "500"} <= set(responses), path
        kinds = responses["200"]["content"]
        assert all(kind["schema"] for kind in kinds.values()) and kinds, f"{method} {path}: an empty schema"
        assert ("application/json" in kinds) != (path in AS_A_FILE), path
    assert "HTTPValidationError" not in str(document)
    chat = operations["post", "/v1/chat/completions"]["responses"]
    assert {"404", "408", "413", "415", "429", "503", "504"} <= set(chat) and "401" not in chat
    assert "text/event-stream" in chat["200"]["content"] and "Retry-After" in chat["429"]["headers"]


def test_a_key_that_is_asked_for_is_in_it() -> None:
    app = create_app(Engine(EngineConfig()), ServerConfig(api_keys=(("a", "b"),)))
    document = app.openapi()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert (
        document["paths"]["/v1/models"]["get"]["security"]
        and "401" in document["paths"]["/v1/models"]["get"]["responses"]
    )
    assert "security" not in document["paths"]["/health"]["get"]


def test_real_answers(document: dict[str, Any], http: httpx.Client) -> None:
    picture = {"type": "image_url", "image_url": {"url": pictures.picture_url()}}
    question = [{"role": "user", "content": [picture, {"type": "text", "text": "What is it?"}]}]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}

    def post(path: str, body: dict[str, Any], at: str = "") -> httpx.Response:
        response = http.post(path, json={"model": "demo", **body})
        check(document, "post", at or path, response)
        return response

    chat = {"messages": question, "max_tokens": 5}
    post("/v1/chat/completions", {**chat, "logprobs": True, "top_logprobs": 2, "n": 2})
    post("/v1/chat/completions", {"messages": HELLO, "max_tokens": 40, "tools": [tool], "tool_choice": "required"})
    again = post("/v1/chat/completions", chat).json()["id"]
    post("/v1/completions", {"prompt": "a", "max_tokens": 2, "logprobs": 1, "echo": True})
    response = post("/v1/responses", {"input": "hi", "max_output_tokens": 16}).json()["id"]
    post("/v1/responses/input_tokens", {"input": "hi"})
    kinds: list[dict[str, Any]] = [
        {"type": "predicate", "instructions": "Is it red?"},
        {"type": "choice", "instructions": "What is it?", "choices": [{"value": "a circle"}, {"value": "a square"}]},
        {"type": "score", "instructions": "How many?", "levels": [{"label": "none"}, {"label": "one"}]},
    ]
    post("/v1/decisions", {"input": "hi", "questions": kinds})
    post("/v1/systemone", {"input": "hi", "questions": {"red": {"type": "noul", "instructions": "Is it red?"}}})
    post("/v1/messages", {"max_tokens": 5, "messages": HELLO})
    post("/v1/messages/count_tokens", {"messages": HELLO})
    for prefix in ("", "/v1"):
        post(f"{prefix}/tokenize", {"messages": question})
        post(f"{prefix}/detokenize", {"tokens": [1, 2]})
    post("/api/chat", {"messages": HELLO, "stream": False, "options": {"num_predict": 3}})
    post("/api/chat", {"messages": []})
    post("/api/generate", {"prompt": "hi", "stream": False, "options": {"num_predict": 3}})
    post("/api/show", {})
    post(f"/v1/cache/replay/{again}", {}, at="/v1/cache/replay/{request_id}")
    for kind in ("blocks", "features"):
        key = http.get(f"/v1/cache/{kind}").json()["data"][0]["key"]
        for action in ("pin", "drop", "unpin"):
            post(f"/v1/cache/{kind}/{key}/{action}", {}, at=f"/v1/cache/{kind}/{{key}}/{{action}}")
    logged = http.get("/v1/requests").json()["data"][:30]
    assert {"chat.completions", "completions", "decisions", "messages"} <= {one["dialect"] for one in logged}
    for path, at in (
        (f"/v1/responses/{response}", "/v1/responses/{response_id}"),
        (f"/v1/responses/{response}/input_items", "/v1/responses/{response_id}/input_items"),
        *((f"/v1/requests/{one['id']}", "/v1/requests/{request_id}") for one in logged),
        ("/v1/requests/nobody", "/v1/requests/{request_id}"),
        ("/v1/models/demo", "/v1/models/{name}"),
        ("/v1/models/nobody", "/v1/models/{name}"),
        ("/v1/responses/nobody", "/v1/responses/{response_id}"),
        *((path, path) for method, path in ANSWERS if method == "get" and "{" not in path),
    ):
        check(document, "get", at, http.get(path))
    check(document, "delete", "/v1/responses/{response_id}", http.delete(f"/v1/responses/{response}"))
    wrong: dict[str, Any] = {"model": "nobody", "messages": HELLO, "max_tokens": 1}
    for path in ("/v1/chat/completions", "/v1/messages", "/api/chat", "/tokenize"):
        for body in (wrong, {"messages": 1, "model": "demo", "max_tokens": 1}, {}):
            answer = http.post(path, json=body)
            assert answer.status_code >= 400
            check(document, "post", path, answer)


@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing(demo_server: Any, tmp_path: Path) -> None:
    """Requests made up from the document: no 5xx, and of every operation only what is described."""
    assert SCHEMATHESIS, "it is a test tool of this project"
    done = subprocess.run(
        [SCHEMATHESIS, "run", f"{demo_server.url}/openapi.json", "--checks", CHECKS, "--phases", "fuzzing",
         "--max-examples", "5", "--request-timeout", "60", "--no-shrink", "--continue-on-failure",
         "--generation-deterministic", "--no-color", "--warnings", "off"],
        capture_output=True, text=True, timeout=560, check=False, cwd=tmp_path,  # it keeps a folder where it runs
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    selected, tested, passed = (
        re.search(pattern, done.stdout)
        for pattern in (r"Selected: (\d+)", r"Tested: (\d+)", r"(\d+) generated, \1 passed")
    )
    assert selected and tested and passed, done.stdout[-6000:]
    assert int(tested[1]) == int(selected[1]) > 30, "not everything was tried"
    assert int(passed[1]) >= int(tested[1])
    assert httpx.get(f"{demo_server.url}/health", timeout=TIMEOUT_S).json()["status"] == "ok"
