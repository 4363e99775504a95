"""How much of a medium the vision tower has to encode: what the feature store has not. Looks at arrays' shapes only."""

from __future__ import annotations

from engine.cache.features import FeatureStore
from engine.models.vision_tower import unit_tokens
from engine.runtime.estimates.work import Missing, num_units
from engine.types import Request
from engine.types.prompt import PlacedMedia


def missing(features: FeatureStore, request: Request) -> Missing:
    """For the media of a request. Not a use of the store."""

    def share(placed: PlacedMedia) -> float:
        if not request.reuse:
            return 1.0
        tokens = placed.tokens / num_units(placed)
        sha256, tenant = placed.media.sha256, request.tenant
        return 1.0 - features.share_held(sha256, tenant, lambda unit: unit_tokens(unit) == tokens)

    return share
