"""The model hub: searching it, and downloads that can be watched, paused, resumed and cancelled. Imports no MLX."""
