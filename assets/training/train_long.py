"""Stage 3: long chats. The same network goes on with the same losses on ``sessions.py``, with the old mix beside it.
The vision tower learns from the old mix alone, which saves a sixth of the time.

It starts from ``language.pt`` of stage 2, or (``--start``) from the weights of a checkpoint folder: with the tower and
the read-outs of ``vision.pt`` where stage 1 went on before, else the read-outs are learned anew first, while the rest
stands still.
"""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import torch

import convert
import dialogue
import learning
import sessions
import train_language
import train_vision
from network import Network
from train_vision import Heads

DEFAULTS = dict(steps=4000, batch=6, rate=1.5e-3, vision_rate=0.3, decay=0.5, look=0.15, coordinates=0.5, old=0.3, warm=150, start="")
OLD = {"picture": 0.53, "pair": 0.11, "clip": 0.36}


def learn_heads(network: Network, heads: Heads, a, rank: int):
    """The read-outs alone."""
    optimizer = torch.optim.AdamW(heads.parameters(), lr=4e-3, betas=(0.9, 0.97), weight_decay=0.0)
    meter = learning.Meter()
    for step in range(a.warm):
        rng = random.Random(f"{a.seed} heads {rank} {step}")
        loss, values = train_vision.vision_loss(network, heads, train_vision.make_batch(rng, 14), 1.0)
        loss.backward()
        network.zero_grad(set_to_none=True)
        optimizer.param_groups[0]["lr"] = 4e-3 * learning.share_of_rate(step, a.warm, warmup=10)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        meter.add_vision(values)
        if step % 8 == 7 or step == a.warm - 1:
            learning.average(list(heads.parameters()), a.workers)
    if rank == 0:
        print(f"heads {a.warm} {meter.flush()}", flush=True)


def body(rank: int, a):
    network, step = Network(), 0
    heads = Heads(network.s)
    path: Path = a.out / "long.pt"
    stored = torch.load(path if path.exists() else a.out / "language.pt", weights_only=False) if not a.start or path.exists() else None
    if stored:
        network.load_state_dict(stored["network"] if path.exists() else stored["smooth"])
        heads.load_state_dict(stored["heads"])
    else:
        network.load_state_dict(convert.read(Path(a.start)))
        tower: Path = a.out / "vision.pt"
        if tower.exists():
            seen = torch.load(tower, weights_only=False)
            network.vision_tower.load_state_dict({k.removeprefix("vision_tower."): v for k, v in seen["network"].items() if k.startswith("vision_tower.")})
            heads.load_state_dict(seen["heads"])
        else:
            learn_heads(network, heads, a, rank)
    vision = list(network.vision_tower.named_parameters()) + list(heads.named_parameters())
    optimizer = learning.Optimizer([(list(network.language_model.named_parameters()), 1.0), (vision, a.vision_rate)], a.rate)
    smooth = learning.Smooth({"network": network}, keep=0.9)
    if path.exists():
        optimizer.load_state_dict(stored["optimizer"])
        step = stored["step"]
        smooth.mean["network"] = stored["smooth"]
    weights = train_language.token_weights(network.s.vocabulary)
    meter, clock = learning.Meter(), learning.Clock()
    hits, tags = (defaultdict(lambda: [0, 0]) for _ in "ab")
    while step < a.steps:
        rng = random.Random(f"{a.seed} long {rank} {step}")
        lengths = random.Random(f"{a.seed} lengths {step}")
        old = lengths.random() < a.old
        batch = dialogue.make_batch(rng, a.batch, mix=OLD) if old else sessions.make_batch(rng, lengths)
        loss, found, seen, right, (numbers, figures) = train_language.language_loss(network, heads, batch, weights, cut=not old)
        train_language.exact(batch.answers, right, hits)
        train_language.exact(batch.tags, right, tags)
        meter.add("old" if old else "long", loss.detach())
        meter.add("tokens", batch.ids.numel())
        meter.add_coordinates(figures)
        loss = loss + a.coordinates * numbers
        for layer, value in found.items():
            meter.add(f"look {layer}", value.detach().exp())
            loss = loss - a.look * value
        if seen and old:
            tokens = torch.cat([t.reshape(-1, t.shape[-1]) for t in seen])
            extra, _ = train_vision.token_losses(heads, tokens, *batch.marks)
            loss = loss + 0.15 * extra
        loss.backward()
        if step % 2 == 0:
            extra, values = train_vision.vision_loss(network, heads, train_vision.make_batch(rng, 14), 1.0)
            (0.5 * extra).backward()
            meter.add_vision(values)
        optimizer.step(learning.share_of_rate(step, a.steps, decay=a.decay))
        step += 1
        if step % 8 == 0 or step == a.steps:
            learning.average(optimizer.parameters, a.workers)
            if rank == 0:
                smooth.update()
        last = step == a.steps or (step % 48 == 0 and clock.late(a))
        if rank == 0 and (step % 48 == 0 or last):
            for name, store in (("long", hits), ("tags", tags)):
                exactly = " ".join(f"{k.replace(' ', '-')} {100 * n / max(1, m):.1f}/{m}" for k, (n, m) in sorted(store.items()))
                print(f"{name} {step} {clock} {meter.flush()} | {exactly}", flush=True)
                store.clear()
            learning.save(path, network=network.state_dict(), heads=heads.state_dict(), optimizer=optimizer.state_dict(), step=step, smooth=smooth.mean["network"])
        if last:
            break


if __name__ == "__main__":
    learning.launch(body, learning.options(__doc__, **DEFAULTS))
