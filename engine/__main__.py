"""python -m engine: the same as vllm-mlx."""

from engine.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
