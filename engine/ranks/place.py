"""Which of several processes this one is, as `mlx.launch` tells it in the environment. Pure.

https://ml-explore.github.io/mlx/build/html/usage/distributed.html
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.errors import BadRequest

Backend = Literal["ring", "jaccl", "nccl"]

OPTION = "tensor_parallel_size"
MOST_RANKS = 64

LOST_STATUS = 1
"""With which a process ends that has lost another one."""


@dataclass(frozen=True, slots=True)
class RankPlace:
    """This process among `size` that hold a part of one model each. host: the address at which the others reach rank 0,
    an IPv4 address or a name. num_here: how many of them are on this machine, as far as the environment tells."""

    rank: int
    size: int
    host: str
    backend: Backend = "ring"
    num_here: int = 1

    @property
    def leads(self) -> bool:
        """Whether it is the one that plans and answers."""
        return self.rank == 0

    def check(self, models: tuple[Any, ...], disk_folder: Path | None) -> None:
        """Raise BadRequest for settings that several processes cannot have. models: ModelSpecs."""
        here = [spec for spec in models if spec.server is None]
        if len(here) > 1:
            names = ", ".join(spec.served_name for spec in here)
            raise self._refused(f"several processes serve one model together, not {len(here)} ({names})")
        if any(spec.adapter_path is not None for spec in here):
            raise self._refused("a LoRA adapter is not divided among processes; merge it into the model's weights")
        if disk_folder is not None:
            raise self._refused("each process holds its own part of the KV, so none is kept on disk (--cache-dir)")

    def _refused(self, why: str) -> BadRequest:
        return BadRequest(f"{OPTION} {self.size}: {why}.", param=OPTION, code="unsupported_parameter")


def leave(status: int = LOST_STATUS) -> None:
    """End this process now: MLX's threads may wait for ranks that are gone, so that nothing more can end in order."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def rank_place(size: int, environment: Mapping[str, str], *, script: bool = False) -> RankPlace | None:
    """The place of this process among so many; None for one alone. script: it is a script of the user, not our server.
    Raises BadRequest where they were not started together, or are of another number."""
    if not 1 <= size <= MOST_RANKS:
        raise BadRequest(f"{OPTION}: it must be from 1 to {MOST_RANKS}, not {size}.", param=OPTION)
    if size == 1:
        return None
    try:
        found = _found(environment)
    except (ValueError, TypeError, KeyError, IndexError, OSError) as error:
        raise BadRequest(f"{OPTION}: what mlx.launch has told cannot be read: {error!r}.", param=OPTION) from None
    if found is None:
        command = "python SCRIPT" if script else f"vllm-mlx serve MODEL --tensor-parallel-size {size}"
        why = (
            f"it takes {size} processes that are started together: mlx.launch -n {size} --backend ring -- {command} "
            "(on several machines with --hosts in place of -n)"
        )
        raise BadRequest(f"{OPTION} {size}: {why}.", param=OPTION, code="unsupported_parameter")
    if found.size != size:
        why = f"mlx.launch has started {found.size} processes"
        raise BadRequest(f"{OPTION} {size}: {why}; the two numbers must be the same.", param=OPTION)
    return found


def _found(environment: Mapping[str, str]) -> RankPlace | None:
    """As far as the environment is one that mlx.launch has made. Raises what reading it raises."""
    if "MLX_RANK" not in environment:
        return None
    rank = int(environment["MLX_RANK"])
    if hosts_file := environment.get("MLX_HOSTFILE"):
        text = Path(hosts_file).read_text(encoding="utf-8").strip()
        hosts = [addresses[0].rpartition(":")[0] for addresses in json.loads(text)] if text else ["127.0.0.1"]
        return RankPlace(rank, len(hosts), hosts[0], "ring", hosts.count(hosts[rank]))
    if coordinator := environment.get("MLX_JACCL_COORDINATOR"):
        devices = json.loads(Path(environment["MLX_IBV_DEVICES"]).read_text(encoding="utf-8"))
        return RankPlace(rank, len(devices), coordinator.rpartition(":")[0], "jaccl")
    if host := environment.get("NCCL_HOST_IP"):
        return RankPlace(rank, int(environment["MLX_WORLD_SIZE"]), host, "nccl")
    return None
