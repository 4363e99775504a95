"""Prefix reuse. prefix is what the engine calls, mllm the same for a program that runs its own loop.

In memory: table and blocks (which tokens are stored, pure Python), tensors (cut and join KV), snapshots, features,
provenance (whose they are). disk: the same in a folder.
"""
