"""Texts that are read and not answered: /v1/embeddings as OpenAI has it, /v1/rerank as Jina and vLLM have it."""
