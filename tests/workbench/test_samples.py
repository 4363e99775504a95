"""workbench.samples: the example cards."""

from __future__ import annotations

import json
from pathlib import Path

from engine.assets import asset
from workbench import samples


def test_files_are_copied_to_where_the_page_may_serve_them(tmp_path):
    source, into = tmp_path / "source", tmp_path / "into"
    source.mkdir()
    (source / "a.png").write_bytes(b"picture")
    (source / "samples.json").write_text(json.dumps([{"text": "Look", "files": ["a.png"]}, {"text": "Hello"}]))
    first, second = samples.load(source, into)
    assert (first.text, len(first.paths)) == ("Look", 1)
    assert Path(first.paths[0]).is_relative_to(into)
    assert Path(first.paths[0]).read_bytes() == b"picture"
    assert (second.text, second.paths) == ("Hello", ())


def test_no_samples_no_cards(tmp_path):
    assert samples.load(tmp_path, tmp_path / "into") == ()


def test_the_shipped_samples_load(tmp_path):
    cards = samples.load(asset("samples"), tmp_path)
    assert len(cards) >= samples.NUM_CARDS
    assert all(card.text for card in cards)
    assert any(path.endswith(".mp4") for card in cards for path in card.paths)


def test_two_pages_do_not_share_files(tmp_path):
    one, two = (samples.load(asset("samples"), tmp_path) for _ in range(2))
    assert not {path for card in one for path in card.paths} & {path for card in two for path in card.paths}
