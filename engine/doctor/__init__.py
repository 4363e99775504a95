"""vllm-mlx doctor: whether this machine and this installation are as they should be, and what to do where not."""
