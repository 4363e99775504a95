"""What is read of a checkpoint's files, and that no file raises."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from engine.assets import asset
from engine.config import ModelSpec
from engine.inventory.checkpoint_facts import read_checkpoint
from engine.models.checkpoint import expected_bytes
from engine.models.json_files import MAX_JSON_BYTES
from tests.engine.inventory.folders import QWEN3, write_model, write_weights


def test_the_demo_model_as_it_is() -> None:
    found = read_checkpoint(asset("demo-model"))
    assert found.problems == ()
    assert (found.model_type, found.family_name, found.is_known) == ("qwen3_vl", "Qwen3-VL", True)
    assert found.modalities == ("image", "video")
    assert found.quantization == "float32"
    assert found.context_tokens == 16384
    assert found.token_bytes == 5 * 2 * 2 * 32 * 4  # layers, key and value, KV heads, width, float32


def test_a_family_that_the_table_does_not_know_is_said_so(tmp_path: Path) -> None:
    found = read_checkpoint(write_model(tmp_path / "m"))
    assert (found.model_type, found.is_known, found.modalities, found.problems) == ("qwen3", False, (), ())
    assert found.weight_bytes == 4096 and found.num_bytes > 4096
    assert found.token_bytes == 4 * 2 * 2 * 32 * 2


def test_a_family_that_cannot_run_says_why(tmp_path: Path) -> None:
    found = read_checkpoint(write_model(tmp_path / "m", {"model_type": "ultravox"}))
    assert "no implementation" in found.refused


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bits": 4, "group_size": 64}, "4-bit"),
        ({"bits": 8, "group_size": 32}, "8-bit, groups of 32"),
        ({"bits": 4, "group_size": 32, "mode": "mxfp4"}, "4-bit (mxfp4), groups of 32"),
    ],
)
def test_quantization_in_words(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    assert read_checkpoint(write_model(tmp_path / "m", {"quantization": settings})).quantization == words


def test_float8_becomes_twice_as_large_in_memory(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", {"quantization_config": {"quant_method": "fp8"}})
    write_weights(folder / "model.safetensors", 4096, "F8_E4M3")
    found = read_checkpoint(folder)
    assert (found.weight_bytes, found.quantization) == (8192, "fp8")
    assert expected_bytes(folder, ModelSpec(str(folder))) == 8192, "the engine makes room for as much"


def test_float8_that_stays_as_it_is(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", {"quantization_config": {"quant_method": "fp8", "scale_fmt": "ue8m0"}})
    write_weights(folder / "model.safetensors", 4096, "F8_E4M3")
    assert read_checkpoint(folder).weight_bytes == expected_bytes(folder, ModelSpec(str(folder))) == 4096


def test_a_sound_of_a_family_that_hears(tmp_path: Path) -> None:
    found = read_checkpoint(write_model(tmp_path / "m", {"model_type": "gemma4", "audio_config": {"a": 1}}))
    assert found.modalities == ("image", "video", "audio")


def test_a_shard_that_is_missing_and_one_that_is_cut_are_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    cut = folder / "model-00003-of-00003.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1024])
    first, second = read_checkpoint(folder).problems
    assert first == "model-00002-of-00003.safetensors is missing."
    assert second.startswith("model-00003-of-00003.safetensors has") and "of" in second


def test_a_file_that_is_too_long_is_not_whole_either(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"more")
    assert "model.safetensors has" in read_checkpoint(folder).problems[0]


def _index(folder: Path, value: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(value))


def _header(folder: Path, value: Any) -> None:
    text = json.dumps(value).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)


HOSTILE = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing."),
    "broken config": (lambda f: (f / "config.json").write_text("{oops"), "config.json is not JSON."),
    "config in another coding": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "not JSON"),
    "a list": (lambda f: (f / "config.json").write_text("[1]"), "config.json is not a JSON object."),
    "deep": (lambda f: (f / "config.json").write_text("[" * 10**6), "config.json is not JSON."),
    "huge": (lambda f: os.truncate(f / "config.json", MAX_JSON_BYTES + 1), "config.json is larger than 16 MiB."),
    "no type": (lambda f: (f / "config.json").write_text("{}"), "config.json names no model_type."),
    "a config that is a folder": (lambda f: ((f / "config.json").unlink(), (f / "config.json").mkdir()), "is missing"),
    "a config that loops": (
        lambda f: ((f / "config.json").unlink(), (f / "config.json").symlink_to(f / "config.json")),
        "config.json",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no weights in safetensors files"),
    "empty weights": (lambda f: (f / "model.safetensors").write_bytes(b""), "is not whole"),
    "a header that is said to be huge": (
        lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 2**63) + b"{}"),
        "is not whole",
    ),
    "a header without places": (lambda f: _header(f, {"w": {"dtype": "BF16"}}), "does not say where"),
    "a shape that is a word": (
        lambda f: _header(f, {"w": {"dtype": "BF16", "shape": "2x2", "data_offsets": [0, 8]}}),
        "does not say what shape",
    ),
    "places that are words": (lambda f: _header(f, {"w": {"data_offsets": ["a", "b"]}}), "does not say where"),
    "places that are true": (lambda f: _header(f, {"w": {"data_offsets": [True, True]}}), "does not say where"),
    "an index that leads out": (lambda f: _index(f, {"weight_map": {"w": "../../etc/passwd"}}), "no file of weights"),
    "an index of nothing": (lambda f: _index(f, {"weight_map": 3}), "no weights"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_wrong_with_a_folder_is_a_line(tmp_path: Path, name: str) -> None:
    spoil, reason = HOSTILE[name]
    folder = write_model(tmp_path / "m")
    assert read_checkpoint(folder).problems == (), "the folder is not sound before"
    spoil(folder)
    problems = read_checkpoint(folder).problems
    assert any(reason in problem for problem in problems), problems
    assert all("\n" not in problem and len(problem) < 300 for problem in problems)


def test_a_pipe_in_place_of_the_config_does_not_hang(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m")
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    assert read_checkpoint(folder).problems == ("config.json is missing.",)


def test_sizes_in_a_config_that_are_no_sizes(tmp_path: Path) -> None:
    strange = {"num_hidden_layers": -3, "hidden_size": 10**30, "head_dim": "wide", "max_position_embeddings": True}
    found = read_checkpoint(write_model(tmp_path / "m", strange))
    assert (found.token_bytes, found.context_tokens) == (0, 4096)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot be read" in read_checkpoint(tmp_path / "none").problems[0]


def test_a_text_part_of_the_config_counts(tmp_path: Path) -> None:
    sizes = {name: value for name, value in QWEN3.items() if name != "model_type"}
    folder = write_model(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3_vl", "text_config": sizes}))
    assert read_checkpoint(folder).token_bytes == 4 * 2 * 2 * 32 * 2
