"""OpenAI's batches: a file of requests, answered when there is room, by the runner of engine.batch_run."""
