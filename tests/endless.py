"""A request that does not end by itself, for tests of stopping and leaving."""

from __future__ import annotations

import json
from typing import Any

from engine.assets import asset


def endless_request(max_tokens: int = 12_000) -> dict[str, Any]:
    """Body of a chat completion on the demo model in which the tokens that end an answer are forbidden."""
    stops = json.loads((asset("demo-model") / "generation_config.json").read_text())["eos_token_id"]
    bias = {str(token): -100 for token in (stops if isinstance(stops, list) else [stops])}
    return {"messages": [{"role": "user", "content": "hi"}], "max_tokens": max_tokens, "logit_bias": bias}
