"""Typed questions about one input: /v1/decisions as OpenAI's client calls it, /v1/systemone as transformers has it."""
