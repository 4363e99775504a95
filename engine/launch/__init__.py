"""`vllm-mlx launch`: the settings of other programs for this port, written and taken back."""
