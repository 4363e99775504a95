"""locate: how far a download is, and that nobody waits for it who asks another model. The hub is the stand-in."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from engine.config import ModelSpec
from engine.errors import EngineError, ModelNotFound
from engine.models.locate import locate, locate_here
from tests.conftest import ROOT
from tests.hub import StandInHub

TOLD = """
import json, sys
from engine.config import ModelSpec
from engine.models.locate import locate
told = []
locate(ModelSpec(sys.argv[1]), lambda done, total: told.append((done, total)))
print(json.dumps(told))
assert not [name for name in sys.modules if name.split(".")[0] == "mlx"], "finding a model needs no MLX"
"""

SERVED = """
import asyncio, sys
from engine.config import EngineConfig, ModelSpec
from engine.core import Engine
from engine.types import Message, Part, Request

def request(model):
    return Request((Message("user", (Part("text", "Hello"),)),), max_tokens=3, model=model)

async def main():
    engine = Engine(EngineConfig(more_models=(ModelSpec(sys.argv[1], name="far"),)))
    engine.start()
    await engine.ready()
    far = asyncio.create_task(engine.complete(request("far")))
    while engine.models()[1].stage != "downloading":
        await asyncio.sleep(0.01)
    await engine.complete(request("demo"))
    print("meanwhile", engine.models()[1].stage, flush=True)
    print((await far).done.usage.completion_tokens, engine.models()[1].stage, flush=True)
    engine.stop()

asyncio.run(main())
"""


def started(script: str, source: str, hub: StandInHub, home: Path) -> subprocess.Popen[str]:
    """A fresh interpreter that has this hub: the client reads HF_ENDPOINT once, at import."""
    env = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, source]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=env, cwd=home, stdout=pipe, stderr=pipe, text=True)


def test_a_download_tells_how_far_it_is(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = tiny_model("llama")
    with StandInHub({"tiny/llama": folder}) as hub:
        out, err = started(TOLD, "tiny/llama", hub, tmp_path).communicate(timeout=90)
    assert out, err[-2000:]
    told = json.loads(out.splitlines()[-1])
    size = sum(file.stat().st_size for file in folder.iterdir() if file.suffix in (".json", ".jinja", ".safetensors"))
    done, total = told[-1]
    assert done == total == pytest.approx(size, rel=0.05)
    assert [one for one, _ in told] == sorted(one for one, _ in told)


def test_others_are_answered_while_a_model_is_downloaded(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    with StandInHub({"tiny/llama": tiny_model("llama")}) as hub:
        hub.may_send_weights.clear()
        with started(SERVED, "tiny/llama", hub, tmp_path) as process:
            assert process.stdout is not None
            try:
                first = process.stdout.readline()
                hub.may_send_weights.set()
                out, err = process.communicate(timeout=90)
            finally:
                process.kill()
    assert first == "meanwhile downloading\n", err[-2000:]
    assert out == "3 ready\n", err[-2000:]


def test_a_hub_id_is_not_looked_for_here(tmp_path: Path) -> None:
    assert locate_here(ModelSpec("org/name")) is None
    with pytest.raises(ModelNotFound):
        locate_here(ModelSpec(str(tmp_path / "nothing")))


def _answer(status: int) -> httpx2.Response:
    return httpx2.Response(status, request=httpx2.Request("GET", "http://hub"))


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (httpx2.ConnectError("refused"), "model_load_failed", "cannot be reached"),
        (LocalEntryNotFoundError("not here"), "model_load_failed", "cannot be reached"),
        (OfflineModeIsEnabled("offline"), "model_load_failed", "HF_HUB_OFFLINE"),
        (GatedRepoError("no", response=_answer(403)), "gated_model", "accept its terms"),
        (RepositoryNotFoundError("no", response=_answer(404)), "model_not_found", "'org/far'"),
        (RevisionNotFoundError("no", response=_answer(404)), "model_not_found", "no revision 'v9'"),
        (OSError(errno.ENOSPC, "No space"), "model_load_failed", "org/far.*The disk is full"),
    ],
)
def test_what_fails_is_said_as_for_any_other_download(
    raised: Exception, code: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> str:
        raise raised

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    with pytest.raises(EngineError, match=words) as caught:
        locate(ModelSpec("org/far", revision="v9"))
    assert caught.value.code == code
