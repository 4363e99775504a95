"""Prefix reuse: KV and vision features of earlier prompts, in memory and (in `disk/`) in a folder."""
