"""All three stages, one after the other: ``python train.py --out run``. Stops after 85 minutes; the same command goes on.

``--share 0.01`` takes a hundredth of the steps of each stage: whether all of it runs, in minutes.
"""

from __future__ import annotations

import copy
import time

import learning
import torch
import train_language
import train_long
import train_vision


def main():
    a = learning.options(__doc__, share=1.0)
    end = time.time() + 60 * a.minutes
    for stage, name in ((train_vision, "vision"), (train_language, "language"), (train_long, "long")):
        b = copy.copy(a)
        vars(b).update(stage.DEFAULTS)
        b.steps = max(1, round(a.share * b.steps))
        b.minutes = (end - time.time()) / 60
        path = a.out / f"{name}.pt"
        done = torch.load(path, weights_only=False)["step"] if path.exists() else 0
        if done < b.steps and b.minutes > 0:
            learning.launch(stage.body, b)


if __name__ == "__main__":
    main()
