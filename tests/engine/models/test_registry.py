"""registry: found, recognised from its own files, loaded, or refused in plain words. The hub is the stand-in."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.config import EngineConfig, ModelSpec
from engine.errors import ModelNotFound, Unavailable
from engine.models import registry
from engine.models.families import FAMILIES as FAMILY_ROWS
from tests.conftest import ROOT
from tests.families import FAMILIES, VISION
from tests.hub import StandInHub

TinyModel = Callable[..., Path]

LOCATE = """
import json, sys
from engine import device
device.prepare()
from engine.config import ModelSpec
from engine.errors import EngineError
from engine.models.registry import locate
for line in sys.stdin:
    source, revision = json.loads(line)
    try:
        said = ["PATH", str(locate(ModelSpec(source, revision=revision)))]
    except EngineError as e:
        said = ["ERROR", e.status, e.code, e.message]
    print(json.dumps(said), flush=True)
"""


class Client:
    """registry.locate in a fresh interpreter that has this hub: the client reads HF_ENDPOINT once, at import."""

    def __init__(self, hub_url: str, home: Path) -> None:
        env = os.environ | {"HF_ENDPOINT": hub_url, "HF_HOME": str(home), "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", LOCATE], env=env, cwd=home, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def locate(self, source: str, revision: str | None = None) -> list[Any]:
        """["PATH", where it is] or ["ERROR", status, code, message]."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([source, revision]) + "\n")
        self._process.stdin.flush()
        said: list[Any] = json.loads(self._process.stdout.readline())
        return said

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def load(path: Path, **spec: object) -> registry.Loaded:
    return registry.load(EngineConfig(model=ModelSpec(str(path), **spec)))  # type: ignore[arg-type]


# -- the hub -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub(tiny_model: TinyModel) -> Iterator[StandInHub]:
    with StandInHub({"tiny/qwen3-vl": tiny_model("qwen3_vl"), "tiny/llama": tiny_model("llama")}) as hub:
        yield hub


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def client(hub: StandInHub, home: Path) -> Iterator[Client]:
    with Client(hub.url, home) as client:
        yield client


def test_hub_id_downloads_a_whole_checkpoint(tiny_model: TinyModel, hub: StandInHub, client: Client) -> None:
    folder = tiny_model("qwen3_vl")
    kind, path = client.locate("tiny/qwen3-vl")
    assert kind == "PATH"
    assert {p.name for p in Path(path).iterdir()} >= {p.name for p in folder.iterdir() if p.suffix != ".md"}
    assert (Path(path) / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert any(line.startswith("GET tiny/qwen3-vl/resolve/") for line in hub.requests)
    assert load(Path(path)).card.model_type == "qwen3_vl"


def test_hub_id_again_comes_from_the_disk(
    hub: StandInHub, home: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client.locate("tiny/llama")
    assert first[0] == "PATH"
    hub.requests.clear()
    with Client(hub.url, home) as later:
        assert later.locate("tiny/llama") == first
        assert not [line for line in hub.requests if line.startswith("GET tiny/")], "weights were fetched twice"
        monkeypatch.setattr(hub, "down", True)
        assert later.locate("tiny/llama") == first, "a hub that is down broke a cached model"


def test_unknown_repository_is_a_clear_404(client: Client) -> None:
    error, *code, message = client.locate("nobody/nothing")
    assert (error, code) == ("ERROR", [404, "model_not_found"])
    assert "nobody/nothing" in message


def test_unknown_revision_is_a_clear_error(client: Client) -> None:
    error, *_, message = client.locate("tiny/llama", "no-such-branch")
    assert error == "ERROR"
    assert "tiny/llama" in message
    assert "no-such-branch" in message


def test_hub_that_answers_503_says_so(hub: StandInHub, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "down", True)
    error, *code, message = client.locate("tiny/other")
    assert (error, code) == ("ERROR", [503, "model_load_failed"])
    assert "tiny/other" in message


def test_hub_that_cannot_be_reached_says_so(tmp_path: Path) -> None:
    with Client("http://127.0.0.1:9", tmp_path) as client:
        error, *code, message = client.locate("tiny/llama")
    assert (error, code) == ("ERROR", [503, "model_load_failed"])
    assert "tiny/llama" in message


# -- local sources -----------------------------------------------------------------------------------------------------


def test_demo_is_a_checkpoint_like_any_other() -> None:
    path = registry.locate(ModelSpec())
    assert (path / "config.json").is_file()
    assert registry.locate(ModelSpec(str(path))) == path


@pytest.mark.parametrize("source", ["", "no/such/folder/here", "/no/such/folder", "./nothing", "~/nothing", "a b/c"])
def test_a_source_that_is_nothing_is_refused(source: str) -> None:
    with pytest.raises(ModelNotFound):
        registry.locate(ModelSpec(source))


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        registry.locate(ModelSpec(str(tmp_path)))


# -- what a checkpoint is, from its own files --------------------------------------------------------------------------

LOADABLE = list(FAMILIES)


@pytest.mark.parametrize("family", LOADABLE)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "4bit"])
def test_every_tiny_model_loads(tiny_model: TinyModel, family: str, dtype: str) -> None:
    card = load(tiny_model(family, dtype)).card
    assert card.model_type == family
    assert card.vision == FAMILIES[family].vision
    assert card.dtype == {"4bit": "4-bit"}.get(dtype, dtype)
    assert card.context_tokens == 4096
    assert 10_000 < card.num_params < 4_000_000
    assert card.num_bytes > 0


def test_the_kind_is_never_read_from_the_name(tiny_model: TinyModel, tmp_path: Path) -> None:
    text_named_vision = shutil.copytree(tiny_model("llama"), tmp_path / "qwen3-vl-vision-instruct")
    vision_named_text = shutil.copytree(tiny_model("qwen3_vl"), tmp_path / "llama-text-base")
    assert not load(text_named_vision).card.vision
    assert load(vision_named_text).card.vision


def test_text_only_leaves_the_vision_tower_out(tiny_model: TinyModel) -> None:
    card = load(tiny_model("gemma3"), text_only=True).card
    assert not card.vision
    assert not card.video


def test_stop_ids_are_the_union_of_all_places(tiny_model: TinyModel) -> None:
    """The tiny models keep <|endoftext|> in config.json and <|im_end|> in generation_config.json and the tokenizer."""
    for family in ("qwen3_vl", "llama", "gemma4"):
        loaded = load(tiny_model(family))
        vocab = loaded.tokenizer.get_vocab()
        assert loaded.stop_ids == {vocab["<|endoftext|>"], vocab["<|im_end|>"]}
        assert loaded.special_ids >= loaded.stop_ids


def test_a_processors_own_stop_token_counts(tiny_model: TinyModel) -> None:
    """Idefics3 ends its turns with a token that none of its config files names as a stop id."""
    loaded = load(tiny_model("idefics3"))
    assert loaded.tokenizer.get_vocab()["<end_of_utterance>"] in loaded.stop_ids


@pytest.mark.parametrize("place", ["generation_config.json", "config.json", "tokenizer_config.json"])
def test_each_place_of_stop_ids_counts(tiny_model: TinyModel, tmp_path: Path, place: str) -> None:
    """Sabotage twin of the union: emptied of its stop id, the place is missed."""
    folder = shutil.copytree(tiny_model("qwen3"), tmp_path / "model")
    vocab = load(folder).tokenizer.get_vocab()
    for name in ("generation_config.json", "config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        content["eos_token" if name.startswith("tokenizer") else "eos_token_id"] = None
        (folder / name).write_text(json.dumps(content))
    assert not load(folder).stop_ids
    content = json.loads((folder / place).read_text())
    if place.startswith("tokenizer"):
        content["eos_token"] = "<|im_start|>"
    else:
        content["eos_token_id"] = vocab["<|im_start|>"]
    (folder / place).write_text(json.dumps(content))
    assert load(folder).stop_ids == {vocab["<|im_start|>"]}


def test_generation_defaults_come_with_the_checkpoint(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model("llama"), tmp_path / "model")
    path = folder / "generation_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"temperature": 0.3, "top_k": 7}))
    assert (load(folder).card.sampling.temperature, load(folder).card.sampling.top_k) == (0.3, 7)
    path.write_text(json.dumps(settings | {"temperature": 0.3, "do_sample": False}))
    assert load(folder).card.sampling.temperature == 0.0


def test_max_model_len_only_lowers_the_context(tiny_model: TinyModel) -> None:
    def context(max_model_len: int) -> int:
        spec = ModelSpec(str(tiny_model("llama")))
        return registry.load(EngineConfig(model=spec, max_model_len=max_model_len)).card.context_tokens

    assert context(128) == 128
    assert context(1_000_000) == 4096


# -- refusals ----------------------------------------------------------------------------------------------------------


REFUSED = [name for name, row in FAMILY_ROWS.items() if row.refused]


@pytest.mark.parametrize("model_type", REFUSED)
def test_a_family_that_cannot_run_is_refused_in_plain_words(tmp_path: Path, model_type: str) -> None:
    """By name and with its reason, before anything of it is loaded."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(Unavailable) as caught:
        load(tmp_path)
    assert caught.value.message == f"{model_type} models cannot run here: {FAMILY_ROWS[model_type].refused}."


def with_code(folder: Path, target: Path, mark: Path) -> Path:
    """A copy of a checkpoint that names code of its own wherever transformers looks for it; run, it leaves a mark."""
    shutil.copytree(folder, target)
    auto = dict.fromkeys(("AutoConfig", "AutoProcessor", "AutoImageProcessor", "AutoModel"), "evil.Evil")
    auto |= {"AutoFeatureExtractor": "evil.Evil", "AutoVideoProcessor": "evil.Evil"}
    for path in target.glob("*config.json"):
        content = json.loads(path.read_text())
        own = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]} if path.name == "tokenizer_config.json" else {}
        path.write_text(json.dumps(content | {"auto_map": auto | own}))
    (target / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Evil: pass\n")
    return target


@pytest.fixture
def modules_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where transformers copies a checkpoint's code before it runs it."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))


@pytest.mark.parametrize("family", [*VISION, "llama"])
@pytest.mark.usefixtures("modules_cache")
def test_code_that_transformers_would_run_is_not_run(tiny_model: TinyModel, tmp_path: Path, family: str) -> None:
    """Loaded without it or refused, whichever the family's files need."""
    with contextlib.suppress(Unavailable):
        load(with_code(tiny_model(family), tmp_path / "model", tmp_path / "ran"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("family", ["qwen2_vl", "llama"])
@pytest.mark.usefixtures("modules_cache")
def test_sabotage_with_trust_the_same_code_runs(tiny_model: TinyModel, tmp_path: Path, family: str) -> None:
    """Twin: the files above do lead to the code."""
    with contextlib.suppress(Unavailable):
        load(with_code(tiny_model(family), tmp_path / "model", tmp_path / "ran"), trust_remote_code=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("family", ["llama", "qwen2_vl"])
def test_a_model_file_runs_only_when_trusted(tiny_model: TinyModel, tmp_path: Path, family: str, trusted: bool) -> None:
    folder = shutil.copytree(tiny_model(family), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_file": "evil.py"}))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(Unavailable, match=None if trusted else "trust-remote-code"):
        load(folder, trust_remote_code=trusted)
    assert (tmp_path / "ran").exists() == trusted


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{not json"),
        ("config.json", '{"model_type": "no_such_architecture"}'),
        ("model.safetensors", "garbage"),
        ("tokenizer.json", "{}"),
    ],
)
def test_a_broken_checkpoint_is_a_load_failure(tiny_model: TinyModel, tmp_path: Path, name: str, content: str) -> None:
    folder = shutil.copytree(tiny_model("qwen2"), tmp_path / "model")
    (folder / name).write_text(content)
    with pytest.raises(Unavailable) as caught:
        load(folder)
    assert caught.value.code == "model_load_failed"
    assert str(folder) in caught.value.message


def test_a_broken_processor_is_not_a_text_model(tiny_model: TinyModel, tmp_path: Path) -> None:
    """mlx-vlm hands out a bare tokenizer when a processor fails; pictures would then be lost in silence."""
    folder = shutil.copytree(tiny_model("qwen2_vl"), tmp_path / "model")
    (folder / "preprocessor_config.json").write_text("{broken")
    with pytest.raises(Unavailable, match=r"processor|preprocessor|JSON"):
        load(folder)
