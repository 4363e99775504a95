"""A request before the engine thread has it: its place, its media, its deadline, and who waits for it."""
