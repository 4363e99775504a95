"""The example cards of an empty chat: `samples.json` beside its pictures and clips."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NUM_CARDS = 6
"""As many as a phone shows without scrolling."""


@dataclass(frozen=True, slots=True)
class ExampleCard:
    """One card: the words that are sent and the files that go with them."""

    text: str
    paths: tuple[str, ...]


def load(source: Path, into: Path) -> tuple[ExampleCard, ...]:
    """Read the cards of `source`, and copy their files `into` a folder that the page may serve from.

    Every call makes a new folder below it: Gradio deletes the files of an app that ends, and apps may share a folder.
    """
    if not (source / "samples.json").is_file():
        return ()
    cards = json.loads((source / "samples.json").read_text(encoding="utf-8"))
    into.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=into))
    return tuple(ExampleCard(card["text"], tuple(_copied(source, folder, card.get("files", ())))) for card in cards)


def _copied(source: Path, into: Path, names: Sequence[str]) -> list[str]:
    return [str(shutil.copy(source / name, into / Path(name).name)) for name in names]
