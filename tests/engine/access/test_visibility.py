"""privacy: whose cache a request belongs to, and that of others only sizes are seen."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from engine.access.visibility import (
    Caller,
    caller,
    check_runs_server,
    conversation_owner,
    on_page,
    runs_server,
    visible_block,
    visible_features,
)
from engine.config import ServerConfig
from engine.errors import Forbidden
from engine.types import BlockInfo, FeatureInfo, MediaPortion

SEVERAL = (("alice", "sk-a"), ("bob", "sk-b"), ("carol", "sk-c"))


def block(tenant: str | None) -> BlockInfo:
    return BlockInfo("aa", "bb", 64, 64, 4096, 1, 2, True, 3.0, 1.0, "my secret", ("f00d",), tenant)


@pytest.mark.parametrize(
    ("config", "name", "session", "expected"),
    [
        (ServerConfig(), "", "page", Caller("", operator=True)),
        (ServerConfig(api_keys=SEVERAL[:1]), "alice", "page", Caller("", operator=True)),
        (ServerConfig(host="0.0.0.0", api_keys=SEVERAL[:1]), "alice", "page", Caller("", operator=True)),
        (ServerConfig(api_keys=SEVERAL), "alice", "page", Caller("alice", operator=True)),
        (ServerConfig(api_keys=SEVERAL), "bob", "page", Caller("bob", operator=False)),
        (ServerConfig(open_access=True), "", "page", Caller("page", operator=False)),
        (ServerConfig(host="0.0.0.0", open_access=True), "", "", Caller("", operator=False)),
        (ServerConfig(host="0.0.0.0"), "", "page", Caller("page", operator=False)),
    ],
)
def test_who_asks(config: ServerConfig, name: str, session: str, expected: Caller) -> None:
    assert caller(config, name, session) == expected


@pytest.mark.parametrize(
    ("config", "name", "expected"),
    [
        (ServerConfig(), "", True),
        (ServerConfig(host="0.0.0.0", api_keys=SEVERAL[:1]), "alice", True),
        (ServerConfig(api_keys=SEVERAL), "alice", True),
        (ServerConfig(api_keys=SEVERAL), "bob", False),
        (ServerConfig(api_keys=SEVERAL[:1], public_link=True), "alice", False),
        (ServerConfig(api_keys=SEVERAL, public_link=True), "alice", True),
        (ServerConfig(api_keys=SEVERAL, public_link=True), "bob", False),
        (ServerConfig(open_access=True), "", False),
        (ServerConfig(host="0.0.0.0"), "", False),
    ],
)
def test_who_reads_the_log_and_restarts(config: ServerConfig, name: str, expected: bool) -> None:
    """The operator; never somebody who came by a public link with the one key, or to an open server."""
    who = caller(config, name)
    assert runs_server(config, who) is expected
    with nullcontext() if expected else pytest.raises(Forbidden, match="Only the operator"):
        check_runs_server(config, who)


def test_tenants_by_name_and_salt() -> None:
    """Names and salts cannot be put together so that two tenants become one; the salt itself is not kept."""
    alice, bob = Caller("alice"), Caller("bob", operator=False)
    tenants = [Caller().tenant(), Caller().tenant("x"), alice.tenant(), alice.tenant("x"), bob.tenant("x")]
    assert len({*tenants, alice.tenant("y"), Caller("alicex").tenant()}) == len(tenants) + 2
    assert alice.tenant("x") == Caller("alice", operator=False).tenant("x")
    assert "pa55word" not in alice.tenant("pa55word") and len(alice.tenant("long" * 9999)) < 100


def test_a_visitor_cannot_pass_for_another_by_the_name_of_the_page() -> None:
    space = ServerConfig(open_access=True)
    forged, victim = caller(space, session="victim\0x"), caller(space, session="victim")
    assert not victim.sees(forged.tenant()) and not forged.sees(victim.tenant("x"))


def test_a_visitor_sees_what_their_tab_sent_beside_the_pages_own() -> None:
    """By the tab's name alone, which nobody else knows; where there are no visitors, nothing is added."""
    space = ServerConfig(open_access=True)
    page = caller(space, session="page")
    mine, other, forged = (on_page(space, page, name) for name in ("a" * 32, "b" * 32, "visitor/x"))
    tenant = caller(space, session=conversation_owner(space, visitor="a" * 32)).tenant()
    assert [who.sees(tenant) for who in (mine, other, forged, page)] == [True, False, False, False]
    assert mine.sees(page.tenant()) and not mine.sees("") and not mine.sees(None)
    several = ServerConfig(api_keys=SEVERAL)
    assert on_page(several, caller(several, "bob"), "a" * 32) == caller(several, "bob")


@pytest.mark.parametrize("who", [Caller(), Caller("bob", operator=False), Caller("bob", operator=True)])
@pytest.mark.parametrize("salt", ["", "x"])
def test_one_sees_all_of_what_is_ones_own(who: Caller, salt: str) -> None:
    mine = who.tenant(salt)
    assert visible_block(block(mine), who) == block(mine)


def test_the_operator_sees_everything() -> None:
    alice = caller(ServerConfig(api_keys=SEVERAL), "alice")
    assert visible_block(block(None), alice) == block(None)


@pytest.mark.parametrize("who", [Caller("carol", operator=False), Caller("", operator=False)])
@pytest.mark.parametrize("tenant", ["bob", "bob\0x", ""])
def test_of_others_only_sizes(who: Caller, tenant: str) -> None:
    """Every field is looked at, so that one that is added later is decided about."""
    hidden = visible_block(block(tenant), who)
    assert hidden == BlockInfo("", "", 64, 64, 4096, 1, 2, True, 3.0, 1.0), "more than sizes is shown of others"
    assert not [word for word in ("secret", "f00d", "aa", "bob") if word in repr(hidden)]


def test_of_others_features_only_sizes() -> None:
    unit = FeatureInfo("aa", 4096, 2, True, 3.0, 1.0, (MediaPortion("f00d", (0, 1), 8),), "bob")
    assert visible_features(unit, Caller()) == visible_features(unit, Caller("bob", operator=False)) == unit
    hidden = visible_features(unit, Caller("carol", operator=False))
    assert hidden == FeatureInfo("", 4096, 2, True, 3.0, 1.0)


def test_whose_it_was_is_forgotten() -> None:
    assert visible_block(block(None), Caller("bob", operator=False)).text == ""


def test_sabotage_a_rule_that_lets_everybody_in_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Caller, "sees", lambda self, tenant: True)
    with pytest.raises(AssertionError, match="more than sizes is shown of others"):
        test_of_others_only_sizes(Caller("carol", operator=False), "bob")
