"""One model on its way into memory, in parts between which the running streams of others go on. Engine thread only.

Not divided are: listing its weights, the processor, the tokenizer and its copy, and the first prompt. A single array of
weights is not divided either.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from engine.errors import EngineError, Unavailable
from engine.grammar.compile import Grammars
from engine.models import mlx_memory, registry
from engine.models.checkpoint import expected_weights
from engine.models.draft_loading import draft_here, draft_spec, load_draft, locate_draft, with_draft_bytes
from engine.models.locate import first_line, locate, locate_here
from engine.models.lora import BaseWeights
from engine.models.mirror import Mirror
from engine.models.registry import Loaded
from engine.models.vocabulary import Vocabulary
from engine.prompt.question_tokens import QuestionPrompts
from engine.prompt.read_texts import ReadTexts
from engine.prompt.text import TextPrompts
from engine.runtime.commands import TokenObserver
from engine.runtime.loading.slots import LoadedModel, ModelSlot
from engine.runtime.memory_use.memory import ModelMemory
from engine.runtime.worker import Worker
from engine.types import ExpectedWeights

log = logging.getLogger(__name__)

NewWorker = Callable[[ModelSlot, Loaded, ModelMemory], Worker]
LoadSteps = Generator[None, None, LoadedModel]


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that is on this machine: its folder, and what it will take. draft: the folder of its draft model, which
    is in weights; None where it has none."""

    path: Path
    weights: ExpectedWeights
    draft: Path | None = None


@dataclass(eq=False, slots=True)
class WantedModel:
    """A model that is to be loaded. found: where it is, or why it is not there. at_start: though nobody waits for it.
    is_far: it is downloaded first, and others need not wait for that."""

    slot: ModelSlot
    found: Future[FoundModel]
    at_start: bool = False
    is_far: bool = False


Aside = Callable[[Callable[[], FoundModel]], Future[FoundModel]]
"""Does a work in a thread of its own, which dies with the process: neither a download nor a disk can be interrupted."""


@dataclass(frozen=True, slots=True)
class LoadMeans:
    """With what models are loaded and served. observer: is told of every token. mirror: to the other processes that
    hold parts of a model; None where this one holds all of it."""

    aside: Aside
    observer: TokenObserver | None = None
    mirror: Mirror | None = None


def find(slot: ModelSlot, aside: Aside, *, at_start: bool = False) -> WantedModel:
    """Begin to look for a model, and to read the headers of its files."""
    spec, draft, found = slot.config.model, draft_spec(slot.config), Future[FoundModel]()
    before = Path(slot.card.path) if slot.card else None
    try:
        folder = before if before and before.is_dir() else locate_here(spec)
        is_far = folder is None or (draft is not None and draft_here(draft) is None)
    except EngineError as error:
        found.set_exception(error)
        return WantedModel(slot, found, at_start)
    if is_far:
        slot.show("downloading")

    def look() -> FoundModel:
        path = folder or locate(spec, slot.report)
        weights = expected_weights(path, spec)
        if draft is None:
            return FoundModel(path, weights)
        draft_path = locate_draft(draft, slot.report)
        return FoundModel(path, with_draft_bytes(weights, draft_path, draft), draft_path)

    found = aside(look)
    found.add_done_callback(lambda _: slot.wake())
    return WantedModel(slot, found, at_start, is_far)


class ModelLoad:
    """found: the model. new_worker: makes what serves it, once it is known what it takes. shared: weights that it may
    have from models that are loaded. mirror: to other processes that load parts of it."""

    def __init__(
        self,
        slot: ModelSlot,
        found: FoundModel,
        new_worker: NewWorker,
        shared: BaseWeights | None = None,
        mirror: Mirror | None = None,
    ) -> None:
        self.slot = slot
        self._mirror = mirror
        self._steps = self._load(found, new_worker, shared)

    def turn(self) -> LoadedModel | None:
        """The next part; the model, after the last one. Raises EngineError, and then holds nothing."""
        try:
            next(self._steps)
        except StopIteration as end:
            model: LoadedModel = end.value
            return model
        except EngineError:
            raise
        except Exception as e:
            log.exception("%s could not be loaded", self.slot.name)
            why = f"Could not load {self.slot.name!r}: {first_line(e)}"
            raise Unavailable(why, code="model_load_failed") from e
        return None

    def close(self) -> None:
        """Give up: what was loaded so far is let go."""
        self._steps.close()

    def _load(self, found: FoundModel, new_worker: NewWorker, shared: BaseWeights | None) -> LoadSteps:
        try:
            return (yield from self._all_steps(found, new_worker, shared))
        except BaseException:  # given up, too
            if self._mirror is not None:
                self._mirror.unload()
            raise

    def _parts(self, parts: registry.Parts) -> Generator[None, None, Loaded]:
        """All parts of a load, and what it comes to."""
        while True:
            try:
                done_bytes, total_bytes = next(parts)
            except StopIteration as end:
                loaded: Loaded = end.value
                return loaded
            self.slot.show("loading", done_bytes, total_bytes or self.slot.expected.num_bytes)
            yield

    def _all_steps(self, found: FoundModel, new_worker: NewWorker, shared: BaseWeights | None) -> LoadSteps:
        slot, config = self.slot, self.slot.config
        loaded = yield from self._parts(registry.load_in_parts(config, found.path, shared, self._mirror))
        if found.draft is not None and loaded.adapter.can_branch:  # else it would be loaded for nothing
            loaded = yield from self._parts(load_draft(loaded, found.draft, config))
        card = loaded.card
        sizes = mlx_memory.token_sizes(loaded.adapter, *([loaded.draft.adapter] if loaded.draft else []))
        memory = ModelMemory(
            card.num_bytes,
            sum(sizes.values()),
            config.model.max_bytes,
            card.base,
            card.adapter_bytes,
            tuple((kept, num_bytes) for kept, num_bytes in sizes.items() if kept is not None),
        )
        yield
        texts = TextPrompts(loaded)
        yield
        questions = QuestionPrompts(loaded, texts.control, 2 * config.prefill_chunk_tokens)
        call_end = loaded.tools.end if loaded.tools.is_json else ""
        grammars, vocabulary = Grammars(loaded.tokenizer, loaded.stop_ids, call_end), Vocabulary(loaded)
        yield
        reads = ReadTexts(loaded, texts.control)
        worker = new_worker(slot, loaded, memory)
        return LoadedModel(card, memory, texts, reads, questions, grammars, vocabulary, worker, loaded.base)
