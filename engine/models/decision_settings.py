"""decision.json in a model's folder: how the model is asked typed questions. Pure; any thread.

The file is transformers' (DecisionConfig), of which `temperature` is read; `list_options` is this project's own. Models
with a decision head of their own are not run as such: the head is left out.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_FILE = "decision.json"
_TYPES = {"noul": "predicate", "choice": "choice", "score": "score"}


@dataclass(frozen=True, slots=True)
class DecisionSettings:
    """temperatures: by kind of question, what the logarithms of the options' probabilities are divided by, 1 where it
    does not say. list_options: whether the question names its options."""

    temperatures: Mapping[str, float] = field(default_factory=dict)
    list_options: bool = True

    @classmethod
    def read(cls, folder: Path) -> DecisionSettings:
        """Those of a model's folder; the default without a file, and for one that cannot be read, which is logged."""
        try:
            raw = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            return cls(_temperatures(raw.get("temperature") or {}), bool(raw.get("list_options", True)))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError, AttributeError) as e:
            log.warning("%s is not used: %s", folder / _FILE, e)
            return cls()

    def temperature(self, kind: str) -> float:
        return self.temperatures.get(kind, 1.0)


def _temperatures(raw: Mapping[str, Any]) -> dict[str, float]:
    out = {_TYPES[name]: float(value) for name, value in raw.items() if name in _TYPES}
    if not all(0 < value < float("inf") for value in out.values()):
        raise ValueError("a temperature must be above 0")
    return out
