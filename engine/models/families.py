"""The families table: what each model_type can take and how it runs. One row each; pure data.

A model_type without a row is tried as a plain causal model that batches, and shown one picture at a time if it sees;
text families need a row only if they differ.
For people: engine.models.families_table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True)
class Family:
    """name: what people call it.
    native_video: the processor takes clips; else frames go in as labelled pictures.
    images_per_prompt: None is no limit of the model's own.
    audios_per_prompt: the same for sounds; 0 for a family that does not hear.
    max_sound_s: what its processor cuts off in silence; here a longer sound is refused. min_sound_s: of less it would
    hear nothing, and that is refused, too.
    one_kind: mlx-vlm encodes only the pictures of a prompt that has pictures and clips, and loses the clips; they are
    encoded in a pass of their own then.
    packed: its vision tower takes patches of all media with one grid each, so features can be kept by picture and by
    pair of frames.
    encodes_apart: mlx-vlm lets the pictures of a prompt from the third on see each other; each is encoded in a call of
    its own then.
    one_by_one: mlx-vlm encodes its pictures in small slices, one after another: however many, they take little memory
    at once.
    open_tiles: mlx-vlm reads on past the end of the tiles by picture; zeros must lie there.
    no_padding: transformers' image processor refuses the padding argument that mlx-vlm passes to it.
    image_token: the placeholder of pictures where config.json does not name it: its text, or the id itself.
    marker: text that stands for a picture in the prompt without being its placeholder, so that no user may write it.
    audio_token: the placeholder of sounds, the same way. sound_marker: what stands for a sound in a message where the
    template knows texts only, and no user may write it.
    numbered: the prompt names its pictures <|image_1|>, <|image_2|> in their order, and its processor has another
    placeholder for each.
    own_positions: only what encodes its pictures knows their positions: they are encoded again where all are reused.
    plain_positions: its decoder has the three axes of M-RoPE, and every token the same position on all of them.
    expands: how the model itself makes one placeholder into many ("fixed": config's num_image_tokens; "tiles": a block
    for each tile, then as many of newlines; "patches": one for each patch), so that the prompt's ids must follow
    (engine.prompt.expand).
    whole_prompt: tokens of the prompt see what lies behind them: the prompt is computed in one pass, and nothing of it
    can serve another prompt.
    shares_kv: its last layers look at the KV of earlier ones, and mlx-vlm takes their queries for later ones than they
    are.
    unscaled: mlx-vlm leaves out the scale of a text's embeddings where it puts in pictures.
    encodes: an encoder reads the prompt, and a decoder writes the answer from what it made of it.
    both_ways: the tokens of a picture see each other in both directions, where the checkpoint says so: a prompt with
    pictures is computed in one pass, and nothing of it can serve another prompt. Not where it has sounds, too.
    looks_across: some layers of its decoder look at the picture instead of the text. They keep no KV, and want the
    picture's features at every step.
    snapshots: stored as row snapshots, for its KV cannot be cut in blocks (sliding windows, state-space layers); told
    here for people, at run time the layers themselves are asked.
    serial: rows decode one at a time, because the family's attention cannot take a batch's mask.
    tested: a tiny model of it is among the tests. note: what people should know.
    refused: why this engine cannot run the family, in plain words; empty when it can.
    """

    name: str = ""
    native_video: bool = False
    images_per_prompt: int | None = None
    audios_per_prompt: int | None = 0
    max_sound_s: float | None = None
    min_sound_s: float = 0.0
    one_kind: bool = False
    packed: bool = False
    encodes_apart: bool = False
    one_by_one: bool = False
    open_tiles: bool = False
    no_padding: bool = False
    image_token: str | int = ""
    marker: str = ""
    audio_token: str = ""
    sound_marker: str = ""
    numbered: bool = False
    own_positions: bool = False
    plain_positions: bool = False
    expands: Literal["", "fixed", "tiles", "patches"] = ""
    whole_prompt: bool = False
    shares_kv: bool = False
    unscaled: bool = False
    encodes: bool = False
    both_ways: bool = False
    looks_across: bool = False
    snapshots: bool = False
    serial: bool = False
    tested: bool = True
    note: str = ""
    refused: str = ""


_QWEN = Family(native_video=True, packed=True)
_QWEN_ONE_KIND = Family(native_video=True, packed=True, one_kind=True)
_FIXED = "mlx-vlm reads its pictures at its own settings, not the checkpoint's"

FAMILIES: dict[str, Family] = {
    "qwen2_vl": replace(_QWEN_ONE_KIND, name="Qwen2-VL"),
    "qwen2_5_vl": replace(_QWEN_ONE_KIND, name="Qwen2.5-VL"),
    "qwen3_vl": replace(_QWEN, name="Qwen3-VL"),
    "qwen3_vl_moe": replace(_QWEN_ONE_KIND, name="Qwen3-VL MoE"),
    "qwen3_5": replace(_QWEN_ONE_KIND, name="Qwen3.5", snapshots=True),
    "qwen3_5_moe": replace(_QWEN_ONE_KIND, name="Qwen3.5 MoE", snapshots=True, tested=False),
    "gemma3": Family("Gemma 3", snapshots=True),
    "gemma4": Family(
        "Gemma 4",
        native_video=True,
        audios_per_prompt=None,
        max_sound_s=30.0,
        snapshots=True,
        note="where use_bidirectional_attention is vision, the tokens of a picture see each other, and prompts with "
        "pictures are not kept",
    ),
    "gemma4_unified": Family(
        "Gemma 4 unified",
        native_video=True,
        audios_per_prompt=None,
        max_sound_s=30.0,
        both_ways=True,
        snapshots=True,
        note="the tokens of a picture see each other, and prompts with pictures are not kept; beside a sound they are "
        "read from left to right, and kept",
    ),
    "idefics2": Family("Idefics 2"),
    "idefics3": Family("Idefics 3"),
    "smolvlm": Family("SmolVLM"),
    "pixtral": Family("Pixtral"),
    "mistral3": Family("Mistral Small 3, Ministral 3"),
    "internvl": Family("InternVL", marker="<image>"),
    "internvl_chat": Family("InternVL, as first published", image_token="<IMG_CONTEXT>", marker="<image>"),
    "lfm2_vl": Family("LFM2-VL", snapshots=True),
    "glm4v": Family(
        "GLM-4V, GLM-4.1V, GLM-4.6V Flash",
        encodes_apart=True,
        note="mlx-vlm alone mixes the pictures of a prompt from the third on",
    ),
    "glm4v_moe": Family("GLM-4.5V, GLM-4.6V"),
    "paddleocr_vl": Family("PaddleOCR-VL", images_per_prompt=1, note="reads documents"),
    "glm_ocr": Family("GLM-OCR", note="reads documents"),
    "dots_ocr": Family("dots.ocr", note="reads documents"),
    # mlx-vlm would put a second picture of a prompt into a second row, which is not there.
    "deepseekocr": Family("DeepSeek-OCR", images_per_prompt=1, note="reads documents"),
    "deepseekocr_2": Family("DeepSeek-OCR 2", images_per_prompt=1, note="reads documents"),
    "kimi_vl": Family("Kimi-VL", image_token="<|media_pad|>"),
    "molmo": Family("Molmo", images_per_prompt=1, image_token="<im_patch>"),
    "molmo2": Family("Molmo 2", image_token="<im_patch>", marker="<|image|>", note=_FIXED),
    "llava": Family("LLaVA 1.5, LLaVA-Interleave", no_padding=True),
    "llava_next": Family("LLaVA-NeXT", images_per_prompt=1, expands="tiles", note="tiles laid out as mlx-vlm does"),
    "llava_onevision": Family("LLaVA-OneVision"),
    # Its attention has no mask at all, so a batch's padding would be read.
    "paligemma": Family("PaliGemma", images_per_prompt=1, whole_prompt=True, serial=True),
    "multi_modality": Family(
        "DeepSeek-VL, Janus", images_per_prompt=1, expands="fixed", marker="<image>", note="reads pictures, draws none"
    ),
    "deepseek_vl_v2": Family(
        "DeepSeek-VL2", open_tiles=True, note="mlx-vlm alone misses some pictures: it reads past an array's end"
    ),
    "phi3_v": Family("Phi-3-Vision, Phi-3.5-Vision", image_token=-1, numbered=True),
    "phi4mm": Family(
        "Phi-4-Multimodal",
        audios_per_prompt=None,
        min_sound_s=0.03,
        image_token=-200,
        marker="<image>",
        audio_token="<|endoftext11|>",
        sound_marker="<|audio_1|>",
        expands="patches",
        note="its vision adapter is always on, as in mlx-vlm; as published, and as mlx-vlm converts it, it does not "
        "hear here, for mlx-vlm would change the weights of all requests for it; it hears where its adapters are "
        "merged into the weights and its configuration names none (`speech_lora`); mlx-vlm alone loses the second of "
        "two sounds side by side, and projects sounds beside pictures as without them",
    ),
    "gemma3n": Family(
        "Gemma 3n",
        audios_per_prompt=None,
        max_sound_s=30.0,
        min_sound_s=0.04,
        snapshots=True,
        shares_kv=True,
        unscaled=True,
        note="mlx-vlm alone misplaces tokens in its last layers, by as many as it reads at once, and reads prompts at "
        "another scale than answers; a sound of any length takes 188 tokens",
    ),
    "minicpmo": Family(
        "MiniCPM-o",
        audios_per_prompt=None,
        max_sound_s=30.0,
        min_sound_s=0.1,
        one_by_one=True,
        image_token="<unk>",
        marker="<image>",
        audio_token="<unk>",
        sound_marker="<audio>",
        plain_positions=True,
        note="mlx-vlm hears a sound as one whole, the published code in pieces of audio_chunk_length seconds",
    ),
    "minicpmv4_6": Family("MiniCPM-V 4.6", one_by_one=True, marker="<image>", snapshots=True),
    "minicpmv4_7": Family("MiniCPM-V 4.7", one_by_one=True, marker="<image>", own_positions=True, snapshots=True),
    "qwen3_omni_moe": Family(
        "Qwen3-Omni", native_video=True, audios_per_prompt=None, max_sound_s=300.0, note="answers in text only"
    ),
    "mllama": Family(
        "Llama 3.2 Vision",
        images_per_prompt=1,
        looks_across=True,
        whole_prompt=True,
        serial=True,
        note="mlx-vlm alone lets prompts without a picture pass through the layers that look at one",
    ),
    "florence2": Family(
        "Florence-2",
        images_per_prompt=1,
        encodes=True,
        whole_prompt=True,
        serial=True,
        note="takes one of its tasks as the prompt, such as `<OD>`",
    ),
    # Block-sparse attention that builds its own mask for one row.
    "phi3small": Family("Phi-3-small", serial=True, tested=False, note="text only"),
    "ultravox": Family("Ultravox", refused="mlx-vlm has no implementation of it"),
}


GROUPED_SCORES = frozenset({"gemma2"})
"""Language models that compute attention scores by hand as (rows, kv_heads, group, queries, keys), one axis more than
a batch's mask has: without that axis they fail in a batch, or take another row's mask where the sizes happen to fit."""


UNKNOWN = Family(images_per_prompt=1, tested=False)
"""A model_type without a row: one picture at a time, for mlx-vlm's own way of several is often wrong."""


def family(model_type: str) -> Family:
    """The row of a model_type, or UNKNOWN. Old checkpoints of LFM2-VL spell theirs with a hyphen."""
    return FAMILIES.get(model_type.replace("-", "_"), UNKNOWN)
