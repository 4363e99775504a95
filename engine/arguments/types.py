"""Types for argparse's `type=`: text of one argument -> value. Each raises ArgumentTypeError with the limit.

Imports nothing slow: `--help` must answer at once.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from engine.config import ADAPTER_NAME, given_folder, is_hub_id
from engine.errors import BadRequest
from engine.types import SPECULATION_FIELDS, SPECULATION_LIMITS, SpeculationConfig


class NamedAdapter(NamedTuple):
    """A LoRA adapter, the folder of its files, and which model it belongs to (None: the default one)."""

    name: str
    path: str
    model: str | None


def positive(text: str) -> int:
    """A whole number of at least 1."""
    return _whole(text, 1)


def count(text: str) -> int:
    """A whole number of at least 0."""
    return _whole(text, 0)


def port_number(text: str) -> int:
    """A TCP port; 0 is any free one."""
    return _whole(text, 0, 65535)


def at_least_zero(text: str) -> float:
    """A finite number of at least 0."""
    return _number(text, 0)


def more_than_zero(text: str) -> float:
    """A finite number above 0."""
    return _number(text, 0, open_low=True)


def share(text: str) -> float:
    """A number above 0 and at most 1."""
    return _number(text, 0, 1, open_low=True)


def share_or_zero(text: str) -> float:
    """A number from 0 to 1."""
    return _number(text, 0, 1)


def named_model(text: str) -> tuple[str | None, str]:
    """(name, source) of a model: "NAME=SOURCE", or a source alone, also one whose path holds a "="."""
    named = re.fullmatch(r"([A-Za-z0-9][\w.:/@-]*)=(.+)", text)
    return (named[1], named[2]) if named and not given_folder(text).exists() else (None, text)


def named_adapter(text: str) -> NamedAdapter:
    """A LoRA adapter as vLLM has it: "NAME=FOLDER", or {"name": …, "path": …, "base_model_name": …} as JSON."""
    try:
        is_json = text.lstrip().startswith("{")
        given = json.loads(text) if is_json else dict(zip(("name", "path"), text.split("=", 1), strict=True))
        found = NamedAdapter(given.pop("name"), given.pop("path"), given.pop("base_model_name", None))
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError(f"{text!r} is not like NAME=FOLDER") from None
    if given or not all(isinstance(value, str) for value in found if value is not None):
        raise argparse.ArgumentTypeError(f"{text!r}: name, path and base_model_name are what it may say, each a text")
    if not re.fullmatch(ADAPTER_NAME, found.name):
        raise argparse.ArgumentTypeError(f"{found.name[:80]!r} is no name of an adapter: letters, digits and . _ - are")
    return found._replace(path=str(folder(found.path)))


def media_limits(text: str) -> dict[str, int]:
    """Media per prompt by kind: "image=4,video=1", or the same as JSON."""
    try:
        pairs = json.loads(text) if text.lstrip().startswith("{") else dict(p.split("=") for p in text.split(","))
        limits = {str(kind).strip(): count(str(number).strip()) for kind, number in pairs.items()}
    except (ValueError, AttributeError):
        raise argparse.ArgumentTypeError(f"{text!r} is not like image=4,video=1") from None
    unknown = set(limits) - {"image", "video", "audio"}
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: only image, video and audio can be limited")
    return limits


def speculation(text: str) -> SpeculationConfig:
    """As vLLM has it: {"method": "ngram", "num_speculative_tokens": 8, "prompt_lookup_min": 3, "prompt_lookup_max": 8},
    of which only the method must be said; or {"method": "draft_model", "model": …, "num_speculative_tokens": 8}."""
    try:
        given = dict(json.loads(text).items())
    except (ValueError, AttributeError):
        raise argparse.ArgumentTypeError(f'{text!r} is not like {{"method": "ngram"}}') from None
    said = given.pop("method", None)
    method = next((one for one in SPECULATION_FIELDS if one == said), None)
    if method is None:
        why = '"ngram" and "draft_model" are what there is; a model\'s own heads are not used'
        raise argparse.ArgumentTypeError(f"method {said!r}: {why}")
    for name, value in given.items():
        if name not in SPECULATION_FIELDS[method]:
            known = ", ".join(SPECULATION_FIELDS[method])
            raise argparse.ArgumentTypeError(f"{name!r} is not among what {method} may say: method, {known}")
        if name == "model":
            _check_draft(value)
        elif type(value) is not int or not 1 <= value <= SPECULATION_LIMITS[name]:
            limits = f"a whole number from 1 to {SPECULATION_LIMITS[name]}"
            raise argparse.ArgumentTypeError(f"{name} must be {limits}, not {json.dumps(value)}")
    try:
        return SpeculationConfig(method=method, **given)
    except BadRequest as error:
        raise argparse.ArgumentTypeError(error.message) from None


def _check_draft(model: object) -> None:
    if not isinstance(model, str) or not model:
        raise argparse.ArgumentTypeError(f"model must be a folder or a hub id, not {json.dumps(model)}")
    if not given_folder(model).is_dir() and not is_hub_id(model):
        raise argparse.ArgumentTypeError(f"model: there is no folder {model!r}, and no hub id is written so")


def host(text: str) -> str:
    """The name of a host in lower case. Refuses a URL, a port or a wildcard, which no host equals."""
    name = text.strip().lower()
    if not re.fullmatch(r"[^\s/:*,@]+|\[[0-9a-f:.]+\]", name):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a host, like upload.wikimedia.org")
    return name.strip("[]")


def origins(text: str) -> list[str]:
    """Origins of web pages as browsers send them: one, or a JSON list as vLLM takes it."""
    try:
        given = json.loads(text) if text.lstrip().startswith("[") else [text]
        return [clean_origin(origin) for origin in given]
    except (ValueError, TypeError, AttributeError):
        raise argparse.ArgumentTypeError(f"{text!r} is not an origin like https://example.org:8443") from None


def clean_origin(text: str) -> str:
    """An origin as browsers send it: "HTTP://Example.org:80/" -> "http://example.org". "*" is any.

    Raises ValueError for what is no origin, "null" included: every sandboxed page has that one.
    """
    if text == "*":
        return text
    url = urlsplit(text.strip())
    has_more = url.path not in ("", "/") or url.query or url.fragment or "@" in url.netloc
    if not url.scheme or not url.hostname or has_more:
        raise ValueError(text)
    default_port = {"http": 80, "https": 443}.get(url.scheme)
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname.encode("idna").decode()
    return f"{url.scheme}://{host}" + (f":{url.port}" if url.port not in (None, default_port) else "")


def key_file(text: str) -> list[str]:
    """The lines of a file that hold something, comments apart."""
    try:
        lines = [line.strip() for line in given_folder(text).read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        no_text = "it is no text" if isinstance(error, UnicodeDecodeError) else str(error)
        reason = getattr(error, "strerror", None) or no_text
        raise argparse.ArgumentTypeError(f"cannot read {text!r}: {reason}") from None
    if not (keys := [line for line in lines if line and not line.startswith("#")]):
        raise argparse.ArgumentTypeError(f"there is no key in {text!r}")
    return keys


def file_to_write(text: str) -> Path:
    """A file in a folder that exists, so that a long run does not fail at its end."""
    path = given_folder(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file in a folder that exists")
    return path


def folder(text: str) -> Path:
    """A folder that exists."""
    path = given_folder(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text!r}")
    return path.resolve()


def new_folder(text: str) -> Path:
    """A folder that exists, or can be made."""
    path = given_folder(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a file, not a folder")
    return path.resolve()


def no_kv_connector(text: str) -> None:
    """Refuses any text: vLLM's option for KV connectors has no counterpart here."""
    raise argparse.ArgumentTypeError(
        "there are no KV connectors here, as the engine is one process; to keep KV on disk, use --cache-dir FOLDER"
    )


def _number(text: str, low: float, high: float = float("inf"), *, open_low: bool = False) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not (low < value <= high if open_low else low <= value <= high) or value == float("inf"):
        limits = f"more than {low:g}" if open_low else f"at least {low:g}"
        raise argparse.ArgumentTypeError(
            f"{text} must be {limits}" + (f" and at most {high:g}" if high < float("inf") else "")
        )
    return value


def _whole(text: str, low: int, high: float = float("inf")) -> int:
    if not re.fullmatch(r"[+-]?\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(_number(text, low, high))


def add_numbers(group: argparse._ArgumentGroup, numbers: dict[str, tuple[int, str]]) -> None:
    """Options that take a whole number of at least 1: name -> (default, help)."""
    for name, (default, text) in numbers.items():
        group.add_argument(name, metavar="N", type=positive, default=default, help=f"{text} (default: %(default)s)")
