"""OpenAI's files: what is uploaded for a batch, and what comes of one."""
