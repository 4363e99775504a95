"""Somebody at the routes of the Batch tab, on the model that sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from tests.waiting import wait_until

LOCAL = "http://127.0.0.1"
PROMPT = "What color is the shape?"


class Runs:
    """One browser tab at the routes of its runs."""

    def __init__(self, client: TestClient, visitor: str = "a" * 32) -> None:
        self._client = client
        self._headers = {"X-Workbench-Visitor": visitor}

    def ask(self, method: str, path: str = "", **more: Any) -> Any:
        return self._client.request(method, f"/workbench/runs{path}", headers=self._headers, **more)

    def given(self, method: str, path: str = "", **more: Any) -> Any:
        reply = self.ask(method, path, **more)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def refused(self, method: str, path: str = "", **more: Any) -> tuple[int, str]:
        reply = self.ask(method, path, **more)
        return reply.status_code, str(reply.json()["error"]["message"])

    def sent(self, *files: Path) -> str:
        """A run that has not begun, with these files."""
        run = str(self.given("POST", json={})["id"])
        for file in files:
            self.given("PUT", f"/{run}/files", params={"path": file.name}, content=file.read_bytes())
        return run

    def begun(self, *files: Path, **form: Any) -> str:
        run = self.sent(*files)
        self.given("POST", f"/{run}/begin", json={"prompt": PROMPT, "max_tokens": 16, **form})
        return run

    def status(self, run: str) -> Any:
        return next(one for one in self.given("GET")["runs"] if one["id"] == run)

    def until(self, run: str, *states: str) -> Any:
        wait_until(lambda: self.status(run)["state"] in states, f"it is never {states}", 300)
        return self.status(run)

    def rows(self, run: str, **view: Any) -> list[Any]:
        return list(self.given("GET", f"/{run}/rows", params=view)["rows"])
