"""The first prompt of a model, before anybody waits for one. Engine thread only."""

from __future__ import annotations

import logging

import numpy as np

from engine.cache.features import FeatureStore
from engine.models.registry import Loaded
from engine.prompt.build import build_prompt
from engine.types import Message, Part, Request
from engine.types.media import Media

log = logging.getLogger(__name__)


def warm_up(loaded: Loaded, features: FeatureStore) -> None:
    """Read one small picture, so that the first user waits neither for imports nor for kernels. Nothing is kept."""
    if not loaded.card.vision:
        return
    medium = Media("image", np.zeros((64, 64, 3), np.uint8), sha256="", num_bytes=0, decoded_px=(64, 64))
    request = Request(messages=(Message("user", (Part("image"), Part("text", text="?"))),), reuse=False)
    try:
        built = build_prompt(loaded, request, (medium,))
        with features.tenant_scope("", False):
            loaded.adapter.embed(built, loaded.adapter.make_cache())
    except Exception:  # a family that takes no such picture says so to the first who sends one
        log.info("no warm-up with a picture", exc_info=True)
