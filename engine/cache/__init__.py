"""Prefix reuse: blocks (books, pure Python), tensors (cut and join KV), snapshots, features, prefix (what the engine
calls), mllm (the same for a program that runs its own loop). Below them the disk: tier (what goes down and up), disk
(files by key), writer (its thread), sealed (the files).
"""
