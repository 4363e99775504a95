"""All three stages, one after the other: ``python train.py --out run``. Stops after 85 minutes; the same command goes on."""

from __future__ import annotations

import copy
import time

import learning
import torch
import train_language
import train_long
import train_vision


def main():
    a = learning.options(__doc__)
    end = time.time() + 60 * a.minutes
    for stage, name in ((train_vision, "vision"), (train_language, "language"), (train_long, "long")):
        b = copy.copy(a)
        vars(b).update(stage.DEFAULTS)
        b.minutes = (end - time.time()) / 60
        path = a.out / f"{name}.pt"
        done = torch.load(path, weights_only=False)["step"] if path.exists() else 0
        if done < b.steps and b.minutes > 0:
            learning.launch(stage.body, b)


if __name__ == "__main__":
    main()
