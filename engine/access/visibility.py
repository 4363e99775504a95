"""Who asks, whose cached work they share, and what of others they may see. Pure.

    nobody is asked for a key (loopback)      one operator: pages and programs share, and see everything
    one key                                   the same: whoever has it is the operator
    several keys                              each name has a cache of its own; the first is the operator's
    open to everybody (a Space)               each page has a cache of its own, /v1 one for all; nobody is operator

A request on /v1 may narrow this by `cache_salt`: it then shares with requests of the same salt only. A visitor sees
what they sent themselves, and of others only sizes: no text, no pictures, no hashes by which a guess could be checked.

Conversations of the page have owners likewise: all at this machine, or all with the one key, share theirs; of several
keys each has its own; a visitor of a Space or of a public link has those of their browser's tab, which are not kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from engine.config import ServerConfig
from engine.errors import Forbidden
from engine.types import BlockInfo, FeatureInfo

VISITOR = re.compile(r"[0-9a-f]{32}")
VISITOR_OWNER = "visitor/"
"""How the owner of a visitor's conversations begins."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who asks. owner: their name among the tenants; "" where they cannot be told from others. also: another
    name of theirs, under which they sent what outlives a page (see on_page)."""

    owner: str = ""
    operator: bool = True
    also: str = ""

    def tenant(self, salt: str = "") -> str:
        """Request.tenant of what they send. The salt may be a secret, so only its hash is kept."""
        return f"{self.owner}\0{hashlib.sha256(salt.encode()).hexdigest()}" if salt else self.owner

    def sees(self, tenant: str | None) -> bool:
        """Whether they may see what was sent under this tenant; None: nobody knows whose it was."""
        owner = (tenant or "").partition("\0")[0]
        return self.operator or (owner != "" and owner in (self.owner, self.also))


def salt_beyond(tenant: str) -> str:
    """What stands for the salt of a tenant (Caller.tenant) at another server; "" for one without. It does not hold the
    salt, nor who sent it, but one that is easily guessed can be found by trying; two who send the same salt have two.
    """
    return hashlib.sha256(tenant.encode()).hexdigest() if "\0" in tenant else ""


def caller(config: ServerConfig, name: str = "", session: str = "") -> Caller:
    """name: of the API key or the login; session: of the page, "" on /v1."""
    if len(config.api_keys) > 1:
        return Caller(name, operator=name == config.api_keys[0][0])
    if config.api_keys or (config.on_loopback and not config.open_access):
        return Caller()
    return Caller(session.replace("\0", ""), operator=False)


def on_page(config: ServerConfig, who: Caller, visitor: str) -> Caller:
    """Whoever is behind a page, with the name of a visitor's conversations and runs of the Batch tab beside the page's.

    visitor: what the browser's tab calls itself; nothing changes where that is no such name, or there are no visitors.
    """
    if not _has_visitors(config) or not VISITOR.fullmatch(visitor):
        return who
    return replace(who, also=conversation_owner(config, visitor=visitor))


def manages_models(config: ServerConfig, who: Caller) -> bool:
    """Whether they may look through this machine's models, load, download and delete them.

    Whoever came by a public link with the one key may not: it was given to visitors. Of several keys, the first one's
    owner may.
    """
    return who.operator and not (config.open_access or (config.public_link and len(config.api_keys) < 2))


def check_manages_models(config: ServerConfig, who: Caller) -> None:
    """Raise Forbidden for whoever may not manage the models."""
    if not manages_models(config, who):
        raise Forbidden("Only the operator of this server may manage its models.")


def runs_server(config: ServerConfig, who: Caller) -> bool:
    """Whether they may read this server's log and start it anew: whoever manages its models. The log tells of what
    everybody does, and of folders."""
    return manages_models(config, who)


def check_runs_server(config: ServerConfig, who: Caller) -> None:
    """Raise Forbidden for whoever may not read the log."""
    if not runs_server(config, who):
        raise Forbidden("Only the operator of this server may read its log and restart it.")


def names_folders(config: ServerConfig, who: Caller) -> bool:
    """Whether they may have folders of this machine read by path: the operator may, where nobody else comes in."""
    return who.operator and config.on_loopback and not _has_visitors(config)


def keeps_conversations(config: ServerConfig) -> bool:
    """Whether conversations are written to disk. Those of visitors never are."""
    return config.data_folder is not None and not _has_visitors(config)


def conversation_owner(config: ServerConfig, name: str = "", visitor: str = "") -> str:
    """Whose conversations somebody sees. name: of the login. visitor: what the browser's tab calls itself, at random.

    Raises Forbidden for a visitor without such a name.
    """
    if _has_visitors(config):
        if not VISITOR.fullmatch(visitor):
            raise Forbidden("This page has no name of its own. Reload it.", code="unknown_visitor")
        return f"{VISITOR_OWNER}{hashlib.sha256(visitor.encode()).hexdigest()}"
    return f"key/{name}" if len(config.api_keys) > 1 else "operator"


def _has_visitors(config: ServerConfig) -> bool:
    return config.open_access or config.public_link


class SentRequest(Protocol):
    """A request that somebody sent. tenant: as Request.tenant."""

    @property
    def tenant(self) -> str: ...


Sent = TypeVar("Sent", bound=SentRequest)


def visible_requests(requests: Iterable[Sent], who: Caller) -> list[Sent]:
    """Those that `who` may open: of others they see none, not even that there were some."""
    return [request for request in requests if who.sees(request.tenant)]


def visible_block(block: BlockInfo, who: Caller) -> BlockInfo:
    """A block as `who` may see it: of others only sizes, uses and ages. Without a key it cannot be asked for again."""
    if who.sees(block.tenant):
        return block
    return replace(block, key="", parent="", text="", media=(), media_hits=(), tenant=None)


def visible_features(unit: FeatureInfo, who: Caller) -> FeatureInfo:
    """A unit of features as `who` may see it: of others only sizes, uses and ages."""
    return unit if who.sees(unit.tenant) else replace(unit, key="", media=(), tenant=None)
