"""The mean of two checkpoint folders' weights: ``python mean.py NEW OLD OUT --share 0.65``, the share being NEW's."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from safetensors.numpy import load_file, save_file


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("new", "old", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--share", type=float, default=0.65)
    a = parser.parse_args()
    new, old = (load_file(folder / "model.safetensors") for folder in (a.new, a.old))
    shutil.copytree(a.old, a.out, dirs_exist_ok=True)
    mean = {name: (a.share * new[name] + (1 - a.share) * old[name]).astype(old[name].dtype) for name in new}
    save_file(mean, a.out / "model.safetensors", metadata={"format": "mlx"})


if __name__ == "__main__":
    main()
