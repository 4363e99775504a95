"""Typed questions about one input: rows of options, scored behind a shared prompt."""
