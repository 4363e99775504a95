"""workbench.cache.grid: the block pool as squares, pictures and details."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.access.visibility import Caller
from engine.types import BlockInfo, FeatureInfo, MediaPortion
from workbench import words
from workbench.cache import grid

OPERATOR, STRANGER = Caller(), Caller("page-2", operator=False)


def block(key: str, parent: str = "", start: int = 0, **more: object) -> BlockInfo:
    whole = {"num_tokens": 64, "num_bytes": 2048, "refs": 0, "hits": 0, "pinned": False, "age_s": 5.0, "idle_s": 1.0}
    return BlockInfo(key, parent, start, **{"tenant": "page-1", **whole, **more})  # type: ignore[arg-type]


def test_what_continues_a_block_stands_behind_it():
    a, b = block("a"), block("b")
    a1, a2, a11 = block("a1", "a", 64), block("a2", "a", 64), block("a11", "a1", 128)
    assert [one.key for one in grid.in_chains([a, b, a1, a2, a11])] == ["a", "a1", "a11", "a2", "b"]


def test_a_block_whose_beginning_is_gone_is_still_shown():
    assert [one.key for one in grid.in_chains([block("x", "gone", 64)])] == ["x"]


def test_a_square_says_how_full_and_what_state():
    free, used, pinned = block("a", num_tokens=16), block("b", refs=2), block("c", refs=1, pinned=True)
    cells = grid.cells([free, used, pinned], 64, OPERATOR)
    assert [cell["state"] for cell in cells] == ["stored", "used", "pinned"]
    assert [cell["fill"] for cell in cells] == [0.25, 1.0, 1.0]
    assert cells[0]["title"] == "16 tokens · 2 KB · not reused yet"


def test_others_blocks_have_no_key_and_no_picture():
    held = [
        block("secret", media=("a1",), media_hits=(3,), tenant="page-1"),
        block("mine", media=("b2",), media_hits=(0,), tenant="page-2"),
    ]
    theirs, mine = grid.cells(held, 64, STRANGER)
    assert (theirs["key"], theirs["medium"], theirs["readable"]) == ("0", None, False)
    assert (mine["key"], mine["medium"], mine["readable"]) == ("mine", "b2", True)
    assert "secret" not in repr(grid.cells(held, 64, STRANGER))
    assert "secret" in repr(grid.cells(held, 64, OPERATOR))


def test_a_picture_over_two_blocks_is_one_picture():
    held = [
        block("a", media=("p",), media_hits=(2,), hits=7, pinned=True),
        block("a1", "a", 64, media=("p", "q"), media_hits=(2, 1)),
        block("b", media=("q",), media_hits=(1,)),
    ]
    first, second = grid.media(held)
    assert (first["medium"], first["block"], first["frames"]) == ("p", "a", [])
    assert first["kv"] == {"words": "2 blocks · 4 KB", "hits": "reused 2 times", "pinned": False}
    assert (second["medium"], second["kv"]["hits"], second["features"]) == ("q", "reused once", None)


def test_features_of_two_clips_that_share_a_pair_of_frames():
    def unit(key: str, *media: MediaPortion, pinned: bool = False, hits: int = 0) -> FeatureInfo:
        return FeatureInfo(key, 1024, hits, pinned, 3.0, 1.0, media)

    shared = unit("u", MediaPortion("a", (0, 1), 4), MediaPortion("b", (2, 3, 6, 7), 8), pinned=True, hits=3)
    a, b = grid.media([], [shared, unit("v", MediaPortion("b", (0, 1), 8))])
    assert (a["medium"], a["kv"], a["block"], a["frames"]) == ("a", None, None, [True, True, False, False])
    assert a["features"] == {"words": "2 of 4 frames · 1 KB", "hits": "reused 3 times", "pinned": True}
    assert b["frames"] == [True] * 4 + [False] * 2 + [True] * 2
    assert (b["features"]["words"], b["features"]["pinned"]) == ("6 of 8 frames · 2 KB", False)


def test_details_in_words():
    told = grid.details(replace(block("k", start=64, num_tokens=10, refs=1, hits=3), text="a ▣ b", media=("p",)))
    assert told["text"] == "a ▣ b" and told["media"] == ["p"] and not told["pinned"]
    assert told["facts"] == [
        "tokens 65 to 74 of its prompt",
        "2 KB",
        "reused 3 times",
        "in use by 1 running request",
        "stored 5 s ago, last used 1 s ago",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "just now"), (12, "12 s ago"), (119, "119 s ago"), (300, "5 min ago"), (3 * 3600, "3 h ago")],
)
def test_ago(seconds, text):
    assert words.ago(seconds) == text
