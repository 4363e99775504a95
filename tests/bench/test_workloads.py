"""Questions of a benchmark: repeatable, all different, of the size that was asked for."""

from __future__ import annotations

import io

from PIL import Image

from engine.bench.run import WARM_UP
from engine.bench.workloads import Settings, make


def test_the_same_settings_make_the_same_questions() -> None:
    settings = Settings(num_prompts=5, image_px=(64, 48))
    assert make(settings) == make(settings)
    assert make(settings) != make(Settings(num_prompts=5, image_px=(64, 48), seed=1))


def test_no_two_begin_alike() -> None:
    """Else a prefix cache would answer part of the second from the first."""
    settings = Settings(num_prompts=30, image_px=(32, 32))
    made = [*make(settings), *make(settings, WARM_UP)]
    assert len({workload.text.split()[0] for workload in made}) == 60
    assert len({workload.image for workload in made}) == 60


def test_sizes() -> None:
    (workload,) = make(Settings(num_prompts=1, prompt_words=37, output_tokens=9, image_px=(64, 48)))
    assert len(workload.text.split()) == 37 and workload.max_tokens == 9
    assert workload.image is not None and Image.open(io.BytesIO(workload.image)).size == (64, 48)
    assert workload.image_url is not None and workload.image_url.startswith("data:image/png;base64,")
    assert make(Settings(num_prompts=1))[0].image is None
