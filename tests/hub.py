"""A stand-in for the model hub on loopback: enough of its HTTP API for huggingface_hub.snapshot_download, from folders.

    GET  /api/models/{id}/revision/{rev}     the repository and its commit
    GET  /api/models/{id}/tree/{commit}      its files
    HEAD, GET /{id}/resolve/{commit}/{file}  metadata headers (ETag, X-Repo-Commit, size), then the bytes

Anything else answers as the hub does: 404 with X-Error-Code. `requests` records what was asked for, so that a test can
say that files came over the wire, or that they did not; while `may_send_weights` is cleared, weights wait. Point a
process at it with HF_ENDPOINT before it imports huggingface_hub, which reads the variable once.
"""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class StandInHub:
    """with StandInHub({"org/name": folder}) as hub: ... hub.url, hub.requests"""

    def __init__(self, repositories: dict[str, Path], *, down: bool = False) -> None:
        self.repositories = repositories
        self.requests: list[str] = []
        self.down = down
        self.may_send_weights = threading.Event()
        self.may_send_weights.set()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self, with_body=True)

            def do_HEAD(self) -> None:
                hub.answer(self, with_body=False)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, name="stand-in-hub", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> StandInHub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(timeout=10)

    def answer(self, http: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        path = unquote(urlsplit(http.path).path).strip("/")
        self.requests.append(f"{http.command} {path}")
        status, headers, body = self._route(path)
        http.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            http.send_header(name, value)
        http.end_headers()
        if with_body:
            if path.endswith(".safetensors"):
                self.may_send_weights.wait(60)
            http.wfile.write(body)

    def _route(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if self.down:
            return 503, {}, b"down for maintenance"
        words = path.split("/")
        if words[:2] == ["api", "models"]:
            name, rest = "/".join(words[2:4]), words[4:]
        else:
            name, rest = "/".join(words[:2]), words[2:]
        folder = self.repositories.get(name)
        if folder is None:
            return _missing("RepoNotFound", "Repository not found")
        head, revision, *tail = [*rest, "", ""]
        if words[:2] != ["api", "models"]:
            return _file(folder, "/".join(tail).strip("/")) if head == "resolve" else _missing("EntryNotFound", path)
        if revision not in ("", "main", commit(folder)):
            return _missing("RevisionNotFound", f"Invalid rev id: {revision}")
        return _json(_tree(folder) if head == "tree" else _info(name, folder))


def commit(folder: Path) -> str:
    """A commit hash for a folder's present content: 40 hex digits."""
    digest = hashlib.sha1()
    for path in _files(folder):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _info(name: str, folder: Path) -> dict[str, Any]:
    return {
        "_id": "0" * 24,
        "id": name,
        "modelId": name,
        "sha": commit(folder),
        "private": False,
        "gated": False,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": [{"rfilename": path.name} for path in _files(folder)],
    }


def _tree(folder: Path) -> list[dict[str, Any]]:
    return [
        {"type": "file", "oid": _etag(path), "size": path.stat().st_size, "path": path.name} for path in _files(folder)
    ]


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()


def _file(folder: Path, name: str) -> tuple[int, dict[str, str], bytes]:
    path = folder / name
    if "/" in name or not path.is_file():
        return _missing("EntryNotFound", f"Entry not found: {name}")
    headers = {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": commit(folder), "Content-Type": "application/octet-stream"}
    return 200, headers, path.read_bytes()


def _json(content: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


def _missing(code: str, message: str) -> tuple[int, dict[str, str], bytes]:
    headers = {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"}
    return 404, headers, json.dumps({"error": message}).encode()
