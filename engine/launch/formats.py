"""Text of a settings file <-> a document of mappings and lists, keeping comments and the order of what is there.

JSON has no comments; a file that has some (JSONC) is refused, as they would be lost.
"""

from __future__ import annotations

import io
import json
import re
from typing import Any

from engine.errors import BadRequest
from engine.launch.recipe import SettingsFormat

BOM = "\ufeff"
ENV_LINE = re.compile(r"([A-Za-z_]\w*)=(.*)")
WIDE = 10_000


def parse(text: str, form: SettingsFormat) -> Any:
    """The document; an empty one is None. Raises BadRequest with the reason when it cannot be read without loss."""
    text = text.removeprefix(BOM)
    if not text.strip():
        return None
    try:
        return {"json": _parse_json, "toml": _parse_toml, "yaml": _parse_yaml, "env": _parse_env}[form](text)
    except ValueError as error:
        raise BadRequest(f"it cannot be read as {form.upper()}: {str(error).splitlines()[0]}") from error


def dump(document: Any, form: SettingsFormat, like: str) -> str:
    """The document as text, in the manner of the text that it came from (indent, line ends, byte order mark)."""
    write = {"json": _dump_json, "toml": _dump_toml, "yaml": _dump_yaml, "env": _dump_env}[form]
    text = write(document, like.removeprefix(BOM))
    if "\r\n" in like:
        text = text.replace("\r\n", "\n").replace("\n", "\r\n")
    return (BOM if like.startswith(BOM) else "") + text


def empty(form: SettingsFormat, is_list: bool) -> Any:
    """A document to begin with."""
    if form == "toml":
        import tomlkit

        return tomlkit.document()
    return [] if is_list else {}


def _parse_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} stands there twice")
    return dict(pairs)


def _dump_json(document: Any, like: str) -> str:
    indent = re.search(r"\n([ \t]+)\S", like)
    text = json.dumps(document, ensure_ascii=False, indent=indent[1] if indent else 2)
    return text if like and not like.endswith("\n") else text + "\n"


def _parse_toml(text: str) -> Any:
    import tomlkit

    return tomlkit.parse(text)


def _dump_toml(document: Any, like: str) -> str:
    import tomlkit

    return tomlkit.dumps(document)


def _yaml(like: str) -> Any:
    """A reader and writer that keeps comments, quotes and, as far as it can be told, the indent."""
    from ruamel.yaml import YAML
    from ruamel.yaml.util import load_yaml_guess_indent

    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = WIDE
    _, sequence, offset = load_yaml_guess_indent(like) if like.strip() else (None, None, None)
    if sequence is not None and offset is not None:
        yaml.indent(mapping=2, sequence=sequence, offset=offset)
    return yaml


def _parse_yaml(text: str) -> Any:
    from ruamel.yaml.error import YAMLError

    try:
        return _yaml(text).load(text)
    except YAMLError as error:
        raise ValueError(str(error)) from error


def _dump_yaml(document: Any, like: str) -> str:
    out = io.StringIO()
    _yaml(like).dump(document, out)
    return out.getvalue()


def _parse_env(text: str) -> dict[str, str]:
    """NAME=VALUE, one a line. Whatever else a line holds is kept under its number."""
    document: dict[str, str] = {}
    for number, line in enumerate(text.splitlines()):
        match = ENV_LINE.fullmatch(line.strip())
        document[match[1] if match else f"#{number}"] = match[2] if match else line
    return document


def _dump_env(document: dict[str, str], like: str) -> str:
    lines = [value if name.startswith("#") else f"{name}={value}" for name, value in document.items()]
    return "\n".join(lines) + "\n"
