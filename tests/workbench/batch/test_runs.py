"""Runs through their routes: right answers, a pause, a restart, edits, exports, and who sees what."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from engine.access.visibility import Caller, names_folders
from engine.batch_run.runner import BatchPlaces
from engine.config import EngineConfig, ModelSpec, ServerConfig
from engine.errors import BadRequest
from tests import pdfs, pictures
from tests.waiting import until, wait_until
from tests.workbench.batch.runs import LOCAL, PROMPT, Runs
from workbench.batch import desk
from workbench.batch.form import RunForm

OTHER = "b" * 32


def some(drawings: Path, count: int = 6) -> list[Path]:
    """Drawings of one size, by name."""
    return sorted(drawings.glob("*-96x96.png"))[:count]


def exported(runs: Runs, run: str, suffix: str = "csv") -> Any:
    reply = runs.ask("GET", f"/{run}/export.{suffix}")
    assert reply.status_code == 200 and f"rows.{suffix}" in reply.headers["content-disposition"]
    if suffix == "jsonl":
        return [json.loads(line) for line in reply.text.splitlines()]
    read = pd.read_csv if suffix == "csv" else pd.read_parquet
    return read(io.BytesIO(reply.content))


def test_a_run_from_its_files_to_its_table(page_app: Any, drawings: Path) -> None:
    with TestClient(page_app(), base_url=LOCAL) as client:
        runs = Runs(client)
        files = sorted(drawings.glob("*.png"))
        run = runs.begun(*files)
        assert runs.until(run, "done")["counts"]["answered"] == 60
        rows = runs.rows(run)
        assert [row["name"] for row in rows] == [file.name for file in files]
        right = [row["name"].split("-")[0] in row["answer"] for row in rows]
        assert sum(right) >= 50, rows
        picture = runs.ask("GET", f"/{run}/pictures/{rows[0]['picture']}")
        assert picture.headers["content-type"] == "image/png" and picture.content.startswith(b"\x89PNG")
        opened = runs.given("GET", f"/{run}/rows/0")
        assert "112 × 112" in opened["media"][0]["line"] and opened["whole"] == rows[0]["answer"]
        frame = exported(runs, run)
        assert list(frame["answer"]) == [row["answer"] for row in rows]
        assert list(frame["prompt_tokens"]) == [row["prompt"] for row in rows]
        assert len(exported(runs, run, "jsonl")) == len(exported(runs, run, "parquet")) == 60
        assert runs.status(run)["has_boxes"] is False, "COCO is offered without a box"
        coco = json.loads(runs.ask("GET", f"/{run}/export.coco.json").content)
        assert [image["file_name"] for image in coco["images"]] == [file.name for file in files]
        assert runs.refused("GET", f"/{run}/rows/60")[0] == 404
        assert runs.refused("GET", f"/{run}/export.exe")[0] == 400
        runs.given("DELETE", f"/{run}")
        assert runs.given("GET")["runs"] == [] and runs.refused("GET", f"/{run}/rows")[0] == 404


def test_it_pauses_and_goes_on(page_app: Any, drawings: Path, gate: Any) -> None:
    """A pause finishes what was begun; stopping loses it; nothing is asked twice that has its answer."""
    files = sorted(drawings.glob("*.png"))
    with TestClient(page_app(), base_url=LOCAL) as client:
        runs = Runs(client)
        gate.allowed = 5
        run = runs.begun(*files)
        wait_until(lambda: runs.status(run)["counts"]["answered"] == 5, "five may pass")
        wait_until(lambda: gate.asked > 5, "the others come to the gate")
        assert runs.given("POST", f"/{run}/pause", json={})["state"] == "pausing"
        assert runs.refused("POST", f"/{run}/resume", json={})[0] == 409
        begun = gate.asked
        gate.open()
        paused = runs.until(run, "paused")
        assert paused["counts"]["answered"] == begun == gate.asked and paused["counts"]["waiting"] == 60 - begun
        gate.allowed = begun + 2
        runs.given("POST", f"/{run}/resume", json={})
        wait_until(lambda: runs.status(run)["counts"]["answered"] == begun + 2, "two more may pass")
        assert runs.given("POST", f"/{run}/stop", json={})["state"] == "stopped"
        assert runs.status(run)["counts"]["answered"] == begun + 2
        gate.open()
        runs.given("POST", f"/{run}/resume", json={})
        assert runs.until(run, "done")["counts"] == {
            "all": 60, "waiting": 0, "answered": 60, "failed": 0, "warned": 0, "edited": 0,
        }  # fmt: skip


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_restart_finds_it_paused(page_app: Any, drawings: Path, tmp_path: Path, gate: Any, is_killed: bool) -> None:
    data = tmp_path / "data"
    with TestClient(page_app(data_folder=data), base_url=LOCAL) as client:
        runs = Runs(client)
        gate.allowed = 3
        run = runs.begun(*some(drawings))
        wait_until(lambda: runs.status(run)["counts"]["answered"] == 3, "three may pass")
        shutil.copytree(data / "runs", tmp_path / "killed" / "runs")  # all that a kill leaves behind
    if is_killed:
        data.rename(tmp_path / "ended")
        (tmp_path / "killed").rename(data)
        assert json.loads((data / "runs" / run / "run.json").read_text())["state"] == "running"
        with (data / "runs" / run / "journal").open("ab") as journal:
            journal.write(b'{"key": "torn')
    with TestClient(page_app(data_folder=data), base_url=LOCAL) as client:
        runs = Runs(client, OTHER)  # another browser, the same operator
        assert runs.status(run)["state"] == "paused" and runs.status(run)["name"] == PROMPT
        assert sorted(row["state"] for row in runs.rows(run)) == ["answered"] * 3 + ["waiting"] * 3
        gate.open()
        runs.given("POST", f"/{run}/resume", json={})
        assert runs.until(run, "done")["counts"]["answered"] == 6
        keys = [json.loads(line).get("key") for line in (data / "runs" / run / "journal").read_text().splitlines()]
        assert len(keys) == 7 == len(set(keys)), "a row was asked twice"


def test_what_cannot_be_read_is_a_row_and_asked_again(page_app: Any, drawings: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no medium")
    with TestClient(page_app(), base_url=LOCAL) as client:
        runs = Runs(client)
        run = runs.begun(*some(drawings, 1), tmp_path / "empty.png", tmp_path / "notes.txt")
        status = runs.until(run, "done")
        assert (status["counts"]["failed"], status["counts"]["answered"], status["left_out"]) == (1, 1, 1)
        (failed,) = runs.rows(run, only="failed")
        assert failed["name"] == "empty.png" and failed["error"] == "the file is empty"
        runs.given("POST", f"/{run}/retry", json={})
        again = runs.until(run, "done")
        assert again["counts"]["failed"] == 1 and again["left"] == 0


def test_pages_tables_json_and_decisions(page_app: Any, tmp_path: Path) -> None:
    (tmp_path / "two.pdf").write_bytes(pdfs.pdf([(1, 0, 0), (0, 0, 1)]))
    pictures.picture("red", "square").save(tmp_path / "a.png")
    pictures.picture("blue", "circle").save(tmp_path / "b.png")
    (tmp_path / "list.csv").write_text("image,what\na.png,color\nb.png,shape\n")
    schema = {"type": "object", "properties": {"red": {"type": "boolean"}}, "required": ["red"]}
    question = {"question": "What color is the shape?", "type": "choice", "options": ["red", "green", "blue"]}
    with TestClient(page_app(), base_url=LOCAL) as client:
        runs = Runs(client)
        run = runs.begun(tmp_path / "two.pdf", prompt="What color is on page {page} of {name}?")
        runs.until(run, "done")
        assert [row["name"] for row in runs.rows(run)] == ["two.pdf#1", "two.pdf#2"]
        files = [tmp_path / name for name in ("list.csv", "a.png", "b.png")]
        run = runs.begun(
            *files, prompt="What {what} is it?", form="json", schema_text=json.dumps(schema), max_tokens=40
        )
        runs.until(run, "done")
        rows = runs.rows(run)
        assert [row["name"] for row in rows] == ["list.csv:2", "list.csv:3"] and all(row["valid"] for row in rows)
        assert "answer.red" in exported(runs, run).columns
        again = runs.given("POST", json={"like": run})
        assert again["num_files"] == 3
        runs.given("POST", f"/{again['id']}/begin", json={"form": "questions", "questions": [question]})
        runs.until(again["id"], "done")
        opened = [runs.given("GET", f"/{again['id']}/rows/{place}") for place in (0, 1)]
        assert [one["decisions"][0]["answer"] for one in opened] == ["red", "blue"]
        edited = runs.given("PATCH", f"/{again['id']}/rows/0", json={"answer": "green", "question": 0})
        assert edited["edited"] and edited["decisions"][0]["model_answer"] == "red"
        frame = exported(runs, again["id"])
        assert list(frame["What color is the shape?"]) == ["green", "blue"]


def test_an_answer_is_edited_and_had_back(page_app: Any, drawings: Path) -> None:
    with TestClient(page_app(), base_url=LOCAL) as client:
        runs = Runs(client)
        run = runs.begun(*some(drawings, 2))
        runs.until(run, "done")
        said = runs.rows(run)[0]["answer"]
        edited = runs.given("PATCH", f"/{run}/rows/0", json={"answer": "mine"})
        assert edited["whole"] == "mine" and edited["model_answer"] == said and edited["edited"]
        assert runs.status(run)["counts"]["edited"] == 1
        frame = exported(runs, run)
        assert frame["answer"][0] == "mine" and bool(frame["edited"][0]) and frame["model_answer"][0] == said
        runs.given("PATCH", f"/{run}/rows/0", json={"answer": said})
        assert runs.status(run)["counts"]["edited"] == 0 and "edited" not in exported(runs, run)


def test_what_would_fail_in_every_row_is_said_before_the_first(page_app: Any, drawings: Path) -> None:
    with TestClient(page_app(), base_url=LOCAL) as client:
        runs = Runs(client)
        run = runs.sent(*some(drawings, 1))
        wrong = {"type": "object", "properties": {"a": {"not": {}}}}
        for form, words in (
            ({"prompt": ""}, "Write first what to ask"),
            ({"prompt": "{color}"}, "prompt: there is no placeholder {color}"),
            ({"prompt": "?", "form": "json", "schema_text": json.dumps(wrong)}, "schema: at /properties/a"),
            ({"prompt": "?", "folder": "/nowhere"}, "there is no such file or folder"),
        ):
            status, said = runs.refused("POST", f"/{run}/begin", json=form)
            assert status == 400 and words in said
        assert runs.refused("POST", f"/{runs.sent()}/begin", json={"prompt": "?"})[1].startswith("There is nothing")
        assert runs.given("GET")["runs"] == []
        runs.given("POST", f"/{run}/begin", json={"prompt": PROMPT})  # it is still there
        runs.until(run, "done")
        assert runs.refused("POST", f"/{run}/begin", json={"prompt": PROMPT})[0] == 409
        assert runs.refused("PUT", f"/{run}/files", params={"path": "a.png"}, content=b"1")[0] == 403


async def test_a_model_that_sees_nothing(engine_pool: Any, tiny_model: Any, drawings: Path) -> None:
    spec = ModelSpec(str(tiny_model("gemma3")), text_only=True)
    blind = desk.BatchDesk(engine_pool.start(EngineConfig(model=spec)), ServerConfig(), BatchPlaces(4))
    owner = blind.owner("", "")
    run = await blind.new(owner)
    await blind.add_file(owner, run, "a.png", some(drawings, 1)[0].read_bytes())
    with pytest.raises(BadRequest, match="takes no picture: no row could be answered"):
        await blind.begin(owner, run, RunForm(prompt="What is it?"))
    assert run.kept.state == "new"
    await blind.add_file(owner, run, "words.csv", b"word\nred\nblue\n")  # its lines are rows of text
    await blind.begin(owner, run, RunForm(prompt="What is {word}?", max_tokens=4))
    await until(lambda: run.kept.state == "done")
    assert run.status()["counts"]["answered"] == 2
    await blind.close()


def test_the_operator_names_a_folder(page_app: Any, drawings: Path) -> None:
    with TestClient(page_app(), base_url=LOCAL) as client:
        runs = Runs(client)
        assert runs.given("GET")["may_name_folders"]
        run = runs.begun(folder=str(drawings))
        assert runs.until(run, "done")["counts"]["answered"] == 60
    keys = (("anna", "sk-anna-0123456789"),)
    for config, expected in (
        (ServerConfig(), True),
        (ServerConfig(api_keys=keys), True),
        (ServerConfig(host="0.0.0.0", api_keys=keys), False),
        (ServerConfig(open_access=True), False),
        (ServerConfig(public_link=True, api_keys=keys), False),
    ):
        assert names_folders(config, Caller()) is expected
    assert not names_folders(ServerConfig(), Caller("bob", operator=False))


def test_visitors_see_their_own_and_have_bounds(
    page_app: Any, drawings: Path, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "VISITOR_ROWS", 4)
    with TestClient(page_app(open_access=True, max_upload_bytes=20_000), base_url=LOCAL) as client:
        mine, theirs = Runs(client), Runs(client, OTHER)
        files = some(drawings, 4)
        run = mine.begun(*files)
        assert theirs.given("GET")["runs"] == []
        for method, path in (("GET", "rows"), ("GET", "rows/0"), ("POST", "stop"), ("GET", "export.csv")):
            assert theirs.refused(method, f"/{run}/{path}", json={} if method == "POST" else None)[0] == 404
        assert theirs.refused("DELETE", f"/{run}")[0] == 404
        assert theirs.refused("POST", json={"like": run})[0] == 404
        second = mine.sent(*files)
        assert mine.refused("POST", f"/{second}/begin", json={"prompt": "?"}) == (
            429, "One run at a time: wait for the other one, or stop it.",
        )  # fmt: skip
        status, said = mine.refused("PUT", f"/{second}/files", params={"path": "more.png"}, content=b"1")
        assert status == 413 and "At most 4 files" in said
        third = mine.sent()
        assert mine.refused("PUT", f"/{third}/files", params={"path": "big"}, content=b"0" * 19_900)[0] == 413
        assert mine.refused("POST", f"/{third}/begin", json={"prompt": "?", "folder": str(drawings)})[0] == 403
        assert Runs(client, "nobody").refused("GET")[0] == 403, "a visitor without a name of their own"
        gate.open()
        mine.until(run, "done")
        for _ in range(2):
            again = mine.given("POST", json={"like": run})["id"]
            mine.given("POST", f"/{again}/begin", json={"prompt": PROMPT})
            mine.until(again, "done")
        assert mine.refused("POST", json={})[0] == 429, "three are kept of a visitor"


def test_a_visitor_who_has_left_takes_no_more(page_app: Any, drawings: Path, gate: Any) -> None:
    with TestClient(page_app(open_access=True, unwatched_s=0.2), base_url=LOCAL) as client:
        runs = Runs(client)
        gate.allowed = 1
        run = runs.begun(*some(drawings, 15), prompt=PROMPT)
        found = client.app.state.batch_desk._all()[run]
        wait_until(lambda: found.kept.state == "pausing", "nobody looks, and it goes on")


def test_other_pages_change_nothing(page_app: Any, drawings: Path) -> None:
    with TestClient(page_app(), base_url=LOCAL) as client:
        run = Runs(client).sent(*some(drawings, 1))
        for method, path in (
            ("POST", ""),
            ("PUT", f"/{run}/files?path=a"),
            ("DELETE", f"/{run}"),
            ("POST", f"/{run}/begin"),
        ):
            body = {"content": b"1"} if method == "PUT" else {} if method == "DELETE" else {"json": {"prompt": "?"}}
            assert client.request(method, f"/workbench/runs{path}", **body).status_code == 403
