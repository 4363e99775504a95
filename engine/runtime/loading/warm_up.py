"""The first pictures of a model, before anybody waits for one: they make its kernels, and show how much memory its
tower takes. Engine thread only."""

from __future__ import annotations

import logging
import time

import numpy as np

from engine.cache.features import FeatureStore
from engine.models.mlx_memory import peak_of
from engine.models.registry import Loaded
from engine.models.vision_tower import MAX_PATCHES
from engine.prompt.build import build_prompt
from engine.runtime.estimates.work import EncoderWork, work_of
from engine.runtime.memory_use.encoder_memory import EncoderMemory
from engine.types import Message, Part, Request
from engine.types.media import Media

log = logging.getLogger(__name__)

MAX_S = 10.0
"""Of a warm-up. Its first layers have made most kernels that the others need."""


MEASURE_S = 2.0
"""Of what comes behind the first picture."""

SIDES_PX = (64, 384)
"""Of the pictures that are read. The second has so many tokens that attention shows in what it takes, and so few that
it fits wherever the model does."""


class WarmUp:
    """Reads a small picture, so that the first user waits neither for imports nor for kernels, and again with a larger
    one to see what they take. Nothing is kept.

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

    def run(self, loaded: Loaded, features: FeatureStore, num_layers: int) -> EncoderMemory:
        """What the tower takes, where both pictures were read; whatever fails, no load does. num_layers: between how
        many layers of its towers `between_layers` is called; a tower where it is not could not be stopped, so that none
        is begun."""
        measured: list[tuple[EncoderWork, int]] = []
        if not (loaded.card.vision and num_layers):
            return EncoderMemory()
        started_s = time.perf_counter()
        self._ends_s = started_s + MAX_S
        try:
            with features.tenant_scope("", False):
                _read(loaded, SIDES_PX[0])  # its kernels are made; what follows shows what reading itself takes
                self._ends_s = min(self._ends_s, time.perf_counter() + MEASURE_S)
                for side_px in () if loaded.family.one_by_one else SIDES_PX:
                    measured.append(_read(loaded, side_px))
            return EncoderMemory.of(measured, _most_tokens(loaded))
        except TimeoutError:
            log.info("the warm-up with pictures was ended after %.1f s", time.perf_counter() - started_s)
        except Exception:  # a family that takes no such picture says so to the first who sends one
            log.info("no warm-up with a picture", exc_info=True)
        finally:
            self._ends_s = None
        return EncoderMemory()


def _read(loaded: Loaded, side_px: int) -> tuple[EncoderWork, int]:
    """A picture of so many pixels a side: what there was to do, and the bytes that it took."""
    pixels = np.zeros((side_px, side_px, 3), np.uint8)
    medium = Media("image", pixels, sha256="", num_bytes=0, decoded_px=(side_px, side_px))
    request = Request(messages=(Message("user", (Part("image"), Part("text", text="?"))),), reuse=False)
    built = build_prompt(loaded, request, (medium,))
    work = work_of(built, 0, lambda placed: 1.0, packed=loaded.family.packed)
    return work.encoder, peak_of(lambda: loaded.adapter.embed(built, loaded.adapter.make_cache()))


def _most_tokens(loaded: Loaded) -> int | None:
    """Of towers that take their pictures in calls of a bounded size, or each in one of its own."""
    if loaded.family.encodes_apart:
        return 0
    vision = loaded.config.get("vision_config") or {}
    return MAX_PATCHES // int(vision.get("spatial_merge_size", 2)) ** 2 if loaded.adapter.has_bounded_calls else None
