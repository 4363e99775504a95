"""Searching the hub for models that this engine reads. Blocks; raises the hub client's errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.utils import get_session

from engine.inventory.checkpoint_facts import modalities
from engine.models.families import FAMILIES, family
from engine.models.safetensors_files import ITEM_BYTES
from engine.types import Kind

MAX_HITS = 24
_REACH_S = 6.0
_EXPAND = ("safetensors", "config", "downloads", "likes", "gated", "library_name", "pipeline_tag")


@dataclass(frozen=True, slots=True)
class HubModel:
    """One hit. weight_bytes: by the hub's count of numbers by type; 0 where it has none. is_gated: its terms must be
    accepted first. downloads: of the last 30 days. refused: why this engine cannot run its family, "" when it can."""

    repo: str
    model_type: str = ""
    family_name: str = ""
    modalities: tuple[Kind, ...] = ()
    weight_bytes: int = 0
    downloads: int = 0
    likes: int = 0
    is_gated: bool = False
    is_mlx: bool = False
    refused: str = ""


def search(api: HfApi, words: str, *, only_mlx: bool = False, limit: int = MAX_HITS) -> tuple[HubModel, ...]:
    """Models with safetensors weights whose name has these words, the most downloaded first.

    only_mlx: those alone that were made for MLX, which are the quantized ones that run well here.
    """
    # list_models tries again and again for half a minute where nobody answers; who searches wants to know at once.
    get_session().head(api.endpoint, timeout=_REACH_S)
    tags = ["safetensors", *(["mlx"] if only_mlx else [])]
    found = api.list_models(
        search=words.strip()[:200] or None,
        filter=tags,
        sort="downloads",
        limit=limit,
        expand=list(_EXPAND),  # type: ignore[arg-type]
    )
    return tuple(_hit(info) for info, _ in zip(found, range(limit), strict=False))


def _hit(info: Any) -> HubModel:
    config: dict[str, Any] = info.config if isinstance(info.config, dict) else {}
    model_type = str(config.get("model_type") or "")[:64]
    counts = info.safetensors.parameters if info.safetensors else {}
    row = family(model_type)
    kinds: tuple[Kind, ...] = ()
    if info.pipeline_tag in ("image-text-to-text", "any-to-any", "video-text-to-text", "visual-question-answering"):
        heard = {"audio_config": True} if row.audios_per_prompt != 0 and model_type in FAMILIES else {}
        kinds = modalities({"model_type": model_type, "vision_config": True} | heard, sees=True)
    return HubModel(
        repo=str(info.id),
        model_type=model_type,
        family_name=row.name,
        modalities=kinds,
        weight_bytes=sum(ITEM_BYTES.get(dtype, 2) * int(number) for dtype, number in counts.items()),
        downloads=int(info.downloads or 0),
        likes=int(info.likes or 0),
        is_gated=bool(info.gated),
        is_mlx=info.library_name == "mlx",
        refused=row.refused,
    )
