"""Stage 1: the vision tower alone learns to see.

Every visual token is asked what shape it is part of, its colour, its absolute cell, how it moves, the digits of its
box and of its centre, and what the whole picture holds; patches draw the shapes' masks. Without this the language
stage hardly starts.

``--start FOLDER --rate 8e-4`` goes on from the tower of a checkpoint folder.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import convert
import learning
import pixels
import world
from network import Network
from pixels import COLUMN, OWN, TOKEN_HEADS, WHOLE

WEIGHT = {
    "shape": 1.5, "color": 0.7, "rank": 0.4, "cell": 0.6, "size": 0.4, "motion": 0.6,
    "count": 0.25, **{f"count {kind}": 0.2 for kind in world.SHAPES}, "background": 0.1, "other": 0.2,
}


SIDES = 6  # left, top, right, bottom, and the centre's x and y
DIGITS = 11, 10  # of a coordinate in hundredths: tens (0 to 10) and ones
BIG_STEP = 0.3  # share of a clip's motion between two frames; more of it and the shape is seen twice


class Heads(nn.Module):
    """Read-outs used in training only; none of them is shipped."""

    def __init__(self, s):
        super().__init__()
        self.token = nn.Linear(s.hidden, sum(TOKEN_HEADS.values()) + pixels.REGRESSION + pixels.PAIRS)
        self.digits = nn.Linear(s.hidden, SIDES * sum(DIGITS))
        self.coordinate = nn.Linear(s.hidden, 2)  # of the language model, as it writes one: the whole, and what follows its tens
        self.fetched = nn.Linear(s.hidden, SIDES)  # of the layer that looks at the shape: its box and its centre
        self.mask = nn.Linear(s.vision_hidden, 64)
        self.window = nn.Linear(s.vision_hidden, 144)

    def split(self, tokens):
        return self.token(tokens).split([*TOKEN_HEADS.values(), pixels.REGRESSION, pixels.PAIRS], -1)


def make_batch(rng: random.Random, size: int, clips: float = 0.3, counts=(1, 1, 1, 2, 2, 3)):
    """Pictures (and pairs of frames) of one grid: patches, grid, and the labels as tensors."""
    moving = rng.random() < clips
    limits = pixels.FRAME_PIXELS if moving else pixels.IMAGE_PIXELS
    if moving and rng.random() < 0.2:
        limits = rng.choice(list(pixels.CLIP_PIXELS.values()))
    rows, columns = pixels.pick_grid(rng, limits)
    sizes = pixels.sources(limits)[rows, columns]
    frames, classes, numbers, pairs, masks = [], [], [], [], []
    for _ in range(size):
        source = rng.choice(sizes)
        if rng.random() < 0.1:
            scene, pair = None, np.stack([world.make_other(rng, columns * 32, rows * 32)] * 2)
            c, n, p = pixels.labels(None, rows, columns)
        elif rng.random() < (0.7 if moving else 0.1):
            clip = world.make_clip(rng, *source)
            step = 1 / (rng.choice((2, 2, 3, 4, 4, 5, 6, 8, 8, 10, 12)) - 1)
            time = rng.uniform(0, 1 - step)
            pair = shoot(rng, [clip.at(time), clip.at(time + step)], columns * 32, rows * 32)
            scene, a, b = clip.at(time + step / 2), clip.start, clip.end
            motion = clip.motion
            if motion == "color" and clip.sudden and not time <= clip.moment < time + step:
                motion = "still"
            speed = [(q - p) * step for p, q in ((a.x, b.x), (a.y, b.y), (a.radius, b.radius))]
            if step > BIG_STEP:
                c, n, p = pixels.labels_between(clip.at(time), clip.at(time + step), rows, columns, motion, speed)
            else:
                c, n, p = pixels.labels(scene, rows, columns, motion, speed)
        else:
            scene = world.make_scene(rng, rng.choice(counts), *source, same_kind=0.2)
            pair = np.stack([world.photograph(rng, scene, columns * 32, rows * 32)] * 2)
            c, n, p = pixels.labels(scene, rows, columns, "still")
        for store, value in zip((frames, classes, numbers, pairs, masks), (pair, c, n, p, pixels.mask(scene, rows, columns))):
            store.append(value)
    windows = np.stack([pixels.window(m, rows, columns) for m in masks])
    tensors = [torch.from_numpy(np.stack(v)) for v in (classes, numbers, pairs, masks)] + [torch.from_numpy(windows)]
    return torch.from_numpy(pixels.patches(np.stack(frames))), rows, columns, tensors


def shoot(rng, scenes, width, height):
    """The frames of a clip: the same way of drawing for all of them."""
    state = rng.getrandbits(64)
    frames = [world.photograph(random.Random(state), scene, width, height) for scene in scenes]
    return np.stack(frames)


def side_losses(heads: Heads, tokens, regression, numbers):
    """Where a shape's box and centre are, of tokens (n, hidden) that lie on it: as numbers and as the digits that are
    written. The hits: the mean error of a side in thousandths of the picture, and the share of right digits."""
    sides = torch.cat([numbers[:, 8:] / 4, numbers[:, :2]], 1)  # -1 to 1
    hundredths = (50 * (sides + 1)).round().clamp(0, 100).long()
    tens, ones = heads.digits(tokens).view(-1, SIDES, sum(DIGITS)).split(DIGITS, -1)
    loss = 2.0 * F.l1_loss(regression[:, 8:], numbers[:, 8:])
    hits = {"side": (regression[:, 8:] - numbers[:, 8:]).abs().mean().detach() * 1000 / 8}
    for name, out, target in (("tens", tens, hundredths // 10), ("ones", ones, hundredths % 10)):
        loss = loss + F.cross_entropy(out.flatten(0, 1), target.flatten())
        hits[name] = (out.argmax(-1) == target).float().mean()
    return loss, hits


def token_losses(heads: Heads, tokens, classes, numbers, pairs=None):
    """``tokens`` (n, hidden) with their labels -> weighted sum, and the hits of each head for the log."""
    *outs, regression, pair = heads.split(tokens)
    total, hits = tokens.new_zeros(()), {}
    mine = classes[:, 0] > 0
    for (name, size), out in zip(TOKEN_HEADS.items(), outs):
        target = classes[:, COLUMN[name]]
        asked = target != -100
        if not bool(asked.any()):
            continue
        weight = torch.ones(size)
        if name in ("shape", "color", "rank"):
            weight[0] = 0.4
        if name == "motion":
            weight[-1] = 0.08
        total = total + WEIGHT[name] * F.cross_entropy(out, target, weight, ignore_index=-100)
        scored = asked & mine if name in OWN else asked
        if name == "motion":
            scored = scored & (target != size - 1)
        if name in ("shape", "color", "cell", "size", "motion", "count", "count star", "other") and bool(scored.any()):
            hits[name] = (out.argmax(-1) == target)[scored].float().mean()
    if bool(mine.any()):
        total = total + 3.0 * F.smooth_l1_loss(regression[mine], numbers[mine], beta=0.3)
        extra, more = side_losses(heads, tokens[mine], regression[mine], numbers[mine])
        total, hits = total + extra, hits | more
    if pairs is not None:
        total = total + 0.6 * F.binary_cross_entropy_with_logits(pair, pairs)
        hits["pairs"] = ((pair > 0) == (pairs > 0.5)).float().mean()
    return total, hits


def vision_loss(network: Network, heads: Heads, batch, masks: float):
    patches, rows, columns, (classes, numbers, pairs, mask, window) = batch
    tokens, _, (low, middle) = network.vision_tower(patches, 2 * rows, 2 * columns, keep=(1, 2))
    per = tokens.shape[1]
    flat = lambda t: t.reshape(-1, t.shape[-1])
    pairs = pairs[:, None].expand(-1, per, -1)
    loss, hits = token_losses(heads, flat(tokens), flat(classes), flat(numbers), flat(pairs))
    drawn = F.binary_cross_entropy_with_logits(heads.mask(low), mask)
    around = F.binary_cross_entropy_with_logits(heads.window(middle), window)
    hits["mask"] = drawn.detach()
    return loss + masks * (drawn + around), hits


def body(rank: int, a):
    network = Network()
    heads = Heads(network.s)
    step = 0
    path: Path = a.out / "vision.pt"
    named = [(n, p) for n, p in network.vision_tower.named_parameters() if "deepstack" not in n]
    optimizer = learning.Optimizer([(named + list(heads.named_parameters()), 1.0)], a.rate)
    if path.exists():
        old = torch.load(path, weights_only=False)
        network.load_state_dict(old["network"])
        heads.load_state_dict(old["heads"])
        optimizer.load_state_dict(old["optimizer"])
        step = old["step"]
    elif a.start:
        network.load_state_dict(convert.read(Path(a.start)))
    meter, clock = learning.Meter(), learning.Clock()
    while step < a.steps:
        rng = random.Random(f"{a.seed} vision {rank} {step}")
        easy = not a.start and step < 0.15 * a.steps
        batch = make_batch(rng, a.batch, counts=(1, 1, 1, 2) if easy else (1, 1, 1, 2, 2, 3, 3))
        loss, hits = vision_loss(network, heads, batch, 3.0 if step < 0.6 * a.steps else 1.0)
        loss.backward()
        optimizer.step(learning.share_of_rate(step, a.steps))
        step += 1
        meter.add("loss", loss.detach())
        for name, value in hits.items():
            meter.add(name, value)
        if step % 10 == 0 or step == a.steps:
            learning.average(optimizer.parameters, a.workers)
        last = step == a.steps or (step % 100 == 0 and clock.late(a))
        if rank == 0 and (step % 100 == 0 or last):
            print(f"vision {step} {clock} {meter.flush()}", flush=True)
        if rank == 0 and (step % 200 == 0 or last):
            learning.save(path, network=network.state_dict(), heads=heads.state_dict(), optimizer=optimizer.state_dict(), step=step)
        if last:
            break


DEFAULTS = dict(steps=5500, batch=16, rate=2e-3, start="")

if __name__ == "__main__":
    learning.launch(body, learning.options(__doc__, **DEFAULTS))
