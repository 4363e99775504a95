"""What a model is called is worked out once: its folder may be moved or unmounted while it serves."""

from __future__ import annotations

import argparse
import asyncio
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from engine.arguments.types import folder, key_file, named_model
from engine.config import EngineConfig, ModelSpec
from engine.core import Engine
from engine.errors import BadRequest, ModelNotFound
from engine.inventory.inventory import Inventory
from engine.models.locate import locate_here
from engine.models_file import Machine, read_models
from engine.runtime.commands import CountReplay, PreflightCommand
from engine.types import Delta, Preflight
from tests.engine.drive import ask, chat

TinyModel = Callable[..., Path]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("demo", "demo"),
        ("org/model", "org/model"),
        ("/no/such/folder/qwen", "qwen"),
        ("./models/qwen/", "qwen"),
        ("~/no-such-folder/qwen", "qwen"),
        ("models/of/mine", "mine"),
    ],
)
def test_a_path_that_is_no_folder_is_called_by_its_last_part(source: str, name: str) -> None:
    assert ModelSpec(source).served_name == name
    assert ModelSpec(source, name="given").served_name == "given"


def test_a_folder_is_called_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert ModelSpec(str(tmp_path / "link")).served_name == "real"


@pytest.mark.parametrize("source", ["~nosuchuser/x", "/a\0b", "~nosuchuser", "name=~nosuchuser/x"])
def test_what_is_no_path_is_no_model(source: str, tmp_path: Path) -> None:
    _, path = named_model(source)
    with pytest.raises(ModelNotFound, match="No model"):
        locate_here(ModelSpec(path))
    for kind in (folder, key_file):
        with pytest.raises((argparse.ArgumentTypeError, ValueError)):
            kind(source)
    assert Inventory([Path(source)], tmp_path).look_at(Path(source)).problems


def test_what_is_no_path_in_a_models_file(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("models:\n- {name: a, path: ~nosuchuser/x}")
    with pytest.raises(BadRequest, match=r"models\[0\]\.path.*No model"):
        read_models(tmp_path / "models.yaml", ModelSpec(), Machine(2**40))


async def test_a_loaded_model_whose_folder_was_moved_goes_on(tiny_model: TinyModel, tmp_path: Path) -> None:
    moving = tmp_path / "moving"
    shutil.copytree(tiny_model("llama"), moving)
    (tmp_path / "link").symlink_to(moving)
    engine = Engine(EngineConfig(model=ModelSpec(str(tmp_path / "link"))))
    engine.start()
    try:
        await engine.ready()
        moving.rename(tmp_path / "moved")
        for name in ("moving", str(tmp_path / "link"), None):
            assert (await ask(engine, chat("Hello", model=name, max_tokens=2))).done.usage.completion_tokens == 2
        assert engine.models()[0].name == "moving"
    finally:
        await asyncio.to_thread(engine.stop)


async def test_a_command_for_no_model_is_refused_and_the_others_go_on(tiny_model: TinyModel) -> None:
    engine = Engine(EngineConfig(model=ModelSpec(str(tiny_model("llama")))))
    engine.start()
    try:
        await engine.ready()
        stream = engine.stream(chat("Talk", max_tokens=3000, ignore_eos=True))
        assert isinstance(await anext(stream), Delta)
        asked: Future[Preflight] = Future()
        counted: Future[None] = Future()
        engine._runtime.tell(PreflightCommand(chat("Hello", model="nobody"), (), asked))
        engine._runtime.tell(CountReplay("nobody", False, counted))
        for reply in (asked, counted):
            with pytest.raises(ModelNotFound, match="nobody"):
                await asyncio.wrap_future(reply)
        for _ in range(3):
            assert isinstance(await anext(stream), Delta)
        await stream.aclose()
    finally:
        await asyncio.to_thread(engine.stop)
