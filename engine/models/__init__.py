"""Models as the engine runs them: found and loaded (registry), fitted to one batcher (adapter), batched (batch)."""
