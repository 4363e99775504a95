"""Tiny random models whose folders say, as sentence-transformers does, that their texts become vectors or scores."""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

END = "<|endoftext|>"
PAIR_TEMPLATE = (
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TYPED_TEMPLATE = PAIR_TEMPLATE.replace("m.content", "m.content[0].text")
BLIND_TEMPLATE = "{{ messages[-1].content }}"
QUERY_PROMPT = "Instruct: find what answers it\nQuery:"


def embedder(plain: Path, out_dir: Path, pooling: str = "lasttoken", **settings: Any) -> Path:
    """A copy of a text model that makes vectors. Its tokenizer ends each text with a token, as Qwen3-Embedding's.
    settings: more of its Pooling."""
    folder = _copied(plain, out_dir, f"embedder-{plain.name}-{pooling}-{'-'.join(map(str, settings.values()))}")
    width = json.loads((folder / "config.json").read_text())["hidden_size"]
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    _write(folder / "modules.json", [_module(path, f"models.{kind}") for path, kind in kinds])
    mode = {"word_embedding_dimension": width, "pooling_mode": pooling}
    _write(folder / "1_Pooling" / "config.json", {**mode, **settings})
    _write(folder / "config_sentence_transformers.json", {"prompts": {"query": QUERY_PROMPT, "document": ""}})
    return folder


def ranker(plain: Path, out_dir: Path, template: str = PAIR_TEMPLATE) -> Path:
    """A copy of a text model that says how well a document answers a query."""
    folder = _copied(plain, out_dir, f"ranker-{plain.name}-{zlib.crc32(template.encode())}")
    kinds = (("", "base.modules.transformer.Transformer"), ("1_LogitScore", "cross_encoder.modules.LogitScore"))
    _write(folder / "modules.json", [_module(*kind) for kind in kinds])
    _write(folder / "1_LogitScore" / "config.json", {"true_token_id": 300, "false_token_id": 301})
    settings = {"chat_template": {"add_generation_prompt": True}}
    _write(folder / "sentence_bert_config.json", {"processing_kwargs": settings})
    (folder / "chat_template.jinja").write_text(template)
    return folder


def _copied(plain: Path, out_dir: Path, name: str) -> Path:
    folder = out_dir / name
    if not folder.exists():
        shutil.copytree(plain, folder)
        path = folder / "tokenizer.json"
        tokenizer = json.loads(path.read_text())
        end = next(token["id"] for token in tokenizer["added_tokens"] if token["content"] == END)
        tokenizer["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": END, "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {END: {"id": END, "ids": [end], "tokens": [END]}},
        }
        path.write_text(json.dumps(tokenizer))
    return folder


def _module(path: str, kind: str) -> dict[str, str]:
    return {"path": path, "type": f"sentence_transformers.{kind}"}


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
