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
from engine.models.locate import first_line
from engine.models.registry import Loaded
from engine.models.vocabulary import Vocabulary
from engine.prompt.question_tokens import QuestionPrompts
from engine.prompt.read_texts import ReadTexts
from engine.prompt.text import TextPrompts
from engine.runtime.memory import ModelMemory
from engine.runtime.slots import LoadedModel, ModelSlot
from engine.runtime.worker import Worker

log = logging.getLogger(__name__)

NewWorker = Callable[[ModelSlot, Loaded, ModelMemory], Worker]
LoadSteps = Generator[None, None, LoadedModel]


@dataclass(eq=False, slots=True)
class WantedModel:
    """A model that is to be loaded. found: its folder, or why there is none. at_start: though nobody waits for it."""

    slot: ModelSlot
    found: Future[Path]
    at_start: bool = False


class ModelLoad:
    """new_worker: makes what serves the model, once it is known what it takes."""

    def __init__(self, slot: ModelSlot, path: Path, new_worker: NewWorker) -> None:
        self.slot = slot
        self._steps = self._load(path, new_worker)

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

    def _load(self, path: Path, new_worker: NewWorker) -> LoadSteps:
        slot, config = self.slot, self.slot.config
        parts = registry.load_in_parts(config, path)
        while True:
            try:
                done_bytes, total_bytes = next(parts)
            except StopIteration as end:
                loaded: Loaded = end.value
                break
            slot.show("loading", done_bytes, total_bytes or slot.expected_bytes)
            yield
        num_bytes = loaded.card.num_bytes
        memory = ModelMemory(num_bytes, mlx_memory.token_bytes(loaded.adapter), config.model.max_bytes)
        yield
        texts = TextPrompts(loaded)
        yield
        questions = QuestionPrompts(loaded, texts.control, 2 * config.prefill_chunk_tokens)
        call_end = loaded.tools.end if loaded.tools.is_json else ""
        grammars, vocabulary = Grammars(loaded.tokenizer, loaded.stop_ids, call_end), Vocabulary(loaded)
        yield
        reads = ReadTexts(loaded, texts.control)
        worker = new_worker(slot, loaded, memory)
        return LoadedModel(loaded.card, memory, texts, reads, questions, grammars, vocabulary, worker)
