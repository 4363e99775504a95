"""What both stages share: two workers that average their weights, the optimizer, the schedule, checkpoints."""

from __future__ import annotations

import argparse
import math
import os
import random
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def polar(g: torch.Tensor, steps: int = 4) -> torch.Tensor:
    """The nearest matrix whose singular values are all about 1 (Newton-Schulz iteration)."""
    tall = g.shape[0] > g.shape[1]
    x = g.T if tall else g
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, then orthogonalised: learns about twice as fast as AdamW on the matrices between layers."""

    def __init__(self, groups, momentum=0.95):
        super().__init__(groups, dict(lr=1e-3, weight_decay=0.02, momentum=momentum))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "m" not in state:
                    state["m"] = torch.zeros_like(p)
                state["m"].lerp_(p.grad, 1 - group["momentum"])
                step = polar(p.grad.lerp(state["m"], group["momentum"]))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(step, alpha=-group["lr"] * 0.2 * math.sqrt(max(p.shape)))


class Optimizer:
    """Muon for the matrices inside the blocks, AdamW for all else; ``parts`` are (named parameters, factor of the rate)."""

    def __init__(self, parts, rate: float):
        muon, adam, plain = [], [], []
        for named, factor in parts:
            a, b, c = [], [], []
            for name, p in named:
                if p.ndim != 2:
                    c.append(p)
                elif ("blocks." in name or "layers." in name) and "merger" not in name:
                    a.append(p)
                else:
                    b.append(p)
            muon.append(dict(params=a, factor=factor))
            adam.append(dict(params=b, factor=factor, weight_decay=0.02))
            plain.append(dict(params=c, factor=factor, weight_decay=0.0))
        self.rate = rate
        self.inner = [Muon([g for g in muon if g["params"]]), torch.optim.AdamW([g for g in adam + plain if g["params"]], lr=rate, betas=(0.9, 0.97), fused=True)]
        self.parameters = [p for o in self.inner for g in o.param_groups for p in g["params"]]

    def step(self, share: float, clip: float = 1.0):
        """One step at ``share`` of the full rate."""
        torch.nn.utils.clip_grad_norm_([p for p in self.parameters if p.grad is not None], clip)
        for optimizer in self.inner:
            for group in optimizer.param_groups:
                group["lr"] = self.rate * share * group["factor"]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self):
        return [o.state_dict() for o in self.inner]

    def load_state_dict(self, states):
        for optimizer, state in zip(self.inner, states):
            optimizer.load_state_dict(state)


def share_of_rate(step: int, last: int, warmup: int = 60, decay: float = 0.4) -> float:
    """Up, level, then down to 2 % in a cosine over the last ``decay`` of the steps."""
    start = last * (1 - decay)
    down = 1.0 if step < start else 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - start) / max(1, last - start))))
    return min(1.0, (step + 1) / warmup) * down


def average(parameters, world: int):
    flat = torch.cat([p.data.reshape(-1) for p in parameters])
    dist.all_reduce(flat)
    flat /= world
    place = 0
    for p in parameters:
        p.data.copy_(flat[place : place + p.numel()].view_as(p))
        place += p.numel()


class Meter:
    def __init__(self):
        self.sums: dict[str, list[float]] = {}

    def add(self, name, value):
        entry = self.sums.setdefault(name, [0.0, 0])
        entry[0] += float(value)
        entry[1] += 1

    def add_vision(self, values):
        """The losses of the vision tower's read-outs, as far as this batch asked for them."""
        for name in ("shape", "color", "cell", "motion", "count", "side", "tens", "ones"):
            if name in values:
                self.add("v " + name, values[name])

    def add_coordinates(self, values):
        """Of the coordinates that were written: the mean error in thousandths, as a number, and the share of right digits."""
        for name, value in values.items():
            if value == value:  # a batch may hold no second digit
                self.add("c " + name, value)

    def flush(self) -> str:
        text = " ".join(f"{k} {s / n:.3f}" for k, (s, n) in self.sums.items())
        self.sums.clear()
        return text


class Smooth:
    """A running mean of the weights: what is shipped."""

    def __init__(self, modules, keep=0.99):
        self.modules, self.keep = modules, keep
        self.mean = {k: {n: v.detach().clone() for n, v in m.state_dict().items()} for k, m in modules.items()}

    @torch.no_grad()
    def update(self):
        for key, module in self.modules.items():
            for name, value in module.state_dict().items():
                self.mean[key][name].lerp_(value, 1 - self.keep)


def save(path: Path, **content):
    new = path.with_suffix(".new")
    torch.save(content, new)
    os.replace(new, path)


def options(description: str, **defaults) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=Path("run"), help="folder for checkpoints and the log")
    parser.add_argument("--workers", type=int, default=2, help="single-thread processes that average their weights")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=85.0, help="stop after this time; the same command goes on later")
    for name, value in defaults.items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    return parser.parse_args()


def launch(body, a: argparse.Namespace):
    """Run ``body(rank, a)`` in ``a.workers`` processes of one thread each."""
    a.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    mp.spawn(_worker, (body, a, 20000 + random.randrange(20000)), nprocs=a.workers)


def _worker(rank, body, a, port):
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(a.seed)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=a.workers)
    body(rank, a)
    dist.barrier()
    dist.destroy_process_group()


class Clock:
    """Minutes of the wall and of this process."""

    def __init__(self):
        self.wall, self.cpu = time.time(), time.process_time()

    def late(self, a: argparse.Namespace) -> bool:
        """Is the time up? All workers must ask at the same step and get the same answer."""
        flag = torch.tensor([float(time.time() - self.wall > 60 * a.minutes)])
        dist.broadcast(flag, 0)
        return bool(flag.item())

    def __str__(self):
        return f"wall {(time.time() - self.wall) / 60:.1f} cpu {(time.process_time() - self.cpu) / 60:.1f}"
