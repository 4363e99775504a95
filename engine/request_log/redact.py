"""The one place where secrets are taken out of what is logged, shown, copied or written to disk. Pure.

Taken out are this server's own keys wherever they stand, what looks like a key of a known service, and of URLs the
user's name and password and every value of the query whose name speaks of a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

HIDDEN = "[secret]"
"""What stands in the place of a secret."""

_KEYS = re.compile(
    r"""(?x) \b(?:
      sk-[A-Za-z0-9_-]{16,}                 # OpenAI, Anthropic, and this server's own
    | hf_[A-Za-z0-9]{16,}                   # Hugging Face
    | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_\w{20,}
    | glpat-[\w-]{16,}
    | xox[abeprs]-[\w-]{10,}                # Slack
    | AKIA[0-9A-Z]{16} | ASIA[0-9A-Z]{16}   # AWS
    | AIza[\w-]{30,}                        # Google
    | eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,} # a JSON web token
    )"""
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/-]{12,}=*")
_USER = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/?#@\"'<>]+@")
_QUERY = re.compile(
    r"(?i)([?&;][\w.-]*(?:token|key|sig|secret|pass|pwd|auth|cred|session|jwt|code|policy)[\w.-]*=)[^&;#\s\"'<>\\]+"
)
_SHORTEST = 4
"""Letters of an own key that is looked for: a shorter one is part of too many words."""


@dataclass(frozen=True, slots=True)
class Redactor:
    """secrets: this server's own keys."""

    secrets: tuple[str, ...] = ()

    def text(self, text: str) -> str:
        """A text without secrets; itself where there are none."""
        for secret in self.secrets:
            if len(secret) >= _SHORTEST:
                for written in (secret, quote(secret, safe="")):
                    text = text.replace(written, HIDDEN)
        text = _BEARER.sub(rf"\1 {HIDDEN}", _KEYS.sub(HIDDEN, text))
        return _QUERY.sub(rf"\1{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", text)) if "://" in text else text

    def address(self, url: str) -> str:
        """The address of a medium: what stands in its query is not told at all, for it may be a signature."""
        where, mark, _ = url.partition("?")
        return self.text(where) + (f"?{HIDDEN}" if mark else "")

    def json(self, value: Any) -> Any:
        """A JSON value without secrets in any of its texts, the names of its fields included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(name): self.json(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.json(inner) for inner in value]
        return value
