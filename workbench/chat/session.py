"""The state of one browser tab that is not its conversation's: what is being worked out about its composer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from engine.types import Part, Preflight


@dataclass
class Session:
    """fitted: files in the composer that were made smaller to fit, by path. estimate: of what the message would cost.

    Never shared between tabs; nothing is lost with it but a click on "Make it fit".
    """

    fitted: dict[str, Part] = field(default_factory=dict)
    estimate: asyncio.Task[Preflight] | None = None
