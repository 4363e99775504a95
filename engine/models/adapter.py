"""One calling convention for text models (mlx-lm) and vision models (mlx-vlm). Engine thread only.

mlx-lm's batcher calls `model(ids, cache=...)` and knows nothing of pictures. Two things make mlx-vlm's models fit:

    prefill   one row at a time, with its own un-batched KV list: embeddings, M-RoPE positions and deepstack features
              of the whole prompt are computed once and cut to each chunk
    decode    many rows in mlx-lm's batch; the only multimodal state left is the row's M-RoPE delta, which travels in
              a pseudo cache layer (RowState) through the batcher's merge, filter and extend
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any

import mlx.core as mx
import numpy as np

from engine.cache import tensors
from engine.cache.features import FeatureStore
from engine.cache.row_state import RowState
from engine.errors import BadRequest
from engine.models.cross_attention import FEATURES, Across
from engine.models.embeddings import Embeddings, Encoding
from engine.models.encoder_decoder import EncoderDecoder
from engine.models.families import GROUPED_SCORES, Family
from engine.models.gemma3n import corrected, place_queries
from engine.models.head import use_last_token_head
from engine.models.interleave import interleave
from engine.models.mirror import Mirror
from engine.models.remaining_media import media_from
from engine.models.rope_shifts import RopeShifts
from engine.models.vision_tower import ApartVisionTower, CachedVisionTower
from engine.types.prompt import Prompt

# State that a decode step would need again and the batch cannot carry.
_UNBATCHABLE = ("cross_attention_states", "decoder_inputs_embeds")


class GroupedMask:
    """A cache layer during one forward pass, whose mask (rows, 1, queries, keys) gets an axis for the group."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def make_mask(self, *args: Any, **settings: Any) -> Any:
        mask = self._layer.make_mask(*args, **settings)
        return mask[:, :, None] if isinstance(mask, mx.array) and mask.ndim == 4 else mask


def _ended(crops: Any, num_tiles: int) -> mx.array:
    """Tiles by picture (Family.open_tiles), (1, pictures, 2) ints, as (1, num_tiles, 2) with zeros behind the last.

    mlx-vlm looks for them there, past the array's end, and by what it finds in memory some pictures are not seen.
    """
    crops = mx.array(crops)
    return mx.pad(crops, [(0, 0), (0, max(0, num_tiles - crops.shape[1])), (0, 0)])


class Adapter:
    """A model behind the one convention. `model` is mlx-lm's or mlx-vlm's; vision says which.

    can_branch: rows can go on from other rows in one pass (engine.models.branching). mirror: tells the other processes
    that hold parts of it, of all that is done here with caches, and of every pass."""

    def __init__(self, model: Any, vision: bool, family: Family, mirror: Mirror | None = None) -> None:
        self.model = model
        self._mirror = mirror
        self._one_kind = family.one_kind
        self._packed = family.packed
        self._whole_prompt = family.whole_prompt
        self.serial = family.serial
        self._open_tiles = family.open_tiles
        self._own_positions = family.own_positions
        self._plain_positions = family.plain_positions
        self._both_ways = family.both_ways
        self._lm = model.language_model if vision and hasattr(model, "language_model") else model
        self._mrope = vision and hasattr(self._lm, "_rope_deltas")
        self._grouped_scores = getattr(self._lm, "model_type", "") in GROUPED_SCORES
        self.vision = vision
        if vision and family.encodes_apart:
            model.vision_tower = ApartVisionTower(model.vision_tower)
        self._encoder_decoder = EncoderDecoder(model) if vision and family.encodes else None
        self._across = Across(self._lm) if vision and family.looks_across else None
        self._unscaled = vision and family.unscaled
        if family.shares_kv:
            place_queries(self._lm.layers)
        self._rope_shifts = RopeShifts()
        # mlx-lm's batcher asks for it when a row comes without a cache.
        self.layers = self._lm.layers if hasattr(self._lm, "layers") else self._lm.model.layers
        self._places = use_last_token_head(self._lm)
        self._places.keeps_read = mirror is not None
        self._has_last_token_head = False  # until a chunk shows it
        self.can_branch = not self.serial and tensors.is_plain(self.make_cache())

    def cache_vision_features(self, store: FeatureStore) -> bool:
        """Keep vision features in this store from now on. False when the family's tower cannot be asked by picture."""
        if not (self.vision and self._packed and hasattr(self.model, "vision_tower")):
            return False
        self.model.vision_tower = CachedVisionTower(self.model.vision_tower, store)
        return True

    @property
    def has_bounded_calls(self) -> bool:
        """Whether its vision tower reads in calls of a bounded size (MAX_PATCHES), not all of a prompt at once."""
        return isinstance(getattr(self.model, "vision_tower", None), CachedVisionTower)

    def interleave(self, rows_wait: Callable[[], bool], step: Callable[[], None]) -> int:
        """Call `step` between two layers of a vision or audio tower while rows_wait(). Returns how many layers do.

        Call once, and before `remember`, which hides the tower.
        """
        if not self.vision:
            return 0
        # Of some (Phi-3-Vision) the language model is the whole.
        return interleave(self.model, self.layers if self._lm is self.model else self._lm, rows_wait, step)

    def make_cache(self) -> list[Any]:
        """Empty KV layers for one row, plus its RowState as the last entry."""
        if self._encoder_decoder:
            return [RowState()]
        state = RowState() if self._mirror is None else self._mirror.row()
        if self.vision:
            from mlx_vlm.models.cache import make_prompt_cache
        else:
            from mlx_lm.models.cache import make_prompt_cache
        layers = make_prompt_cache(self._lm)
        return [*(self._across.own(layers) if self._across else layers), state]

    @property
    def stream(self) -> mx.Stream | None:
        """On which every pass must run; None where it does not matter. Ranks meet in one order, so of several streams
        that run side by side each pass would have to wait for the others."""
        return None if self._mirror is None else mx.default_stream(mx.default_device())

    def awaited(self) -> AbstractContextManager[None]:
        """To be held while the outcome of a pass is waited for (Mirror.awaited)."""
        return nullcontext() if self._mirror is None else self._mirror.awaited()

    def close(self) -> None:
        """The model leaves memory."""
        if self._mirror is not None:
            self._mirror.unload()

    def embed(self, prompt: Prompt, cache: list[Any], first: int = 0) -> Embeddings | None:
        """Run the vision tower over the media at or after token `first` and put them into the prompt's embeddings.

        The KV before `first` is in `cache` already, so its media are not encoded again; the row's M-RoPE delta is left
        there for decoding. None for a prompt without media.
        Raises BadRequest when the family needs state that a shared batch cannot carry.
        """
        tower = getattr(self.model, "vision_tower", None)
        uses = tower.uses if isinstance(tower, CachedVisionTower) else None
        if uses:
            uses.clear()
        started = perf_counter()
        embeddings = self._embed_prompt(prompt, first)
        if embeddings is not None:
            cache[-1].deltas = [embeddings.rope_delta]
            if self._across:
                cache[-1].again = [embeddings.only(FEATURES)]
            ms = (perf_counter() - started) * 1e3
            embeddings.encoding = Encoding(ms, None if uses is None else tuple(uses))
        return embeddings

    def _embed_prompt(self, prompt: Prompt, first: int) -> Embeddings | None:
        if not (prompt.inputs or prompt.sounds):
            return None
        if prompt.has_media_before(first):
            return self._positions_only(prompt, first)
        assert prompt.has_pixels_behind(first), "media that are to be read came without pixels"
        kept = media_from(prompt, first) if first else None
        if kept is None:
            first, kept = 0, prompt.inputs
        embeddings = self._embed(prompt.ids[first:], kept, first)
        if self._both_ways and prompt.is_whole:
            embeddings = embeddings.with_array("mm_token_type_ids", mx.array(kept["mm_token_type_ids"]))
        embeddings = self._with_sounds(embeddings, prompt, first)
        if not self._mrope or self._own_positions:
            return embeddings
        return embeddings.with_positions(*self._rope_index(prompt))

    def _embed(self, ids: Sequence[int], inputs: dict[str, Any], first: int) -> Embeddings:
        """Embeddings of ids with the media of inputs in place."""
        if not (self._one_kind and "pixel_values" in inputs and "pixel_values_videos" in inputs):
            return self._embed_once(ids, inputs, first)
        video = self.model.config.video_token_id
        image = self.model.config.image_token_id
        # Each pass must see its own kind only; the other kind's placeholders become any plain token.
        stills = {k: v for k, v in inputs.items() if k not in ("pixel_values_videos", "video_grid_thw")}
        clips = {k: v for k, v in inputs.items() if k not in ("pixel_values", "image_grid_thw")}
        embeddings = self._embed_once([0 if i == video else i for i in ids], stills, first)
        moving = self._embed_once([0 if i == image else i for i in ids], clips, first)
        return embeddings.patched(moving, mx.array([[i == video for i in ids]]))

    def _with_sounds(self, embeddings: Embeddings, prompt: Prompt, first: int) -> Embeddings:
        """With what is heard of each sound at or after token `first`, where there are several (Prompt.sounds)."""
        placed = [placed for placed in prompt.media if placed.kind == "audio"] if prompt.sounds else []
        for sound, (ids, inputs) in zip(placed, prompt.sounds, strict=True):
            if sound.span is None:
                raise BadRequest("This model's processor does not tell the sounds of a prompt apart.", param="messages")
            if not sound.ends_by(first):
                places = mx.array(np.flatnonzero(np.array(ids) == sound.placeholder))
                heard = self._embed_once(ids, inputs, 0).rows(places)
                embeddings = embeddings.placed(heard, sound.span.start)
        return embeddings

    def _embed_once(self, ids: Sequence[int], inputs: dict[str, Any], first: int) -> Embeddings:
        inputs = dict(inputs)
        num_tokens = len(ids)
        ids = inputs.pop("input_ids", ids)
        pixels, mask = inputs.pop("pixel_values", None), inputs.pop("attention_mask", None)
        if self._open_tiles and pixels is not None:
            inputs["images_spatial_crop"] = _ended(inputs["images_spatial_crop"], pixels.shape[1])
        found = self.model.get_input_embeddings(mx.array([list(ids)]), pixels, mask=mask, **inputs)
        arrays = {name: value for name, value in found.to_dict().items() if value is not None}
        if not (self._across or self._encoder_decoder) and any(name in arrays for name in _UNBATCHABLE):
            raise BadRequest("This family reads pictures in a way that cannot join a shared batch.", param="model")
        if self._unscaled:
            arrays["inputs_embeds"] = corrected(self.model, ids, arrays["inputs_embeds"])
        mx.eval([value for value in arrays.values() if isinstance(value, mx.array)])
        embeddings = Embeddings(arrays, first)
        if not self._encoder_decoder and embeddings.num_tokens != first + num_tokens:
            raise BadRequest(
                f"This model family expands pictures inside the model ({embeddings.num_tokens} embeddings for "
                f"{first + num_tokens} tokens), which this engine does not support.",
                param="model",
            )
        return embeddings

    def _positions_only(self, prompt: Prompt, first: int) -> Embeddings | None:
        """For a rest without media: only M-RoPE families need anything, the positions behind the pictures."""
        if not self._mrope:
            return None
        if self._own_positions:
            return self._embed(prompt.ids, prompt.inputs, 0)
        delta = self._rope_shifts.delta(prompt)
        if delta is None:
            positions, deltas = self._rope_index(prompt)
            return Embeddings({"position_ids": positions[..., first:], "rope_deltas": deltas}, first)
        places = mx.arange(first, len(prompt.ids)) + delta
        positions = mx.broadcast_to(places, (3, 1, len(prompt.ids) - first))
        return Embeddings({"position_ids": positions, "rope_deltas": mx.array([[delta]])}, first)

    def _rope_index(self, prompt: Prompt) -> tuple[mx.array, mx.array]:
        """M-RoPE positions (3, 1, tokens) and delta (1, 1) of the whole prompt; needs grids, not pixels."""
        if self._plain_positions:
            return mx.broadcast_to(mx.arange(len(prompt.ids)), (3, 1, len(prompt.ids))), mx.zeros((1, 1), mx.int32)
        grids = [prompt.inputs.get(name) for name in ("image_grid_thw", "video_grid_thw")]
        positions, deltas = self._lm.get_rope_index(mx.array([prompt.ids]), *grids, None)
        self._rope_shifts.learn(prompt, np.array(positions)[:, 0], int(np.array(deltas).reshape(-1)[0]))
        return positions, deltas

    def prefill(
        self, ids: Sequence[int], span: tuple[int, int], cache: list[Any], embeddings: Embeddings | None
    ) -> None:
        """Compute the KV of prompt tokens [start, end) into `cache`, evaluated before it returns."""
        self._read(ids, span, cache, embeddings)  # its logits are never evaluated
        with self.awaited():
            mx.eval([layer.state for layer in cache])
        mx.clear_cache()

    def finish(self, ids: Sequence[int], start: int, cache: list[Any], embeddings: Embeddings | None) -> mx.array:
        """Compute the KV of the prompt's rest, from token `start`, into `cache`, and the logits of what follows it,
        (1, vocabulary); both evaluated. A prompt that must be read whole (Family.whole_prompt) has all of it here."""
        end = len(ids)
        if not (self._has_last_token_head or self._whole_prompt) and end - start > 1:
            self.prefill(ids, (start, end - 1), cache, embeddings)
            start = end - 1
        logits = self._read(ids, (start, end), cache, embeddings)[:, -1]
        with self.awaited():
            mx.eval(logits, [layer.state for layer in cache])
        mx.clear_cache()
        return logits

    def read(
        self, ids: Sequence[int], span: tuple[int, int], cache: list[Any], embeddings: Embeddings | None
    ) -> mx.array:
        """Compute the KV of prompt tokens [start, end) into `cache`, and the logits behind each of them, (tokens,
        vocabulary) in float32; both evaluated."""
        start, end = span
        rows = mx.array([list(ids[start:end])])
        logits = self._logits(rows, range(end - start), cache, self._arguments(span, embeddings)).astype(mx.float32)
        with self.awaited():
            mx.eval(logits, [layer.state for layer in cache])
        mx.clear_cache()
        return logits

    def _read(
        self, ids: Sequence[int], span: tuple[int, int], cache: list[Any], embeddings: Embeddings | None
    ) -> mx.array:
        """Prompt tokens [start, end) into `cache` -> logits (1, 1, vocabulary), or (1, tokens, vocabulary) where the
        head could not be narrowed; nothing evaluated."""
        start, end = span
        logits = self._forward(mx.array([list(ids[start:end])]), cache, self._arguments(span, embeddings))
        if end - start > 1:
            self._has_last_token_head = logits.shape[1] == 1
        return logits

    def _arguments(self, span: tuple[int, int], embeddings: Embeddings | None) -> dict[str, Any]:
        """What the model wants beside the ids of prompt tokens [start, end)."""
        start, end = span
        if embeddings is not None:
            return embeddings.window(start, end)
        if self._mrope:
            return {"position_ids": mx.broadcast_to(mx.arange(start, end), (3, 1, end - start))}
        return {}

    def logits_at(self, rows: mx.array, places: Sequence[int], cache: list[Any], first: mx.array) -> mx.array:
        """Token ids (rows, tokens) behind what is in `cache` -> logits (places, vocabulary) in float32, evaluated; none
        for no places, and then nothing is.

        places: of the rows × tokens. first: the position of each row's first token, (rows or 1, 1), without the delta
        of M-RoPE; the other families take it from the cache.
        """
        logits = self._logits(rows, places, cache, self._arguments_behind(rows, cache, first)).astype(mx.float32)
        if places:
            with self.awaited():
                mx.eval(logits)
        return logits

    def behind(self, ids: mx.array, places: Sequence[int], cache: list[Any]) -> mx.array:
        """Token ids (rows, tokens) behind the rows of a batch -> logits (places, vocabulary) at these places of the
        rows × tokens, as a decode step has them; nothing evaluated."""
        return self._logits(ids, places, cache, self._arguments_behind(ids, cache, cache[0].offset[:, None]))

    def _arguments_behind(self, rows: mx.array, cache: list[Any], first: mx.array) -> dict[str, Any]:
        """What the model wants beside token ids (rows, tokens) behind what is in `cache`. first: see logits_at."""
        if not self._mrope:
            return {}
        positions = first + mx.array(cache[-1].deltas)[:, None] + mx.arange(rows.shape[1])
        return {"position_ids": mx.broadcast_to(positions, (3, *rows.shape))}

    def _logits(self, rows: mx.array, places: Sequence[int], cache: list[Any], arguments: dict[str, Any]) -> mx.array:
        """Logits (places, vocabulary) at these places of the rows × tokens; nothing evaluated."""
        with self._places.at(places):
            logits = self._forward(rows, cache, arguments)
        if not self._places.was_asked:
            logits = logits.reshape(1, -1, logits.shape[-1])[:, mx.array(list(places), mx.int32)]
        return logits[0]

    @property
    def gives_states(self) -> bool:
        """Whether `states` can be asked: it reads texts alone, and its head is apart from what it reads them with."""
        return not self.vision and callable(getattr(self._lm, "model", None))

    def states(self, rows: mx.array, cache: list[Any]) -> mx.array:
        """Token ids (rows, tokens) behind what is in `cache` -> what the head would read, (rows, tokens, width);
        nothing evaluated."""
        return self._forward(rows, cache, {}, self._lm.model)

    def __call__(self, ids: mx.array, cache: list[Any]) -> mx.array:
        """One decode step for the batcher: ids (rows, 1) -> logits (rows, 1, vocab)."""
        return self._forward(ids, cache, {}, is_drawn=True)

    def follow(self, ids: mx.array, cache: list[Any], arguments: dict[str, Any], *, states_only: bool) -> mx.array:
        """The pass of another process, with this one's part of the model -> what it comes to before its head, nothing
        evaluated."""
        self._places.keeps_read = True
        out = self._forward(ids, cache, arguments, self._lm.model if states_only else None)
        return self._before_head(out, states_only=states_only)

    def _before_head(self, out: mx.array, *, states_only: bool) -> mx.array:
        read, self._places.read = self._places.read, None
        return out if states_only or read is None else read

    def _forward(
        self,
        ids: mx.array,
        cache: list[Any],
        arguments: dict[str, Any],
        module: Any = None,
        *,
        is_drawn: bool = False,
    ) -> mx.array:
        """module: of the language model what is asked, None for all of it. is_drawn: the ids are those that the step
        before draws, and perhaps not computed yet."""
        if self._mirror is None:
            return self._pass(ids, cache, arguments, module)
        states_only = module is not None
        ids = self._mirror.read(cache[-1], ids, arguments, is_drawn=is_drawn, states_only=states_only)
        with self._mirror.told():
            out = self._pass(ids, cache, arguments, module)
            # Whole and at once: of one that is evaluated in parts, or not to its end, ranks miss sums of each other.
            mx.async_eval(self._before_head(out, states_only=states_only))
        return out

    def _pass(self, ids: mx.array, cache: list[Any], arguments: dict[str, Any], module: Any) -> mx.array:
        if self._encoder_decoder:
            return self._encoder_decoder(ids, cache[-1].again[0], arguments)
        layers = cache[:-1]
        if self._across:
            layers, arguments = self._across.all_layers(layers), arguments or self._across.seen(cache[-1].again)
        if self._mrope:
            # What mlx-vlm remembers of a prompt before must not count: GLM-OCR would take that one's positions, and
            # GLM-4V and Qwen3-VL MoE look at the argument only where they remember deltas.
            arguments["rope_deltas"] = mx.array(cache[-1].deltas)[:, None]
            self._lm._rope_deltas, self._lm._position_ids = arguments["rope_deltas"], None
        if self._grouped_scores:
            # The first layer's cache makes the mask for all of them.
            layers[0] = GroupedMask(layers[0])
        out = (module or self._lm)(ids, cache=layers, **arguments)
        if not (self._grouped_scores or self._across):
            cache[:-1] = layers  # some families (qwen3_5) replace entries of the list
        logits: mx.array = out.logits if hasattr(out, "logits") else out
        return logits
