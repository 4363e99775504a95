"""vllm-mlx replay: a request that was downloaded is asked again, of any OpenAI server, and the answers compared."""
