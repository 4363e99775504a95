"""The engine thread: what it is told, who is next, one request from admission to its end. MLX only where it says."""
