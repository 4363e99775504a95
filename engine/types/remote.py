"""Another server with OpenAI's routes that answers for a model: where it is, and what is known of an answer of it.

Frozen values in pure Python: no MLX, no numpy, safe in every thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from engine.errors import BadRequest


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """url: what the paths of the routes are appended to, as OpenAI's clients have it: "http://host:8000/v1". key: what
    it asks for; in no text that is made of this. model: the name there; None for the first that it lists.

    Made by `at`, which checks what a person wrote.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    model: str | None = None

    @classmethod
    def at(cls, url: str, key: str | None = None, model: str | None = None) -> RemoteServer:
        """A URL without a path gets /v1. Raises BadRequest for what is no address of a server, or no key."""
        try:
            split = urlsplit(url.strip())
            has_host = bool(split.hostname) and (split.port is None or split.port > 0)
        except ValueError:
            raise BadRequest("server_url: it is not a URL.", param="server_url") from None
        if split.scheme not in ("http", "https") or not has_host:
            raise BadRequest("server_url: it must be like http://HOST:PORT or https://HOST/v1.", param="server_url")
        if split.username is not None or split.password is not None or split.query or split.fragment:
            why = "it may hold no user, password, query or fragment; a key is given as server_key"
            raise BadRequest(f"server_url: {why}.", param="server_url")
        if key is not None and not (key and key.isascii() and key.isprintable() and " " not in key):
            raise BadRequest("server_key: a key is of visible ASCII characters.", param="server_key")
        path = split.path.rstrip("/")
        return cls(f"{split.scheme}://{split.netloc}{path or '/v1'}", key, model)

    @property
    def host(self) -> str:
        """Where it is, for a person: host and port."""
        return urlsplit(self.url).netloc


@dataclass(frozen=True, slots=True)
class ServedBy:
    """The server that gave an answer, and what it tells of it. model: the name there. tells_usage: how many tokens it
    took; tells_media: what became of the media, which only servers of this project do. num_media: how many were sent.
    """

    host: str
    model: str
    tells_usage: bool = True
    tells_media: bool = False
    num_media: int = 0
