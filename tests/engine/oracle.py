"""What the stock libraries say about a checkpoint, alone, un-batched and un-chunked: the truth the engine is held to.

Three ways to disagree with the engine, from blunt to fine:
    prompt       the template's text through the stock processor: the same token ids?
    greedy       mlx_vlm.stream_generate or mlx_lm.stream_generate: the same tokens?
    regrets      the stock generator led along the engine's answer: how far is each token below the best one?

Why regrets: a batch sums in another order than a single row, so bfloat16 logits differ in their last bits, and where
the two best are that near each other either token is right; everything after it then differs. Such a near tie is told
from a fault by its size: `TIE` is a few rounding steps of the dtype, while a token of a wrong row, a wrong picture or a
wrong position is one to several whole units below the best (the logits of the tiny models spread over some 10).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from engine.config import MediaLimits
from engine.media.read_medium import load_media
from engine.models.families import family
from engine.models.gemma3n import place_queries
from engine.models.loading import WithoutPadding, own_placeholder
from engine.models.vision_tower import ApartVisionTower
from engine.types import FrameSampling, Message
from engine.types.media import Media

Sampler = Callable[[mx.array], mx.array]
TIE = {"float32": 0.002, "bfloat16": 0.25, "4bit": 0.25}


def _end_tiles(model: Any) -> None:
    """Zeros behind the last picture's tiles: as installed, the stock library reads on past the end of the array, and
    sees the picture or not by what lies there."""
    read = model.get_input_embeddings

    def ended(*args: Any, images_spatial_crop: Any = None, **settings: Any) -> Any:
        if images_spatial_crop is not None:
            images_spatial_crop = mx.pad(mx.array(images_spatial_crop), ((0, 0), (0, 64), (0, 0)))
        return read(*args, images_spatial_crop=images_spatial_crop, **settings)

    model.get_input_embeddings = ended


def _scale_texts(model: Any) -> None:
    """Gemma 3n's embeddings of texts in a prompt, as its decoder makes those of an answer."""
    read = model.get_input_embeddings

    def scaled(input_ids: mx.array, *args: Any, **settings: Any) -> Any:
        found = read(input_ids, *args, **settings)
        scale = mx.where(input_ids < model.embed_vision.vocab_offset, model.language_model.model.hidden_size**0.5, 1.0)
        found.inputs_embeds = found.inputs_embeds * scale[..., None].astype(found.inputs_embeds.dtype)
        return found

    model.get_input_embeddings = scaled


def _shut_eyes(decoder: Any) -> None:
    """Leave out the layers that look at a picture where there is none: as installed, they look at the text instead."""
    layers, places = decoder.layers, frozenset(decoder.config.cross_attention_layers)

    class Decoder(type(decoder)):
        def __call__(self, *args: Any, cross_attention_states: Any = None, cache: Any = None, **settings: Any) -> Any:
            if cross_attention_states is not None:
                return super().__call__(*args, cross_attention_states=cross_attention_states, cache=cache, **settings)
            kept = [place for place in range(len(layers)) if place not in places]
            self.layers, self.config.cross_attention_layers = [layers[place] for place in kept], []
            try:
                return super().__call__(*args, cache=[cache[place] for place in kept], **settings)
            finally:
                self.layers, self.config.cross_attention_layers = layers, sorted(places)

    decoder.__class__ = Decoder


@dataclass
class Oracle:
    """A checkpoint as the stock library loads it. processor is None for a text model."""

    model: Any
    processor: Any
    tokenizer: Any

    @classmethod
    def load(cls, folder: Path, *, vision: bool, adapter: Path | None = None) -> Oracle:
        adapter_path = str(adapter) if adapter else None
        if vision:
            import mlx_vlm

            model, processor = mlx_vlm.load(str(folder), adapter_path=adapter_path)
            if family(model.config.model_type).no_padding:
                # As installed, the stock library cannot show this family a picture at all.
                processor.image_processor = WithoutPadding(processor.image_processor)
            own_placeholder(processor)
            if model.config.model_type == "deepseek_vl_v2":
                _end_tiles(model)
            if family(model.config.model_type).encodes_apart:
                # As installed, its tower lets the pictures from the third on see each other.
                model.vision_tower = ApartVisionTower(model.vision_tower)
            if family(model.config.model_type).shares_kv:
                # As installed, its last layers turn queries by the end of the chunk, and prompts are not scaled.
                place_queries(model.language_model.layers)
                _scale_texts(model)
            if family(model.config.model_type).looks_across:
                _shut_eyes(model.language_model.model)
            if not hasattr(processor, "tokenizer"):
                # The same: a bare tokenizer with an image processor, which its generator does not expect.
                processor.tokenizer = processor
            return cls(model, processor, processor.tokenizer)
        import mlx_lm

        model, tokenizer = mlx_lm.load(str(folder), adapter_path=adapter_path)[:2]
        return cls(model, None, tokenizer)

    def template(self, messages: Sequence[Message], *, native_video: bool = False) -> tuple[str, list[Media]]:
        """The chat template's text and the decoded media, in order. Written anew here, not taken from the engine."""
        media: list[Media] = []
        rendered = []
        for message in messages:
            content: list[dict[str, str]] = []
            for part in message.parts:
                if part.kind == "text":
                    content.append({"type": "text", "text": part.text})
                    continue
                media.append(load_media(part, MediaLimits(), FrameSampling()))
                if part.kind != "video" or native_video:
                    content.append({"type": part.kind})
                    continue
                for _, time_s in media[-1].frames:
                    content += [{"type": "text", "text": f"Frame at {time_s:.1f} s:"}, {"type": "image"}]
            rendered.append({"role": message.role, "content": content})
        text = self.tokenizer.apply_chat_template(rendered, tokenize=False, add_generation_prompt=True)
        first, *rest = text.split("<|image_1|>")  # of Phi-3-Vision; our templates count no further
        return first + "".join(f"<|image_{number}|>{words}" for number, words in enumerate(rest, start=1)), media

    def prompt(self, messages: Sequence[Message], *, native_video: bool = False) -> list[int]:
        """The prompt's token ids from the stock processor, placeholders expanded."""
        text, media = self.template(messages, native_video=native_video)
        if self.processor is None:
            return self.tokenizer.encode(text, add_special_tokens=False)
        from mlx_vlm.utils import prepare_inputs

        arguments = clips(media, native_video=native_video)
        inputs = prepare_inputs(
            self.processor,
            images=pictures(media, native_video=native_video) or None,
            videos=arguments.get("video"),
            video_metadata=arguments.get("video_metadata"),
            audio=sounds(media) or None,
            prompts=text,
            image_token_index=getattr(self.model.config, "image_token_index", None),
        )
        return np.array(inputs["input_ids"]).reshape(-1).tolist()

    def greedy(self, messages: Sequence[Message], max_tokens: int, *, native_video: bool = False) -> list[int]:
        """Tokens of the stock single-request generator, the best one at each step."""
        return self._run(messages, lambda logprobs: mx.argmax(logprobs, axis=-1), max_tokens, native_video)

    def regrets(self, messages: Sequence[Message], tokens: Sequence[int], *, native_video: bool = False) -> list[float]:
        """Best logit minus the chosen token's at each step, when the stock generator is led along this answer."""
        found: list[mx.array] = []

        def follow(logprobs: mx.array) -> mx.array:
            # The generators run a step or two ahead of what they hand out.
            token = tokens[min(len(found), len(tokens) - 1)]
            found.append(logprobs.astype(mx.float32).max() - logprobs[0, token].astype(mx.float32))
            return mx.array([token])

        self._run(messages, follow, len(tokens), native_video)
        return [float(regret.item()) for regret in found[: len(tokens)]]

    def _run(self, messages: Sequence[Message], sampler: Sampler, max_tokens: int, native_video: bool) -> list[int]:
        text, media = self.template(messages, native_video=native_video)
        if self.processor is None:
            import mlx_lm

            ids = self.tokenizer.encode(text, add_special_tokens=False)
            stream = mlx_lm.stream_generate(self.model, self.tokenizer, ids, max_tokens=max_tokens, sampler=sampler)
        else:
            import mlx_vlm

            stream = mlx_vlm.stream_generate(
                self.model,
                self.processor,
                text,
                image=pictures(media, native_video=native_video) or None,
                audio=sounds(media) or None,
                max_tokens=max_tokens,
                sampler=sampler,
                **clips(media, native_video=native_video),
            )
        tokens: list[int] = []
        for response in stream:
            # The last response repeats the token before it, with the finish reason.
            if len(tokens) < response.generation_tokens:
                tokens.append(int(response.token))
        return tokens


def clips(media: Sequence[Media], *, native_video: bool) -> dict[str, Any]:
    """The stock generator's arguments for native clips: frames as (T, C, H, W) and where they come from."""
    found = [medium for medium in media if medium.kind == "video" and native_video]
    if not found:
        return {}
    return {
        "video": [np.transpose(clip.pixels, (0, 3, 1, 2)) for clip in found],
        "video_metadata": [
            {
                "total_num_frames": clip.num_source_frames,
                "fps": clip.source_fps,
                "frames_indices": [index for index, _ in clip.frames],
            }
            for clip in found
        ],
    }


def pictures(media: Sequence[Media], *, native_video: bool) -> list[Any]:
    """PIL images in order; the frames of a clip too where the family has no video of its own."""
    from PIL import Image

    out = []
    for medium in media:
        if medium.kind == "image":
            out.append(Image.fromarray(medium.pixels))
        elif medium.kind == "video" and not native_video:
            out += [Image.fromarray(frame) for frame in medium.pixels]
    return out


def sounds(media: Sequence[Media]) -> list[Any]:
    """Samples of the sounds, which must be at the processor's own 16 kHz."""
    found = [medium for medium in media if medium.kind == "audio"]
    assert all(sound.sample_hz == 16_000 for sound in found)
    return [sound.samples for sound in found]
