"""Several processes that serve one model: who is which, and how rank 0 is heard by the others. Pure Python, no MLX."""
