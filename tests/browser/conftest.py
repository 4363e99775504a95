"""The page on a real engine behind a real server, and a headless browser in front of it.

The browser lives as long as this folder's tests: Playwright's event loop would be in the way of the tests after them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.assets import asset
from engine.config import EngineConfig, ModelSpec, ServerConfig
from engine.types import Sampling
from tests import pages, pictures, tiny

collect_ignore = [] if "WORKBENCH_README_PICTURES" in os.environ else ["test_readme_pictures.py"]
"""It makes pictures; it is no test."""


@pytest.fixture(scope="session")
def serve_page(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """with serve_page(engine, **ServerConfig fields) as url: the whole app on a loopback port, a free one unless said.

    Conversations are in memory, unless a data_folder is given.
    """
    pages.uploads(tmp_path_factory.getbasetemp())

    def make(engine: Any, port: int = 0, **fields: Any) -> Any:
        from workbench.app import create_app

        return serve(create_app(engine, ServerConfig(**fields)), port)

    return make


@pytest.fixture(scope="session")
def workbench_url(serve_page: Any, demo_engine: Any) -> Iterator[str]:
    """The workbench on the model that ships with the project."""
    with serve_page(demo_engine) as url:
        yield url


def endless(folder: Path) -> Path:
    """Take the end from a random model: the stop tokens' rows become zero, and zero is never the best logit."""
    import mlx.core as mx
    from transformers import AutoTokenizer

    stops = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids([tiny.END_OF_TURN, tiny.END_OF_TEXT])
    path = str(folder / "model.safetensors")
    weights = dict(mx.load(path))
    heads = [name for name in weights if name.endswith(("embed_tokens.weight", "lm_head.weight"))]
    for name in heads:
        weights[name] = mx.put_along_axis(weights[name], mx.array(stops)[:, None], mx.array(0.0), axis=0)
    mx.eval(weights)
    mx.save_safetensors(path, weights, metadata={"format": "mlx"})
    return folder


@pytest.fixture(scope="session")
def slow_engine(engine_pool: Any, models_dir: Path) -> Any:
    """A model of random weights. Greedy, it goes round in circles and never comes to an end."""
    config = EngineConfig(
        model=ModelSpec(str(endless(tiny.sized("vision", 256, 6, models_dir / "endless")))),
        sampling=Sampling(temperature=0.0),
        max_tokens=3000,
    )
    return engine_pool.start(config)


@pytest.fixture(scope="session")
def slow_url(serve_page: Any, slow_engine: Any) -> Iterator[str]:
    """The workbench on a model whose answers are long."""
    with serve_page(slow_engine) as url:
        yield url


@pytest.fixture(scope="package")
def playwright() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="package")
def browser(playwright: Any) -> Iterator[Any]:
    """Headless Chromium. No browser is a failure, not a skip."""
    browser = playwright.chromium.launch(executable_path=pages.executable(), args=list(pages.QUIET))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def whole_browser(playwright: Any) -> Iterator[Any]:
    """Chromium as people have it, without a window, for what its shell cannot do: it allows no notifications."""
    path = pages.executable(pages.WHOLE_BROWSERS)
    channel = None if path else "chromium"  # the one that Playwright brings
    browser = playwright.chromium.launch(executable_path=path, channel=channel, args=list(pages.QUIET))
    yield browser
    browser.close()


@pytest.fixture
def person(browser: Any) -> Iterator[Callable[..., pages.Person]]:
    """person(url, **context) -> somebody in front of the chat. At the end: no console error, no outside request."""
    present: list[pages.Person] = []

    def make(url: str, **context: Any) -> pages.Person:
        present.append(pages.Person(browser, url, **context))
        return present[-1]

    yield make
    for one in present:
        one.close()


@pytest.fixture
def model_says(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """model_says(text): from now on the models' answers are this text, whatever their tokens are. It is put in where
    mlx-lm turns tokens into text, so that everything of ours is as with a model that writes it."""
    from mlx_lm.tokenizer_utils import StreamingDetokenizer

    def make(text: str) -> None:
        num_chars = 1 + len(text) // 6  # an answer of the demo model is longer than six tokens

        def segment(self: Any) -> str:
            start = self.__dict__.setdefault("said", 0)
            self.__dict__["said"] = start + num_chars
            return text[start : start + num_chars]

        monkeypatch.setattr(StreamingDetokenizer, "last_segment", property(segment))

    return make


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pages.artifacts(tmp_path_factory.getbasetemp())


@pytest.fixture
def drawn(tmp_path: Path) -> Callable[..., Path]:
    """drawn(colour, shape) -> a PNG of that, drawn now."""

    def make(colour: str = "red", shape: pictures.Shape = "circle") -> Path:
        path = tmp_path / f"{colour}-{shape}.png"
        pictures.picture(colour, shape, (256, 256)).save(path)
        return path

    return make


@pytest.fixture
def clip() -> Path:
    """A clip that ships with the project: a red circle moves to the right."""
    return asset("samples") / "moving-circle.mp4"
