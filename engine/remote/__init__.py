"""Models that another server with OpenAI's routes answers for: asked by HTTP, with the same events as a model here."""
