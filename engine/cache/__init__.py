"""Prefix reuse: blocks (bookkeeping, pure Python), tensors (cut and join KV), prefix (what the engine thread calls)."""
