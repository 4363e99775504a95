"""Stage 2: the language model learns to talk about what the vision tower sees.

At first its gradient stays out of the tower; then both learn together, while the questions of stage 1 go on
in the background. Scenes are never repeated, so the share of exact answers in the log is that of unseen
scenes.
"""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import torch
import torch.nn.functional as F

import dialogue
import learning
import train_vision
from language import NUMBERS, SHAPES
from network import Network
from train_vision import SIDES, Heads
from world import COLORS, SIZES

# the words that carry the answer; all others count a quarter
TELLING = [*SHAPES, *COLORS, *NUMBERS, *SIZES, "white", "gray", "black", "top", "bottom", "left", "right", "center", "up", "down",
           "grows", "shrinks", "stays", "moves", "changes", "and", "a", "an", "at", "in", "the", "second", "no", "shapes", "color", "shape",
           "differs", "differ", "look", "am", "see", *"0123456789"]


# A yes, a number or "the first" is one token against a description's twenty, and the hardest to learn: it counts more.
GAIN = {"exists": 4, "exists kind": 4, "is it": 3, "count kind": 4, "count color": 4, "count": 2, "which": 3, "does it": 2, "same": 2,
        "color": 2, "where": 2, "where color": 2, "shape": 1.5, "motion": 1.5, "compare": 3, "when": 6, "box": 2, "point": 2, "box at": 2}
SECOND_DIGIT = 3.0  # its weight: it is one token of fifty, and what a box's worth hangs on


def token_weights(size: int) -> torch.Tensor:
    weights = torch.full((size,), 0.25)
    for word in TELLING:
        for form in (" " + word, word.capitalize(), word):
            ids = dialogue.encode(form)
            if len(ids) == 1:
                weights[ids[0]] = 1.0
    weights[dialogue.encode("They")] = 1.0
    for mark in (",", ".", "Yes", "No", "Both", "The", "It", "There", "I"):
        weights[dialogue.encode(mark)[0]] = 1.0
    weights[dialogue.END] = 0.5
    return weights


def coordinate_loss(heads: Heads, hidden, fetched, coordinates, right):
    """What is to be written of a coordinate, read as numbers where its first two digits follow: all of the box from the
    layer that looks at the shape, then this coordinate, and what follows its tens. And the log's figures."""
    rows, places, values, rests, boxes = zip(*coordinates)
    rows, places, values, rests = (torch.tensor(v) for v in (rows, places, values, rests))
    sides = torch.full((len(boxes), SIDES), torch.nan)
    for number, box in enumerate(boxes):
        sides[number, 4 * (len(box) == 2) :][: len(box)] = torch.tensor(box)
    known = ~sides.isnan()
    seen = (heads.fetched(fetched[rows, places]) - sides / 50 + 1)[known].abs().mean()
    whole, rest = heads.coordinate(hidden[rows, places]).unbind(-1)
    second = rests >= 0
    errors = (whole - values / 50 + 1).abs()
    loss = 2.0 * errors.mean() + 2.0 * seen
    if bool(second.any()):
        loss = loss + (rest - rests / 5 + 1)[second].abs().mean()
    found = right[rows, places + 1].float()
    figures = {"fetched": 500 * seen.detach(), "side": 500 * errors.mean().detach(), "first": found[~second].mean(), "second": found[second].mean()}
    return loss, figures


def language_loss(network: Network, heads: Heads, batch: dialogue.Batch, weights, cut: bool):
    """The loss, the attention that goes where it should, the visual tokens, which tokens are right, and the loss of coordinates with its figures."""
    hidden, seen, looked, fetched = network(batch.ids, batch.positions, batch.groups, batch.where, batch.mask, cut_vision=cut, look=batch.look, trunk=batch.trunk)
    asked = batch.labels[:, 1:] != -100
    target = batch.labels[:, 1:][asked]
    logits = hidden[:, :-1][asked] @ network.language_model.model.embed_tokens.weight.T
    gain = torch.ones(batch.labels.shape)
    for kind, row, a, b in batch.answers:
        gain[row, a:b] = GAIN.get(kind, 1)
    for name, row, a, b in batch.tags:
        if name == "question first":
            gain[row, a:b] *= 2
    for row, place, _, rest, _ in batch.coordinates:
        if rest >= 0:
            gain[row, place + 1] *= SECOND_DIGIT
    weight = weights[target] * gain[:, 1:][asked]
    loss = (F.cross_entropy(logits, target, reduction="none") * weight).sum() / weight.sum()
    right = torch.ones_like(batch.labels, dtype=torch.bool)
    right[:, 1:][asked] = logits.argmax(-1) == target
    # the share of attention that goes where it should, as a logarithm, by layer
    found = {layer: looked[layer].masked_fill(~at, -1e9).logsumexp(-1).mean() for layer, at in batch.look_at.items()}
    numbers = coordinate_loss(heads, hidden, fetched, batch.coordinates, right) if batch.coordinates else (loss.new_zeros(()), {})
    return loss, found, seen, right, numbers


def exact(answers, right: torch.Tensor, store: dict):
    """Count whole answers by kind of question. Greedy decoding gives the same answer exactly when all its tokens are right."""
    table = right.numpy()
    for kind, row, a, b in answers:
        entry = store[kind]
        entry[0] += bool(table[row, a:b].all())
        entry[1] += 1


def body(rank: int, a):
    network, step = Network(), 0
    heads = Heads(network.s)
    path: Path = a.out / "language.pt"
    start = torch.load(path if path.exists() else a.out / "vision.pt", weights_only=False)
    network.load_state_dict(start["network"])
    heads.load_state_dict(start["heads"])
    vision = list(network.vision_tower.named_parameters()) + list(heads.named_parameters())
    optimizer = learning.Optimizer([(list(network.language_model.named_parameters()), 1.0), (vision, a.vision_rate)], a.rate)
    smooth = learning.Smooth({"network": network}, keep=0.9)
    if path.exists():
        optimizer.load_state_dict(start["optimizer"])
        step = start["step"]
        smooth.mean["network"] = start["smooth"]
    weights = token_weights(network.s.vocabulary)
    meter, clock, hits = learning.Meter(), learning.Clock(), defaultdict(lambda: [0, 0])
    while step < a.steps:
        rng = random.Random(f"{a.seed} language {rank} {step}")
        share = step / a.steps
        cut = step < a.cut
        counts = (1, 1, 1, 2) if step < 150 else (1, 1, 2, 2, 3) if step < 400 else (1, 1, 2, 2, 3, 3)
        batch = dialogue.make_batch(rng, a.batch, counts)
        loss, found, seen, right, (numbers, figures) = language_loss(network, heads, batch, weights, cut)
        exact(batch.answers, right, hits)
        meter.add("loss", loss.detach())
        meter.add_coordinates(figures)
        loss = loss + a.coordinates * numbers
        for layer, value in found.items():
            meter.add(f"look {layer}", value.detach().exp())
            loss = loss - a.look * value
        if seen and not cut:
            tokens = torch.cat([t.reshape(-1, t.shape[-1]) for t in seen])
            extra, _ = train_vision.token_losses(heads, tokens, *batch.marks)
            loss = loss + 0.15 * extra
        loss.backward()
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
            exactly = " ".join(f"{k.replace(' ', '-')} {100 * n / max(1, m):.1f}/{m}" for k, (n, m) in sorted(hits.items()))
            print(f"language {step} {clock} {meter.flush()} | {exactly}", flush=True)
            hits.clear()
        if rank == 0 and (step % 48 == 0 or last):
            learning.save(path, network=network.state_dict(), heads=heads.state_dict(), optimizer=optimizer.state_dict(), step=step, smooth=smooth.mean["network"])
        if last:
            break


DEFAULTS = dict(steps=3100, batch=12, rate=3e-3, vision_rate=0.3, cut=400, decay=0.4, look=0.2, coordinates=0.5)

if __name__ == "__main__":
    learning.launch(body, learning.options(__doc__, **DEFAULTS))
