"""models.yaml: what it says becomes settings, and what is wrong in it is told with its line, its key and what was
expected."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from engine.arguments.engine import add_engine_arguments, engine_config
from engine.arguments.models import add_several_models_arguments
from engine.arguments.types import named_adapter
from engine.config import EngineConfig, ModelSpec, VisionProxy
from engine.errors import BadRequest, Unavailable
from engine.models.checkpoint import expected_bytes
from engine.models.safetensors_files import read_header
from engine.models_file import Machine, read_models
from tests.conftest import ROOT

TinyModel = Callable[..., Path]
LARGE = Machine(64 * 1024**3)


def read(folder: Path, text: str, machine: Machine = LARGE) -> tuple[ModelSpec, ...]:
    file = folder / "models.yaml"
    file.write_text(dedent(text))
    return read_models(file, ModelSpec(trust_remote_code=True), machine)


def test_the_example_can_be_read_and_says_what_its_comments_say() -> None:
    specs = read_models(ROOT / "assets" / "models.example.yaml", ModelSpec(), LARGE)
    shapes, words, tuned, far, described = specs
    assert (shapes.served_name, shapes.source, shapes.aliases, shapes.preload) == (
        "shapes", "demo", ("gpt-4o-mini",), True,
    )  # fmt: skip
    assert (shapes.max_bytes, shapes.max_seqs, shapes.max_model_len) == (4096 * 1024**2, 16, 2048)
    assert shapes.prefill_chunk_tokens == 256 and shapes.vision == "native"
    assert (words.source, words.bits, words.dtype) == ("mlx-community/Qwen3-0.6B-bf16", 4, None)
    assert (words.idle_unload_s, words.vision, words.preload) == (600, "disabled", None)
    assert tuned.draft_model == "mlx-community/Qwen3-0.6B-4bit"
    assert far.server is not None and (far.server.host, far.server.model) == ("gpu.example.org", "org/large")
    assert described.vision == "proxy" and described.vision_proxy is not None
    assert described.vision_proxy.model == "shapes" and "{prompt}" in described.vision_proxy.prompt_template
    config = EngineConfig(model=specs[0], more_models=specs[1:])
    own = config.of(shapes)
    assert (own.max_num_seqs, own.max_model_len, own.prefill_chunk_tokens) == (16, 2048, 256)


def test_the_default_model_comes_first_and_paths_are_beside_the_file(tiny_model: TinyModel, tmp_path: Path) -> None:
    shutil.copytree(tiny_model("llama"), tmp_path / "mine")
    one, two = read(
        tmp_path,
        """
        models:
          - {name: one, path: demo}
          - {name: two, path: mine, default: true, params: {dtype: bfloat16}}
        """,
    )
    assert (one.served_name, two.served_name) == ("two", "one")
    assert one.source == str(tmp_path / "mine") and (one.bits, one.dtype) == (None, "bfloat16")
    assert one.trust_remote_code, "what holds for all of them"


def test_a_proxy_that_is_not_in_the_file_comes_with_it(tmp_path: Path) -> None:
    text, eyes = read(
        tmp_path,
        """
        models:
          - name: text
            hf_id: org/text
            capabilities: {vision_mode: proxy}
            vision_proxy: {hf_id: org/eyes}
        """,
    )
    assert text.vision_proxy == VisionProxy("org/eyes")
    assert (eyes.served_name, eyes.vision, eyes.preload) == ("org/eyes", "native", None)


WRONG = {
    "no list": ("models: 3", 1, "models", "list"),
    "none": ("models: []", 1, "models", "at least 1"),
    "empty": ("", 1, "the file", "mapping"),
    "a key of the file": ("models:\n- {name: a, path: demo}\nmodel: b", 3, "model", "known are models"),
    "a key of a model": ("models:\n- name: a\n  path: demo\n  dtype: 4bit", 4, "models[0].dtype", "known are name"),
    "a key of params": (
        "models:\n- name: a\n  path: demo\n  params:\n    memory: 4", 5, "models[0].params.memory", "known are mem",
    ),
    "a word for a number": (
        "models:\n- name: a\n  path: demo\n  params:\n    mem: much", 5, "models[0].params.mem", "integer, got 'much'",
    ),
    "too small": ("models:\n- name: a\n  path: demo\n  params:\n    mem: 0", 5, "models[0].params.mem", "equal to 1"),
    "not a dtype": (
        "models:\n- name: a\n  path: demo\n  params:\n    dtype: int3", 5, "models[0].params.dtype", "'bfloat16'",
    ),
    "not a mode": (
        "models:\n- name: a\n  path: demo\n  capabilities:\n    vision_mode: off",
        5, "models[0].capabilities.vision_mode", "'disabled'",
    ),
    "no mapping": ("models:\n- name: a\n  path: demo\n  params: 3", 4, "models[0].params", "mapping"),
    "seconds": ("models:\n- name: a\n  path: demo\n  idle_unload_secs: -1", 4, "models[0].idle_unload_secs", "than 0"),
    "no name": ("models:\n- path: demo", 2, "models[0].name", "missing"),
    "neither": ("models:\n- name: a", 2, "models[0]", "one of path"),
    "both": ("models:\n- name: a\n  path: demo\n  hf_id: org/a", 2, "models[0]", "one of path"),
    "no hub id": ("models:\n- name: a\n  hf_id: nothing", 3, "models[0].hf_id", "pattern"),
    "no model": ("models:\n- name: a\n  path: /no/such/model", 3, "models[0].path", "No model"),
    "two of one name": (
        "models:\n- {name: a, path: demo}\n- name: a\n  path: demo", 3, "models[1].name", "models[0] has the name 'a'",
    ),
    "an alias that is a name": (
        "models:\n- {name: a, path: demo}\n- name: b\n  path: demo\n  aliases: [c, a]", 5, "models[1].aliases", "'a'",
    ),
    "the word default": ("models:\n- name: default\n  path: demo", 2, "models[0].name", "'default'"),
    "two defaults": (
        "models:\n- {name: a, path: demo, default: true}\n- name: b\n  path: demo\n  default: true",
        5, "models[1].default", "only one",
    ),
    "a proxy without its mode": (
        "models:\n- name: a\n  path: demo\n  vision_proxy: {model: a}", 2, "models[0]", "vision_mode: proxy",
    ),
    "its own proxy": (
        "models:\n- name: a\n  path: demo\n  capabilities: {vision_mode: proxy}\n  vision_proxy: {model: a}",
        5, "models[0].vision_proxy", "its own proxy",
    ),
    "a proxy that is not there": (
        "models:\n- name: a\n  path: demo\n  capabilities: {vision_mode: proxy}\n  vision_proxy:\n    model: b",
        6, "models[0].vision_proxy.model", "no model 'b'",
    ),
    "a template with a mistake": (
        "models:\n- name: a\n  path: demo\n  capabilities: {vision_mode: proxy}\n  vision_proxy:\n    model: b\n"
        "    prompt_template: 'See {questoin}'",
        7, "models[0].vision_proxy.prompt_template", "{question}",
    ),
    "no folder of a draft model": (
        "models:\n- name: a\n  path: demo\n  draft_model: nowhere", 4, "models[0].draft_model", "no folder 'nowhere'",
    ),
    "no folder of an adapter": (
        "models:\n- name: a\n  path: demo\n  adapter_path: nowhere", 4, "models[0].adapter_path", "no folder 'nowhere'",
    ),
    "no folder of one of its adapters": (
        "models:\n- name: a\n  path: demo\n  adapters:\n    x: nowhere", 5, "models[0].adapters.x", "no folder",
    ),
    "an adapter's name": (
        "models:\n- name: a\n  path: demo\n  adapters:\n    'x:y': .", 5, "models[0].adapters.x:y", "pattern",
    ),
    "one adapter and several": (
        "models:\n- name: a\n  path: demo\n  adapter_path: .\n  adapters: {x: .}", 5, "models[0].adapters", "or shares",
    ),
    "an adapter of a name that is taken": (
        "models:\n- {name: 'a:x', path: demo}\n- name: a\n  path: demo\n  adapters: {x: .}",
        5, "models[1].adapters", "'a:x'",
    ),
    "not YAML": ("models:\n- name: a\n  path: [demo", 3, "", "expected"),
    "a key twice": ("models:\n- name: a\n  name: b\n  path: demo", 3, "", "duplicate key"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_with_its_line_and_its_key(tmp_path: Path, name: str) -> None:
    text, line, key, expected = WRONG[name]
    with pytest.raises(BadRequest) as caught:
        read(tmp_path, text)
    message = caught.value.message
    assert message.startswith(f"{tmp_path / 'models.yaml'}:{line}: {key}"), message
    assert expected in message, message
    assert caught.value.param == "models_config"


def test_a_proxy_that_sees_nothing_is_refused(tiny_model: TinyModel, tmp_path: Path) -> None:
    text = f"""
        models:
          - name: blind
            path: {tiny_model("llama")}
          - name: text
            path: {tiny_model("qwen3")}
            capabilities: {{vision_mode: proxy}}
            vision_proxy: {{model: blind}}
        """
    with pytest.raises(BadRequest, match=r":8: models\[1\]\.vision_proxy: blind sees nothing"):
        read(tmp_path, text)


def test_a_model_larger_than_memory_is_refused_with_the_numbers(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = tiny_model("llama")
    text = f"models:\n- name: a\n  path: {folder}"
    with pytest.raises(BadRequest, match=r":2: models\[0\]: its weights take .* KiB.* 1 KiB of memory"):
        read(tmp_path, text, Machine(1024))
    size = expected_bytes(folder, ModelSpec(str(folder)))
    assert read(tmp_path, text, Machine(size))
    with pytest.raises(BadRequest, match=r":5: models\[0\]\.params\.mem: its weights take .* MiB of memory"):
        read(tmp_path, f"models:\n- name: a\n  path: {large(tmp_path)}\n  params:\n    mem: 1")


def large(folder: Path) -> Path:
    """A folder whose weights take 2 MiB, as its headers say."""
    import numpy as np
    from safetensors.numpy import save_file

    model = folder / "large"
    model.mkdir()
    (model / "config.json").write_text("{}")
    save_file({"weight": np.zeros((512, 1024), np.float32)}, model / "model.safetensors")
    return model


def test_what_is_quantized_already_is_not_quantized_again(tiny_model: TinyModel, tmp_path: Path) -> None:
    text = f"models:\n- name: a\n  path: {tiny_model('llama', '4bit')}\n  params:\n    dtype: 8bit"
    with pytest.raises(BadRequest, match=r":5: models\[0\]\.params\.dtype: .*quantized already"):
        read(tmp_path, text)


def test_adapters_are_further_models(tmp_path: Path) -> None:
    (tmp_path / "art").mkdir()
    specs = read(
        tmp_path,
        """
        models:
          - name: shapes
            path: demo
            aliases: [gpt]
            adapters: {art: art}
            params: {max_num_seqs: 3}
          - name: plain
            path: demo
            default: true
            adapter_path: ./art
          - name: seen
            path: demo
            capabilities: {vision_mode: proxy}
            vision_proxy: {model: "shapes:art"}
        """,
    )
    assert [spec.served_name for spec in specs] == ["plain", "shapes", "seen", "shapes:art"]
    plain, shapes, _, art = specs
    folder = str(tmp_path / "art")
    assert (plain.adapter_path, plain.parent, shapes.adapter_path) == (folder, None, None)
    assert (art.adapter_path, art.parent, art.aliases, art.max_seqs) == (folder, "shapes", ("gpt:art",), 3)
    assert EngineConfig(model=plain, more_models=specs[1:]).find("gpt:art") is art


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
@pytest.mark.parametrize("asked", ["params: {dtype: bfloat16}", "of another, which shows it pictures"])
def test_a_model_whose_config_cannot_be_read(tmp_path: Path, content: str, asked: str) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text(content, encoding="latin-1")
    text = "models:\n- {name: a, path: demo}\n- name: b\n  path: broken\n"
    if asked.startswith("params"):
        text += f"  {asked}\n"
    else:
        text += "- name: c\n  path: demo\n  capabilities: {vision_mode: proxy}\n  vision_proxy: {model: b}\n"
    with pytest.raises(BadRequest, match=r":4: models\[1\]\.path: in .*broken: config\.json is not"):
        read(tmp_path, text)


def config_of(*arguments: str) -> EngineConfig:
    parser = argparse.ArgumentParser()
    add_engine_arguments(parser)
    add_several_models_arguments(parser)
    return engine_config(parser.parse_args(arguments))


def test_models_on_the_command_line(tmp_path: Path) -> None:
    config = config_of("--m", "org/one", "--model", "two=org/second", "--max-loaded-models", "1")
    assert [spec.served_name for spec in config.models] == ["org/one", "two"]
    assert config.model.name is None and config.more_models[0].source == "org/second"
    assert (config.max_loaded_models, config.max_models_bytes, config.idle_unload_s) == (1, None, None)
    config = config_of("--models-memory-mb", "100", "--idle-unload-secs", "60")
    assert (config.max_models_bytes, config.idle_unload_s) == (100 * 1024**2, 60.0)
    assert config.models == (ModelSpec(),)
    odd = tmp_path / "a=b"
    odd.mkdir()
    assert config_of("--model", str(odd)).model.source == str(odd)
    with pytest.raises(BadRequest, match="--served-model-name"):
        config_of("--model", "org/a", "--model", "org/b", "--served-model-name", "x")


def test_adapters_on_the_command_line(tmp_path: Path) -> None:
    folder = str(tmp_path.resolve())
    assert config_of("--adapter-path", folder).model == ModelSpec(adapter_path=folder)
    as_json = json.dumps({"name": "y", "path": folder, "base_model_name": "two"})
    config = config_of("--model", "one=org/1", "--model", "two=org/2", "--lora-modules", f"x={folder}", as_json)
    assert [spec.served_name for spec in config.models] == ["one", "two", "one:x", "two:y"]
    assert config.find("x").parent == "one" and config.find("y").parent == "two"
    assert config.find("org/2").served_name == "two", "an adapter is not meant by its base's source"
    for wrong, why in {
        "x": "is not like NAME=FOLDER",
        '{"name": "x"}': "is not like NAME=FOLDER",
        f"a:b={folder}": "is no name of an adapter",
        f"x={folder}/none": "there is no folder",
        json.dumps({"name": "x", "path": folder, "more": 1}): "are what it may say",
        json.dumps({"name": 1, "path": folder}): "are what it may say",
    }.items():
        with pytest.raises(argparse.ArgumentTypeError, match=why):
            named_adapter(wrong)
    for arguments, why in {
        ("--adapter-path", folder, "--model", "org/1", "--model", "org/2"): "--adapter-path: with several models",
        ("--adapter-path", folder, "--lora-modules", f"x={folder}"): "--lora-modules: a model is loaded with one",
        ("--lora-modules", as_json): "there is no model 'two'",
    }.items():
        with pytest.raises(BadRequest, match=why):
            config_of(*arguments)


def test_the_file_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("models:\n- {name: a, path: demo}\n- {name: b, hf_id: org/b}\n")
    config = config_of("--models-config", str(file), "--text-only")
    assert [(spec.served_name, spec.text_only) for spec in config.models] == [("a", True), ("b", True)]
    adapters = (["--adapter-path", str(tmp_path)], ["--lora-modules", f"x={tmp_path}"])
    for more in (["--model", "demo"], ["--served-model-name", "x"], ["--revision", "x"], *adapters):
        with pytest.raises(BadRequest, match=f"{more[0]}: --models-config"):
            config_of("--models-config", str(file), *more)


def test_a_command_for_one_model_takes_one() -> None:
    parser = argparse.ArgumentParser()
    add_engine_arguments(parser)
    with pytest.raises(BadRequest, match="takes one model"):
        engine_config(parser.parse_args(["--model", "org/a", "--model", "org/b"]))


# -- headers of weights ------------------------------------------------------------------------------------------------


def test_the_size_is_what_the_weights_take(tiny_model: TinyModel) -> None:
    from engine.models import registry

    for family, dtype in (("llama", "float32"), ("qwen3_vl", "bfloat16"), ("qwen3", "4bit")):
        folder = tiny_model(family, dtype)
        loaded = registry.load(EngineConfig(model=ModelSpec(str(folder))))
        assert expected_bytes(folder, ModelSpec()) == pytest.approx(loaded.card.num_bytes, rel=0.15)


@pytest.mark.parametrize("dtype", ["bfloat16", "4bit", "8bit"])
def test_weights_are_changed_as_they_are_loaded(tiny_model: TinyModel, dtype: str) -> None:
    from engine.models import registry

    bits = int(dtype[0]) if dtype.endswith("bit") else None
    folder = tiny_model("llama")
    spec = ModelSpec(str(folder), bits=bits, dtype=None if bits else dtype)
    plain, changed = (registry.load(EngineConfig(model=one)) for one in (ModelSpec(str(folder)), spec))
    assert changed.card.dtype == {"bfloat16": "bfloat16", "4bit": "4-bit", "8bit": "8-bit"}[dtype]
    assert changed.card.num_bytes < 0.6 * plain.card.num_bytes
    assert expected_bytes(folder, spec) == pytest.approx(changed.card.num_bytes, rel=0.15)
    assert changed.fingerprint != plain.fingerprint, "their stored KV is not the same"
    with pytest.raises(Unavailable, match="quantized already"):
        registry.load(EngineConfig(model=ModelSpec(str(tiny_model("llama", "4bit")), bits=8)))


@pytest.mark.parametrize("cut", [0, 4, 8, 20, -1], ids=["empty", "no length", "no header", "half a header", "one byte"])
def test_a_file_that_is_cut_off_is_found_by_its_header(tiny_model: TinyModel, tmp_path: Path, cut: int) -> None:
    whole = tiny_model("llama") / "model.safetensors"
    file = tmp_path / "model.safetensors"
    file.write_bytes(whole.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"model\.safetensors (is not whole|has)"):
        read_header(file)
    with pytest.raises(Unavailable, match=r"is not whole.*model\.safetensors"):
        expected_bytes(tmp_path, ModelSpec())
    assert len(read_header(whole)) > 5


def test_a_missing_part_is_found_by_the_index(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model("llama"), tmp_path / "parts")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    )
    with pytest.raises(Unavailable, match=r"model-00002-of-00002.*missing"):
        expected_bytes(folder, ModelSpec())
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(Unavailable, match="index"):
        expected_bytes(folder, ModelSpec())
