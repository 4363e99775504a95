"""The first prompt of a model, before anybody waits for one. Engine thread only."""

from __future__ import annotations

import logging
import time

import numpy as np

from engine.cache.features import FeatureStore
from engine.models.registry import Loaded
from engine.prompt.build import build_prompt
from engine.types import Message, Part, Request
from engine.types.media import Media

log = logging.getLogger(__name__)

MAX_S = 10.0
"""Of a warm-up. Its first layers have made most kernels that the others need."""


class WarmUp:
    """Reads one small picture, so that the first user waits neither for imports nor for kernels. Nothing is kept.

    It ends after MAX_S, between two layers of the vision tower: some read every picture at a size that takes half a
    minute on a CPU, and a model is not ready until it has ended.
    """

    def __init__(self) -> None:
        self._ends_s: float | None = None

    @property
    def is_on(self) -> bool:
        return self._ends_s is not None

    def between_layers(self) -> None:
        """Called between two layers of a tower. Raises TimeoutError to end a warm-up that has taken too long."""
        if self._ends_s is not None and time.perf_counter() >= self._ends_s:
            raise TimeoutError

    def run(self, loaded: Loaded, features: FeatureStore, num_layers: int) -> None:
        """num_layers: between how many layers of its towers `between_layers` is called; a tower where it is not could
        not be stopped, so that none is begun."""
        if not (loaded.card.vision and num_layers):
            return
        medium = Media("image", np.zeros((64, 64, 3), np.uint8), sha256="", num_bytes=0, decoded_px=(64, 64))
        request = Request(messages=(Message("user", (Part("image"), Part("text", text="?"))),), reuse=False)
        self._ends_s = time.perf_counter() + MAX_S
        try:
            built = build_prompt(loaded, request, (medium,))
            with features.tenant_scope("", False):
                loaded.adapter.embed(built, loaded.adapter.make_cache())
        except TimeoutError:
            log.info("the warm-up with a picture was ended after %.0f s", MAX_S)
        except Exception:  # a family that takes no such picture says so to the first who sends one
            log.info("no warm-up with a picture", exc_info=True)
        finally:
            self._ends_s = None
