"""Prompts of families whose model makes one placeholder into many: ids as long as the embeddings. Pure Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.models.families import Family
from engine.types.prompt import runs


def expanded(
    ids: Sequence[int], placeholder: int, pixels_shape: Sequence[int], config: dict[str, Any], family: Family
) -> list[int]:
    """ids with every run of placeholders as long as what the model puts in its place.

    pixels_shape: (pictures, tiles, 3, height, width) of the processor, for "tiles". The model does not mind how many
    placeholders the processor wrote for a picture: it puts in a block for each tile, then as many of newlines.
    """
    if family.expands == "tiles":
        vision = config["vision_config"]
        block = (vision["image_size"] // vision["patch_size"]) ** 2
        block += config.get("vision_feature_select_strategy") == "full"  # then the class token stays
        count = 2 * pixels_shape[1] * block
    else:
        count = int(config["num_image_tokens"])
    out: list[int] = []
    done = 0
    for start, end in runs(ids, placeholder):
        out += [*ids[done:start], *[placeholder] * count]
        done = end
    return [*out, *ids[done:]]
