"""What the doctor says about one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """verdict: "warn" is a gap that one can live with, "fail" keeps the server from working. remedy: what to do, ""
    where nothing is to be done.

    >>> Diagnosis("ports", "ok", "8000 and 7860 are free").remedy
    ''
    """

    name: str
    verdict: Severity
    text: str
    remedy: str = ""
