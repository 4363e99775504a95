"""mlx_lm and mlx_vlm by themselves, through their own stream_generate, as sources of a benchmark.

They run in the thread that asks (the command's main thread) while the engine's thread is idle: never both at once.
Their model is loaded a second time from the same folder. They are read with their own default settings.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from engine import device
from engine.bench.sources import Sample, Stopwatch
from engine.bench.workloads import Workload
from engine.errors import BadRequest


class LanguagePeer:
    """mlx_lm.stream_generate. Text only."""

    name = "mlx_lm"

    def __init__(self, path: str) -> None:
        device.prepare()
        import mlx_lm

        loaded: Any = mlx_lm.load(path)
        self._model, self._tokenizer = loaded[0], loaded[1]

    async def ask(self, workload: Workload) -> Sample:
        import mlx_lm

        if workload.image:
            raise BadRequest("mlx_lm cannot see; use --vs mlx_vlm with --image.")
        watch = Stopwatch()
        messages = [{"role": "user", "content": workload.text}]
        prompt = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        for response in mlx_lm.stream_generate(self._model, self._tokenizer, prompt, max_tokens=workload.max_tokens):
            watch.note(response.text)
        return watch.sample(self.name, response.prompt_tokens, response.generation_tokens)

    async def memory_bytes(self) -> int | None:
        return None  # MLX counts memory by process, and the engine is in this one


class VisionPeer:
    """mlx_vlm.stream_generate. The picture is given as a file: it decodes and resizes it itself, as the engine does."""

    name = "mlx_vlm"

    def __init__(self, path: str) -> None:
        device.prepare()
        import mlx_vlm

        loaded: Any = mlx_vlm.load(path)
        self._model, self._processor = loaded
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")

    async def ask(self, workload: Workload) -> Sample:
        import mlx_vlm
        from mlx_vlm.prompt_utils import apply_chat_template

        file = Path(self._folder.name, "picture.png")
        image = None
        if workload.image:
            file.write_bytes(workload.image)
            image = [str(file)]
        watch = Stopwatch()
        prompt: Any = apply_chat_template(
            self._processor, self._model.config, workload.text, num_images=len(image or ())
        )
        responses = mlx_vlm.stream_generate(
            self._model, self._processor, prompt, image, max_tokens=workload.max_tokens, temperature=0.0
        )
        for response in responses:
            watch.note(response.text)
        return watch.sample(self.name, response.prompt_tokens, response.generation_tokens)

    async def memory_bytes(self) -> int | None:
        return None  # MLX counts memory by process, and the engine is in this one


def load(name: str, path: str) -> LanguagePeer | VisionPeer:
    """The peer called name ("mlx_lm" or "mlx_vlm") on the model in path. MLX runs in the calling thread."""
    return VisionPeer(path) if name == VisionPeer.name else LanguagePeer(path)
