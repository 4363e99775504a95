"""modules.json in a model's folder: what is made of the texts that the model reads. Pure; any thread.

The files are those of sentence-transformers (6.2: base/model.py, modules/pooling.py, cross_encoder/modules), by which
the field marks such models:

    Transformer ── Pooling ── Normalize     a vector of each text: an embedding
    Transformer ── LogitScore               how well a document answers a query: one token's logit less another's

Other modules (Dense, a second pooling) have weights that are not loaded here, so such a model gives neither. A model
that attends to what is behind a token is read by MLX as if it did not, and gives neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from engine.models.json_files import part, read_optional, whole

FILE = "modules.json"
Pooling = Literal["lasttoken", "mean", "cls"]
_LEGACY = {"lasttoken": "pooling_mode_lasttoken", "mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}
"""How files before version 5.4 say it: a flag for each mode."""

_OTHER_LEGACY = ("pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens")
_PLAIN = frozenset(("Transformer", "Normalize"))
_BERT = "sentence_bert_config"
_NOT_OF_TEMPLATES = frozenset(("restore_suffix", "truncation", "max_length", "padding", "tokenize", "return_dict"))
"""What sentence-transformers itself reads among the settings of a template."""


@dataclass(frozen=True, slots=True)
class TextModules:
    """pooling: which hidden states make a text's vector; None where none does; width: how many
    numbers it has. tokens: the ids whose logits are
    compared behind a query and its document; None where none are. prompts: texts that may stand before one, by name;
    default_prompt: the name of that which does. max_tokens: of a text; None for no limit but the model's.
    template_settings: what the chat template that writes a query and a document is given. why_not: why the model gives
    neither vectors nor scores."""

    pooling: Pooling | None = None
    width: int = 0
    tokens: tuple[int, int] | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    max_tokens: int | None = None
    template_settings: Mapping[str, Any] = field(default_factory=dict)
    why_not: str = ""

    @classmethod
    def read(cls, folder: Path, config: Mapping[str, Any]) -> TextModules:
        """Those of a model's folder. config: its config.json."""
        try:
            return _read(folder, config)
        except ValueError as e:
            return cls(why_not=str(e))


def _read(folder: Path, config: Mapping[str, Any]) -> TextModules:
    modules = _modules(folder)
    if _sees_what_follows(config):
        raise ValueError("its tokens see those behind them, which is not computed here")
    (kind, path), *others = [module for module in modules if module[0] not in _PLAIN] or [("", "")]
    settings = read_optional(folder / path / "config.json") if kind and _is_inside(path) else {}
    about, limits = (read_optional(folder / f"{name}.json") for name in ("config_sentence_transformers", _BERT))
    if others or kind not in ("Pooling", "LogitScore"):
        named = ", ".join(name for name, _ in modules)
        raise ValueError(f"{FILE} lists {named}; read are Transformer with Pooling, or with LogitScore")
    prompts = {str(name): text for name, text in part(about, "prompts").items() if isinstance(text, str) and text}
    found: dict[str, Any] = {"prompts": prompts, "default_prompt": _default_prompt(about, prompts)}
    found["max_tokens"] = whole(limits, "max_seq_length") or None
    if kind == "LogitScore":
        asked = part(part(limits, "processing_kwargs"), "chat_template")
        given = {name: value for name, value in asked.items() if name not in _NOT_OF_TEMPLATES}
        return TextModules(tokens=_tokens(settings), template_settings=given, **found)
    if "message" in part(limits, "modality_config"):
        raise ValueError("it makes vectors of what its chat template writes, which is not done here")
    pooling = _pooling(settings, bool(prompts))
    width = whole(settings, "embedding_dimension", "word_embedding_dimension") or whole(dict(config), "hidden_size")
    if not width:
        raise ValueError("nothing says how many numbers its vectors have")
    return TextModules(pooling=pooling, width=width, **found)


def _modules(folder: Path) -> list[tuple[str, str]]:
    """(kind, folder) of each, in their order."""
    path = folder / FILE
    if not path.is_file():
        raise ValueError(f"its folder has no {FILE}, which would say how")
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        return [(str(module["type"]).rpartition(".")[2], str(module["path"])) for module in listed]
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        raise ValueError(f"its {FILE} cannot be read") from None


def _is_inside(path: str) -> bool:
    return path == Path(path).name


def _sees_what_follows(config: Mapping[str, Any]) -> bool:
    is_bidirectional = bool(config.get("use_bidirectional_attention")) or "bidirec" in str(config.get("model_type"))
    return is_bidirectional or config.get("is_causal") is False


def _pooling(settings: Mapping[str, Any], has_prompts: bool) -> Pooling:
    mode = settings.get("pooling_mode")
    modes = [mode] if isinstance(mode, str) else mode if isinstance(mode, list) else _legacy_modes(settings)
    pooling: Pooling | None = next((mode for mode in get_args(Pooling) if modes == [mode]), None)
    if pooling is None:
        said = " with ".join(map(str, modes)) or "not said"
        raise ValueError(f"its pooling is {said}; read are lasttoken, mean and cls")
    if has_prompts and settings.get("include_prompt") is False and pooling != "lasttoken":
        raise ValueError("its pooling leaves out its prompts, which is not done here")
    return pooling


def _legacy_modes(settings: Mapping[str, Any]) -> list[str]:
    names = {**{name: mode for mode, name in _LEGACY.items()}, **{name: name for name in _OTHER_LEGACY}}
    return [mode for name, mode in names.items() if settings.get(name) is True]


def _tokens(settings: Mapping[str, Any]) -> tuple[int, int]:
    ids: Sequence[Any] = (settings.get("true_token_id"), settings.get("false_token_id"))
    if not all(isinstance(token, int) and not isinstance(token, bool) and token >= 0 for token in ids):
        raise ValueError("its LogitScore compares no two tokens")
    return ids[0], ids[1]


def _default_prompt(about: Mapping[str, Any], prompts: Mapping[str, str]) -> str | None:
    name = about.get("default_prompt_name")
    return name if isinstance(name, str) and name in prompts else None
