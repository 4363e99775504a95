"""A logged request as texts that send it again and as a zip: each is run against a server and gets the same answer."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from engine.access.visibility import Caller
from engine.api.app import create_app
from engine.api.chat.convert import chat_request
from engine.api.chat.schemas import ChatRequest
from engine.cli import main
from engine.config import LogLimits, MediaLimits, ServerConfig
from engine.errors import BadRequest, Conflict
from engine.measure.replay.compare import differences
from engine.request_log.archive import packed, unpacked
from engine.request_log.body import request_body
from engine.request_log.copied import copied
from engine.request_log.form import whole_json
from engine.request_log.log import RequestLog
from engine.types import (
    FrameSampling,
    Grammar,
    Message,
    Part,
    Reasoning,
    Request,
    Sampling,
    StageClock,
    Tool,
    ToolCall,
    ToolChoice,
)
from tests import pictures

KEYS = (("owner", "planted-owner-key"), ("guest", "planted-guest-key"))
PLANTED = "sk-plantedplantedplantedplanted"
SECRETS = (PLANTED, *(key for _, key in KEYS))


@pytest.fixture(scope="module")
def url(demo_engine: Any, serve: Callable[[Any], Any]) -> Iterator[str]:
    """A server with two keys."""
    with serve(create_app(demo_engine, ServerConfig(api_keys=KEYS))) as base:
        yield base


def headers(place: int = 0) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[place][1]}"}


def ask(url: str, text: str, place: int = 0, **more: Any) -> Any:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEYS[place][1], max_retries=0, timeout=120) as client:
        content = [
            {"type": "text", "text": text},
            {"type": "image_url", "image_url": {"url": pictures.picture_url(), "detail": "high"}},
        ]
        messages: Any = [{"role": "user", "content": content}]
        return client.chat.completions.create(model="default", max_tokens=12, messages=messages, **more)


def get(url: str, path: str, place: int = 0) -> httpx.Response:
    return httpx.get(f"{url}/v1/requests/{path}", headers=headers(place), timeout=120)


@pytest.fixture(scope="module")
def asked(url: str) -> Any:
    """One answer to a question with a picture and a secret in it."""
    return ask(url, f'What is "it"? My key is {PLANTED}', temperature=0, extra_body={"min_p": 0.1, "ignore_eos": True})


def run(command: list[str], text: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, check=False, input=text, capture_output=True, text=True, timeout=300,
        env={**os.environ, "OPENAI_API_KEY": KEYS[0][1], **env},
    )  # fmt: skip


def test_curl(url: str) -> None:
    answer = ask(url, "Which shape is there?", temperature=0)
    text = get(url, f"{answer.id}/as/curl").text
    done = run(["bash", "-euo", "pipefail"], text)
    again = json.loads(done.stdout)
    assert again["choices"][0]["message"]["content"] == answer.choices[0].message.content, done.stderr
    assert again["usage"]["prompt_tokens"] == answer.usage.prompt_tokens


def test_python(url: str, tmp_path: Path) -> None:
    answer = ask(url, "Which shape?", temperature=0, logprobs=True)
    (tmp_path / "again.py").write_text(get(url, f"{answer.id}/as/python").text)
    done = run([sys.executable, str(tmp_path / "again.py")])
    assert done.stdout == f"{answer.choices[0].message.content}\n", done.stderr


def test_pytest(url: str, tmp_path: Path) -> None:
    answer = ask(url, "Which shape is that?", temperature=0)
    text = get(url, f"{answer.id}/as/pytest").text
    path = tmp_path / "test_again.py"
    path.write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(path)]
    done = run(command)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout
    said = answer.choices[0].message.content
    path.write_text(text.replace(f"== {said!r}", "== 'something else'"))
    assert "1 failed" in run(command).stdout


def test_javascript(url: str, tmp_path: Path) -> None:
    answer = ask(url, "Which shape is it?", temperature=0)
    (tmp_path / "again.mjs").write_text(get(url, f"{answer.id}/as/javascript").text)
    done = run(["node", str(tmp_path / "again.mjs")])
    assert done.stdout == f"{answer.choices[0].message.content}\n", done.stderr


def test_no_secret_is_in_a_text_or_a_zip(url: str, asked: Any) -> None:
    texts = [get(url, f"{asked.id}/as/{form}").text for form in ("curl", "python", "javascript", "pytest")]
    with zipfile.ZipFile(io.BytesIO(get(url, f"{asked.id}/zip").content)) as archive:
        texts += [archive.read("request.json").decode()]
    for text in texts:
        assert "[secret]" in text and not [secret for secret in SECRETS if secret in text]


def test_the_zip_is_replayed_and_compared(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(url, "What is in it?", temperature=0)
    path = tmp_path / "request.zip"
    path.write_bytes(get(url, f"{answer.id}/zip").content)
    command = ["replay", str(path), "--base-url", f"{url}/v1", "--api-key", KEYS[0][1]]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{answer.choices[0].message.content}\n--- the same answer\n"
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(other, "w") as changed:
        for name in archive.namelist():
            text = archive.read(name)
            if name == "request.json":
                told = json.loads(text)
                told["answer"][0]["text"] = "Another one."
                text = json.dumps(told).encode()
            changed.writestr(name, text)
    assert main(["replay", str(other), *command[2:]]) == 1
    assert "text: from character 0 on it was 'Another one.'" in capsys.readouterr().out
    assert main(["replay", str(tmp_path / "none.zip"), *command[2:]]) == 1
    assert "none.zip: it cannot be read as a request" in capsys.readouterr().err


def test_everybody_gets_their_own_only(url: str, asked: Any) -> None:
    theirs = ask(url, "Mine?", 1, temperature=0)
    for path in ("zip", "as/curl"):
        assert get(url, f"{asked.id}/{path}", 1).status_code == 404
        assert get(url, f"{theirs.id}/{path}", 1).status_code == 200
        assert get(url, f"{theirs.id}/{path}").status_code == 200
    assert get(url, f"{asked.id}/as/fortran").status_code == 400


ALL = Request(
    messages=(
        Message("system", (Part("text", text="Be brief."),)),
        Message(
            "user",
            (
                Part("text", text="media/x"),
                Part("image", url=pictures.picture_url(), detail="low", max_pixels=4096, animated=False),
                Part("image", url=pictures.picture_url("blue"), exact_px=(32, 64)),
                Part(
                    "video",
                    parts=(Part("image", url=pictures.picture_url()),) * 2,
                    frames=FrameSampling(list_fps=2.0, max_frames=2),
                ),
            ),
        ),
        Message("assistant", (), (ToolCall("call_1", "look", '{"a": 1}'),), reasoning="Hm."),
        Message("tool", (Part("text", text="seen"),), tool_call_id="call_1"),
    ),
    sampling=Sampling(temperature=0.0, top_p=0.9, top_k=0, seed=7, logit_bias=((3, -1.5),)),
    max_tokens=5, min_tokens=2, ignore_eos=True, stop=("\n",), stop_token_ids=(4,), bad_words=("no",), n=2,
    grammar=Grammar("choice", '["a", "b"]', "structured_outputs.choice"),
    tools=(Tool("look", "Looks.", {"type": "object"}, True), Tool("go")),
    tool_choice=ToolChoice("required", ("look", "go"), parallel=False),
    reasoning=Reasoning(True, "low", 10), frames=FrameSampling(fps=1.0, max_frames=4), logprobs=3,
    template_kwargs=(("a", 1),), model="m", id="all",
)  # fmt: skip


def one_part(part: Part) -> Request:
    return Request(messages=(Message("user", (part,)),))


def logged(request: Request) -> tuple[RequestLog, Any]:
    log = RequestLog(LogLimits(), MediaLimits())
    with log.open(request, StageClock()) as record:
        pass
    return log, record


def test_the_body_asks_for_all_that_was_asked_for() -> None:
    """Read again by the route it is the same request."""
    body = request_body(*logged(ALL)).filled()
    again = chat_request(ChatRequest.model_validate(body), MediaLimits(), "all")
    bare = [
        tuple((m.role, m.tool_calls, m.tool_call_id, m.reasoning, tuple(map(plain, m.parts))) for m in one.messages)
        for one in (ALL, again)
    ]
    assert bare[0] == bare[1]
    for name in Request.__dataclass_fields__:
        if name not in ("messages", "model", "grammar"):
            assert getattr(again, name) == getattr(ALL, name), name
    assert again.grammar is not None and json.loads(again.grammar.source) == ["a", "b"]


def plain(part: Part) -> Any:
    """A part without where it stood; bytes without how they were written."""
    settings = (part.detail, part.max_pixels, part.exact_px, part.animated, part.frames)
    return (part.kind, part.text, part.url, tuple(map(plain, part.parts)), *settings)


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (Request(id="refused"), "refused before"),
        (Request(prompt="a", messages=ALL.messages), "within a raw prompt"),
        (one_part(Part("video", url="data:,a", frames=FrameSampling(indices=(1,)))), "frames"),
        (one_part(Part("image", url="https://h/gone.png")), "not here any more"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_again_says_why(request_: Request, why: str) -> None:
    with pytest.raises(Conflict, match=why):
        request_body(*logged(request_))


def test_an_address_is_never_code() -> None:
    body = request_body(*logged(ALL))
    with pytest.raises(BadRequest, match="base_url"):
        copied("curl", body, "http://$(touch x)/v1")


def test_large_media_are_for_the_zip() -> None:
    large = Part("image", url="data:image/png;base64," + "A" * 2_000_000)
    body = request_body(*logged(Request(messages=(Message("user", (large,)),))))
    with pytest.raises(Conflict, match="Download it as a zip"):
        copied("python", body, "http://h/v1")


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    log, record = logged(ALL)
    path = tmp_path / "one.zip"
    path.write_bytes(packed(request_body(log, record), whole_json(log, record, Caller())))
    assert unpacked(path).asked.filled() == request_body(log, record).filled()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("request.json", '{"format": "other"}')
    with pytest.raises(BadRequest, match="not a request"):
        unpacked(path)


def test_differences_name_what_differs() -> None:
    one = {"text": "a circle", "finish_reason": "stop", "tool_calls": []}
    assert differences([one], [one]) == []
    words = differences([one], [{**one, "text": "a square", "tool_calls": [{"name": "f", "arguments": "{}"}]}])
    assert [word.split(":")[0] for word in words] == ["text", "tool_calls"] and "character 2" in words[0]
    assert differences([one], []) == ["choices: there were 1, now there are 0"]
