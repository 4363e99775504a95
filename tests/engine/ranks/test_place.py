"""Which rank this process is, and what several of them cannot serve: each refusal names what to do, or the numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.config import CacheConfig, EngineConfig, ModelSpec
from engine.errors import BadRequest, Unavailable
from engine.ranks.place import RankPlace, rank_place
from engine.types import RemoteServer

TWO = RankPlace(rank=0, size=2, host="127.0.0.1")


def launched(folder: Path, hosts: list[list[str]], rank: int) -> dict[str, str]:
    """The environment that mlx.launch makes for its ring."""
    path = folder / "hosts.json"
    path.write_text(json.dumps(hosts))
    return {"MLX_HOSTFILE": str(path), "MLX_RANK": str(rank)}


def test_one_process_is_no_rank() -> None:
    assert rank_place(1, {"MLX_RANK": "0"}) is None


def test_the_ring_says_who_is_where(tmp_path: Path) -> None:
    hosts = [["10.0.0.1:5000"], ["10.0.0.2:5001"], ["10.0.0.2:5002"]]
    first, last = (rank_place(3, launched(tmp_path, hosts, rank)) for rank in (0, 2))
    assert first == RankPlace(0, 3, "10.0.0.1", "ring", num_here=1) and first.leads
    assert last == RankPlace(2, 3, "10.0.0.1", "ring", num_here=2) and not last.leads


def test_jaccl_says_where_rank_0_is(tmp_path: Path) -> None:
    devices = tmp_path / "devices.json"
    devices.write_text(json.dumps([[None, "rdma_en2"], ["rdma_en2", None]]))
    environment = {"MLX_RANK": "1", "MLX_JACCL_COORDINATOR": "10.0.0.1:4000", "MLX_IBV_DEVICES": str(devices)}
    assert rank_place(2, environment) == RankPlace(1, 2, "10.0.0.1", "jaccl")


def test_a_rank_that_was_started_alone_is_told_how() -> None:
    with pytest.raises(BadRequest, match=r"mlx\.launch -n 4 --backend ring -- vllm-mlx serve MODEL") as refused:
        rank_place(4, {})
    assert refused.value.param == "tensor_parallel_size"


def test_two_numbers_of_processes_are_refused_with_both(tmp_path: Path) -> None:
    environment = launched(tmp_path, [["127.0.0.1:1"], ["127.0.0.1:2"], ["127.0.0.1:3"]], 0)
    with pytest.raises(BadRequest, match=r"tensor_parallel_size 2: mlx\.launch has started 3 processes"):
        rank_place(2, environment)


@pytest.mark.parametrize("text", ["", "{", "[[]]", "7"])
def test_a_hostfile_that_is_none_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "hosts.json"
    path.write_text(text)
    with pytest.raises(BadRequest, match="tensor_parallel_size"):
        rank_place(2, {"MLX_HOSTFILE": str(path), "MLX_RANK": "0"})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"more_models": (ModelSpec("other"),)}, r"serve one model together, not 2 \(demo, other\)"),
        ({"model": ModelSpec(adapter_path="x", name="a")}, "a LoRA adapter is not divided"),
        ({"cache": CacheConfig(disk_folder=Path("x"))}, "none is kept on disk"),
    ],
)
def test_what_several_processes_cannot_serve_is_refused(settings: dict[str, Any], words: str) -> None:
    EngineConfig(**settings)
    with pytest.raises(BadRequest, match=f"tensor_parallel_size 2: .*{words}") as refused:
        EngineConfig(ranks=TWO, **settings)
    assert refused.value.code == "unsupported_parameter"


def test_a_model_of_another_server_may_stand_beside() -> None:
    remote = ModelSpec.remote(RemoteServer("http://127.0.0.1:1/v1", key="", model="x"), "other")
    config = EngineConfig(ranks=TWO, more_models=(remote,))
    assert [config.of(spec).ranks for spec in config.models] == [TWO, TWO]


def test_a_model_is_not_added_to_one_that_is_divided() -> None:
    with pytest.raises(BadRequest, match="serve one model together"):
        EngineConfig(ranks=TWO).with_model(ModelSpec("other"))


QWEN3 = {"model_type": "qwen3", "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 9728}


@pytest.mark.parametrize(
    ("changes", "size", "words"),
    [
        ({}, 3, "num_attention_heads 32 cannot be divided by 3"),
        ({"num_attention_heads": 36, "num_key_value_heads": 4}, 3, "num_key_value_heads 4 cannot be divided by 3"),
        ({"num_attention_heads": 40, "num_key_value_heads": 10}, 5, "intermediate_size 9,728 cannot be divided by 5"),
        ({"model_type": "gemma3"}, 2, "gemma3 models are not divided among ranks here, only llama, qwen2, qwen3"),
    ],
)
def test_heads_that_do_not_divide_are_refused_with_the_numbers(changes: dict[str, Any], size: int, words: str) -> None:
    from engine.models.sharding import check_divides

    check_divides(QWEN3, 2)
    with pytest.raises(Unavailable, match=f"tensor_parallel_size {size}: {words}"):
        check_divides(QWEN3 | changes, size)
    with pytest.raises(Unavailable, match=words):  # of a model that sees, its language model's count
        text = QWEN3 | changes
        check_divides({"model_type": text["model_type"], "text_config": text}, size)


def test_groups_of_quantized_numbers_are_not_cut() -> None:
    from types import SimpleNamespace

    import mlx.core as mx
    from mlx import nn

    from engine.models.sharding import _check_groups

    def quantized(width: int) -> nn.Module:
        return nn.QuantizedLinear.from_linear(nn.Linear(width, 32, bias=False), group_size=64)

    layer = SimpleNamespace(self_attn={"o_proj": quantized(128)}, mlp={"down_proj": quantized(192)})
    mx.eval([module.parameters() for module in (layer.self_attn["o_proj"], layer.mlp["down_proj"])])
    with pytest.raises(Unavailable, match="down_proj is quantized in 3 groups of 64, which 2 cannot divide"):
        _check_groups(layer, 2)
    with pytest.raises(Unavailable, match="o_proj is quantized in 2 groups of 64, which 3 cannot divide"):
        _check_groups(layer, 3)
    _check_groups(layer, 1)
