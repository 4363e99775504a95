"""Models as the engine runs them: found (locate), loaded (loading, registry), on one batcher (adapter, batch)."""
