"""Files and batches as OpenAI's client uses them, over a real socket; across a restart; kept apart by key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from engine.access.visibility import Caller
from engine.api.app import create_app
from engine.api.batches import worker
from engine.api.batches.store import BatchStore
from engine.api.files.kept import KeptFolder
from engine.api.files.store import FileStore
from engine.config import ServerConfig
from tests import pictures
from tests.engine.api.http.test_openapi import check
from tests.waiting import wait_until

CHAT = "/v1/chat/completions"
COLOURS = ("red", "green", "blue", "yellow")
KEYS = (("alice", "sk-alice"), ("bob", "sk-bob"))


def asked(colour: str, **more: Any) -> dict[str, Any]:
    picture = {"type": "image_url", "image_url": {"url": pictures.picture_url(colour)}}
    content = [picture, {"type": "text", "text": "What color is the shape?"}]
    return {"model": "default", "messages": [{"role": "user", "content": content}], "temperature": 0, **more}


def line(custom_id: str, body: dict[str, Any], url: str = CHAT) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def jsonl(lines: list[Any]) -> bytes:
    return "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines).encode()


def client_of(url: str, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=120)


@pytest.fixture
def client(demo_engine: Any, serve: Callable[..., Any], tmp_path: Path) -> Iterator[openai.OpenAI]:
    with serve(create_app(demo_engine, ServerConfig(data_folder=tmp_path))) as url, client_of(url) as made:
        yield made


def uploaded(client: openai.OpenAI, lines: list[Any]) -> str:
    return client.files.create(file=("in.jsonl", jsonl(lines)), purpose="batch").id


def begun(client: openai.OpenAI, lines: list[Any], endpoint: Any = CHAT) -> Any:
    file = uploaded(client, lines)
    return client.batches.create(input_file_id=file, endpoint=endpoint, completion_window="24h")


def ended(client: openai.OpenAI, batch_id: str) -> Any:
    over = ("completed", "failed", "expired", "cancelled")
    wait_until(lambda: client.batches.retrieve(batch_id).status in over, "the batch did not end", 240)
    return client.batches.retrieve(batch_id)


def read(client: openai.OpenAI, file_id: str | None) -> list[Any]:
    assert file_id
    return [json.loads(text) for text in client.files.content(file_id).text.splitlines()]


def test_a_batch_answers_as_the_routes_do(client: openai.OpenAI) -> None:
    lines = [line(colour, asked(colour)) for colour in COLOURS]
    lines.append(line("wrong", asked("red", temperature="hot")))
    lines.append(line("streamed", asked("red", stream=True)))
    lines.append(line("nobody", asked("red", model="nobody")))
    batch = ended(client, begun(client, lines).id)
    assert batch.status == "completed" and batch.errors is None, batch
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (7, 4, 3)
    answers = read(client, batch.output_file_id)
    assert [one["custom_id"] for one in answers] == list(COLOURS)
    for one, colour in zip(answers, COLOURS, strict=True):
        direct = client.chat.completions.create(**asked(colour))
        body = one["response"]["body"]
        assert one["response"]["status_code"] == 200 and one["error"] is None
        assert body["choices"][0]["message"]["content"] == direct.choices[0].message.content
        assert colour in body["choices"][0]["message"]["content"] and body["usage"]["media"][0]["tokens"] > 0
    assert batch.usage.total_tokens == sum(one["response"]["body"]["usage"]["total_tokens"] for one in answers)
    failed = {one["custom_id"]: one["response"] for one in read(client, batch.error_file_id)}
    assert {name: response["status_code"] for name, response in failed.items()} == {
        "wrong": 400,
        "streamed": 400,
        "nobody": 404,
    }
    assert failed["wrong"]["body"]["error"]["param"] == "temperature"


def test_the_other_endpoints(client: openai.OpenAI) -> None:
    prompt = {"prompt": "a", "max_tokens": 3}
    text = ended(client, begun(client, [line("a", prompt, "/v1/completions")], "/v1/completions").id)
    assert read(client, text.output_file_id)[0]["response"]["body"]["object"] == "text_completion"
    body = {"input": "hi", "max_output_tokens": 16}
    batch = ended(client, begun(client, [line("a", body, "/v1/responses")], "/v1/responses").id)
    assert read(client, batch.output_file_id)[0]["response"]["body"]["object"] == "response"
    assert batch.usage.output_tokens > 0
    batch = ended(client, begun(client, [line("a", {"input": "hi"}, "/v1/embeddings")], "/v1/embeddings").id)
    (refused,) = read(client, batch.error_file_id)
    assert refused["response"]["status_code"] == 400, "this model makes no vectors"
    with pytest.raises(openai.BadRequestError, match="must be one of"):
        begun(client, [line("a", {}, "/v1/moderations")], "/v1/moderations")


@pytest.mark.parametrize(
    ("lines", "code", "number"),
    [
        (["{"], "invalid_json_line", 1),
        (["[1]"], "invalid_json_line", 1),
        ([line("a", {}), line("a", {})], "duplicate_custom_id", 2),
        ([{**line("a", {}), "custom_id": 7}], "missing_required_parameter", 1),
        ([{**line("a", {}), "method": "GET"}], "invalid_method", 1),
        ([line("a", {}, "/v1/completions")], "mismatched_endpoint", 1),
        ([{**line("a", {}), "body": []}], "missing_required_parameter", 1),
        (["", " "], "empty_file", None),
    ],
)
def test_a_file_that_is_wrong_fails_with_its_line(
    client: openai.OpenAI, lines: list[Any], code: str, number: int | None
) -> None:
    batch = ended(client, begun(client, lines).id)
    assert batch.status == "failed" and batch.request_counts.completed == 0
    assert (batch.errors.data[0].code, batch.errors.data[0].line) == (code, number)


def test_files_are_listed_read_and_deleted(client: openai.OpenAI) -> None:
    first, second = (uploaded(client, [line(name, {})]) for name in "ab")
    assert [file.id for file in client.files.list()] == [second, first]
    assert [file.id for file in client.files.list(order="asc", limit=1)] == [first, second]
    assert client.files.list(purpose="batch_output").data == []
    assert client.files.retrieve(first).filename == "in.jsonl"
    assert client.files.content(first).content == jsonl([line("a", {})])
    assert client.files.delete(first).deleted
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match="There is no file"):
            call(first)
    with pytest.raises(openai.BadRequestError, match="purpose: it must be batch"):
        client.files.create(file=b"a", purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="it is empty"):
        client.files.create(file=b"", purpose="batch")
    with pytest.raises(openai.BadRequestError, match="input_file_id: There is no file"):
        client.batches.create(input_file_id="../../etc/passwd", endpoint=CHAT, completion_window="24h")


def test_the_operators_limits(demo_engine: Any, serve: Callable[..., Any], tmp_path: Path) -> None:
    config = ServerConfig(data_folder=tmp_path, max_stored_files=2, max_stored_bytes=1000, max_batch_requests=2)
    with serve(create_app(demo_engine, config)) as url, client_of(url) as client:
        batch = ended(client, begun(client, [line(name, {}) for name in "abc"]).id)
        assert batch.errors.data[0].code == "too_many_requests"
        with pytest.raises(openai.APIStatusError, match="all together may have 1000 bytes") as error:
            client.files.create(file=b"a" * 900, purpose="batch")
        assert error.value.status_code == 413
        client.files.create(file=b"b", purpose="batch")
        with pytest.raises(openai.APIStatusError, match="at most 2 are kept"):
            client.files.create(file=b"c", purpose="batch")


def test_nothing_is_kept_without_a_folder(demo_engine: Any, serve: Callable[..., Any]) -> None:
    with serve(create_app(demo_engine, ServerConfig())) as url, client_of(url) as client:
        for call in (client.files.list, client.batches.list, lambda: client.files.retrieve("file-1")):
            with pytest.raises(openai.PermissionDeniedError, match="keeps no files"):
                call()


def test_cancelling_keeps_what_is_answered(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = [line(f"long-{i}", asked("red", max_tokens=4000, ignore_eos=True)) for i in range(40)]
    batch = begun(client, [line("short", asked("blue")), *endless])
    wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed >= 1, "nothing was answered", 240)
    with pytest.raises(openai.ConflictError, match="read by batch_"):
        client.files.delete(batch.input_file_id)
    assert client.batches.cancel(batch.id).status == "cancelling"
    over = ended(client, batch.id)
    assert over.status == "cancelled" and over.cancelled_at
    assert "short" in [one["custom_id"] for one in read(client, over.output_file_id)]
    assert over.request_counts.completed < 41
    with pytest.raises(openai.ConflictError, match="it is cancelled"):
        client.batches.cancel(batch.id)
    assert [one.id for one in client.batches.list()] == [batch.id]


def test_what_is_late_has_expired(
    demo_engine: Any, serve: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.api.batches import store

    monkeypatch.setattr(store, "WINDOW_S", 0)
    with serve(create_app(demo_engine, ServerConfig(data_folder=tmp_path))) as url, client_of(url) as client:
        batch = ended(client, begun(client, [line("a", asked("red")), line("b", asked("red"))]).id)
        assert (batch.status, batch.request_counts.failed) == ("expired", 2)
        errors = read(client, batch.error_file_id)
        assert [(one["custom_id"], one["error"]["code"], one["response"]) for one in errors] == [
            ("a", "batch_expired", None),
            ("b", "batch_expired", None),
        ]


def test_a_batch_goes_on_after_a_restart(
    demo_engine: Any, serve: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request is answered once: those of the first server are not asked again."""
    asked_for: list[str] = []
    read_body = worker.read_body

    def noting(descriptor: int, one: Any) -> Any:
        asked_for.append(one.custom_id)
        return read_body(descriptor, one)

    monkeypatch.setattr(worker, "read_body", noting)
    config = ServerConfig(data_folder=tmp_path)
    lines = [line(f"{i}-{colour}", asked(colour, max_tokens=30)) for i in range(12) for colour in COLOURS]
    with serve(create_app(demo_engine, config)) as url, client_of(url) as client:
        batch = begun(client, lines)
        wait_until(lambda: client.batches.retrieve(batch.id).request_counts.completed >= 2, "nothing answered", 240)
    journal = BatchStore(KeptFolder(config)).folder / f"{batch.id}.journal"
    answered = {json.loads(text)["key"] for text in journal.read_text().splitlines()[1:]} if journal.exists() else None
    before = len(asked_for)
    with serve(create_app(demo_engine, config)) as url, client_of(url) as client:
        over = ended(client, batch.id)
        assert over.status == "completed" and over.request_counts.completed == len(lines)
        answers = read(client, over.output_file_id)
    assert [one["custom_id"] for one in answers] == [one["custom_id"] for one in lines]
    for one in answers:
        assert one["custom_id"].split("-")[1] in one["response"]["body"]["choices"][0]["message"]["content"]
    if answered is not None:
        assert answered and not answered & set(asked_for[before:])


def test_keys_are_apart(demo_engine: Any, serve: Callable[..., Any], tmp_path: Path) -> None:
    server = serve(create_app(demo_engine, ServerConfig(data_folder=tmp_path, api_keys=KEYS)))
    with server as url, client_of(url, "sk-alice") as alice, client_of(url, "sk-bob") as bob:
        hers = begun(alice, [line("a", asked("red"))])
        assert list(bob.files.list()) == [] and list(bob.batches.list()) == []
        with pytest.raises(openai.NotFoundError):
            bob.batches.retrieve(hers.id)
        with pytest.raises(openai.NotFoundError):
            bob.files.content(hers.input_file_id)
        with pytest.raises(openai.NotFoundError):
            bob.batches.cancel(hers.id)
        with pytest.raises(openai.BadRequestError, match="There is no file"):
            bob.batches.create(input_file_id=hers.input_file_id, endpoint=CHAT, completion_window="24h")
        his = ended(bob, begun(bob, [line("a", asked("red"))]).id)
        cache = read(bob, his.output_file_id)[0]["response"]["body"]["usage"]["cache"]
        assert cache["other"] == "" and ended(alice, hers.id).status == "completed"


def test_two_servers_do_not_share_a_folder(demo_engine: Any, serve: Callable[..., Any], tmp_path: Path) -> None:
    config = ServerConfig(data_folder=tmp_path)
    with serve(create_app(demo_engine, config)) as first, client_of(first) as one:
        uploaded(one, [line("a", {})])
        second = serve(create_app(demo_engine, config))
        with second as url, client_of(url) as other, pytest.raises(openai.ConflictError, match="--data-dir of its own"):
            other.files.list()
    with serve(create_app(demo_engine, config)) as third, client_of(third) as after:
        assert len(list(after.files.list())) == 1


def test_what_a_disk_has_lost_does_not_take_the_rest_with_it(tmp_path: Path) -> None:
    config = ServerConfig(data_folder=tmp_path)
    kept = KeptFolder(config)
    assert kept.owner(Caller()) == "" and kept.is_ours
    (kept.path / "files").mkdir()
    for name in ("files/file-a", "files/file-b", "batch_a", "batch_b"):
        (kept.path / f"{name}.json").write_text("{" if name.endswith("a") else '{"id": "x"}')
    batches = BatchStore(kept)
    added = batches.add("", Caller(), CHAT, "file-c", None)
    assert BatchStore(kept).of("") == [added] and FileStore(config, kept).of("") == []
    kept.release()


def test_every_field_is_in_the_document(client: openai.OpenAI) -> None:
    with httpx.Client(base_url=str(client.base_url).removesuffix("/v1/"), timeout=120) as http:
        document = http.get("/openapi.json").json()
        file = http.post("/v1/files", files={"file": ("a.jsonl", jsonl(["{"]))}, data={"purpose": "batch"})
        check(document, "post", "/v1/files", file)
        body = {"input_file_id": file.json()["id"], "endpoint": CHAT, "completion_window": "24h"}
        batch = http.post("/v1/batches", json=body)
        check(document, "post", "/v1/batches", batch)
        failed, good = batch.json()["id"], begun(client, [line("a", asked("red"))]).id
        ended(client, failed)
        ended(client, good)
        for path, at in (
            ("/v1/files", "/v1/files"),
            (f"/v1/files/{file.json()['id']}", "/v1/files/{file_id}"),
            ("/v1/batches", "/v1/batches"),
            (f"/v1/batches/{failed}", "/v1/batches/{batch_id}"),
            (f"/v1/batches/{good}", "/v1/batches/{batch_id}"),
            ("/v1/batches/nobody", "/v1/batches/{batch_id}"),
        ):
            check(document, "get", at, http.get(path))
        check(document, "post", "/v1/batches/{batch_id}/cancel", http.post(f"/v1/batches/{good}/cancel", json={}))
        check(document, "delete", "/v1/files/{file_id}", http.delete(f"/v1/files/{file.json()['id']}"))
        for wrong in ({"completion_window": "1h"}, {"color": "red"}, {"metadata": {"a": 1}}, {"endpoint": None}):
            answer = http.post("/v1/batches", json={**body, **wrong})
            assert answer.status_code == 400, answer.text
            check(document, "post", "/v1/batches", answer)
