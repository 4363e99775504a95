"""What the README beside a model says of it, in the block of YAML that hub ids have at its beginning:
https://huggingface.co/docs/hub/model-cards#model-card-metadata
"""

from __future__ import annotations

import logging
from pathlib import Path

from huggingface_hub import ModelCard as Readme

MAX_CHARS = 200

log = logging.getLogger(__name__)


def toy_note(folder: Path) -> str:
    """The line `toy:`, in which a model that is a toy says what it can do; "" without one."""
    file = folder / "README.md"
    if not file.is_file():
        return ""
    try:
        note = Readme.load(file, ignore_metadata_errors=True).data.to_dict().get("toy")
    except Exception as error:  # a README that nobody can read is no reason to refuse its model
        log.info("the README of %s was not read: %s", folder.name, error)
        return ""
    return " ".join(note.split())[:MAX_CHARS] if isinstance(note, str) else ""
