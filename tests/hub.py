"""A stand-in for the model hub on loopback: enough of its HTTP API for huggingface_hub.snapshot_download and for
searching, from folders.

    GET  /api/models?search=words            repositories whose names have these words
    GET  /api/models/{id}/revision/{rev}     the repository and its commit; ?blobs=true: sizes and hashes of its files
    GET  /api/models/{id}/tree/{commit}      its files
    HEAD, GET /{id}/resolve/{commit}/{file}  metadata headers (ETag, X-Repo-Commit, size), then the bytes

Anything else answers as the hub does: 404 with X-Error-Code. `requests` records what was asked for, so that a test can
say that files came over the wire, or that they did not; while `may_send_weights` is cleared, weights wait. Point a
process at it with HF_ENDPOINT before it imports huggingface_hub, which reads the variable once; or give its url as
`endpoint`.

As on the hub, safetensors files have the sha256 of their content as ETag, others git's hash of a blob; Range is
answered. What goes wrong on the way is injected by `Faults`.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Faults:
    """cut: by file, after which share of what was asked for the connection ends, each time it is asked for, while there
    is one left. held: by file, what is waited for after half of it was sent. wrong: files whose bytes are others, as
    many. refused: by file, the status that a request for its bytes is answered with, while there is one left. gated:
    repositories whose files nobody gets. ignores_range: sends all of a file, whatever was asked for.
    """

    cut: dict[str, list[float]] = field(default_factory=dict)
    held: dict[str, threading.Event] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    refused: dict[str, list[int]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    ignores_range: bool = False


STOP_S = 0.02
"""How long an idle one takes to notice that it is to end."""


class StandInHub:
    """with StandInHub({"org/name": folder}) as hub: ... hub.url, hub.requests, hub.sent_bytes (by file)"""

    def __init__(self, repositories: dict[str, Path], *, down: bool = False, faults: Faults | None = None) -> None:
        self.repositories = repositories
        self.requests: list[str] = []
        self.sent_bytes: Counter[str] = Counter()
        self._num_answers = 0
        self._counting = threading.Lock()
        self.down = down
        self.faults = faults or Faults()
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
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(STOP_S,), name="stand-in-hub", daemon=True
        )

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

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is being answered: sent_bytes will not grow before somebody asks."""
        return not self._num_answers

    def _count(self, change: int) -> None:
        with self._counting:
            self._num_answers += change

    def answer(self, http: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        self._count(1)
        try:
            self._answer(http, with_body=with_body)
        finally:
            self._count(-1)

    def _answer(self, http: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        address = urlsplit(http.path)
        path = unquote(address.path).strip("/")
        self.requests.append(f"{http.command} {path}")
        status, headers, body = self._route(path, parse_qs(address.query))
        refused = self.faults.refused.get(path.rsplit("/", 1)[-1])
        if with_body and refused:
            status, headers, body = refused.pop(0), {}, b"not now"
        span = re.fullmatch(r"bytes=(\d+)-", http.headers.get("Range", ""))
        if span and status == 200 and "ETag" in headers and not self.faults.ignores_range:
            headers["Content-Range"] = f"bytes {span[1]}-{len(body) - 1}/{len(body)}"
            status, body = 206, body[int(span[1]) :]
        http.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            http.send_header(name, value)
        http.end_headers()
        if with_body:
            if path.endswith(".safetensors"):
                self.may_send_weights.wait(60)
            self._send(http, path.rsplit("/", 1)[-1], body)

    def _send(self, http: BaseHTTPRequestHandler, file: str, body: bytes) -> None:
        """The body, as far as the faults let it."""
        cuts, held = self.faults.cut.get(file), self.faults.held.get(file)
        end = int(len(body) * cuts.pop(0)) if cuts else len(body)
        middle = end // 2 if held else end
        try:
            for start, stop in ((0, middle), (middle, end)):
                http.wfile.write(body[start:stop])
                http.wfile.flush()
                self.sent_bytes[file] += stop - start
                if held:
                    held.wait(timeout=60)
        except OSError:
            return  # the client has gone
        if end < len(body):
            http.close_connection = True

    def _route(self, path: str, query: dict[str, list[str]]) -> tuple[int, dict[str, str], bytes]:
        if self.down:
            return 503, {}, b"down for maintenance"
        words = path.split("/")
        if words[:2] == ["api", "models"]:
            name, rest = "/".join(words[2:4]), words[4:]
        else:
            name, rest = "/".join(words[:2]), words[2:]
        folder = self.repositories.get(name)
        if folder is None:
            is_search = words == ["api", "models"]
            return _json(self._found(query)) if is_search else _missing("RepoNotFound", "Repository not found")
        head, revision, *tail = [*rest, "", ""]
        if words[:2] != ["api", "models"]:
            if name in self.faults.gated:
                return _missing("GatedRepo", f"Access to model {name} is restricted", 403)
            file = "/".join(tail).strip("/")
            is_wrong = file in self.faults.wrong
            return _file(folder, file, is_wrong) if head == "resolve" else _missing("EntryNotFound", path)
        if revision not in ("", "main", commit(folder)):
            return _missing("RevisionNotFound", f"Invalid rev id: {revision}")
        return _json(_tree(folder) if head == "tree" else _info(name, folder, gated=name in self.faults.gated))

    def _found(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        words = query.get("search", [""])[0].lower()
        names = [name for name in self.repositories if words in name.lower()]
        return [_info(name, self.repositories[name], gated=name in self.faults.gated) for name in names]


def commit(folder: Path) -> str:
    """A commit hash for a folder's present content: 40 hex digits."""
    digest = hashlib.sha1()
    for path in _files(folder):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _info(name: str, folder: Path, *, gated: bool = False) -> dict[str, Any]:
    """All that the hub says of a repository, also what a request has to ask for."""
    config = folder / "config.json"
    return {
        "_id": "0" * 24,
        "id": name,
        "modelId": name,
        "sha": commit(folder),
        "private": False,
        "gated": "manual" if gated else False,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "config": json.loads(config.read_text()) if config.is_file() else {},
        "safetensors": _parameters(folder),
        "siblings": [_sibling(path) for path in _files(folder)],
    }


def _parameters(folder: Path) -> dict[str, Any]:
    """How many numbers of each type the weights have."""
    numbers: Counter[str] = Counter()
    for path in folder.glob("*.safetensors"):
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
        for tensor in (entry for tensor, entry in header.items() if tensor != "__metadata__"):
            count = 1
            for length in tensor["shape"]:
                count *= length
            numbers[tensor["dtype"]] += count
    return {"parameters": dict(numbers), "total": sum(numbers.values())}


def _sibling(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    lfs = {"sha256": _etag(path), "size": size, "pointerSize": 134} if _is_large(path) else None
    return {"rfilename": path.name, "size": size, "blobId": _git_hash(path), "lfs": lfs}


def _tree(folder: Path) -> list[dict[str, Any]]:
    return [
        {"type": "file", "oid": _etag(path), "size": path.stat().st_size, "path": path.name} for path in _files(folder)
    ]


def _is_large(path: Path) -> bool:
    return path.suffix == ".safetensors"


def _git_hash(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def _etag(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if _is_large(path) else _git_hash(path)


def _file(folder: Path, name: str, is_wrong: bool) -> tuple[int, dict[str, str], bytes]:
    path = folder / name
    if "/" in name or not path.is_file():
        return _missing("EntryNotFound", f"Entry not found: {name}")
    headers = {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": commit(folder), "Content-Type": "application/octet-stream"}
    data = path.read_bytes()
    return 200, headers, data[:-1] + bytes([data[-1] ^ 1]) if is_wrong else data


def _json(content: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


def _missing(code: str, message: str, status: int = 404) -> tuple[int, dict[str, str], bytes]:
    headers = {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"}
    return status, headers, json.dumps({"error": message}).encode()
