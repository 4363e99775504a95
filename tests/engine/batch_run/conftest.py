"""A folder of drawings, of which it is known what they show."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests import pictures

COLOURS = ("red", "orange", "yellow", "green", "blue")
SIZES = ((96, 96), (128, 96), (96, 128), (112, 112))


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 pictures: every colour and shape in four sizes, called by what they show."""
    folder = tmp_path_factory.mktemp("drawings")
    for colour, shape, size in itertools.product(COLOURS, ("circle", "square", "triangle"), SIZES):
        name = f"{colour}-{shape}-{size[0]}x{size[1]}.png"
        pictures.picture(colour, shape, size).save(folder / name)  # type: ignore[arg-type]
    return folder
