"""mlx_lm and mlx_vlm by themselves, through their own stream_generate, as targets of a benchmark.

They run in the calling thread (the command's main thread) while the engine's thread is idle: never both at once.
Their model is loaded a second time from the same folder. They run with their own default settings.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from engine import device
from engine.errors import BadRequest
from engine.measure.bench.questions import Question
from engine.measure.bench.samples import Sample, SeenMedia, Stopwatch
from engine.measure.bench.targets import OnFirst, Status


class Library:
    """What both have in common. Their Status is empty: MLX counts memory by process, and the engine is in this one."""

    in_process = True
    model_path = ""

    def status_nowait(self) -> Status:
        return Status()

    async def status(self) -> Status:
        return Status()

    async def predict(self, question: Question) -> tuple[SeenMedia, ...] | None:
        return None

    async def close(self) -> None:
        """Nothing to close."""


class LanguagePeer(Library):
    """mlx_lm.stream_generate. Text only."""

    name = "mlx_lm"

    def __init__(self, path: str) -> None:
        device.prepare()
        import mlx_lm

        loaded: Any = mlx_lm.load(path)
        self._model, self._tokenizer = loaded[0], loaded[1]

    async def ask(self, question: Question, on_first: OnFirst = None) -> Sample:
        import mlx_lm
        from mlx_lm.sample_utils import make_sampler

        if question.media:
            raise BadRequest("mlx_lm cannot see; use --vs mlx_vlm.")
        _refuse_turns(question)
        watch = Stopwatch(on_first)
        messages = [{"role": "system", "content": question.system}] if question.system else []
        messages.append({"role": "user", "content": question.text})
        prompt = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        sampler = make_sampler(temp=question.temperature)
        for response in mlx_lm.stream_generate(
            self._model, self._tokenizer, prompt, max_tokens=question.max_tokens, sampler=sampler
        ):
            watch.note(response.text)
        return watch.sample(self.name, question, response.prompt_tokens, response.generation_tokens)


class VisionPeer(Library):
    """mlx_vlm.stream_generate. Media are given as files: it decodes and resizes them itself, as the engine does."""

    name = "mlx_vlm"

    def __init__(self, path: str) -> None:
        device.prepare()
        import mlx_vlm

        loaded: Any = mlx_vlm.load(path)
        self._model, self._processor = loaded
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")

    async def ask(self, question: Question, on_first: OnFirst = None) -> Sample:
        import mlx_vlm
        from mlx_vlm.prompt_utils import apply_chat_template

        if any(medium.kind == "video" for medium in question.media):
            raise BadRequest("mlx_vlm's stream_generate is asked about pictures only; use --vs mlx_vlm.server.")
        _refuse_turns(question)
        files = [Path(self._folder.name, f"{i}.png") for i in range(len(question.media))]
        for file, medium in zip(files, question.media, strict=True):
            file.write_bytes(medium.data)
        images = [str(file) for file in files] or None
        watch = Stopwatch(on_first)
        messages: Any = [{"role": "system", "content": question.system}] if question.system else []
        messages.append({"role": "user", "content": question.text})
        prompt: Any = apply_chat_template(
            self._processor,
            self._model.config,
            messages if question.system else question.text,
            num_images=len(files),
        )
        responses = mlx_vlm.stream_generate(
            self._model,
            self._processor,
            prompt,
            images,
            max_tokens=question.max_tokens,
            temperature=question.temperature,
        )
        for response in responses:
            watch.note(response.text)
        return watch.sample(self.name, question, response.prompt_tokens, response.generation_tokens)


def _refuse_turns(question: Question) -> None:
    if question.earlier:
        raise BadRequest("The libraries are asked single questions only; compare chats with their servers.")


def load(name: str, path: str) -> LanguagePeer | VisionPeer:
    """The peer `name` ("mlx_lm" or "mlx_vlm") with the model in `path`. MLX runs in the calling thread."""
    return VisionPeer(path) if name == VisionPeer.name else LanguagePeer(path)
