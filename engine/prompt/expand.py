"""Prompts of families whose model makes one placeholder into many: ids as long as the embeddings. Numpy, no MLX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from engine.models.families import Family
from engine.types.prompt import runs


def expanded(
    ids: Sequence[int], placeholder: int, inputs: dict[str, Any], config: dict[str, Any], family: Family
) -> list[int]:
    """ids with the placeholders of every picture as many as what the model puts in their place. inputs: the
    processor's arrays.

    For "tiles", pixel_values is (pictures, tiles, 3, height, width), and the model does not mind how many placeholders
    the processor wrote for a picture: it puts in a block for each tile, then as many of newlines. For "patches",
    spatial_shapes is (pictures, 2), and the processor writes one placeholder for each. Without pictures there is none.
    """
    if family.expands == "patches":
        counts = iter(np.array(inputs.get("spatial_shapes", np.empty((0, 2)))).prod(axis=1).tolist())
        return [token for token in ids for _ in range(next(counts) if token == placeholder else 1)]
    if family.expands == "tiles":
        vision = config["vision_config"]
        block = (vision["image_size"] // vision["patch_size"]) ** 2
        block += config.get("vision_feature_select_strategy") == "full"  # then the class token stays
        count = 2 * inputs["pixel_values"].shape[1] * block
    else:
        count = int(config["num_image_tokens"])
    out: list[int] = []
    done = 0
    for start, end in runs(ids, placeholder):
        out += [*ids[done:start], *[placeholder] * count]
        done = end
    return [*out, *ids[done:]]
