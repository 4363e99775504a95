"""Prefix reuse: blocks (books, pure Python), tensors (cut and join KV), snapshots, prefix (what the engine calls)."""
